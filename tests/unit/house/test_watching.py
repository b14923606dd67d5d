from __future__ import annotations

import io
import json

import grpc
import pytest
from rich.console import Console

from protos.wiserl.v1 import environment_pb2, learner_pb2
from wiserl import watching
from wiserl.learner_at import UnreachableError
from wiserl.verbs import watch
from wiserl.watch_picture import picture, sparkline
from wiserl.watching import Rate, Watched


def heard(steps=0, *, version=1, metrics=None, samplers=(), curve=(), phase="TRAINING"):
    return learner_pb2.WatchRunResponse(
        run_id="r1",
        phase=learner_pb2.RunPhase.Value(f"RUN_PHASE_{phase}"),
        version=version,
        environment_steps=steps,
        total_steps=10_000,
        metrics=metrics or {},
        samplers=samplers,
        curve=[learner_pb2.CurvePoint(environment_steps=s, episode_return=r) for s, r in curve],
    )


def sampler(steps=0, *, version=1, name="box", pulled=0.5):
    return learner_pb2.SamplerStatus(
        index=0,
        name=name,
        sampler_id=f"id-of-{name}",
        slots=8,
        version=version,
        environment_steps=steps,
        seconds_since_pull=pulled,
        progress=learner_pb2.SamplerProgress(
            rows_rolled=steps,
            rows_dropped=3,
            policy_seconds=1,
            environment_seconds=2,
            idle_seconds=1,
        ),
    )


def run(run_id="r1"):
    return learner_pb2.GetRunResponse(
        run_id=run_id,
        algorithm="ppo",
        training_environment=environment_pb2.EnvironmentReference(id="CartPole-v1"),
    )


@pytest.fixture
def watched():
    return Watched("host:5555", run())


def shown(watched, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(picture(watched))
    return console.file.getvalue()


def test_a_rate_is_the_mean_of_the_last_seconds():
    rate = Rate()
    rate.see(0, 0)
    assert rate.value is None
    for now in range(1, 31):
        # 100 a second, and 200 from second 15 on.
        rate.see(now, 100 * now + 100 * max(0, now - 15))
    assert rate.value == 200


def test_a_total_that_falls_begins_anew():
    rate = Rate()
    rate.see(0, 1000)
    rate.see(1, 10)
    assert rate.value is None
    rate.see(2, 30)
    assert rate.value == 20


def test_rates_are_of_the_run_and_of_each_sampler(watched):
    watched.hear(10.0, heard(1000, metrics={"time/fps": 77.0}, samplers=[sampler(600)]))
    assert watched.steps_per_second == 77
    assert watched.rate_of(watched.state.samplers[0]) is None
    watched.hear(12.0, heard(1500, samplers=[sampler(1000)]))
    assert watched.steps_per_second == 250
    assert watched.rate_of(watched.state.samplers[0]) == 200
    assert watched.time_left == "0:00:34"


def test_lag_is_how_far_a_sampler_is_behind(watched):
    watched.hear(0.0, heard(version=5, samplers=[sampler(version=3), sampler(version=6, name="b")]))
    assert [watched.lag_of(one) for one in watched.state.samplers] == [2, 0]
    assert "2 behind" in watching.line(watched)


def test_a_curve_goes_on_where_a_stream_is_opened_again(watched):
    watched.hear(0.0, heard(curve=[(10, 1.0), (20, 2.0)]))
    watched.hear(1.0, heard(curve=[(30, 3.0)]))
    watched.hear(2.0, heard(curve=[(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]))
    assert watched.curve == [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]
    assert watched.fresh == [(40, 4.0)]


def test_a_long_curve_stays_bounded(watched, monkeypatch):
    monkeypatch.setattr(watching, "_MOST_POINTS", 8)
    for steps in range(100):
        watched.hear(float(steps), heard(curve=[(steps, float(steps))]))
    assert len(watched.curve) <= 8
    assert watched.curve[-1] == (99, 99.0)
    assert watched.curve == sorted(watched.curve)


def test_losses_are_said_in_words(watched):
    metrics = {
        "ledger/stale_pushes": 2.0,
        "ledger/stale_rows": 2560.0,
        "ledger/beyond_budget_pushes": 0.0,
        "ledger/beyond_budget_rows": 25.0,
        "ledger/sequence_gap_pushes": 0.0,
        "ledger/sequence_gap_rows": 0.0,
    }
    watched.hear(0.0, heard(metrics=metrics))
    assert watched.losses == {"beyond budget": "25 rows", "stale": "2 pushes, 2,560 rows"}


def test_a_line_has_what_a_log_needs(watched):
    watched.hear(0.0, heard(0))
    watched.hear(10.0, heard(1000, metrics={watching.RETURN: 20.26}, samplers=[sampler()]))
    expected = "training | 1,000/10,000 steps | 100 steps/s | return 20.3 | policy 1 | 1 sampler"
    assert watching.line(watched) == f"{expected} | 0:01:30 left"


@pytest.mark.parametrize(
    ("points", "width", "expected"),
    [
        ([(0, 5.0)], 10, "▁"),
        ([(0, 1.0), (10, 1.0)], 10, "▁▁"),
        ([(step, float(step)) for step in range(8)], 8, "▁▂▃▄▅▆▇█"),
        ([(0, 0.0), (1, 2.0), (100, 8.0), (101, 6.0)], 2, "▁█"),
        ([(0, 0.0), (99, 0.0), (100, 7.0)], 3, "▁▁█"),
    ],
)
def test_a_sparkline_is_a_curve_over_steps(points, width, expected):
    assert sparkline(points, width) == expected


def test_a_picture_shows_everything_that_was_heard(watched):
    metrics = {
        "rollout/ep_rew_mean": 101.3,
        "eval/mean_reward": 250.0,
        "replay/ratio": 0.25,
        "ledger/stale_pushes": 1.0,
    }
    curve = [(step, float(step)) for step in range(100)]
    watched.hear(0.0, heard(1000, metrics=metrics, samplers=[sampler(900)], curve=curve))
    watched.hear(1.0, heard(5000, version=4, metrics=metrics, samplers=[sampler(4900)]))
    text = shown(watched)
    assert "ppo on CartPole-v1  training" in text
    assert "50%  ━━━━━━━━━━──────────  5,000/10,000 steps | 4,000 steps/s | policy 4" in text
    assert "return  101.3 (last 100), 250.0 (greedy)" in text
    assert "▁" in text
    assert "0.0 to 99.0" in text
    assert "replay ratio 0.25" in text
    assert "lost    stale 1 pushes" in text
    row = text.splitlines()[-1].split()
    assert row == ["0", "box", "8", "1", "3", "4,900", "4,000", "75%", "3", "0", "0.5", "s"]


def test_a_picture_without_samplers_says_how_to_start_one(watched):
    watched.hear(0.0, heard(phase="STARTING"))
    assert "wiserl sampler --learner host:5555" in shown(watched)


def test_a_state_is_json(watched):
    watched.hear(0.0, heard(10, samplers=[sampler(10)], curve=[(10, 1.5)]))
    said = json.loads(json.dumps(watching.as_json(watched, watched.fresh)))
    assert said["phase"] == "training"
    assert said["environment"] == "CartPole-v1"
    assert said["curve"] == [[10, 1.5]]
    assert said["samplers"][0]["steps_per_second"] is None
    assert said["samplers"][0]["rows_dropped"] == 3


class Stub:
    """A learner that answers streams from a list; an error in one ends that stream."""

    def __init__(self, *streams, runs=("r1",)):
        self.streams = list(streams)
        self.runs = list(runs)

    def GetRun(self, request, timeout):  # noqa: N802 - the contract's name
        name = self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]
        if isinstance(name, Exception):
            raise name
        return run(name)

    def WatchRun(self, request):  # noqa: N802
        for response in self.streams.pop(0):
            if isinstance(response, Exception):
                raise response
            yield response


class Failed(grpc.RpcError):
    def __init__(self, code, details="away"):
        super().__init__()
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return ()


GONE = Failed(grpc.StatusCode.UNAVAILABLE)


@pytest.fixture
def clock(monkeypatch):
    """Time passes only by sleeping."""
    now = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watching.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


def following(monkeypatch, stub, patience=3.0):
    class At:
        def __enter__(self):
            return stub

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(watching.learner_at, "stub", lambda address, security: At())
    return watching.follow("host:1", interval_seconds=1, patience_seconds=patience)


def test_a_learner_that_comes_back_is_watched_on(monkeypatch, clock):
    stub = Stub([heard(10), GONE], [GONE], [heard(20), heard(30, phase="FINISHED")])
    states = [(w.state.environment_steps, w.silence) for w in following(monkeypatch, stub)]
    assert [steps for steps, _ in states] == [10, 10, 10, 20, 30]
    assert [bool(silence) for _, silence in states] == [False, True, True, False, False]


def test_a_silent_learner_is_given_up(monkeypatch, clock):
    states = following(monkeypatch, Stub(runs=[GONE]))
    with pytest.raises(UnreachableError, match=r"no learner at host:1 for 3 s.*doctor host:1"):
        next(states)
    assert UnreachableError.exit_code == 3


def test_another_run_is_watched_from_its_beginning(monkeypatch, clock):
    stub = Stub([heard(900, curve=[(900, 1.0)]), GONE], [heard(5)], runs=["r1", "r2"])
    last = list(following(monkeypatch, stub))[-1]
    assert (last.run.run_id, last.curve) == ("r2", [])


def test_a_refusal_is_final(monkeypatch, clock):
    refused = Failed(grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(watching.WiseRLError, match="cannot be watched: PERMISSION_DENIED: no"):
        list(following(monkeypatch, Stub(runs=[refused])))


def test_silence_is_one_line_of_a_log(monkeypatch, clock, capsys):
    stub = Stub([heard(10), GONE], [GONE], [GONE], [heard(20)])
    watch._print_lines(following(monkeypatch, stub))
    lines = capsys.readouterr().out.splitlines()
    assert [("no answer" in one) for one in lines] == [False, True, False]
