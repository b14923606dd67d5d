"""Writes Grafana's dashboard; with `--check` only says whether it is what this makes.

python scripts/dashboard.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

FILE = Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards/wiserl.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="wiserl")
COLUMNS, WIDTH, HEIGHT = 3, 8, 8

_IDLE, _POLICY, _ENVIRONMENT = (
    f"rate(wiserl_sampler_{name}_seconds_total[1m])" for name in ("idle", "policy", "environment")
)

PANELS: dict[str, tuple[str, dict[str, str]]] = {
    "Return of training episodes": (
        "short",
        {"mean of the last 100": "wiserl_rollout_ep_rew_mean"},
    ),
    "Environment steps a second": (
        "short",
        {"all samplers": "rate(wiserl_environment_steps_total[1m])"},
    ),
    "Progress": (
        "percentunit",
        {"of all": "wiserl_environment_steps_total / on (instance, job) wiserl_budget_steps"},
    ),
    "Samplers": (
        "short",
        {"registered": "wiserl_samplers", "scraped": 'sum(up{job="wiserl-sampler"})'},
    ),
    "Since the last pull": ("s", {"{{sampler}}": "wiserl_sampler_silence_seconds"}),
    "Steps a second of each sampler": (
        "short",
        {"{{sampler}}": "rate(wiserl_sampler_environment_steps_total[1m])"},
    ),
    "Policies that samplers are behind": ("short", {"{{sampler}}": "wiserl_sampler_policy_lag"}),
    "Policies that the data is behind": (
        "short",
        {"from the queue": "wiserl_learner_policy_lag", "into the replay": "wiserl_replay_lag"},
    ),
    "Data too stale to train on": ("percentunit", {"of the queue": "wiserl_learner_stale_share"}),
    "Gradient steps for each environment step": ("short", {"replay": "wiserl_replay_ratio"}),
    "The learner waits, and updates": (
        "s",
        {"waits": "wiserl_time_wait_seconds", "updates": "wiserl_time_update_seconds"},
    ),
    "Pushes wait for room": (
        "s",
        {
            "in the replay": "wiserl_replay_insert_wait_seconds",
            "in the queue": "wiserl_queue_insert_wait_seconds",
        },
    ),
    "Workers that wait for work": (
        "percentunit",
        {"{{instance}}": f"{_IDLE} / ({_IDLE} + {_POLICY} + {_ENVIRONMENT})"},
    ),
    "Calls a second": (
        "short",
        {
            "{{grpc_method}} {{grpc_code}}": (
                "sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total[1m]))"
            )
        },
    ),
    "Calls: 95 % are faster": (
        "s",
        {
            "{{grpc_method}}": (
                "histogram_quantile(0.95, "
                "sum by (le, grpc_method) (rate(grpc_server_handling_seconds_bucket[1m])))"
            )
        },
    ),
    "Memory": ("bytes", {"{{job}} {{instance}}": "process_resident_memory_bytes"}),
}
"""Unit and queries of each panel, the queries by the legend of what they find."""


def made() -> str:
    """The dashboard as JSON."""
    board = Dashboard("WiseRL").uid("wiserl").tags(["wiserl"]).refresh("5s").time("now-15m", "now")
    for number, (title, (unit, queries)) in enumerate(PANELS.items()):
        row, column = divmod(number, COLUMNS)
        place = GridPos(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
        panel = Panel().title(title).datasource(SOURCE).unit(unit).min(0).grid_pos(place)
        for letter, (legend, expression) in zip("AB", queries.items(), strict=False):
            query = Dataquery().ref_id(letter).expr(expression).legend_format(legend)
            panel = panel.with_target(query)
        board = board.with_panel(panel)
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(board.build())}\n"


def main() -> int:
    """Writes it, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    if not parser.parse_args().check:
        FILE.write_text(made())
        return 0
    if FILE.read_text() == made():
        return 0
    print(f"{FILE.name} is not what {Path(__file__).name} makes; run it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
