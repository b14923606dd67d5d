"""Alerts fire when they should, and a real Prometheus finds what rules and dashboard ask for."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from processes import one_at_a_time, until
from scraped_run import LEARNERS, ROOT, ScrapedRun, alerts

DASHBOARD = ROOT / "deploy/grafana/dashboards/wiserl.json"


SCALING = ROOT / "deploy/kubernetes/components/autoscaling/scaledobject.yaml"


def queries():
    """Of the dashboard, and that of the autoscaling."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    (trigger,) = yaml.safe_load(SCALING.read_text())["spec"]["triggers"]
    shown = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*shown, trigger["metadata"]["query"]]


def metrics_of(expression):
    """The names of the metrics in an expression."""
    names = re.findall(r"\b((?:wiserl|grpc|process)_[a-z0-9_]+|up)\b", expression)
    return {name for name in names if name not in {"grpc_method", "grpc_code"}}


@pytest.fixture(scope="module")
def prometheus():
    """Debian's package, brought where it is missing."""
    with one_at_a_time("prometheus"):
        if not (shutil.which("prometheus") and shutil.which("promtool")):
            bring()
    return shutil.which("prometheus")


def bring():
    """Installs Prometheus."""
    if os.geteuid() != 0 or not Path("/usr/bin/apt-get").exists():
        pytest.skip("there is no prometheus, and only root on Debian can be given one")
    apt = ["apt-get", "-qq", "-y", "--no-install-recommends"]
    for step in (["update"], ["install", "prometheus"]):
        subprocess.run(
            [*apt, *step],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=True,
        )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rules_are_sound_and_fire_in_time(prometheus):
    for command in (
        ["promtool", "check", "config", "deploy/prometheus/prometheus.yml"],
        ["promtool", "test", "rules", "tests/observability/alerts_test.yml"],
    ):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do():
    tested = yaml.safe_load((ROOT / "tests/observability/alerts_test.yml").read_text())["tests"]
    fired = {
        each["alertname"]
        for test in tested
        for each in test["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in alerts()}
    for rule in alerts():
        assert rule["annotations"]["remedy"]
        assert rule["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.slow
def test_the_dashboard_is_what_its_script_makes():
    command = [sys.executable, "scripts/dashboard.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(prometheus, tmp_path_factory):
    with ScrapedRun(tmp_path_factory.mktemp("scraped"), prometheus) as started:
        for name in LEARNERS:
            started.until_found(
                f"rate(wiserl_environment_steps_total{{{started.of_learner(name)}}}[5s]) > 0"
            )
        yield started


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_query_finds_something_and_every_alert_a_real_fault(run):
    """One test, since the faults are of the run whose queries are asked before."""
    for expression in queries():
        run.until_found(expression)
    for name in sorted({name for rule in alerts() for name in metrics_of(rule["expr"])}):
        run.until_found(name)
    for rule in alerts():
        run.until_silent(rule["alert"])
    for fault in FAULTS:
        fault(run)


def no_checkpoint(run):
    """A file is where the folder of checkpoints was."""
    where = "*/*/*/checkpoints"
    until("a first checkpoint", lambda: any(run.runs("impala").glob(f"{where}/generation-*")))
    (folder,) = run.runs("impala").glob(where)
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.touch()
    run.until_found(run.firing("WiserlCheckpointFailing"))
    folder.unlink()
    aside.rename(folder)
    run.until_silent("WiserlCheckpointFailing")


def a_sampler_that_hears_nothing(run):
    """It is stopped, for less than a lease, again and again, while policies go on."""
    was_stale = f"max_over_time({run.firing('WiserlSamplerStale')}[1m])"
    sampler = run.samplers["b"]

    def stopped_for_a_while():
        sampler.send_signal(signal.SIGSTOP)
        time.sleep(4.5)
        sampler.send_signal(signal.SIGCONT)
        time.sleep(1.0)
        return bool(run.found(was_stale))

    until("a stale sampler", stopped_for_a_while)
    run.until_silent("WiserlSamplerStale")


def environments_that_stand_still(run):
    run.pause.touch()
    run.until_found(run.firing("WiserlLearnerStalled"))
    run.until_found(run.firing("WiserlSamplerWaiting"))
    run.pause.unlink()
    run.until_silent("WiserlLearnerStalled")
    run.until_silent("WiserlSamplerWaiting")


def samplers_that_are_gone(run):
    for name in ("a", "b"):
        run.samplers[name].kill()
    run.until_found(run.firing("WiserlLearnerStarving"))


def a_learner_that_is_gone(run):
    run.learners["impala"].kill()
    run.until_found(run.firing("WiserlLearnerDown"))


FAULTS = (
    no_checkpoint,
    a_sampler_that_hears_nothing,
    environments_that_stand_still,
    samplers_that_are_gone,
    a_learner_that_is_gone,
)


def test_there_is_a_fault_for_every_alert():
    said = "".join(inspect.getsource(fault) for fault in FAULTS)
    assert [rule["alert"] for rule in alerts() if rule["alert"] not in said] == []
