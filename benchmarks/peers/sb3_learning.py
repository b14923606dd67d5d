"""One learning run of Stable-Baselines3 (sb3-contrib for TRPO) at the hyperparameters of ours.

Runs in an environment of its own (`pip install stable-baselines3 sb3-contrib`). Reads one JSON
document on stdin: `algorithm`, `env`, `env_args`, `total_steps`, `seed`, `evaluation_seeds`, and
`hyperparameters` as WiseRL has them. Prints one on stdout: the returns of the last policy's greedy
episodes, one for each evaluation seed, and the settings that ours became.

What has no counterpart there, such as the length of a segment, is listed in `without_counterpart`.
What would change the algorithm and has none is refused.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

ALGORITHMS = {
    "ppo": stable_baselines3.PPO,
    "trpo": sb3_contrib.TRPO,
    "dqn": stable_baselines3.DQN,
    "ddpg": stable_baselines3.DDPG,
    "td3": stable_baselines3.TD3,
    "sac": stable_baselines3.SAC,
}
NEUTRAL: dict[str, Any] = {
    "clip_rewards": False,
    "dueling": False,
    "exploration": ("schedule", "gaussian"),
    "loss": "huber",
    "max_gradient_norm": None,
    "network": "auto",
    "prioritised": False,
    "random_steps": None,
    "recurrent": False,
    "target_entropy": None,
}
"""The values of settings that may have no counterpart; with others it would be no comparison."""
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
CLIP = 10.0
"""Bound of normalised observations and of scaled rewards, in both systems."""
CURVE_POINTS = 200

Falling = Callable[[float], float]
"""From the share of the budget that is left."""


class Settings:
    """Hyperparameters of ours, and which of them have a counterpart."""

    def __init__(self, hyperparameters: dict[str, Any]) -> None:
        self._all = hyperparameters
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any setting
        """One that has a counterpart."""
        self._used.add(name)
        return self._all[name]

    def scheduled(self, name: str, schedule: str) -> float | Falling:
        """A number, or the line from it to 0."""
        start = self[name]
        return (lambda left: start * left) if self[schedule] == "linear" else start

    def rate(self, *names: str) -> float | Falling:
        """The learning rate, which is one setting there."""
        if len({self[name] for name in names}) > 1:
            sys.exit(f"{', '.join(names)} differ, and there they are one setting")
        return self.scheduled(names[0], "learning_rate_schedule")

    def without_counterpart(self) -> dict[str, Any]:
        """The others."""
        rest = {name: value for name, value in self._all.items() if name not in self._used}
        for name, value in rest.items():
            neutral = NEUTRAL.get(name, value)
            if value not in (neutral if isinstance(neutral, tuple) else (neutral,)):
                sys.exit(f"{name} ({value!r}) has no counterpart there; {neutral!r} is the same")
        return rest


def on_policy(own: Settings, *, continuous: bool) -> dict[str, Any]:
    """What PPO and TRPO share."""
    log_std = own["initial_log_std"]
    return {
        "n_steps": own["n_steps"],
        "batch_size": own["n_envs"] * own["n_steps"] // own["n_minibatches"],
        "gamma": own["gamma"],
        "gae_lambda": own["gae_lambda"],
        "normalize_advantage": own["normalise_advantages"],
        "policy_kwargs": {
            "net_arch": list(own["hidden_sizes"] or (64, 64)),
            "activation_fn": ACTIVATIONS[own["activation"]],
            "optimizer_kwargs": {"eps": own["adam_epsilon"]},
            **({"log_std_init": log_std} if continuous else {}),
        },
    }


def ppo(own: Settings) -> dict[str, Any]:
    """What only PPO has."""
    return {
        "learning_rate": own.rate("learning_rate"),
        "clip_range": own.scheduled("clip_range", "clip_range_schedule"),
        "clip_range_vf": own["value_clip_range"],
        "n_epochs": own["epochs"],
        "ent_coef": own["entropy_coefficient"],
        "vf_coef": own["value_coefficient"],
        "max_grad_norm": own["max_gradient_norm"],
        "target_kl": own["target_kl"],
    }


def trpo(own: Settings) -> dict[str, Any]:
    """What only TRPO has; `Watch` lowers its bound."""
    return {
        "learning_rate": own["critic_learning_rate"],
        "target_kl": own["max_kl"],
        "cg_damping": own["damping"],
        "cg_max_steps": own["conjugate_gradient_steps"],
        "line_search_max_iter": own["line_search_steps"],
        "line_search_shrinking_factor": own["line_search_shrinkage"],
        "n_critic_updates": own["critic_epochs"],
    }


def off_policy(own: Settings, hidden: tuple[int, ...]) -> dict[str, Any]:
    """What all share that learn from replay: after each step of all environments they train."""
    gradient_steps = own["n_envs"] * own["replay_ratio"]
    if gradient_steps != int(gradient_steps):
        sys.exit(f"n_envs x replay_ratio ({gradient_steps}) is no whole number")
    return {
        "buffer_size": own["buffer_size"],
        "learning_starts": own["learning_starts"],
        "batch_size": own["batch_size"],
        "gamma": own["gamma"],
        "n_steps": own["n_step"],
        "tau": own["target_tau"],
        "train_freq": 1,
        "gradient_steps": int(gradient_steps),
        "policy_kwargs": {
            "net_arch": list(own["hidden_sizes"] or hidden),
            "activation_fn": ACTIVATIONS[own["activation"]],
            "optimizer_kwargs": {"eps": own["adam_epsilon"]},
        },
    }


def dqn(own: Settings, total_steps: int) -> dict[str, Any]:
    """What only DQN has; the target's interval is there in environment steps."""
    return {
        "learning_rate": own.rate("learning_rate"),
        "target_update_interval": round(own["target_update_interval"] / own["replay_ratio"]),
        "exploration_fraction": own["exploration_steps"] / total_steps,
        "exploration_initial_eps": own["initial_epsilon"],
        "exploration_final_eps": own["final_epsilon"],
        "max_grad_norm": own["max_gradient_norm"],
    }


def ddpg(own: Settings, width: int) -> dict[str, Any]:
    """What DDPG and TD3 share."""
    sigma = np.full(width, own["exploration_noise"])
    return {
        "learning_rate": own.rate("actor_learning_rate", "critic_learning_rate"),
        "action_noise": NormalActionNoise(np.zeros(width), sigma),
    }


def td3(own: Settings) -> dict[str, Any]:
    """What only TD3 has."""
    return {
        "policy_delay": own["policy_delay"],
        "target_policy_noise": own["target_noise"],
        "target_noise_clip": own["target_noise_clip"],
    }


def sac(own: Settings) -> dict[str, Any]:
    """What only SAC has."""
    fixed, initial = own["entropy_coefficient"], own["initial_entropy_coefficient"]
    rates = ("actor_learning_rate", "critic_learning_rate", "entropy_learning_rate")
    return {
        "learning_rate": own.rate(*rates),
        "ent_coef": f"auto_{initial}" if fixed is None else fixed,
        "target_update_interval": own["target_update_interval"],
    }


def translated(order: dict[str, Any], own: Settings, space: gymnasium.Space) -> dict[str, Any]:
    """The arguments of the algorithm's class."""
    name, continuous = order["algorithm"], isinstance(space, gymnasium.spaces.Box)
    if name in {"ppo", "trpo"}:
        return on_policy(own, continuous=continuous) | (ppo if name == "ppo" else trpo)(own)
    if name == "dqn":
        return off_policy(own, (120, 84)) | dqn(own, order["total_steps"])
    settings = off_policy(own, (256, 256))
    if name == "sac":
        return settings | sac(own)
    settings |= ddpg(own, space.shape[0])
    return settings | td3(own) if name == "td3" else settings


class Watch(BaseCallback):
    """Keeps the training curve, and sets TRPO's bound before each round."""

    def __init__(self, total_steps: int, bound: float | Falling | None) -> None:
        super().__init__()
        self._total, self._bound = total_steps, bound
        self.curve: dict[str, list[float]] = {"environment_steps": [], "ep_rew_mean": []}

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if callable(self._bound):
            self.model.target_kl = self._bound(max(0.0, 1.0 - self.num_timesteps / self._total))

    def _on_rollout_end(self) -> None:
        steps, last = self.num_timesteps, self.curve["environment_steps"][-1:] or [0]
        if self.model.ep_info_buffer and steps - last[0] >= self._total / CURVE_POINTS:
            returns = [episode["r"] for episode in self.model.ep_info_buffer]
            self.curve["environment_steps"].append(steps)
            self.curve["ep_rew_mean"].append(round(float(np.mean(returns)), 3))


def evaluated(order: dict[str, Any], model: BaseAlgorithm) -> tuple[list[float], list[int]]:
    """Returns and lengths of greedy episodes of the policy as it is, one for each seed."""
    environment = gymnasium.make(order["env"], **order["env_args"])
    normaliser = model.get_vec_normalize_env()
    returns, lengths = [], []
    for seed in order["evaluation_seeds"]:
        observation, _ = environment.reset(seed=seed)
        total, length, over = 0.0, 0, False
        while not over:
            if normaliser is not None:
                observation = normaliser.normalize_obs(observation)
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = environment.step(action)
            total, length, over = total + float(reward), length + 1, terminated or truncated
        returns.append(total)
        lengths.append(length)
    return returns, lengths


def main() -> None:
    """Trains, evaluates and prints."""
    order = json.load(sys.stdin)
    torch.set_num_threads(1)
    own = Settings(order["hyperparameters"])
    environments: Any = make_vec_env(
        order["env"], own["n_envs"], seed=order["seed"], env_kwargs=order["env_args"]
    )
    space = environments.action_space
    settings = translated(order, own, space)
    normalised, bound = {}, None
    if order["algorithm"] in {"ppo", "trpo"}:
        continuous = isinstance(space, gymnasium.spaces.Box)
        given = own["normalise_observations"], own["scale_rewards"]
        observations, rewards = (continuous if choice is None else choice for choice in given)
        normalised = {"norm_obs": observations, "norm_reward": rewards, "gamma": own["gamma"]}
        if observations or rewards:
            environments = VecNormalize(environments, **normalised, clip_obs=CLIP, clip_reward=CLIP)
    if order["algorithm"] == "trpo":
        bound = own.scheduled("max_kl", "max_kl_schedule")
    left_out = own.without_counterpart()
    watch = Watch(order["total_steps"], bound)
    start = time.perf_counter()
    model = ALGORITHMS[order["algorithm"]](
        "MlpPolicy", environments, seed=order["seed"], device="cpu", **settings
    )
    model.learn(order["total_steps"], callback=watch)
    seconds = time.perf_counter() - start
    returns, lengths = evaluated(order, model)
    names = ("stable_baselines3", "sb3_contrib", "torch", "gymnasium", "numpy")
    answer = {
        "system": f"Stable-Baselines3 {stable_baselines3.__version__}",
        "versions": {name: metadata.version(name) for name in names},
        "environment_steps": model.num_timesteps,
        "training_seconds": round(seconds, 2),
        "returns": returns,
        "lengths": lengths,
        "curve": watch.curve,
        "settings": settings | {"normalised": normalised, "bound": bound},
        "without_counterpart": left_out,
    }
    print(json.dumps(answer, default=described))


def described(value: type | NormalActionNoise | Falling) -> str:
    """What a setting that JSON does not have is called."""
    if isinstance(value, type):
        return value.__name__
    return str(value) if isinstance(value, NormalActionNoise) else f"{value(1.0):g}, falling to 0"


if __name__ == "__main__":
    main()
