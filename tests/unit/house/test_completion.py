from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys

import pytest

from wiserl import cli, completion


@functools.cache
def made(shell: str) -> str:
    return completion.script(shell, cli.VERBS)


@pytest.fixture
def bash():
    return made("bash")


def offered(script: str, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    asked = (
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        '_wiserl_or_file\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    # Not as an argument: one may have no more than 128 KiB.
    done = subprocess.run(
        ["bash"], input=f"{script}\n{asked}\n", capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("wiserl", "ex"), {"export"}),
        (("wiserl", "eval", "RUN", "--vid"), {"--video", "--video-episodes", "--video-folder"}),
        (("wiserl", "sampler", "--vectorization", ""), {"auto", "plain", "native"}),
        (("wiserl", "train", "ppo", "--total"), {"--total-steps"}),
        (("wiserl", "train", "ppo", "--gae"), {"--gae-lambda"}),
        (("wiserl", "learner", "ppo", "--ho"), {"--host"}),
        (("wiserl", "eval", "no-flag"), set()),
    ],
)
def test_bash_offers(bash, words, expected):
    assert set(offered(bash, *words)) == expected


def test_every_verb_is_offered(bash):
    assert set(cli.VERBS) <= set(offered(bash, "wiserl", ""))


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_knows_every_verb(shell):
    script = made(shell)
    (line,) = [one for one in script.splitlines() if one.startswith("COMPLETION_SPEC = ")]
    spec = ast.literal_eval(line.partition(" = ")[2])
    assert set(spec["subcommands"]) == set(cli.VERBS)
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)


def test_without_torch_the_flags_of_a_run_are_offered(monkeypatch):
    monkeypatch.setitem(sys.modules, "learner.algorithms", None)
    script = completion.script("bash", cli.VERBS)
    assert offered(script, "wiserl", "train", "ppo", "--total") == ["--total-steps"]
    assert offered(script, "wiserl", "train", "ppo", "--gae") == []


def test_another_shell_is_refused(capsys):
    assert cli.main(["--print-completion", "ksh"]) == cli.USAGE_ERROR
    assert "'ksh' is none of bash, zsh" in capsys.readouterr().err
