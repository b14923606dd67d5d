import io
import json
import os
import subprocess
import sys

import pytest
from terminal import Terminal

from common import logging
from common.errors import InvalidFieldError


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    logging.configure(level="info")


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_reads_along():
    stream = io.StringIO()
    logging.configure(stream=stream, level="info", process="sampler")
    logging.Logger(index=3).bind(worker=1).info("worker_lost", rows=7)
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "worker_lost",
        "level": "info",
        "process": "sampler",
        "index": 3,
        "worker": 1,
        "rows": 7,
    }


def test_what_is_bound_is_asked_at_every_line_and_ends_with_its_block():
    stream = io.StringIO()
    logging.configure(stream=stream, level="info", process="learner")
    log, versions = logging.Logger(), iter([None, 1, 2])
    outer = logging.bound(run_id="a", version=lambda: next(versions))
    with outer:
        log.info("opened")
        with logging.bound(run_id="b"):
            log.info("published", version=7)
        log.info("stopped")
    log.info("gone")
    seen = [(line["event"], line.get("run_id"), line.get("version")) for line in lines(stream)]
    assert seen == [
        ("opened", "a", None),
        ("published", "b", 7),
        ("stopped", "a", 2),
        ("gone", None, None),
    ]
    assert "version" not in lines(stream)[0]
    assert {line["process"] for line in lines(stream)} == {"learner"}


def test_readable_at_a_terminal():
    stream = Terminal()
    logging.configure(stream=stream, level="info")
    logging.Logger().warning("call_failed", method="GetRun")
    text = stream.getvalue()
    assert "call_failed" in text
    assert "GetRun" in text
    assert not text.startswith("{")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_variable_says_the_level(level, written, monkeypatch):
    monkeypatch.setenv("WISERL_LOG_LEVEL", level)
    stream = io.StringIO()
    logging.configure(stream=stream)
    logger = logging.Logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("tick")
    assert [line["level"] for line in lines(stream)] == written


def test_an_unknown_level_is_refused():
    with pytest.raises(InvalidFieldError, match="'loud' is none of debug, info, warning, error"):
        logging.configure(level="loud")


def test_an_exception_brings_its_traceback():
    stream = io.StringIO()
    logging.configure(stream=stream, level="info")
    try:
        {}["missing"]
    except KeyError:
        logging.Logger().exception("sampler_defect")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "KeyError: 'missing'" in line["exception"]


def test_structlog_waits_for_the_first_line():
    code = (
        "import sys; from common import logging; logging.configure();"
        "logging.Logger().debug('x'); assert 'structlog' not in sys.modules;"
        "logging.Logger().info('x'); assert 'structlog' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_stderr_is_what_it_is_at_every_line(monkeypatch):
    before, now = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", before)
    logging.configure(level="info")
    logging.Logger().info("first")
    monkeypatch.setattr(sys, "stderr", now)
    assert [line["event"] for line in lines(before)] == ["first"]
    before.close()
    logging.Logger().info("second")
    assert [line["event"] for line in lines(now)] == ["second"]


@pytest.mark.parametrize(
    ("level", "read"),
    [("", ["something_is_not"]), ("Info", ["all_is_well", "something_is_not"]), ("error", [])],
)
def test_who_only_imports_us_reads_of_what_is_wrong_alone_unless_asked(level, read):
    program = (
        "from common import logging; logger = logging.Logger();"
        "logger.info('all_is_well'); logger.warning('something_is_not')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, logging.LEVEL_VARIABLE: level},
    )
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == read
