from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from common.errors import InvalidFieldError
from learner.config import RunConfig
from learner.schema import Layer
from wiserl import flags, parsing, settings
from wiserl.local import LocalConfig
from wiserl.settings import Settings
from wiserl.verbs.doctor import DoctorFlags
from wiserl.verbs.eval import EvalFlags
from wiserl.verbs.watch import WatchFlags


def gathered(tmp_path, text="", **arguments):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return Settings.gather("ppo", config=path, **{"variables": {}} | arguments)


def test_variables_lie_above_the_file_which_lies_above_the_preset(tmp_path):
    found = gathered(tmp_path, "run: {env: CartPole-v1}")
    assert found.applied(RunConfig(total_steps=1), "run").total_steps == 100_000
    text = "run: {env: CartPole-v1, total_steps: 5}"
    assert gathered(tmp_path, text).applied(RunConfig(), "run").total_steps == 5
    variables = {"WISERL_TOTAL_STEPS": "1e3", "WISERL_SEED": ""}
    found = gathered(tmp_path, text, variables=variables)
    assert found.applied(RunConfig(), "run").total_steps == 1000


def test_a_variable_says_where_the_record_goes(tmp_path):
    found = gathered(tmp_path, variables={"WISERL_RUNS": str(tmp_path), "WISERL_QUIET": "yes"})
    general = found.applied(flags.GeneralFlags(), "general")
    assert (general.runs, general.quiet) == (tmp_path, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"environment": "Pendulum-v1"}, "run: {env: CartPole-v1}"),
        ({"variables": {"WISERL_ENV": "Pendulum-v1"}}, "run: {env: CartPole-v1}"),
        ({}, "run: {env: Pendulum-v1}"),
    ],
)
def test_the_preset_is_that_of_the_environment_wherever_it_is_said(tmp_path, arguments, text):
    found = gathered(tmp_path, text, **arguments)
    assert found.peek("hyperparameters", "gamma") == 0.9


def test_a_variable_that_cannot_be_is_refused_by_name(tmp_path):
    found = gathered(tmp_path, variables={"WISERL_SEED": "x"})
    with pytest.raises(InvalidFieldError, match="WISERL_SEED: 'x' is no integer"):
        found.applied(RunConfig(), "run")


def test_a_file_for_another_algorithm_is_refused(tmp_path):
    with pytest.raises(InvalidFieldError, match="is for dqn, but the algorithm named is ppo"):
        gathered(tmp_path, "algorithm: dqn")


def test_a_layer_can_be_put_on_top(tmp_path):
    found = gathered(tmp_path, "run: {seed: 1}").above(Layer("top", {"run": {"seed": 2}}))
    assert found.applied(RunConfig(), "run").seed == 2


def test_key_values_are_read_as_yaml():
    texts = ("a=true", "b=3", "c=1e-3", "d=[1, x]", "e=some text", "f=x=y", "g=", "h=2020-01-01")
    assert settings.key_values(texts, "--env-arg") == {
        "a": True,
        "b": 3,
        "c": 0.001,
        "d": [1, "x"],
        "e": "some text",
        "f": "x=y",
        "g": "",
        "h": "2020-01-01",
    }
    for text in ("a", "=1"):
        with pytest.raises(InvalidFieldError, match="is no KEY=VALUE"):
            settings.key_values((text,), "--env-arg")


def parsed(*arguments, **keywords):
    layers = flags.gather("ppo", arguments)
    sections = flags.defaults(layers, local=True)
    return parsing.parse(sections, arguments, program="test", description="Test.", **keywords)


def test_flags_lie_above_everything(monkeypatch):
    monkeypatch.setenv("WISERL_TOTAL_STEPS", "7")
    monkeypatch.setenv("WISERL_SAMPLERS", "3")
    monkeypatch.setenv("WISERL_RUNS", "/elsewhere")
    monkeypatch.setenv("WISERL_QUIET", "yes")
    monkeypatch.setenv("WISERL_ENV_ARG", "a=1,b=x")
    found, _ = parsed("--env", "Pendulum-v1", "--total-steps", "9")
    assert found["run"].total_steps == 9
    assert found["local"].samplers == 3
    assert (found["general"].runs, found["general"].quiet) == (Path("/elsewhere"), True)
    assert found["run"].to_config().env_args == {"a": 1, "b": "x"}


def test_what_is_no_flag_of_the_run_is_handed_back():
    found, unknown = parsed("--gamma", "0.5", "--env", "X-v0", allow_unknown=True)
    assert found["run"].env == "X-v0"
    assert unknown == ["--gamma", "0.5"]


def test_counts_are_written_as_people_write_them():
    found, _ = parsed("--total-steps", "2e6", "--eval-points", "1_0")
    assert (found["run"].total_steps, found["run"].eval_points) == (2_000_000, 10)


def test_a_flag_names_the_run_that_is_newest_below_a_folder(tmp_path, capsys):
    for age, name in ((20, "new"), (30, "old")):
        config = tmp_path / "CartPole-v1" / "ppo" / name / "config.yaml"
        config.parent.mkdir(parents=True)
        config.touch()
        os.utime(config, (1_000_000 - age, 1_000_000 - age))
    found = flags.with_runs(["--resume", str(tmp_path), "--seed", "1"])
    newest = str(config.parent.with_name("new"))
    assert flags.value_of(found, "--resume") == newest
    assert capsys.readouterr().err == f"wiserl: the newest run is {newest}\n"
    as_they_are = ["ppo", "--resume", str(config.parent), f"--init-from={tmp_path}"]
    assert flags.with_runs(as_they_are) == as_they_are


def test_a_flag_may_be_written_with_underscores():
    assert flags.value_of(["--init_from", "a", "--init_from=b"], "--init-from") == "b"
    found, _ = parsed("--init_from", "a")
    assert str(found["general"].init_from) == "a"


@pytest.mark.parametrize(
    ("arguments", "sync", "quiet"),
    [
        (("--sync", "True", "--quiet"), True, True),
        (("--sync", "--quiet", "true"), True, True),
        (("--sync=on", "--quiet=yes"), True, True),
        (("--sync", "false", "--quiet", "--no-quiet"), False, False),
        (("--no-sync", "--quiet", "False"), False, False),
        (("--quiet=1", "--no_sync"), False, True),
        (("--sync", "--sync", "none", "--no-quiet", "false"), None, True),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else str(one),
)
def test_a_flag_says_yes_or_no_in_every_way(arguments, sync, quiet):
    found, _ = parsed(*arguments, "--seed", "1")
    assert (found["run"].sync, found["general"].quiet) == (sync, quiet)
    assert found["run"].seed == 1


def test_a_flag_that_says_neither_yes_nor_no_is_refused(capsys):
    with pytest.raises(InvalidFieldError, match="--quiet: 'perhaps' is"):
        parsed("--quiet=perhaps")
    with pytest.raises(SystemExit):
        parsed("--sync", "perhaps")
    assert "perhaps" in capsys.readouterr().err


def test_an_unknown_flag_ends_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--total-stepz", "3")
    assert ended.value.code == 2
    assert "--total-steps" in capsys.readouterr().err


def test_environment_arguments_add_to_those_of_a_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("run: {env: X-v0, env_args: {a: 1, b: 2}}")
    found, _ = parsed("--config", str(path), "--env-arg", "b=3", "--env-arg", "c=[4]")
    config = found["run"].to_config()
    assert config.env_args == {"a": 1, "b": 3, "c": [4]}
    assert config.eval_env_args is None
    found, _ = parsed("--eval-env-arg", "d=5")
    assert found["run"].to_config().eval_env_args == {"d": 5}


def test_a_flag_of_two_owners_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Own:
        seed: int = 0

    with pytest.raises(InvalidFieldError, match=r"own.seed: is also the name of a setting of run"):
        parsing.parse({"run": RunConfig(), "own": Own()}, [], program="test", description="")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--env", "A", "--env", "B"], "B"),
        (["--env=A"], "A"),
        (["--environment", "A"], None),
        (["--env"], None),
    ],
)
def test_a_flag_can_be_read_without_parsing_the_rest(arguments, expected):
    assert flags.value_of(arguments, "--env") == expected


@pytest.mark.parametrize(
    ("cores", "n_envs", "config", "expected"),
    [
        (2, 8, LocalConfig(), (2, 4)),
        (4, 8, LocalConfig(samplers=2), (2, 2)),
        (2, 8, LocalConfig(samplers=4), (1, 2)),
        (16, 4, LocalConfig(), (4, 1)),
        (2, 5, LocalConfig(), (2, 3)),
        (2, 8, LocalConfig(workers=3), (3, 3)),
        (2, 8, LocalConfig(envs_per_worker=16), (2, 16)),
        (2, None, LocalConfig(), (2, 8)),
    ],
)
def test_samplers_have_room_for_a_round(monkeypatch, cores, n_envs, config, expected):
    monkeypatch.setattr("wiserl.local.usable_cores", lambda: cores)
    found = config.resolved(n_envs)
    assert (found.workers, found.envs_per_worker) == expected
    assert found.samplers * found.workers * found.envs_per_worker >= (n_envs or 1)


def test_no_variable_means_one_thing_to_a_learner_and_another_to_who_looks_at_it():
    """Within a learner's container `wiserl watch` sees the variables of both."""

    def names(*options):
        return {field.name for each in options for field in dataclasses.fields(each)}

    learner = names(flags.RunFlags, flags.ServeFlags, flags.GeneralFlags)
    assert learner & names(WatchFlags, DoctorFlags) == set()


def test_verbs_take_counts_as_numbers_are_written():
    found = parsing.one(EvalFlags, ["run", "--episodes", "1e2"], program="test")
    assert (found.episodes, type(found.episodes)) == (100, int)
    with pytest.raises(SystemExit):
        parsing.one(EvalFlags, ["run", "--episodes", "1.5"], program="test")
