"""How much of what samplers push gets into the replay: push, admission, ring.

Two processes push prepared batches of about 1 MiB as samplers do: over the sampler's own client,
one at a time each, numbered and serialised anew, beside pulls that renew the lease. A real learner
front parses and checks them, inserts them into a full ring, in memory or in files, and commits its
header before it answers. All is loopback; the limiter is open, and nothing is trained. In turns
with it, two processes send 1 MiB of bytes to a gRPC server that drops them, which no system over
gRPC in Python exceeds: quote the ratio. MB are 10^6 bytes of messages.

Measured elsewhere on two cores, medians, for comparison: raw bytes of 1 MiB in unary calls 1.0 to
1.2 GB/s, 310 to 420 MB/s where they are parsed as protobuf; Reverb inserts 8,330 items a second.

    python benchmarks/ingest.py --name ingest
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import harness
import prepared_sampler
import torch
from prepared_sampler import KINDS, batch_of

from common import logging
from common.allocator import keep_large_buffers
from learner.algorithms.dqn import DQN, DQNConfig
from learner.experience.replay import ReplaySettings, ReplayStore
from learner.front.coordinator import Coordinator
from learner.front.server import FrontServer, server_options
from learner.front.settings import FrontSettings, RunIdentity
from learner.header import MappedHeader
from learner.publishing.publication import Publication
from learner.rate_limiter import LimiterSettings, RateLimiter
from protos.wiserl.v1 import environment_pb2, learner_pb2
from wiserl import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prepared_sampler import Kind

    from common.signature import Signature

CLIENTS = 2
RING_PUSHES = 256
"""Of about 1 MiB: more than any cache holds."""

NEVER = 1 << 60
"""Steps of a budget that is not met, and before learning that does not start."""


@contextlib.contextmanager
def clients(address: str, name: str, *options: str) -> Iterator[Callable[[], None]]:
    """The processes that push, until this is left; gives what ends all where one has failed."""
    program = [sys.executable, str(Path(prepared_sampler.__file__)), address, name]
    started = [subprocess.Popen([*program, str(n), *options]) for n in range(CLIENTS)]

    def check() -> None:
        if any(process.poll() is not None for process in started):
            sys.exit("a client ended before it was measured; what it said is above")

    try:
        yield check
        check()
    finally:
        for process in started:
            process.terminate()
            process.wait()


class Learner(contextlib.ExitStack):
    """A front whose replay takes everything.

    Args:
        kind: What will be pushed.
        policy: The signature.
        folder: Where the header lies, and the ring if it is in files.
        on_disk: Whether it is.
    """

    def __init__(self, kind: Kind, policy: Signature, folder: Path, *, on_disk: bool) -> None:
        super().__init__()
        environment = environment_pb2.EnvironmentReference(id="prepared")
        self.header = self.enter_context(MappedHeader.create(folder / "header.bin"))
        self.front = FrontServer(
            Coordinator(
                RunIdentity("ingest", "dqn", environment, environment),
                FrontSettings(NEVER),
                self.header,
            )
        )
        capacity = RING_PUSHES * kind.rows * kind.slots
        self.store = ReplayStore(
            policy.columns,
            ReplaySettings(capacity, kind.rows, 0.99),
            seed=0,
            folder=folder / "replay" if on_disk else None,
        )
        self.callback(self.store.close)
        self.front.start()
        self.callback(self.front.stop)
        limiter = RateLimiter(LimiterSettings(1.0, learning_starts=NEVER, window=1))
        with self.front.locked() as coordinator:
            coordinator.open_run(policy, fragment_rows=kind.rows)
            nothing = Publication(1, b"none", b"", learner_pb2.GoldenVector)
            coordinator.publish(nothing, {})
            coordinator.open_replay(
                self.front.now(),
                self.store,
                limiter,
                fragments_in_flight=CLIENTS * kind.slots,
            )

    def rows(self) -> int:
        """All that were pushed so far."""
        with self.front.locked():
            return self.header.totals.rows


def ingested(name: str, seconds: float, *, on_disk: bool) -> dict[str, float]:
    """Pushes, MB and valid transitions a second, once the ring is full."""
    kind = KINDS[name]
    policy = DQN(kind.spec, DQNConfig(), device=torch.device("cpu"), seed=0).signature
    batch = batch_of(kind, policy)
    with (
        tempfile.TemporaryDirectory() as folder,
        Learner(kind, policy, Path(folder), on_disk=on_disk) as learner,
        clients(learner.front.address, name) as check,
    ):
        while learner.rows() < RING_PUSHES * kind.rows * kind.slots:
            check()
            time.sleep(0.05)
        rows, begin = learner.rows(), time.perf_counter()
        time.sleep(seconds)
        while learner.rows() == rows:  # a machine that has more to do
            check()
            time.sleep(0.05)
        rows, passed = learner.rows() - rows, time.perf_counter() - begin
    pushes = rows / (kind.rows * kind.slots) / passed
    invalid = len(kind.ends[0])
    return {
        "pushes_per_second": pushes,
        "mb_per_second": pushes * batch.ByteSize() / 1e6,
        "transitions_per_second": pushes * (kind.rows * kind.slots - invalid),
    }


async def dropped(seconds: float) -> float:
    """MB a second of raw bytes into a server that drops them."""
    received, warm = 0, asyncio.Event()

    async def take(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        nonlocal received
        received += len(request)
        if received > RING_PUSHES << 20:
            warm.set()
        return b""

    keep_large_buffers()
    server = grpc.aio.server(options=server_options(64 << 20))
    service, method = prepared_sampler.RAW.strip("/").split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with clients(f"127.0.0.1:{port}", "raw", "--raw"):
        await asyncio.wait_for(warm.wait(), 60)
        before, begin = received, time.perf_counter()
        await asyncio.sleep(seconds)
        found = (received - before) / (time.perf_counter() - begin)
    await server.stop(None)
    return found / 1e6


def described(name: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """The spread of every rate over the runs, and what was pushed."""
    kind = KINDS[name]
    return {
        "rows": kind.rows,
        "slots": kind.slots,
        **{key: harness.spread([run[key] for run in runs]) for key in runs[0]},
    }


def main() -> None:
    """Takes turns a few times and writes the medians down."""
    # As in every learner that is started by `wiserl`.
    gc.set_threshold(cli.OBJECTS_BETWEEN_COLLECTIONS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kind", choices=tuple(KINDS), action="append")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    options = parser.parse_args()
    logging.configure(process="ingest", level="warning")
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    limits = []
    for _ in range(options.repeats):
        limits.append(asyncio.run(dropped(options.seconds)))
        print(f"raw bytes, dropped: {limits[-1]:,.0f} MB/s")
        for name in options.kind or KINDS:
            for ring in ("memory", "disk"):
                run = ingested(name, options.seconds, on_disk=ring == "disk")
                found.setdefault((name, ring), []).append(run)
                print(
                    f"{name}, ring in {ring}: {run['mb_per_second']:,.0f} MB/s, "
                    f"{run['transitions_per_second']:,.0f} transitions/s"
                )
    result = {
        "settings": vars(options) | {"clients": CLIENTS, "ring_pushes": RING_PUSHES},
        "raw_mb_per_second": harness.spread(limits),
        "ingested": [
            {"kind": name, "ring": ring, **described(name, runs)}
            for (name, ring), runs in found.items()
        ],
    }
    if options.name:
        print(harness.write(options.name, result))


if __name__ == "__main__":
    main()
