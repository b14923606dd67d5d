"""What a planner that knows the rules comes to in mpe2's tasks, on the episodes of evaluations.

The actions of a whole episode are searched, again and again one or two of them changed for the
better, from several starts; then they are played in mpe2's own environment, whose returns are what
is written. What is found can be done; how much better the best is, is not known.

A listener hears its goal after the first step. `told at once` is where it knows it from the start,
`never told` where it goes to what is best on the mean over all goals. `openai` is computed and not
played: in OpenAI's environments, as those that published figures are of, a push moves an agent in
the step that it is given in, in mpe2 in the step after.

python benchmarks/planners.py --name planners
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import harness
import numpy as np

from learner.config import evaluation_seeds
from protos.wiserl.v1 import environment_pb2
from sampler.environments import registry
from sampler.environments.spread_worlds import PUSHES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sampler.environments.multi_agent import ParallelEnvironment

    Floats = NDArray[np.float64]
    Actions = NDArray[np.int64]
    Search = Callable[..., tuple[Floats, Actions]]

STEPS = 25
GIVE_UP = 2
"""Sweeps in a row that change the mean return by less than a thousandth, and end a search."""


class Start(NamedTuple):
    """K episodes as they begin: agents that move [K, A, 2], landmarks [K, L, 2], [K] the goal."""

    places: Floats
    landmarks: Floats
    goals: NDArray[np.int64]


class Task(Protocol):
    """What pays."""

    environment: str
    agents: int

    def contacts(self, places: Floats) -> Floats:
        """The forces [K, A, 2] of agents that touch."""

    def rewards(self, start: Start, places: Floats) -> Floats:
        """[K], as means over agents."""


class SpeakerListener:
    """One agent that moves; agents are paid for how near it is to the goal."""

    environment = "mpe2/simple_speaker_listener_v4"
    agents = 1

    def contacts(self, places: Floats) -> Floats:
        """Nobody is there to touch."""
        return np.zeros_like(places)

    def rewards(self, start: Start, places: Floats) -> Floats:
        """Less the square of the distance."""
        goals = start.landmarks[np.arange(len(start.goals)), start.goals]
        return -np.square(places[:, 0] - goals).sum(1)


class Uncertain(SpeakerListener):
    """The same as it is to who does not know the goal: the mean over all that it may be."""

    def rewards(self, start: Start, places: Floats) -> Floats:
        """Less the mean of the squares of the distances."""
        return -np.square(places - start.landmarks).sum(2).mean(1)


class Spread:
    """Three agents, paid for how near the nearest is to each landmark, less their collisions."""

    environment = "mpe2/simple_spread_v3"
    agents = 3
    pairs = tuple(itertools.combinations(range(3), 2))

    def contacts(self, places: Floats) -> Floats:
        """Stiffness 100, margin 0.001, agents of radius 0.15."""
        forces = np.zeros_like(places)
        for one, other in self.pairs:
            apart = places[:, one] - places[:, other]
            distance = np.linalg.norm(apart, axis=1, keepdims=True)
            depth = np.logaddexp(0, (0.3 - distance) / 1e-3) * 1e-3
            force = 1e2 * apart / distance * depth
            forces[:, one] += force
            forces[:, other] -= force
        return forces

    def rewards(self, start: Start, places: Floats) -> Floats:
        """Half the team's; half of an agent's own, of whom both pay for a collision."""
        away = np.linalg.norm(places[:, None] - start.landmarks[:, :, None], axis=3)
        collisions = sum(
            np.linalg.norm(places[:, one] - places[:, other], axis=1) < 0.3
            for one, other in self.pairs
        )
        return -0.5 * away.min(2).sum(1) - 0.5 * collisions * 2 / 3


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is planned for.

    Attributes:
        task: What pays.
        late: Whether a push moves an agent in the step after it.
    """

    task: Task
    late: bool

    def step(self, places: Floats, speeds: Floats, actions: Actions) -> tuple[Floats, Floats]:
        """Places and speeds [K, A, 2] after actions [K, A]."""
        after = speeds * 0.75 + (PUSHES[actions] + self.task.contacts(places)) * 0.1
        return places + (speeds if self.late else after) * 0.1, after

    def returns(self, start: Start, speeds: Floats, plans: Actions) -> Floats:
        """[K], of plans [K, T, A] from places and speeds on."""
        places, total = start.places, np.zeros(len(plans))
        for row in range(plans.shape[1]):
            places, speeds = self.step(places, speeds, plans[:, row])
            total += self.task.rewards(start, places)
        return total


def repeated(start: Start, times: int) -> Start:
    """K episodes to `times` K."""
    return Start(*(np.tile(each, (times, *[1] * (each.ndim - 1))) for each in start))


def heading(rules: Rules, start: Start, targets: Floats) -> Actions:
    """Plans [K, T, A] of agents that each go to a target [K, A, 2] and brake in time."""
    places, speeds, plan = start.places, np.zeros_like(start.places), []
    for _ in range(STEPS):
        # From a speed v on, an agent that is not pushed comes to rest 0.4 v from where it is.
        ends = (places + 0.3 * speeds)[:, :, None] + 0.04 * PUSHES
        actions = np.linalg.norm(ends - targets[:, :, None], axis=3).argmin(2)
        plan.append(actions)
        places, speeds = rules.step(places, speeds, actions)
    return np.stack(plan, 1)


def changes(plans: Actions, row: int, agent: int) -> list[Actions]:
    """What an agent might do otherwise from a row on: other actions there, or two of it swapped."""
    found = []
    for action in range(len(PUSHES)):
        other = plans[:, row:].copy()
        other[:, 0, agent] = action
        found.append(other)
    for distance in range(1, min(5, plans.shape[1] - row)):
        other = plans[:, row:].copy()
        other[:, [0, distance], agent] = other[:, [distance, 0], agent]
        found.append(other)
    return found


def improved(rules: Rules, start: Start, plans: Actions, first: int) -> tuple[Floats, Actions]:
    """Returns [K] and plans [K, T, A] that no such change from the row `first` on makes better."""
    plans, quiet = plans.copy(), 0
    at_rest = np.zeros_like(start.places)
    best = rules.returns(start, at_rest, plans)
    while quiet < GIVE_UP:
        before, places, speeds = best.mean(), start.places, at_rest
        for row in range(STEPS):
            here = start._replace(places=places)
            for agent in range(plans.shape[2]) if row >= first else ():
                others = changes(plans, row, agent)
                returns = rules.returns(
                    repeated(here, len(others)),
                    np.tile(speeds, (len(others), 1, 1)),
                    np.concatenate(others),
                ).reshape(len(others), -1)
                chosen, episodes = returns.argmax(0), np.arange(len(plans))
                plans[:, row:] = np.stack(others)[chosen, episodes]
            places, speeds = rules.step(places, speeds, plans[:, row])
        best = rules.returns(start, at_rest, plans)
        quiet = quiet + 1 if best.mean() - before < abs(before) / 1000 else 0
    return best, plans


def planned(
    rules: Rules, start: Start, *, first: int = 0, push: int | None = None, shakes: int
) -> tuple[Floats, Actions]:
    """The best found, from all ways to share landmarks out; `push` is the first action of all."""
    task, random = rules.task, np.random.default_rng(0)
    episodes = np.arange(len(start.goals))
    if task.agents == 1:
        targets = [start.landmarks[episodes, start.goals][:, None]]
    else:
        orders = itertools.permutations(range(task.agents))
        targets = [start.landmarks[:, order] for order in map(list, orders)]
    best = np.full(len(episodes), -np.inf)
    plans = np.zeros((len(episodes), STEPS, task.agents), np.int64)

    def keep(found: Floats, by: Actions) -> None:
        better = found > best
        best[better], plans[better] = found[better], by[better]

    for each in targets:
        begun = heading(rules, start, each)
        if push is not None:
            begun[:, 0] = push
        keep(*improved(rules, start, begun, first))
    for _ in range(shakes):
        shaken = plans.copy()
        disturbed = random.random(shaken.shape) < 3 / STEPS
        disturbed[:, :first] = False
        shaken[disturbed] = random.integers(0, len(PUSHES), disturbed.sum())
        keep(*improved(rules, start, shaken, first))
    return best, plans


def told_late(rules: Rules, start: Start, *, shakes: int) -> tuple[Floats, Actions]:
    """Plans of a listener that is told its goal after the first step, which is the best for any."""
    found = [
        [
            planned(
                rules,
                start._replace(goals=np.full_like(start.goals, goal)),
                first=1,
                push=push,
                shakes=shakes,
            )
            for goal in range(start.landmarks.shape[1])
        ]
        for push in range(len(PUSHES))
    ]
    returns = np.array([[of_goal for of_goal, _ in of_push] for of_push in found])
    chosen, episodes = returns.mean(1).argmax(0), np.arange(len(start.goals))
    plans = np.array([[plan for _, plan in of_push] for of_push in found])
    return returns[chosen, start.goals, episodes], plans[chosen, start.goals, episodes]


def made(task: Task) -> ParallelEnvironment:
    """The environment that plans are played in."""
    reference = environment_pb2.EnvironmentReference(id=task.environment)
    environment: ParallelEnvironment = registry.resolve(reference, []).plain()
    return environment


def starts(environment: Any, seeds: tuple[int, ...]) -> Start:  # noqa: ANN401 - mpe2's
    """How the episodes of these seeds begin."""
    places, landmarks, goals = [], [], []
    for seed in seeds:
        environment.reset(seed=seed)
        world = environment.unwrapped.world
        movable = [agent for agent in world.agents if agent.movable]
        places.append([agent.state.p_pos for agent in movable])
        landmarks.append([landmark.state.p_pos for landmark in world.landmarks])
        goal = getattr(world.agents[0], "goal_b", None)
        goals.append(world.landmarks.index(goal) if goal else 0)
    return Start(np.array(places), np.array(landmarks), np.array(goals))


def played(environment: Any, seeds: tuple[int, ...], plans: Actions) -> list[float]:  # noqa: ANN401
    """What plans return in mpe2's environment, as means over agents."""
    found = []
    for seed, plan in zip(seeds, plans, strict=True):
        environment.reset(seed=seed)
        still = [not agent.movable for agent in environment.unwrapped.world.agents]
        total = 0.0
        for actions in plan.tolist():
            # Who does not move speaks, which moves nobody.
            each = {
                name: 0 if rests else actions.pop(0)
                for name, rests in zip(environment.possible_agents, still, strict=True)
            }
            _, rewards, *_ = environment.step(each)
            total += sum(rewards.values()) / len(each)
        found.append(total)
    return found


def main() -> None:
    """Plans, plays, prints and writes the means down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--shakes", type=int, default=20, help="new starts, near the best")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    seeds = evaluation_seeds(options.episodes)
    found: dict[str, dict[str, float]] = {}

    def mean(search: Search, task: Task, *, late: bool = True) -> float:
        return float(np.mean(search(Rules(task, late), start, shakes=options.shakes)[0]))

    for task in (SpeakerListener(), Spread()):
        environment = made(task)
        start = starts(environment, seeds)
        search: Search = told_late if task.agents == 1 else planned
        returns, plans = search(Rules(task, late=True), start, shakes=options.shakes)
        paid = played(environment, seeds, plans)
        np.testing.assert_allclose(paid, returns, atol=1e-3)
        means = {"mpe2": float(np.mean(paid)), "openai": mean(search, task, late=False)}
        if task.agents == 1:
            means["told at once"] = mean(planned, task)
            means["never told"] = mean(planned, Uncertain())
        found[task.environment] = means
        print(task.environment, {name: round(each, 2) for name, each in means.items()}, flush=True)
    if options.name:
        print(harness.write(options.name, {"episodes": options.episodes, "returns": found}))


if __name__ == "__main__":
    main()
