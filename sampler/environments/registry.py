"""Which environment a reference names, and whether this sampler may build it.

What the learner names is data: a registered id with plain arguments. Only a module that the
sampler's own command line allows is imported for an id with a colon:

- `Name-vN` or `namespace/Name-vN`: an id that Gymnasium knows, or that an installed package brings
  which says so (entry point `gymnasium.envs` of the name `namespace`, such as MinAtar's);
- `module:Name-vN`: the same after importing an allowed module, which registers it;
- `module:factory`: a callable of an allowed module that returns a `gymnasium.Env`.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

import gymnasium

from common import specs
from common.errors import WiseRLError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gymnasium.envs.registration import EnvSpec

    from common.specs import ArgumentValue
    from protos.wiserl.v1 import environment_pb2

_REGISTERED = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+-v\d+")
_PLUGINS = "gymnasium.envs"
_RESERVED = frozenset(
    {"id", "disable_env_checker", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers"}
)


class EnvironmentRefusedError(WiseRLError):
    """A reference that this sampler does not build; trying again does not help."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to build copies of one environment.

    Attributes:
        name: The id, for people.
        arguments: Keyword arguments of every copy.
        registered: Gymnasium's entry, for a registered id.
        factory: The callable, for `module:factory`.
    """

    name: str
    arguments: dict[str, Any]
    registered: EnvSpec | None = None
    factory: Callable[..., gymnasium.Env[Any, Any]] | None = None

    @property
    def has_native(self) -> bool:
        """Whether the environment brings a vectorisation of its own."""
        return self.registered is not None and self.registered.vector_entry_point is not None

    def plain(self) -> gymnasium.Env[Any, Any]:
        """A single copy, with its step limit but without Gymnasium's checking wrappers.

        Raises:
            EnvironmentRefusedError: Gymnasium refuses, or the factory returns something else.
        """
        if self.registered is None:
            environment = self.factory(**self.arguments) if self.factory else None
            if not isinstance(environment, gymnasium.Env):
                raise EnvironmentRefusedError(
                    f"{self.name} returned a {type(environment).__name__}; a factory returns a "
                    "gymnasium.Env"
                )
            return environment
        bare = copy.copy(self.registered)
        # The rolling loop resets before it steps, and checks shapes itself.
        bare.order_enforce = False
        try:
            return gymnasium.make(bare, disable_env_checker=True, **self.arguments)
        except gymnasium.error.Error as error:
            raise EnvironmentRefusedError(f"{self.name}: {error}") from error

    def native(self, copies: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Copies in the environment's own vectorisation.

        Raises:
            EnvironmentRefusedError: It has none, or Gymnasium refuses.
        """
        if self.registered is None or not self.has_native:
            raise EnvironmentRefusedError(
                f"{self.name} has no vectorisation of its own; use plain environments"
            )
        try:
            return gymnasium.make_vec(
                self.registered,
                num_envs=copies,
                vectorization_mode="vector_entry_point",
                **self.arguments,
            )
        except gymnasium.error.Error as error:
            raise EnvironmentRefusedError(f"{self.name}: {error}") from error


def resolve(
    reference: environment_pb2.EnvironmentReference, allowed_modules: Collection[str] = ()
) -> Recipe:
    """The recipe that a reference names.

    Args:
        reference: Id and arguments.
        allowed_modules: Modules that an id with a colon may name, each with its submodules.

    Raises:
        EnvironmentRefusedError: An id that is no name, is not registered or names a module that is
            not allowed, or an argument that belongs to the sampler.
    """
    name = reference.id
    arguments = specs.arguments_from_proto(reference)
    for key in _RESERVED & arguments.keys():
        raise EnvironmentRefusedError(f"{name}: the argument {key} is the sampler's; leave it out")
    module, colon, rest = name.rpartition(":")
    if colon:
        return _of_module(name, module, rest, arguments, allowed_modules)
    if not _REGISTERED.fullmatch(name):
        raise EnvironmentRefusedError(
            f"{name!r} is no environment id; write Name-vN for a Gymnasium environment, or "
            "module:factory for your own"
        )
    return Recipe(name, arguments, registered=_registered(name))


def _of_module(
    name: str,
    module: str,
    rest: str,
    arguments: dict[str, ArgumentValue],
    allowed: Collection[str],
) -> Recipe:
    if not any(module == known or module.startswith(f"{known}.") for known in allowed):
        raise EnvironmentRefusedError(
            f"{name}: the module {module} is not allowed here; start the sampler with "
            f"--allow-module {module} if you trust it"
        )
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise EnvironmentRefusedError(
            f"{name}: there is no module {error.name} here; install it or set PYTHONPATH"
        ) from None
    if _REGISTERED.fullmatch(rest):
        return Recipe(name, arguments, registered=_registered(rest))
    factory = getattr(imported, rest, None)
    if not callable(factory):
        raise EnvironmentRefusedError(f"{name}: {module} has no callable {rest!r}")
    return Recipe(name, arguments, factory=factory)


def _registered(name: str) -> EnvSpec:
    announce(name)
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise EnvironmentRefusedError(f"{name}: {error}") from None


def announce(name: str) -> None:
    """Lets installed packages register what they declare for the namespace of an unknown id.

    Gymnasium did so for every package when it was imported, until 1.0.
    """
    namespace, slash, _ = name.rpartition("/")
    if not slash or name in gymnasium.registry:
        return
    for plugin in importlib.metadata.entry_points(group=_PLUGINS, name=namespace):
        register = plugin.load()
        if callable(register):
            register()
