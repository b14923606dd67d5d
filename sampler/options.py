"""The flags of a sampler; each is also a variable `WISERL_<FLAG>`, and the flag wins."""

from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING, Annotated

from common import variables
from common.addresses import split_address
from common.errors import InvalidFieldError
from common.machine import usable_cores
from common.security import ClientSecurity
from common.status_options import StatusOptions
from sampler.pool import Vectorization  # noqa: TC001 - the command line is made from the types

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class SamplerOptions(ClientSecurity, StatusOptions):
    """Rolls trajectories for a learner, in environment workers that act for themselves.

    Which environment, which policy and how much to roll is the learner's to say. Exit codes: 0 the
    run is over; 2 a flag that cannot be; 3 no learner reached; 4 refused by the learner; 5 the
    environment cannot be built or is not allowed; 6 workers crash again and again; 7 data refused
    again and again; 143 or 130 stopped by SIGTERM or SIGINT.

    Raises:
        InvalidFieldError: A value that cannot be.
    """

    learner: str = "127.0.0.1:5555"
    """Where the learner serves, as HOST:PORT."""
    workers: int = dataclasses.field(default_factory=usable_cores)
    """Worker processes; by default one for each core, or for each that a container has time for."""
    envs_per_worker: int = 8
    """Environment copies (slots) of each worker, which it steps in turn or vectorised."""
    vectorization: Vectorization = "auto"
    """`native` uses the environment's own vectorised form, `plain` steps copies one by one, `auto`
    takes the native form where there is one that pays (from 8 copies on)."""
    name: str = dataclasses.field(default_factory=socket.gethostname)
    """What people see this sampler as; the host's name by default."""
    allow_module: tuple[str, ...] = ()
    """Modules whose environments the learner may name as `module:factory`; each is code that runs
    here."""
    step_timeout_seconds: float = 60.0
    """A worker whose environment takes longer for a step is taken for hung and replaced."""
    connect_timeout_seconds: float = 300.0
    """Stop when no learner was heard of for so long, at the start or later; 0 waits for ever."""

    def __post_init__(self) -> None:
        """Refuses values that cannot be."""
        super().__post_init__()
        split_address(self.learner)
        for field in ("workers", "envs_per_worker"):
            if getattr(self, field) < 1:
                raise InvalidFieldError(field, f"{getattr(self, field)} is below 1")
        if not self.step_timeout_seconds > 0:
            raise InvalidFieldError("step_timeout_seconds", "is not above 0")
        if not self.connect_timeout_seconds >= 0:
            raise InvalidFieldError("connect_timeout_seconds", "is below 0")
        if not 1 <= len(self.name) <= 128:
            raise InvalidFieldError("name", f"has {len(self.name)} characters; 1 to 128 are taken")


def from_environment() -> SamplerOptions:
    """The options that the process's variables say, such as `WISERL_LEARNER=learner:5555`.

    Raises:
        InvalidFieldError: A variable whose text is no value of its flag.
    """
    return variables.from_environment(SamplerOptions)


def parse(arguments: Sequence[str], *, program: str = "sampler") -> SamplerOptions:
    """The options of a command line over those of the variables.

    Raises:
        InvalidFieldError: A variable or a flag whose value cannot be.
        SystemExit: `--help`, or a flag that does not exist.
    """
    import tyro

    return tyro.cli(
        Annotated[SamplerOptions, tyro.conf.arg(name="")],
        prog=program,
        args=list(arguments),
        default=from_environment(),
        config=(tyro.conf.UseAppendAction,),
    )
