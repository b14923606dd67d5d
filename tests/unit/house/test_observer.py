from __future__ import annotations

import json

import pytest

from common import logging
from common.errors import InvalidFieldError
from learner.observer import CallbackError, Observer, Observers, StopTraining
from wiserl import callbacks


class Recorder(Observer):
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def began(self, version):
        self.calls.append((self.name, "began", version))

    def close(self):
        self.calls.append((self.name, "close"))


class Failing(Observer):
    def began(self, version):
        raise KeyError("lost")

    def close(self):
        raise OSError("stuck")


class Weary(Observer):
    def __init__(self, *reason):
        self.reason = reason

    def began(self, version):
        raise StopTraining(*self.reason)


@pytest.fixture
def log(tmp_path):
    with (tmp_path / "log").open("w+") as stream:
        logging.configure(stream=stream)
        yield lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        logging.configure()


def test_all_are_told_in_their_order():
    calls = []
    both = Observers([Recorder("a", calls), Recorder("b", calls)])
    both.began(3)
    both.close()
    assert calls == [("a", "began", 3), ("b", "began", 3), ("a", "close"), ("b", "close")]


def test_all_are_told_whatever_one_of_them_raises(log):
    calls = []
    observers = Observers([Failing(), Weary("enough"), Weary("too late"), Recorder("a", calls)])
    with pytest.raises(
        CallbackError, match="callback Failing failed in began: KeyError: 'lost'"
    ) as error:
        observers.began(1)
    assert isinstance(error.value.__cause__, KeyError)
    assert calls == [("a", "began", 1)]
    assert observers.stop_reason == "enough"
    (line,) = log()
    assert (line["callback"], line["told"], line["level"]) == ("Failing", "began", "error")
    assert "Traceback" in line["exception"]
    assert 'raise KeyError("lost")' in line["exception"]


def test_a_wish_to_stop_needs_no_reason():
    observers = Observers([Weary()])
    assert observers.stop_reason is None
    observers.began(1)
    assert observers.stop_reason == "a callback had enough"


def test_what_fails_to_close_is_logged_and_the_others_are_closed(log):
    calls = []
    Observers([Failing(), Recorder("a", calls)]).close()
    assert calls == [("a", "close")]
    assert "OSError: stuck" in log()[0]["exception"]


def test_observers_among_observers_are_told_as_if_they_stood_there_themselves():
    inner = Observers([Weary("inside")])
    outer = Observers([Observer(), inner])
    assert len(outer.observers) == 2
    outer.began(1)
    assert outer.stop_reason == "inside"


def test_every_event_of_an_observer_is_passed_on():
    events = {name for name in vars(Observer) if not name.startswith("_")}
    assert events == {name for name in vars(Observers) if not name.startswith("_")}


def test_callbacks_are_made_from_their_names(tmp_path, monkeypatch):
    (tmp_path / "my_callbacks.py").write_text(
        "from wiserl import Observer\n\n\nclass Mine(Observer):\n    pass\n\n\n"
        "def make():\n    return Mine()\n\n\nclass NoObserver:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = callbacks.make(["my_callbacks:Mine", "my_callbacks:make"])
    assert [type(each).__name__ for each in made] == ["Mine", "Mine"]
    for name, message in (
        ("Mine", "'Mine' is no module:Class"),
        ("my_callbacks:Yours", "no 'Yours' in my_callbacks"),
        ("my_callbacks:NoObserver", "makes a NoObserver; subclass wiserl.Observer"),
        ("nowhere:Mine", "No module named 'nowhere'"),
    ):
        with pytest.raises(InvalidFieldError, match=message):
            callbacks.make([name])
