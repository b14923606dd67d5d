"""Which environment a reference names, and whether this sampler may build it.

What the learner names is data: a registered id with plain arguments. Only a module that the
sampler's own command line allows is imported for an id with a colon:

- `Name-vN` or `namespace/Name-vN`: an id that Gymnasium knows, or that an installed package brings
  which says so (entry point `gymnasium.envs` of the name `namespace`, such as MinAtar's) or is the
  one of `NAMESPACES`;
- `module:Name-vN`: the same after importing an allowed module, which registers it;
- `package/name_vN`: an environment of several agents, of the packages in `PETTINGZOO_PACKAGES`;
- `module:factory`: a callable of an allowed module that returns a `gymnasium.Env`, or an
  environment of PettingZoo's parallel or AEC API.

Wrappers are callables of allowed modules, `module:wrapper`, from an environment to one.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import load_env_creator

from common import references, specs
from sampler.environments import missing, modules
from sampler.environments.modules import EnvironmentRefusedError
from sampler.environments.multi_agent import ParallelEnvironment, is_parallel
from sampler.environments.tuple_agents import TupleAgents, has_agents

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gymnasium.envs.registration import EnvSpec

    from common.specs import ArgumentValue
    from protos.wiserl.v1 import environment_pb2

_REGISTERED = re.compile(r"(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+-v\d+")
_PETTINGZOO = re.compile(r"([a-z0-9]+)/([a-z0-9_]+_v\d+)")
_PLUGINS = "gymnasium.envs"

PETTINGZOO_PACKAGES = {
    "mpe2": ("mpe2",),
    "pettingzoo": (
        "pettingzoo.atari",
        "pettingzoo.butterfly",
        "pettingzoo.classic",
        "pettingzoo.sisl",
    ),
}
"""Where an id `package/name_vN` is looked for, by its package. Another package's environments are
built by a `module:factory`."""

NAMESPACES = {"ALE": "ale_py"}
"""Packages that register their environments when they are imported, by namespace."""

Environment: TypeAlias = gymnasium.Env[Any, Any] | ParallelEnvironment
"""A single copy: of one agent, or of several in the parallel API."""

_RESERVED = frozenset(
    {"id", "disable_env_checker", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers"}
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to build copies of one environment.

    Attributes:
        name: The id, for people.
        arguments: Keyword arguments of every copy.
        registered: Gymnasium's entry, for a registered id.
        factory: The callable, for `module:factory` and several agents.
        wrappers: Callables around each copy by their names, the innermost first.
    """

    name: str
    arguments: dict[str, Any]
    registered: EnvSpec | None = None
    factory: Callable[..., Any] | None = None
    wrappers: tuple[tuple[str, Callable[..., Any]], ...] = ()

    @property
    def has_native(self) -> bool:
        """Whether the environment brings a vectorisation of its own, which no wrapper is around."""
        registered = None if self.wrappers else self.registered
        return registered is not None and registered.vector_entry_point is not None

    def plain(self) -> Environment:
        """A single copy, with its step limit but without Gymnasium's checking wrappers.

        Raises:
            EnvironmentRefusedError: Gymnasium refuses, or the factory or a wrapper takes or returns
                something else.
        """
        registered, name = self.registered, self.name
        made = self._made() if registered is None else self._of_gymnasium(registered)
        for name, wrapper in self.wrappers:
            made = modules.call(wrapper, [made], {}, name=name, given="an environment")
        return _accepted(made, name)

    def _made(self) -> object:
        given = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return modules.call(
            self.factory, [], self.arguments, name=self.name, given=given or "nothing"
        )

    def _of_gymnasium(self, registered: EnvSpec) -> object:
        bare = copy.copy(registered)
        # The rolling loop resets before it steps, and checks shapes itself.
        bare.order_enforce = False
        try:
            return gymnasium.make(bare, disable_env_checker=True, **self.arguments)
        except (gymnasium.error.Error, ImportError) as error:
            raise missing.dependency(self.name, registered.entry_point, error) from error

    def load(self) -> None:
        """Imports what makes a copy, without making one.

        Raises:
            EnvironmentRefusedError: A package that it needs is not installed here.
        """
        maker = None if self.registered is None else self.registered.entry_point
        if not isinstance(maker, str):
            return
        try:
            load_env_creator(maker)
        except (gymnasium.error.Error, ImportError) as error:
            raise missing.dependency(self.name, maker, error) from error

    def native(self, copies: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Copies in the environment's own vectorisation.

        Raises:
            EnvironmentRefusedError: It has none, or Gymnasium refuses.
        """
        if self.registered is None or not self.has_native:
            raise EnvironmentRefusedError(
                f"{self.name} has no vectorisation of its own, or is wrapped; use plain "
                "environments"
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


def _accepted(made: object, name: str) -> Environment:
    """What a name stands for, in one of the two ways to step it.

    Raises:
        EnvironmentRefusedError: It is no environment, or its agents take turns with actions that
            are not Discrete.
    """
    if isinstance(made, gymnasium.Env):
        return TupleAgents(made) if has_agents(made) else made
    # What PettingZoo converted itself has the AEC environment as an attribute.
    if hasattr(made, "aec_env") or hasattr(made, "agent_iter"):
        from sampler.environments import aec  # an extra brings PettingZoo

        return aec.parallel(made)
    if is_parallel(made):
        return made  # type: ignore[return-value]
    raise EnvironmentRefusedError(
        f"{name} returned a {type(made).__name__}; return a gymnasium.Env, or a pettingzoo "
        "ParallelEnv or AECEnv"
    )


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
    wrappers = tuple((one, modules.load(one, allowed_modules)) for one in reference.wrappers)
    return dataclasses.replace(_unwrapped(name, arguments, allowed_modules), wrappers=wrappers)


def _unwrapped(
    name: str, arguments: dict[str, ArgumentValue], allowed_modules: Collection[str]
) -> Recipe:
    if references.is_reference(name):
        return _of_module(name, arguments, allowed_modules)
    if several := _PETTINGZOO.fullmatch(name):
        return Recipe(name, arguments, factory=_of_pettingzoo(name, several[1], several[2]))
    if not _REGISTERED.fullmatch(name):
        near = missing.nearest_id(name)
        raise EnvironmentRefusedError(
            f"{name!r} is no environment id; write Name-vN for a Gymnasium environment, "
            f"package/name_vN for a PettingZoo one, or module:factory for your own{near}"
        )
    return Recipe(name, arguments, registered=_registered(name))


def _of_module(name: str, arguments: dict[str, ArgumentValue], allowed: Collection[str]) -> Recipe:
    module, _, rest = name.partition(":")
    if _REGISTERED.fullmatch(rest):
        modules.load(f"{module}:__name__", allowed)  # to import it is enough
        return Recipe(name, arguments, registered=_registered(rest))
    return Recipe(name, arguments, factory=modules.load(name, allowed))


def _of_pettingzoo(name: str, package: str, environment: str) -> Callable[..., Any]:
    """What builds `package/environment`: its parallel form where it has one, else its AEC form.

    Raises:
        EnvironmentRefusedError: There is no such package or environment here, or what it needs.
    """
    if package not in PETTINGZOO_PACKAGES:
        known = ", ".join(sorted(PETTINGZOO_PACKAGES))
        raise EnvironmentRefusedError(
            f"{name}: {package} is none of the packages whose environments go by such an id "
            f"({known}); write a module:factory that returns its environment"
        )
    if importlib.util.find_spec(package) is None:
        raise EnvironmentRefusedError(
            f"{name}: {package} is not installed here; {missing.install(package)}"
        )
    for place in PETTINGZOO_PACKAGES[package]:
        if importlib.util.find_spec(f"{place}.{environment}") is None:
            continue
        try:
            module = importlib.import_module(f"{place}.{environment}")
        except ImportError as error:
            raise missing.of_package(name, place, error) from error
        build: Callable[..., Any] = getattr(module, "parallel_env", None) or module.env
        return build
    raise missing.unknown_of_package(name, package, PETTINGZOO_PACKAGES[package])


def _registered(name: str) -> EnvSpec:
    announce(name)
    if name not in gymnasium.registry:
        raise missing.unknown_id(name)
    return gymnasium.spec(name)


def announce(name: str) -> None:
    """Lets installed packages register what they declare for the namespace of an unknown id.

    Gymnasium did so for every package when it was imported, until 1.0.

    Raises:
        EnvironmentRefusedError: A package of `NAMESPACES` is not installed.
    """
    namespace, slash, _ = name.rpartition("/")
    if not slash or name in gymnasium.registry:
        return
    for plugin in importlib.metadata.entry_points(group=_PLUGINS, name=namespace):
        register = plugin.load()
        if callable(register):
            register()
    package = NAMESPACES.get(namespace)
    if package is None:
        return
    if importlib.util.find_spec(package) is None:
        raise EnvironmentRefusedError(
            f"{name}: {package} is not installed here; {missing.install(namespace)}"
        )
    importlib.import_module(package)
