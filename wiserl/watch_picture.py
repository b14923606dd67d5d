"""A watched run as a picture on a terminal: progress, returns, curve, samplers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from protos.wiserl.v1 import learner_pb2
    from wiserl.watching import Watched

CURVE_WIDTH = 60
"""Characters of the curve; each is a mean over its share of the steps."""

BAR_WIDTH = 20

SILENT_SECONDS = 6.0
"""A sampler that has not pulled for so long, the usual lease, is shown as silent."""

_HEIGHTS = "▁▂▃▄▅▆▇█"
_RETURNS = {
    "rollout/ep_rew_mean": "last 100",
    "rollout/ep_rew_mean_20": "last 20",
    "eval/mean_reward": "greedy",
}
_OTHERS = {
    "rollout/ep_len_mean": ("length", "{:,.0f}"),
    "rollout/success_rate": ("success", "{:.0%}"),
    "replay/size": ("replay rows", "{:,.0f}"),
    "replay/ratio": ("replay ratio", "{:.3g}"),
    "replay/insert_wait_seconds": ("samplers waited", "{:,.1f} s"),
    "time/wait_seconds": ("learner waited", "{:.2f} s"),
    "train/loss": ("loss", "{:.4g}"),
}
_NUMBERS = ("slots", "policy", "lag", "steps", "steps/s", "busy", "dropped", "restarts", "heard")


def picture(watched: Watched) -> RenderableType:
    """The state now."""
    state = watched.state
    parts: list[RenderableType] = [_title(watched), _progress(watched)]
    metrics = state.metrics
    returns = [
        f"{metrics[name]:.1f} ({said})" for name, said in _RETURNS.items() if name in metrics
    ]
    if returns:
        parts.append(Text(f"return  {', '.join(returns)}"))
    if len(watched.curve) > 1:
        values = [value for _, value in watched.curve]
        parts.append(
            Text.assemble(
                "curve   ",
                (sparkline(watched.curve, CURVE_WIDTH), "cyan"),
                f"  {min(values):.1f} to {max(values):.1f}",
            )
        )
    others = [
        f"{label} {form.format(metrics[name])}"
        for name, (label, form) in _OTHERS.items()
        if name in metrics
    ]
    if others:
        parts.append(Text(f"now     {', '.join(others)}"))
    if losses := watched.losses:
        said = "; ".join(f"{reason} {count}" for reason, count in losses.items())
        parts.append(Text(f"lost    {said}", style="yellow"))
    parts.append(_samplers(watched))
    if watched.silence:
        parts.append(Text(watched.silence, style="red"))
    return Group(*parts)


def sparkline(points: Sequence[tuple[int, float]], width: int) -> str:
    """The curve in `width` characters at most, from its first step to its last.

    Args:
        points: `(steps, value)`, ascending in steps; at least one.
        width: At least 1.
    """
    first, last = points[0][0], points[-1][0]
    width = min(width, len(points))
    span = max(1, last - first)
    shares: list[list[float]] = [[] for _ in range(width)]
    for steps, value in points:
        shares[min(width - 1, (steps - first) * width // span)].append(value)
    means: list[float] = []
    for share in shares:
        means.append(sum(share) / len(share) if share else means[-1])
    low, high = min(means), max(means)
    top = len(_HEIGHTS) - 1
    scale = top / (high - low) if high > low else 0.0
    return "".join(_HEIGHTS[round((mean - low) * scale)] for mean in means)


def _title(watched: Watched) -> Text:
    run = watched.run
    return Text.assemble(
        (f"{run.algorithm} on {run.training_environment.id}", "bold"),
        f"  {watched.phase}",
        (f"  run {run.run_id} at {watched.address}", "dim"),
        overflow="ellipsis",
        no_wrap=True,
    )


def _progress(watched: Watched) -> RenderableType:
    state = watched.state
    said = [f"{state.environment_steps:,}/{state.total_steps:,} steps"]
    if watched.steps_per_second is not None:
        said.append(f"{watched.steps_per_second:,.0f} steps/s")
    said.append(f"policy {state.version}")
    if watched.time_left:
        said.append(f"{watched.time_left} left")
    share = min(1.0, state.environment_steps / max(1, state.total_steps))
    done = round(BAR_WIDTH * share)
    return Text.assemble(
        f"{share:>5.0%}  ",
        ("━" * done, "green"),
        ("─" * (BAR_WIDTH - done), "dim"),
        f"  {' | '.join(said)}",
    )


def _samplers(watched: Watched) -> RenderableType:
    samplers = watched.state.samplers
    if not samplers:
        return Text(f"no sampler; start one: wiserl sampler --learner {watched.address}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", justify="right")
    table.add_column("sampler", overflow="ellipsis", no_wrap=True)
    for name in _NUMBERS:
        table.add_column(name, justify="right")
    for sampler in samplers:
        silent = sampler.seconds_since_pull > SILENT_SECONDS
        table.add_row(*_row(watched, sampler), style="yellow" if silent else "")
    return table


def _row(watched: Watched, sampler: learner_pb2.SamplerStatus) -> list[str]:
    done = sampler.progress
    rate = watched.rate_of(sampler)
    worked = done.policy_seconds + done.environment_seconds
    spent = worked + done.idle_seconds
    return [
        str(sampler.index),
        sampler.name,
        str(sampler.slots),
        str(sampler.version),
        str(watched.lag_of(sampler)),
        f"{sampler.environment_steps:,}",
        "" if rate is None else f"{rate:,.0f}",
        f"{worked / spent:.0%}" if spent else "",
        f"{done.rows_dropped:,}",
        str(done.worker_restarts),
        f"{sampler.seconds_since_pull:.1f} s",
    ]
