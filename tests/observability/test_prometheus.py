"""Alerts fire when they should, and a real Prometheus finds what rules and dashboard ask for."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import processes
import pytest
import yaml
from processes import process, until, wiserl

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/wiserl.json"

ROUNDS = ("--n-envs", "8", "--n-steps", "32", "--eval-points", "0", "--total-steps", "10000000")


def alerts():
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return group["rules"]


def queries():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics_of(expression):
    """The names of the metrics in an expression."""
    names = re.findall(r"\b((?:wiserl|grpc|process)_[a-z0-9_]+|up)\b", expression)
    return {name for name in names if name not in {"grpc_method", "grpc_code"}}


@pytest.fixture(scope="module")
def prometheus():
    """Debian's package, brought where it is missing."""
    if not (shutil.which("prometheus") and shutil.which("promtool")):
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
    return shutil.which("prometheus")


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
@pytest.mark.timeout(600)
def test_a_real_prometheus_finds_every_metric_of_a_real_run(prometheus, tmp_path):
    ports = {name: processes.free_port() for name in ("learner", "status", "sampler", "prometheus")}
    config = {
        # As deployed, but for the targets, and often enough for a test.
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": f"wiserl-{name}",
                "static_configs": [{"targets": [f"127.0.0.1:{ports[port]}"]}],
            }
            for name, port in (("learner", "status"), ("sampler", "sampler"))
        ],
        "rule_files": [str(RULES)],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    learner = wiserl(
        *("learner", "ppo", "--env", "CartPole-v1", "--runs", str(tmp_path / "runs"), *ROUNDS),
        *("--checkpoint-seconds", "1", "--port", str(ports["learner"])),
        *("--status-port", str(ports["status"])),
    )
    sampler = wiserl(
        *("sampler", "--learner", f"127.0.0.1:{ports['learner']}", "--workers", "1"),
        *("--status-port", str(ports["sampler"])),
    )
    scraper = [
        prometheus,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
    ]

    def found(expression):
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{ports['prometheus']}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []

    with (
        process(learner, tmp_path / "learner.log"),
        process(sampler, tmp_path / "sampler.log"),
        process(scraper, tmp_path / "prometheus.log"),
    ):
        for expression in queries():
            until(expression, lambda e=expression: found(e), pause_seconds=0.5)
        wanted = {name for rule in alerts() for name in metrics_of(rule["expr"])}
        assert len(wanted) >= 6
        for name in sorted(wanted):
            until(name, lambda n=name: found(n), pause_seconds=0.5)
        assert found('ALERTS{alertstate="firing"}') == []
