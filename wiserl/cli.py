"""The `wiserl` command: one verb, one module."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError, WiseRLError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERBS = {
    "train": ("wiserl.verbs.train", "train on this machine: learner and samplers, start to finish"),
    "learner": ("wiserl.verbs.learner", "a learner alone, for samplers that come over the network"),
    "sampler": (
        "wiserl.verbs.sampler",
        "a sampler alone, for a learner elsewhere (needs no torch)",
    ),
    "eval": ("wiserl.verbs.eval", "play a trained policy and say how well it does"),
    "export": ("wiserl.verbs.export", "write a trained policy as ONNX for use elsewhere"),
    "watch": ("wiserl.verbs.watch", "show a run as it goes, from any machine"),
    "plot": ("wiserl.verbs.plot", "draw the learning curves of runs"),
    "presets": ("wiserl.verbs.presets", "for what algorithms are tuned, and what that reached"),
    "doctor": ("wiserl.verbs.doctor", "say what would go wrong here, and what to do about it"),
    "credentials": (
        "wiserl.verbs.credentials",
        "make certificates and tokens for a learner on a network",
    ),
    "bench": ("wiserl.verbs.bench", "measure again what is claimed about learning"),
}
"""Module and summary by verb; a module has `run(arguments) -> exit code`."""

ALIASES = {"enjoy": "eval"}

COMPLETION = "--print-completion"

USAGE_ERROR, ERROR, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141

OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""Imports make ten times as many, all of which stay: to look for garbage among them as often as
Python does is a tenth of a start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; answers the exit code.

    0: done. 2: a setting that cannot be. 1: any other error. 130 and 143: stopped by SIGINT,
    SIGTERM. `wiserl sampler` has codes of its own, see its help.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = arguments[0] if arguments else ""
    verb = ALIASES.get(first, first)
    if verb in VERBS:
        return _guarded(lambda: _run(verb, arguments[1:]))
    if first == "--version":
        import importlib.metadata

        print(f"wiserl {importlib.metadata.version('wiserl')}")
        return 0
    if first == COMPLETION:
        return _guarded(lambda: _print_completion(arguments[1:]))
    if first in {"-h", "--help"}:
        print(usage())
        return 0
    complaint = f"wiserl: there is no verb {first!r}\n\n" if first else ""
    print(f"{complaint}{usage()}", file=sys.stderr)
    return USAGE_ERROR


def _run(verb: str, arguments: list[str]) -> int:
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    code: int = importlib.import_module(VERBS[verb][0]).run(arguments)
    return code


def _print_completion(arguments: list[str]) -> int:
    from wiserl import completion

    print(completion.script(arguments[0] if arguments else "", VERBS), end="")
    return 0


def _guarded(work: Callable[[], int]) -> int:
    """Does the work; an error that is meant for people is told, and becomes an exit code."""
    try:
        return work()
    except InvalidFieldError as error:
        return _fail(error, USAGE_ERROR)
    except WiseRLError as error:
        return _fail(error, getattr(error, "exit_code", ERROR))
    except ModuleNotFoundError as error:
        return _fail(f"{error}; is its extra installed? pip install 'wiserl[all]'", ERROR)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough, as `head` has. Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def usage() -> str:
    """What `wiserl --help` says."""
    verbs = "\n".join(f"  {verb:<13}{summary}" for verb, (_, summary) in VERBS.items())
    return (
        "usage: wiserl VERB ...\n\n"
        "Distributed reinforcement learning: one learner, any number of samplers.\n\n"
        f"{verbs}\n\n"
        "`wiserl VERB --help` tells more.\n"
        "To begin with: wiserl train ppo --env CartPole-v1\n"
        f"Completion in a shell: wiserl {COMPLETION} bash (or zsh)"
    )


def _fail(error: object, code: int) -> int:
    print(f"wiserl: error: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
