"""Looks at a learner from where a sampler would stand."""

from __future__ import annotations

import importlib.util
import os
import socket
import ssl
import statistics
import time
from typing import TYPE_CHECKING

import grpc

from common import statuses
from common.addresses import is_loopback, split_address
from common.errors import WiseRLError
from protos.wiserl.v1 import learner_pb2
from sampler import PROTOCOL_VERSION
from wiserl import learner_at
from wiserl.doctor import Finding, fail, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from common.security import ClientSecurity
    from protos.wiserl.v1.learner_pb2_grpc import LearnerServiceStub

CONNECT_SECONDS = 5.0
_CALLS = 5
_FAR_SECONDS = 0.02
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


def examine(
    address: str,
    allowed_modules: Sequence[str] = (),
    security: ClientSecurity = learner_at.PLAIN,
) -> Iterator[Finding]:
    """All findings about the learner at `HOST:PORT`, up to the first that hides the others.

    Raises:
        InvalidFieldError: The address cannot be one.
        WiseRLError: A certificate or a token here cannot be used.
    """
    if unreachable := _unreachable(address):
        yield unreachable
        return
    yield from _proxies(address)
    if untrusted := _untrusted(address, security):
        yield untrusted
        return
    with learner_at.stub(address, security) as stub:
        try:
            run = stub.GetRun(learner_pb2.GetRunRequest(), timeout=CONNECT_SECONDS)
        except grpc.RpcError as error:
            yield _no_learner(address, statuses.read(error))
            return
        yield _protocol(run)
        yield _distance(stub)
        yield from _state(address, stub, run)
    yield from _environment(run, allowed_modules)


def _unreachable(address: str) -> Finding | None:
    """What keeps a plain connection from coming about; None where it does."""
    host, port = split_address(address)
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except socket.gaierror as error:
        return fail("learner", f"{host} does not resolve: {error.strerror}", "check the name")
    except TimeoutError:
        remedy = "a firewall or network policy drops the packets, or the host is another"
        return fail("learner", f"{address} does not answer for {CONNECT_SECONDS:g} s", remedy)
    except OSError as error:
        return fail(
            "learner",
            f"{address}: {error.strerror or error}",
            "start one: wiserl learner ALGORITHM --env ID"
            + ("" if is_loopback(address) else " --host 0.0.0.0, with TLS and tokens"),
        )
    return None


def _untrusted(address: str, security: ClientSecurity) -> Finding | None:
    """What keeps a TLS connection from coming about, which gRPC tells of in riddles."""
    if security.tls_ca is None:
        return None
    security.credentials()  # says what is wrong with the files here
    host, port = split_address(address)
    context = ssl.create_default_context(cafile=security.tls_ca)
    context.set_alpn_protocols(["h2"])
    if security.tls_client_cert is not None:
        context.load_cert_chain(security.tls_client_cert, security.tls_client_key)
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        return fail(
            "tls",
            f"the certificate at {address} is not to be trusted: {error.verify_message}",
            f"it must be made for {host} by the authority of {security.tls_ca}",
        )
    except (ssl.SSLError, OSError) as error:
        remedy = "does the learner have TLS? Without it leave --tls-ca out"
        return fail("tls", f"no TLS at {address}: {error}", remedy)


def _proxies(address: str) -> Iterator[Finding]:
    found = [name for name in _PROXIES if os.environ.get(name)]
    if found and not is_loopback(address):
        host, _ = split_address(address)
        yield warn(
            "proxy",
            f"gRPC goes through {found[0]}={os.environ[found[0]]}, unless no_proxy names {host}",
            f"export no_proxy={host} where the learner is to be reached directly",
        )


def _no_learner(address: str, status: statuses.Status) -> Finding:
    if status.code == statuses.Code.UNAVAILABLE and status.reason:
        return warn("learner", f"{address} is draining: {status.message}", "wait for its return")
    return fail(
        "learner",
        f"something listens at {address}, but it is no learner: {status}",
        "check the port; where the learner has TLS, give --tls-ca",
    )


def _protocol(run: learner_pb2.GetRunResponse) -> Finding:
    said = f"{run.algorithm} on {run.training_environment.id}, run {run.run_id}"
    if run.protocol_version != PROTOCOL_VERSION:
        return fail(
            "learner",
            f"{said}, protocol {run.protocol_version}, here {PROTOCOL_VERSION}",
            "install the same release of WiseRL on both sides",
        )
    return ok("learner", said)


def _distance(stub: LearnerServiceStub) -> Finding:
    """The time that a small call takes, there and back."""
    took = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        stub.GetRun(learner_pb2.GetRunRequest(), timeout=CONNECT_SECONDS)
        took.append(time.perf_counter() - began)
    seconds = statistics.median(took)
    said = f"{1000 * seconds:.1f} ms for a call"
    if seconds > _FAR_SECONDS:
        return warn("distance", said, "samplers far away wait for policies; move them closer")
    return ok("distance", said)


def _state(
    address: str, stub: LearnerServiceStub, run: learner_pb2.GetRunResponse
) -> Iterator[Finding]:
    stream = stub.WatchRun(learner_pb2.WatchRunRequest(run_id=run.run_id), timeout=CONNECT_SECONDS)
    try:
        now = next(iter(stream))
    except grpc.RpcError as error:
        yield fail("run", str(statuses.read(error)), "look into the learner's log")
        return
    finally:
        stream.cancel()  # type: ignore[no-untyped-call]
    phase = learner_pb2.RunPhase.Name(now.phase).removeprefix("RUN_PHASE_").lower()
    said = f"{phase}, {now.environment_steps:,} of {now.total_steps:,} steps"
    if now.samplers:
        yield ok("run", f"{said}, samplers: {len(now.samplers)}")
    else:
        yield warn("run", f"{said}, no sampler", f"start one: wiserl sampler --learner {address}")


def _environment(
    run: learner_pb2.GetRunResponse, allowed_modules: Sequence[str]
) -> Iterator[Finding]:
    """Whether a sampler here could build what the learner names."""
    if importlib.util.find_spec("gymnasium") is None:
        return
    from sampler.environments import registry

    name = run.training_environment.id
    try:
        registry.resolve(run.training_environment, allowed_modules).plain().close()
    except WiseRLError as error:
        yield fail("environment", str(error), "a sampler here would stop with exit code 5")
    except Exception as error:  # noqa: BLE001 - an environment raises what it likes
        said = f"{name}: {type(error).__name__}: {error}"
        yield fail("environment", said, "the environment itself fails here; try it in Python alone")
    else:
        yield ok("environment", f"{name} can be built here")
