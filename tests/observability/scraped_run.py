"""A real run of two learners and their samplers under the eyes of a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pausing_env
import processes
import yaml
from processes import process, until, wiserl

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"

COMMON = ("--eval-points", "0", "--total-steps", "10000000", "--checkpoint-seconds", "1")
LEARNERS = {
    "impala": ("--env", "pausing_env:make", "--n-steps", "16", "--n-envs", "4"),
    "dqn": ("--env", "CartPole-v1", "--segment-length", "16", "--learning-starts", "200"),
}
"""One that learns from a queue, whose policies follow each other fast, and one from a replay."""


def alerts() -> list[dict[str, Any]]:
    """The rules as deployed."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def hurried() -> dict[str, Any]:
    """The same rules with their times in seconds instead of minutes."""
    rules = [
        rule
        | {"expr": re.sub(r"\[\d+m\]", "[6s]", rule["expr"])}
        | ({"for": "1s"} if "for" in rule else {})
        for rule in alerts()
    ]
    return {"groups": [{"name": "hurried", "interval": "1s", "rules": rules}]}


class ScrapedRun(contextlib.ExitStack):
    """Learners, samplers and Prometheus, all of which end with it."""

    def __init__(self, folder: Path, prometheus: str) -> None:
        super().__init__()
        self._folder = folder
        self._ports = {
            name: processes.free_port()
            for name in ("prometheus", *LEARNERS, *(f"{each}-status" for each in LEARNERS))
        }
        self.pause = folder / "pause"
        os.environ[pausing_env.VARIABLE] = str(self.pause)
        self.callback(os.environ.pop, pausing_env.VARIABLE)
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{before}"
        self.callback(os.environ.__setitem__, "PYTHONPATH", before)
        self.learners = {name: self._learner(name) for name in LEARNERS}
        status = {name: processes.free_port() for name in ("a", "b", "c")}
        self.samplers = {
            name: self._sampler(name, algorithm, status[name])
            for name, algorithm in (("a", "impala"), ("b", "impala"), ("c", "dqn"))
        }
        self._start_prometheus(prometheus, list(status.values()))

    def runs(self, algorithm: str) -> Path:
        """Where a learner's run is recorded."""
        return self._folder / algorithm

    def _learner(self, algorithm: str) -> subprocess.Popen[bytes]:
        command = wiserl(
            *("learner", algorithm, *LEARNERS[algorithm], *COMMON),
            *("--runs", str(self.runs(algorithm)), "--port", str(self._ports[algorithm])),
            *("--status-port", str(self._ports[f"{algorithm}-status"])),
        )
        return self.enter_context(process(command, self._folder / f"{algorithm}.log"))

    def _sampler(self, name: str, algorithm: str, status: int) -> subprocess.Popen[bytes]:
        command = wiserl(
            *("sampler", "--learner", f"127.0.0.1:{self._ports[algorithm]}", "--name", name),
            *("--workers", "1", "--envs-per-worker", "4", "--status-port", str(status)),
            *("--allow-module", "pausing_env", "--step-timeout-seconds", "3600"),
        )
        return self.enter_context(process(command, self._folder / f"sampler-{name}.log"))

    def _start_prometheus(self, program: str, samplers: list[int]) -> None:
        (self._folder / "alerts.yml").write_text(yaml.safe_dump(hurried()))
        learners = [self._ports[f"{name}-status"] for name in LEARNERS]
        configuration = {
            # As deployed, but for the targets, and often enough for a test.
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
                }
                for job, ports in (("wiserl-learner", learners), ("wiserl-sampler", samplers))
            ],
            "rule_files": [str(self._folder / "alerts.yml")],
        }
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        command = [
            program,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._ports['prometheus']}",
        ]
        self.enter_context(process(command, self._folder / "prometheus.log"))

    def found(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers to a query; nothing while it is not up."""
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self._ports['prometheus']}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:
            return []
        return result

    def of_learner(self, algorithm: str) -> str:
        """The label that tells a learner's metrics from another's."""
        return f'instance="127.0.0.1:{self._ports[f"{algorithm}-status"]}"'

    def until_found(self, expression: str) -> None:
        """Waits until a query finds something."""
        until(expression, lambda: bool(self.found(expression)), pause_seconds=0.5)

    def firing(self, alert: str, selector: str = "") -> str:
        """The query for an alert that fires."""
        return f'ALERTS{{alertstate="firing", alertname="{alert}"{selector}}}'

    def until_silent(self, alert: str) -> None:
        """Waits until an alert fires no more."""
        query = self.firing(alert)
        until(f"the end of {alert}", lambda: not self.found(query), pause_seconds=0.5)
