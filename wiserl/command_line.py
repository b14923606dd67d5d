"""The command line of `wiserl train` and `wiserl learner`, and what they say at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import logging, references
from common.errors import InvalidFieldError, WiseRLError
from learner import presets
from learner.observer import Observers
from learner.outcome import Status
from wiserl import callbacks, flags, help_texts, parsing, resuming, sides
from wiserl.order import Order
from wiserl.progress import make_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import DataclassInstance

    from learner.outcome import Outcome


class CommandLine:
    """A command line, which is taken apart twice.

    First come the flags of the run and of its samplers, so that samplers can start at once; the
    algorithm's own are known when its class is imported, and with it torch. Then everything is
    parsed together, so that an error names what is nearest among all flags.

    Args:
        verb: Of the `wiserl` command.
        arguments: What follows the verb: the algorithm, then flags.
        local: Whether samplers of this machine are started, or any that come are served.
        description: What help says about the verb.

    Attributes:
        algorithm: Its name.
        sections: The flags' values by section, without the algorithm's own.

    Raises:
        InvalidFieldError: No algorithm, or a setting that cannot be.
        SystemExit: `--help`, or a value that its type cannot have.
    """

    def __init__(
        self, verb: str, arguments: Sequence[str], *, local: bool, description: str
    ) -> None:
        # A learner alone is watched by its log, a run on a terminal by its progress.
        level = None if verb == "learner" or os.environ.get(logging.LEVEL_VARIABLE) else "warning"
        logging.configure(process=verb, level=level)
        arguments = flags.with_runs(arguments)
        self._command = ["wiserl", verb, *arguments]
        self._description = description
        self.algorithm = arguments[0] if arguments and not arguments[0].startswith("-") else ""
        self._rest = list(arguments[1:] if self.algorithm else arguments)
        self._resume = flags.value_of(arguments, "--resume")
        if self._resume and not self.algorithm and not help_texts.HELP & set(self._rest):
            self.algorithm = resuming.algorithm_of(Path(self._resume))
        self._program = f"wiserl {verb} {self.algorithm or 'ALGORITHM'}"
        self._layers = flags.gather(self.algorithm, self._rest)
        self._defaults = flags.defaults(self._layers, local=local)
        if help_texts.HELP & set(self._rest):
            self._help()
        self._check_algorithm(verb)
        self.sections, self._unknown = parsing.parse(
            self._defaults,
            self._rest,
            program=self._program,
            description=description,
            allow_unknown=True,
        )

    def order(self, seed: int | None = None) -> Order:
        """What to launch, with observers of its own.

        Args:
            seed: In place of the one that the command line says.

        Raises:
            InvalidFieldError: No environment, or one that cannot be named.
        """
        run = self.sections["run"].to_config()
        if seed is not None:
            run = dataclasses.replace(run, seed=seed)
        general = self.sections["general"]
        if general.resume is not None:
            resuming.check_same(general.resume, run)
        return Order(
            algorithm=self.algorithm,
            run=run,
            hyperparameters=self.hyperparameters,
            n_envs=self._n_envs(),
            runs=general.runs,
            resume=general.resume,
            init_from=general.init_from,
            command=self._command,
            observer=Observers(
                [
                    *callbacks.make(general.callback),
                    make_progress(run.total_steps, quiet=general.quiet),
                ]
            ),
        )

    def hyperparameters(self, algorithm: type[Any]) -> DataclassInstance:
        """The algorithm's settings, from the whole command line.

        Raises:
            InvalidFieldError: A setting that cannot be.
            SystemExit: `--help`, or a flag that does not exist.
        """
        own = self._layers.applied(algorithm.Config(), "hyperparameters")
        parsed, _ = parsing.parse(
            {**self._defaults, "hyperparameters": own},
            self._rest,
            program=self._program,
            description=self._description,
        )
        found: DataclassInstance = parsed["hyperparameters"]
        return found

    def _help(self) -> None:
        if self.algorithm:
            from learner.algorithms import registry

            self.hyperparameters(registry.resolve(self.algorithm))
        known = ", ".join(presets.algorithms())
        parsing.parse(
            self._defaults,
            self._rest,
            program=self._program,
            description=f"{self._description} ALGORITHM is {known}, or module:Class; "
            "name one to see its hyperparameters.",
        )

    def _check_algorithm(self, verb: str) -> None:
        """Refuses a missing or mistyped name before anything is started."""
        if self.algorithm in presets.algorithms() or references.is_reference(self.algorithm):
            return
        found = f"{self.algorithm!r} is none" if self.algorithm else "is missing before the flags"
        raise InvalidFieldError(
            "algorithm",
            f"{found}; name one ({', '.join(presets.algorithms())}, or module:Class; `wiserl "
            f"presets` says for what they are tuned), such as: wiserl {verb} ppo --env CartPole-v1",
        )

    def _n_envs(self) -> int | None:
        """The size of a round, where a flag or a layer says it as a number."""
        text = flags.value_of(self._unknown, "--n-envs")
        found = text or self._layers.peek("hyperparameters", "n_envs")
        with contextlib.suppress(ValueError, TypeError):
            return int(found) if int(found) >= 1 else None
        return None


def launched(order: Order, launch: Callable[[], Outcome]) -> int:
    """Makes a run, says how it ended, and answers the exit code: 0, or 128 plus the signal.

    Raises:
        WiseRLError: The run failed.
    """
    try:
        outcome = launch()
    finally:
        order.observer.close()
    if outcome.status == Status.FAILED:
        raise WiseRLError(outcome.complaint)
    print("\n".join(described(outcome)))
    if outcome.status == Status.STOPPED and outcome.signal is not None:
        return 128 + outcome.signal
    return 0


def described(outcome: Outcome) -> list[str]:
    """What a person is told at the end."""
    steps = f"{outcome.environment_steps:,} steps"
    if outcome.first_step:
        steps += f" ({outcome.environment_steps - outcome.first_step:,} of them now)"
    rate = f"{outcome.steps_per_second:,.0f} steps/s, evaluations included"
    lines = [f"{steps} in {outcome.seconds:.1f} s ({rate}), policy {outcome.version}"]
    if outcome.final is not None:
        lines.append(f"final policy: {outcome.final.describe()}")
        lines += sides.described(outcome.final)
    if outcome.stop_reason and outcome.status == Status.FINISHED:
        lines.append(f"finished before the end of the step budget: {outcome.stop_reason}")
    if outcome.status == Status.STOPPED:
        lines.append("stopped before the end of the step budget; the state is in a checkpoint")
    return [*lines, f"run folder: {outcome.folder}"]
