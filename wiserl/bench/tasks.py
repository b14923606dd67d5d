"""The tasks of the learning benchmark, as `tasks.yaml` states them."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import TYPE_CHECKING

import yaml

from common.errors import InvalidFieldError, WiseRLError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Task:
    """What an algorithm must reach in an environment.

    Attributes:
        name: The task's, such as `ppo-cartpole`.
        algorithm: A name that `wiserl train` knows.
        env: The environment's id.
        total_steps: Budget in environment steps, all of them counted.
        episodes: Greedy episodes of the final policy that are averaged to a seed's score.
        seeds: Those of the runs, named before the first one.
        gate: What the interquartile mean over seeds must reach.
        stretch: What a very good implementation reaches.
        reference: What is published for it, for tasks that a peer is trained on too.
        anchors: What others came to there, by what they are; random policies are measured here.
    """

    name: str
    algorithm: str
    env: str
    total_steps: int
    episodes: int
    seeds: tuple[int, ...]
    gate: float
    stretch: float
    reference: float | None = None
    anchors: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run of a task: the unit of work that is kept for ever once it is finished."""

    task: Task
    seed: int

    @property
    def file_name(self) -> str:
        """Where its result lies."""
        return f"{self.task.name}-s{self.seed}.json"


def load(file: Path | None = None) -> dict[str, Task]:
    """All tasks by name, in the order of the file.

    Args:
        file: One of the user's own in place of the project's.

    Raises:
        InvalidFieldError: The file cannot be read, or has a task with a field too few or too many.
    """
    text = (file or resources.files("wiserl.bench").joinpath("tasks.yaml")).read_text()
    try:
        return {
            name: Task(name=name, **{**fields, "seeds": tuple(fields["seeds"])})
            for name, fields in yaml.safe_load(text).items()
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        needed = ", ".join(each.name for each in dataclasses.fields(Task)[1:])
        raise InvalidFieldError(
            str(file), f"is no file of tasks by name, each with {needed}: {error}"
        ) from None


def select(names: tuple[str, ...], file: Path | None = None) -> list[Task]:
    """The tasks of these names, all where none is given.

    Raises:
        InvalidFieldError: The file is none of tasks.
        WiseRLError: A name that no task has.
    """
    known = load(file)
    if missing := [name for name in names if name not in known]:
        raise WiseRLError(f"there is no task {', '.join(missing)}; tasks are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def units(tasks: list[Task]) -> list[Unit]:
    """The units of some tasks, seed by seed, so that every task has a result early."""
    most = max((len(task.seeds) for task in tasks), default=0)
    return [
        Unit(task, task.seeds[turn])
        for turn in range(most)
        for task in tasks
        if turn < len(task.seeds)
    ]
