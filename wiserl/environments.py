"""Whether the environments that settings name are here, before anything is started for them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from common.errors import InvalidFieldError
from learner.config import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from learner.config import RunConfig


def check(run: RunConfig) -> None:
    """That this machine has what the settings name; nothing is built, what builds it is imported.

    Raises:
        InvalidFieldError: It has not; with what is near the name, or what would bring it.
    """
    from sampler.environments import modules, registry

    allowed = run.modules()
    for field in ("wrapper", "eval_wrapper"):
        with _said_of(field):
            for name in getattr(run, field):
                if name != NONE:
                    modules.load(name, allowed)
    with _said_of("env"):
        registry.resolve(run.training_environment(), allowed).load()
    with _said_of("eval_env"):
        registry.resolve(run.evaluation_environment(), allowed).load()


@contextlib.contextmanager
def _said_of(field: str) -> Iterator[None]:
    from sampler.environments.modules import EnvironmentRefusedError

    try:
        yield
    except EnvironmentRefusedError as error:
        raise InvalidFieldError(field, str(error)) from None
