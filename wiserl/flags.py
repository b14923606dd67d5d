"""The flags of a run: one for every setting of the run, of its samplers and of its algorithm."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from common.errors import InvalidFieldError
from common.status_options import StatusOptions
from learner.config import RunConfig
from wiserl import resuming, runs, settings
from wiserl.local import LocalConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from learner.front.security import ServerSecurity
    from learner.front.settings import Limits
    from wiserl.settings import Settings

KeyValues = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")
]
Wrappers = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODULE:WRAPPER")
]
_Hidden = (tyro.conf.Fixed, tyro.conf.Suppress)


@dataclasses.dataclass(frozen=True)
class RunFlags(RunConfig):
    """What to train in, for how long, and how it is evaluated."""

    env_args: Annotated[dict[str, Any], *_Hidden] = dataclasses.field(default_factory=dict)
    eval_env_args: Annotated[dict[str, Any] | None, *_Hidden] = None

    wrapper: Wrappers = ()
    """A wrapper of your own around the environment; repeat the flag for several, the innermost
    first. Gymnasium's are gymnasium.wrappers:NAME."""

    eval_wrapper: Wrappers = ()
    """A wrapper around the evaluation environment; without any they are the training one's, and
    `none` stands for none."""

    env_arg: KeyValues = ()
    """A keyword argument of the environment; repeat the flag for several."""

    eval_env_arg: KeyValues = ()
    """A keyword argument of the evaluation environment; without any they are the training one's."""

    def to_config(self) -> RunConfig:
        """The settings, with what single flags add to the mappings.

        Raises:
            InvalidFieldError: A text that is no KEY=VALUE.
        """
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(RunConfig)}
        fields["env_args"] = self.env_args | settings.key_values(self.env_arg, "--env-arg")
        if self.eval_env_arg:
            added = settings.key_values(self.eval_env_arg, "--eval-env-arg")
            fields["eval_env_args"] = (self.eval_env_args or {}) | added
        return RunConfig(**fields)


@dataclasses.dataclass(frozen=True)
class GeneralFlags:
    """Where settings come from and the record goes."""

    config: Path | None = None
    """YAML file of settings, such as the config.yaml of another run."""

    presets: Path | None = None
    """YAML file of presets of your own: `default` and ids of environments, each with settings. They
    lie above those that come with the algorithm."""

    runs: Path = Path("runs")
    """Folder of all runs."""

    resume: Path | None = None
    """Folder of a run to go on with, in place of an algorithm: from its last checkpoint, under its
    id and settings. Give --total-steps above what a finished run has to train it for longer. A
    folder above runs stands for the newest there, here and for --init-from."""

    init_from: Path | None = None
    """Folder of a run whose parameters to begin with, of the same algorithm and networks."""

    quiet: bool = False
    """Show no progress."""

    callback: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="MODULE:CLASS")
    ] = ()
    """An Observer of your own that is told how the run goes; repeat the flag for several."""


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """Over which seeds to train here, and what to say at the end."""

    seeds: str = ""
    """Train once for each of these seeds, one after the other, such as 0-4 or 0,3,7; then show the
    mean, the interquartile mean and its 95 % interval over them. Replaces --seed."""

    json: bool = False
    """Print one JSON document when it is over, and nothing else, on stdout; progress goes to
    stderr."""


@dataclasses.dataclass(frozen=True)
class ServeFlags(StatusOptions):
    """Where a learner serves, and for whom it waits."""

    host: str = "127.0.0.1"
    """Address to listen on; one beyond this machine needs TLS and tokens, or --insecure."""

    port: int = 5555
    """Port to listen on; 0 takes a free one."""

    tls_cert: Path | None = None
    """PEM of the certificate to show, with intermediate ones; `wiserl credentials` makes one."""

    tls_key: Path | None = None
    """PEM of its private key."""

    tls_client_ca: Path | None = None
    """PEM of the authority that clients must have a certificate of, too (mutual TLS)."""

    tokens_file: Path | None = None
    """File of the tokens that callers may have, a line each: sampler|viewer TOKEN [EXPIRES]."""

    insecure: bool = False
    """Accept that calls from other machines are not encrypted, or not authenticated."""

    sampler_bytes_per_second: int = 256 << 20
    """Bytes a second that one sampler may send, beyond which it is told to wait; a quarter of what
    a push moves on one machine. 0 for as many as it can."""

    expect_samplers: int | None = None
    """Samplers that the first round waits for; the same seed then gives the same run."""

    recover: bool = False
    """Go on with the newest unfinished run of this algorithm, environment and seed under --runs;
    start one only where there is none. For a learner that something else starts again."""

    def __post_init__(self) -> None:
        """Refuses a quota below 0.

        Raises:
            InvalidFieldError: What is said above.
        """
        if self.sampler_bytes_per_second < 0:
            raise InvalidFieldError(
                "sampler_bytes_per_second",
                f"{self.sampler_bytes_per_second} is below 0; 0 sets no limit",
            )

    def limits(self) -> Limits:
        """What a sampler may ask for."""
        from learner.front.settings import Limits

        return Limits(bytes_per_second=self.sampler_bytes_per_second or None)

    def security(self) -> ServerSecurity:
        """How the address is protected.

        Raises:
            InvalidFieldError: Settings that would not protect it.
        """
        from learner.front.security import ServerSecurity

        return ServerSecurity(
            self.tls_cert, self.tls_key, self.tls_client_ca, self.tokens_file, self.insecure
        )


def value_of(arguments: Sequence[str], flag: str) -> str | None:
    """The last value that a command line gives a flag, without parsing the rest; None for none."""
    found = None
    for i, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name.replace("_", "-") != flag:  # tyro takes --init_from as well
            continue
        if separator:
            found = value
        elif i + 1 < len(arguments):
            found = arguments[i + 1]
    return found


def with_runs(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the run's own folder where a flag names one above it; says which."""
    named = [
        ("--resume", runs.SETTINGS, value_of(arguments, "--resume")),
        ("--init-from", runs.POLICY, value_of(arguments, "--init-from")),
    ]
    found = list(arguments)
    for flag, having, folder in named:
        if folder and (run := runs.meant(Path(folder), having)) != Path(folder):
            runs.tell(Path(folder), run)
            found += [flag, str(run)]
    return found


def gather(algorithm: str, arguments: Sequence[str]) -> Settings:
    """The layers below the flags of a command line.

    Raises:
        InvalidFieldError: A settings file that cannot be.
        WiseRLError: The folder to resume has no settings.
    """
    config, resume = value_of(arguments, "--config"), value_of(arguments, "--resume")
    own = value_of(arguments, "--presets")
    if config and resume:
        raise InvalidFieldError("config", "and resume exclude each other: a run has its settings")
    return settings.Settings.gather(
        algorithm,
        environment=value_of(arguments, "--env"),
        config=resuming.config_of(Path(resume)) if resume else Path(config) if config else None,
        own_presets=Path(own) if own else None,
    )


def defaults(layers: Settings, *, local: bool) -> dict[str, Any]:
    """The sections of a run's flags, but for the algorithm's own, with the layers' values.

    Args:
        layers: What lies below the flags.
        local: Whether samplers of this machine are started, or any that come are served.

    Raises:
        InvalidFieldError: An unknown setting in a layer, or a value that cannot be.
    """
    around: dict[str, Any] = (
        {"local": LocalConfig(), "train": TrainFlags()} if local else {"serve": ServeFlags()}
    )
    found = {"run": RunFlags(), **around, "general": GeneralFlags()}
    return {section: layers.applied(instance, section) for section, instance in found.items()}
