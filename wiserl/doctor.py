"""Looks at this machine, and at a learner, for whatever would go wrong or slowly here.

Every check answers findings; none raises. Nothing is changed, and nothing is kept.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from common import machine
from wiserl import places
from wiserl.flags import ServeFlags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GIB = 2**30

OLDEST_PYTHON = (3, 11)
EXTRAS = {
    "sampler": "roll environments, evaluate policies",
    "learner": "train",
    "video": "film episodes as MP4 instead of GIF",
}
"""What can be installed, and what for."""

_ENOUGH_MEMORY_BYTES = 2 * GIB
_ENOUGH_DISK_BYTES = GIB
_ENOUGH_FILES = 1024
_GOOD_CLOCKS = frozenset({"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"})
_GPU = Path("/dev/nvidiactl")
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """Works, but not as well as it could or not for everything."""
    FAIL = "fail"
    """Something that was asked for will not work."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        subject: What was looked at, in a word or two.
        level: How bad it is.
        said: What was found.
        remedy: What to do about it; empty where there is nothing to do.
    """

    subject: str
    level: Level
    said: str
    remedy: str = ""


def ok(subject: str, said: str) -> Finding:
    """A finding that all is well."""
    return Finding(subject, Level.OK, said)


def warn(subject: str, said: str, remedy: str) -> Finding:
    """A finding that something could be better."""
    return Finding(subject, Level.WARN, said, remedy)


def fail(subject: str, said: str, remedy: str) -> Finding:
    """A finding that something will not work."""
    return Finding(subject, Level.FAIL, said, remedy)


def examine_machine() -> Iterator[Finding]:
    """All findings about this machine, each as soon as it is there."""
    for check in CHECKS:
        yield from check()


def python() -> Iterator[Finding]:
    """The interpreter and the system."""
    said = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    if sys.version_info < OLDEST_PYTHON:
        yield fail("python", said, "use Python 3.11 or newer")
    elif sys.platform != "linux":
        yield fail("python", said, "samplers and learners need Linux; use a container")
    else:
        yield ok("python", f"{said}, {sys.prefix}")


def packages() -> Iterator[Finding]:
    """WiseRL itself, and what each extra needs of what is installed."""
    yield ok("wiserl", importlib.metadata.version("wiserl"))
    wanted = [Requirement(text) for text in importlib.metadata.requires("wiserl") or ()]
    for extra, purpose in {"": "", **EXTRAS}.items():
        mine = [
            one
            for one in wanted
            if (one.marker is None) == (not extra)
            and (one.marker is None or one.marker.evaluate({"extra": extra}))
        ]
        if mine:  # an older installation does not know every extra
            yield _extra(extra, purpose, mine)


def _extra(extra: str, purpose: str, wanted: Sequence[Requirement]) -> Finding:
    versions = {one.name: _version(one.name) for one in wanted}
    missing = [name for name, version in versions.items() if version is None]
    wrong = [
        f"{one.name} {version} ({one.specifier} is needed)"
        for one in wanted
        if (version := versions[one.name]) is not None
        and not one.specifier.contains(version, prereleases=True)
    ]
    target = f"'wiserl[{extra}]'" if extra else "wiserl"
    remedy = f"pip install --upgrade {target}"
    said = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    subject = f"extra {extra}" if extra else "packages"
    if wrong:
        return fail(subject, f"wrong versions: {', '.join(wrong)}", remedy)
    if missing and extra:
        lacks = f"not all is installed: {', '.join(missing)} missing"
        return warn(subject, lacks, f"to {purpose}: pip install {target}")
    return fail(subject, f"missing: {', '.join(missing)}", remedy) if missing else ok(subject, said)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> Iterator[Finding]:
    """Cores against a container's limit, and thread settings."""
    allowed, quota = len(os.sched_getaffinity(0)), machine.cpu_quota()
    said = f"{allowed} allowed of {os.cpu_count()}"
    if quota is not None and quota < allowed:
        said += f", with the time of {quota:g}"
    if machine.usable_cores() == 1:
        yield warn("cores", said, "learner and samplers take turns on one core; add cores")
    else:
        yield ok("cores", said)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    if found := {name: os.environ[name] for name in names if name in os.environ}:
        listed = ", ".join(f"{name}={value}" for name, value in found.items())
        yield ok("threads", f"{listed}; --threads decides for the learner, samplers use 1 a worker")


def memory() -> Iterator[Finding]:
    """Memory that is there to use, and the anonymous kind that segments lie in."""
    available = re.search(
        r"^MemAvailable:\s*(\d+) kB", machine.file_text(Path("/proc/meminfo")), re.MULTILINE
    )
    free = int(available[1]) * 1024 if available else None
    limit = machine.memory_limit()
    smaller = min((each for each in (free, limit) if each is not None), default=None)
    said = "" if free is None else f"{free / GIB:.1f} GiB available"
    if limit is not None:
        said = f"{said}, limited to {limit / GIB:.1f} GiB"
    if smaller is not None and smaller < _ENOUGH_MEMORY_BYTES:
        yield warn("memory", said, "a learner takes about 1 GiB; give it more, or a smaller replay")
    else:
        yield ok("memory", said)
    try:
        os.close(os.memfd_create("wiserl-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError as error:
        yield fail(
            "shared memory",
            f"memfd_create: {error.strerror}",
            "samplers share segments with their workers through it; allow the system call in the "
            "container's seccomp profile",
        )
    else:
        yield ok("shared memory", f"memfd works; /dev/shm ({_shm()}) is not needed")


def _shm() -> str:
    try:
        return f"{shutil.disk_usage('/dev/shm').total / GIB:.2g} GiB"  # noqa: S108 - only its size
    except OSError:
        return "absent"


def files() -> Iterator[Finding]:
    """File descriptors, and the folders that are written to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _ENOUGH_FILES:
        yield warn("open files", f"at most {soft}", f"ulimit -n {min(hard, 65536)}")
    else:
        yield ok("open files", f"at most {soft:,}")
    for subject, folder in (("runs", Path("runs")), ("graph cache", places.graph_cache())):
        there = next(one for one in (folder, *folder.resolve().parents) if one.exists())
        if not os.access(there, os.W_OK):
            flag = "--runs FOLDER" if subject == "runs" else f"{places.CACHE_VARIABLE}=FOLDER"
            yield fail(subject, f"{there} cannot be written to", f"name another with {flag}")
            continue
        free = shutil.disk_usage(there).free
        said = f"{folder.absolute()}, {free / GIB:.1f} GiB free"
        if free < _ENOUGH_DISK_BYTES:
            yield warn(subject, said, "checkpoints and replay on disk need room; make some")
        else:
            yield ok(subject, said)


def ports() -> Iterator[Finding]:
    """Whether a learner can listen on loopback, and on its usual port."""
    serve = ServeFlags()
    try:
        with socket.socket() as probe:
            probe.bind((serve.host, 0))
    except OSError as error:
        yield fail(
            "loopback",
            f"{serve.host}: {error.strerror}",
            "bring the interface lo up, or use --in-process",
        )
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((serve.host, serve.port))
    except OSError as error:
        yield warn(
            "ports",
            f"{serve.host}:{serve.port}, where a learner listens by default: {error.strerror}",
            f"`wiserl doctor {serve.host}:{serve.port}` tells whether that is a learner; start "
            "another one with --port",
        )
    else:
        yield ok("ports", f"{serve.port}, where a learner listens by default, is free")


def accelerator() -> Iterator[Finding]:
    """Whether torch sees the GPUs that are there."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            said = f"{about.name}, {about.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}"
            yield ok(f"cuda:{index}", said)
    elif _GPU.exists() and torch.version.cuda is None:
        yield warn(
            "cuda",
            f"a GPU is here, but torch {torch.__version__} is a build for CPUs",
            "install torch from PyTorch's index for your CUDA: https://pytorch.org/get-started",
        )
    elif _GPU.exists():
        yield warn(
            "cuda",
            f"a GPU is here, but torch {torch.__version__} cannot use it",
            "compare with the driver's version in nvidia-smi, and look at CUDA_VISIBLE_DEVICES",
        )
    else:
        yield ok("cuda", f"no GPU; torch {torch.__version__} computes on the CPU")


def clock() -> Iterator[Finding]:
    """Whether reading the time is cheap: samplers read it in every row."""
    source = machine.file_text(
        Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    )
    if source and source not in _GOOD_CLOCKS:
        yield warn(
            "clock",
            f"clock source {source}, which takes a system call for every reading",
            "use tsc where the machine has it: /sys/devices/system/clocksource/clocksource0",
        )
    else:
        yield ok("clock", f"clock source {source or 'unknown'}")


def variables() -> Iterator[Finding]:
    """`WISERL_*` variables, which change what commands do without standing in them."""
    if found := sorted(name for name in os.environ if name.startswith("WISERL_")):
        yield ok("variables", ", ".join(f"{name}={os.environ[name]}" for name in found))


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    packages,
    cores,
    memory,
    files,
    ports,
    accelerator,
    clock,
    variables,
)
"""All of them, in the order in which they are told."""
