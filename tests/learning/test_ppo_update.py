"""PPO alone learns CartPole: the published model acts in a plain Gymnasium loop, without a wire."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from learner_support import (
    ACTION,
    CPU,
    LOG_PROB,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
    VALID,
    batch_of,
    draw,
)

from common import spaces, specs
from common.signature import Noise
from learner.algorithms.ppo import PPO, PPOConfig
from learner.experience import columns
from learner.publishing import sessions
from learner.publishing.publisher import Publisher

STEPS = 40_000
ENVIRONMENTS = 8


class Roller:
    """Rolls rounds of environments that reset one step late, as the contract has it."""

    def __init__(self, algorithm: PPO) -> None:
        self._algorithm = algorithm
        self._environments = [gymnasium.make("CartPole-v1") for _ in range(ENVIRONMENTS)]
        self._observations = np.stack(
            [environment.reset(seed=i)[0] for i, environment in enumerate(self._environments)]
        )
        self._ended = [False] * ENVIRONMENTS
        self._noise = np.random.default_rng(0)

    def roll(self, model: bytes):
        """A round of the model's."""
        rows = self._algorithm.n_steps
        found = columns.allocate(self._algorithm.signature.columns, rows, ENVIRONMENTS)
        session = sessions.session_of(model)
        for row in range(rows):
            found[OBSERVATION][row] = self._observations
            answer = sessions.run(
                session,
                ["action", "record/log_prob"],
                {
                    "observation": self._observations,
                    "noise": draw(self._noise, Noise.OPEN_UNIFORM, (ENVIRONMENTS, 2)),
                },
            )
            for key, name in ((ACTION, "action"), (LOG_PROB, "record/log_prob")):
                found[key][row] = answer[name]
            for slot in range(ENVIRONMENTS):
                self._step(found, row, slot, int(answer["action"][slot]))
        found[OBSERVATION][rows] = self._observations
        return batch_of(found)

    def _step(self, found, row: int, slot: int, action: int) -> None:
        environment, reset = self._environments[slot], self._ended[slot]
        reward, terminated, truncated = 0.0, False, False
        if reset:
            observation, _ = environment.reset()
        else:
            observation, reward, terminated, truncated, _ = environment.step(action)
        self._ended[slot] = terminated or truncated
        self._observations[slot] = observation
        for key, entry in (
            (REWARD, reward),
            (TERMINATED, terminated),
            (TRUNCATED, truncated),
            (VALID, not reset),
        ):
            found[key][row, slot] = entry


def greedy_return(model: bytes, *, episodes: int) -> float:
    """The mean return of the greedy actions on seeds of their own."""
    session = sessions.session_of(model)
    environment = gymnasium.make("CartPole-v1")
    noise = np.full((1, 2), 0.5, np.float32)
    total = 0.0
    for seed in range(1000, 1000 + episodes):
        observation, _ = environment.reset(seed=seed)
        ended = False
        while not ended:
            feeds = {"observation": observation[None], "noise": noise}
            (action,) = sessions.run(session, ["greedy_action"], feeds)["greedy_action"]
            observation, reward, terminated, truncated, _ = environment.step(int(action))
            total += float(reward)
            ended = terminated or truncated
    return total / episodes


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_learns_cartpole(seed):
    torch.set_num_threads(1)
    environment = gymnasium.make("CartPole-v1")
    space = environment.observation_space
    spec = specs.single_agent(spaces.Box(space.low, space.high), spaces.Discrete(2))
    config = PPOConfig(
        n_envs=ENVIRONMENTS,
        n_steps=32,
        n_minibatches=1,
        epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        learning_rate=1e-3,
        clip_range_schedule="linear",
    )
    algorithm = PPO(spec, config, device=CPU, seed=seed)
    publisher = Publisher(algorithm.behaviour, cache=None)
    roller = Roller(algorithm)
    publication = publisher.publish(1)
    steps = 0
    while steps < STEPS:
        batch = roller.roll(publication.model)
        metrics = algorithm.update(batch, steps / STEPS)
        assert metrics["train/fresh_ratio_error"] < 1e-5
        steps += batch.steps
        publication = publisher.publish(publication.version + 1)
    assert greedy_return(publication.model, episodes=30) >= 400.0
