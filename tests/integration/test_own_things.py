"""A user's own algorithm, network, environment and wrapper, from files outside the package."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch
from one_process import ONE_PROCESS

import wiserl
from common.errors import InvalidFieldError, WiseRLError
from learner.publishing.publisher import Publisher
from learner.run_folder import RunFolder
from wiserl import cli

ROOT = Path(__file__).resolve().parents[2]
SMALL = {**ONE_PROCESS, "total_steps": 600, "final_eval_episodes": 2}
TUTORIAL = "ddpg_tutorial:TutorialDDPG"


@pytest.fixture(autouse=True)
def examples(monkeypatch, tmp_path):
    """As if the command were started in another folder, with the examples on the path."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


def settings_of(outcome) -> str:
    return RunFolder(outcome.folder).config.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_algorithm_of_ones_own_is_trained_resumed_loaded_and_evaluated(capsys):
    given = {"learning_starts": 100, "buffer_size": 1000, "target_tau": 0.01, "n_envs": 2}
    first = wiserl.train(TUTORIAL, env="Pendulum-v1", **SMALL, **given)
    assert (first.environment_steps, len(first.final.returns)) == (600, 2)
    assert {"train/critic_loss", "train/actor_loss"} <= first.metrics.keys()
    assert first.folder.parent.name == "ddpg_tutorial-TutorialDDPG"
    assert "target_tau: 0.01" in settings_of(first)
    second = wiserl.resume(first.folder, total_steps=800)
    assert second.environment_steps == 800
    action = wiserl.load(second.folder).act(np.zeros(3, np.float32))
    assert action.shape == (1,)
    assert -2 <= action[0] <= 2
    capsys.readouterr()
    assert cli.main(["eval", str(second.folder), "--episodes", "2", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)["returns"]
    assert played == pytest.approx(second.final.returns)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_environment_a_wrapper_and_a_network_together(capsys):
    outcome = wiserl.train(
        "ppo",
        env="own_environment:Corridor",
        env_args={"length": 4},
        wrapper=("own_wrapper:repeated_twice", "gymnasium.wrappers:FlattenObservation"),
        eval_wrapper=("none",),
        network="own_network:make",
        n_steps=75,
        **SMALL,
    )
    settings = settings_of(outcome)
    for name in ("own_environment:Corridor", "own_wrapper:repeated_twice", "own_network:make"):
        assert name in settings
    lengths = RunFolder(outcome.folder).episodes.read_text().splitlines()[1:]
    assert lengths, "a corridor of four, two steps at a time, ends now and then"
    capsys.readouterr()
    assert cli.main(["eval", str(outcome.folder), "--episodes", "1"]) == 1
    assert "--allow-module own_environment" in capsys.readouterr().err
    allowed = ["--allow-module", "own_environment"]
    assert cli.main(["eval", str(outcome.folder), "--episodes", "1", *allowed]) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sampler_builds_what_its_own_command_line_allows(tmp_path):
    wiserl_ = [sys.executable, "-m", "wiserl.cli"]
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}", "PATH": "/usr/bin:/bin"}
    learner = subprocess.Popen(
        [
            *(*wiserl_, "learner", "ppo", "--env", "own_environment:Corridor", "--port", "0"),
            *("--total-steps", "2048", "--eval-points", "0", "--final-eval-episodes", "2"),
            "--quiet",
        ],
        cwd=tmp_path,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = (json.loads(line) for line in learner.stderr)
        address = next(line["address"] for line in lines if line["event"] == "learner_listening")

        def sample(*flags: str) -> subprocess.CompletedProcess[str]:
            command = [*wiserl_, "sampler", "--learner", address, "--workers", "1", *flags]
            return subprocess.run(
                command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
            )

        refused = sample()
        assert refused.returncode == 5
        assert "--allow-module own_environment" in refused.stderr
        allowed = sample("--allow-module", "own_environment")
        assert allowed.returncode == 0, allowed.stderr
        _, errors = learner.communicate(timeout=100)
        assert learner.returncode == 0, errors
    finally:
        learner.kill()
        learner.communicate()


def transitions(generator, count=16):
    """Random transitions of Pendulum."""
    from common.signature import ColumnKey, Role
    from learner.experience.transitions import Transitions

    def normal(*shape):
        return generator.standard_normal(shape, np.float32)

    observation, action = ColumnKey(Role.OBSERVATION), ColumnKey(Role.ACTION)
    return Transitions(
        rows=np.arange(count),
        writes=np.arange(count),
        columns={observation: normal(count, 3), action: np.clip(normal(count, 1), -2, 2)},
        next_columns={observation: normal(count, 3)},
        returns=normal(count),
        discounts=np.full(count, 0.98, np.float32),
        weights=np.ones(count, np.float32),
    )


@pytest.fixture
def tutorial():
    """Makes the tutorial's algorithm for Pendulum."""
    from sampler.environments.plain import specification

    module = importlib.import_module("ddpg_tutorial")
    environment = gymnasium.make("Pendulum-v1")
    spec = specification(environment)

    def make(seed=0, **settings):
        config = module.TutorialConfig(**settings)
        return module.TutorialDDPG(spec, config, device=torch.device("cpu"), seed=seed)

    return make


def test_the_tutorials_policy_travels_and_acts_as_it_does_here(tutorial):
    """Its `forward` names its parameters, where the project's own take any number."""
    policy = tutorial().behaviour
    torch.nn.init.normal_(policy.actor[-1].weight)
    session = onnxruntime.InferenceSession(Publisher(policy, cache=None).publish(1).model)
    generator = np.random.default_rng(0)
    for rows in (1, 5):
        shapes = ((rows, 3), (rows, 1), (rows,))
        arrays = [generator.standard_normal(shape, np.float32) for shape in shapes]
        fed = {one.name: array for one, array in zip(policy.inputs, arrays, strict=True)}
        answers = session.run([one.name for one in policy.outputs], fed)
        expected = policy(*map(torch.from_numpy, arrays))
        for answer, tensor in zip(answers, expected, strict=True):
            np.testing.assert_allclose(answer, tensor.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_tutorials_update_is_that_of_the_paper(tutorial):
    """Against the equations written down anew, with autograd and plain gradient descent's signs."""
    algorithm = tutorial(target_tau=0.5)
    generator = np.random.default_rng(0)
    batch = transitions(generator)
    before = {name: tensor.clone() for name, tensor in algorithm.tensors().items()}
    critic, actor = algorithm._critic, algorithm.behaviour.actor
    seen, following = (
        torch.from_numpy(batch.observation()),
        torch.from_numpy(batch.next_observation()),
    )
    with torch.no_grad():
        # Targets begin as copies, and Pendulum's actions reach from -2 to 2.
        worth = critic(torch.cat([following, torch.tanh(actor(following))], 1)).squeeze(1)
        target = torch.from_numpy(batch.returns) + 0.98 * worth
    q = critic(torch.cat([seen, torch.from_numpy(batch.action) / 2], 1)).squeeze(1)
    slopes = torch.autograd.grad(((q - target) ** 2).mean(), list(critic.parameters()))
    assert algorithm.update(batch, 0.0) is None
    after = algorithm.tensors()
    for (name, _), slope in zip(critic.named_parameters(), slopes, strict=True):
        moved = after[f"critic.{name}"] - before[f"critic.{name}"]
        big = slope.abs() > 1e-6
        # Adam's first step is the learning rate against the gradient's sign.
        torch.testing.assert_close(moved[big], -1e-3 * slope[big].sign(), rtol=1e-2, atol=1e-6)
    for name in ("target_critic", "target_actor"):
        source = "critic" if name == "target_critic" else "behaviour.actor"
        for key in (key for key in after if key.startswith(f"{name}.")):
            own = after[key.replace(name, source, 1)]
            torch.testing.assert_close(after[key], 0.5 * (before[key] + own))
    assert algorithm.metrics()["train/critic_loss"] == pytest.approx(
        ((q - target) ** 2).mean().item()
    )


def test_the_tutorials_state_goes_on_bit_for_bit(tutorial):
    first, second = tutorial(seed=1, prioritised=True), tutorial(seed=2, prioritised=True)
    batches = [transitions(np.random.default_rng(seed)) for seed in range(4)]
    for batch in batches[:3]:
        assert first.update(batch, 0.0).shape == (16,)
    second.load_tensors({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.load_values(first.values())
    assert torch.equal(first.update(batches[3], 0.0), second.update(batches[3], 0.0))
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name


def test_another_run_begins_with_parameters_but_not_with_their_optimisers(tutorial):
    first, second = tutorial(seed=1), tutorial(seed=2)
    first.update(transitions(np.random.default_rng(0)), 0.0)
    second.begin_from(first.tensors())
    assert torch.equal(second.tensors()["critic.0.weight"], first.tensors()["critic.0.weight"])
    assert second.tensors()["optimiser.critic.step"] == 0
    with pytest.raises(InvalidFieldError, match="not part of this algorithm"):
        second.load_tensors({**first.tensors(), "more": torch.zeros(1)})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 'mine'\n    Config = dict", "no dataclass `Config`"),
        ("Config = ReplayConfig", "no `name`"),
    ],
)
def test_an_algorithm_that_lacks_something_is_told_what(tmp_path, text, says):
    (tmp_path / "lacking.py").write_text(
        "from learner.algorithms.off_policy import OffPolicyAlgorithm, ReplayConfig\n"
        "class Mine(OffPolicyAlgorithm):\n"
        "    def build(self): ...\n"
        "    def update(self, batch, progress): ...\n"
        "    def metrics(self): ...\n"
        f"    {text}\n"
    )
    sys.modules.pop("lacking", None)
    with pytest.raises(InvalidFieldError, match=says):
        wiserl.train("lacking:Mine", env="Pendulum-v1", **SMALL)


def test_an_algorithm_without_an_update_is_told_so(tmp_path):
    (tmp_path / "abstract.py").write_text(
        "from learner.algorithms.off_policy import OffPolicyAlgorithm\n"
        "class Mine(OffPolicyAlgorithm): pass\n"
    )
    with pytest.raises(InvalidFieldError, match="does not define build, metrics, update"):
        wiserl.train("abstract:Mine", env="Pendulum-v1", **SMALL)


NETWORKS = """
from torch import nn
def takes_two(space, width): return nn.Identity()
def no_module(space): return 3
def wrong_width(space): return nn.Linear(7, 8)
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("takes_two", r"takes \(space, width\), but is called with the observation space"),
        ("no_module", "returned a int; return an nn.Module"),
        ("wrong_width", r"Linear was called with \(float32 \[2, 4\]\).*RuntimeError"),
    ],
)
def test_a_network_that_is_none_is_told_what_it_has_to_be(tmp_path, name, says):
    (tmp_path / "networks_of_mine.py").write_text(NETWORKS)
    with pytest.raises(WiseRLError, match=says):
        wiserl.train("ppo", env="CartPole-v1", network=f"networks_of_mine:{name}", **SMALL)


@pytest.mark.learning
@pytest.mark.timeout(900)
def test_the_tutorials_algorithm_learns():
    """In rounds, where the run is the same bit for bit wherever arithmetic is."""
    outcome = wiserl.train(
        TUTORIAL,
        env="Pendulum-v1",
        presets=ROOT / "examples" / "ddpg_tutorial.yaml",
        sync=True,
        final_eval_episodes=20,
        eval_points=0,
        in_process=True,
        threads=1,
    )
    assert outcome.environment_steps == 10_000
    assert np.mean(outcome.final.returns) > -300  # doing nothing is about -1200
