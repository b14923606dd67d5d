"""Spans of pushes and pulls on both sides, in one trace, over real sockets."""

import asyncio
import concurrent.futures
import json
import subprocess
import sys

import grpc
import pytest
from front_server import call, refused, running
from front_support import (
    RUN,
    A,
    Part,
    make_batch,
    make_coordinator,
    publication,
    pull_request,
    push_request,
    register_request,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from security_support import VIEWER, Authority

from common import tracing
from common.errors import InvalidFieldError
from common.statuses import Code
from common.tracing import Tracing
from protos.wiserl.v1 import learner_pb2
from sampler.client import LearnerClient

SERVICE = "wiserl.v1.LearnerService"


@pytest.fixture
def traced():
    """Where spans go, and what makes them: `(spans, tracing)`."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, Tracing(provider)


@pytest.fixture
def server(traced):
    with running(make_coordinator(), tracing=traced[1]) as front:
        yield front


def spans_of(exporter, method, kind):
    return [
        span
        for span in exporter.get_finished_spans()
        if span.name == f"{SERVICE}/{method}" and span.kind == kind
    ]


def sample(server, tracing, talk):
    """Runs `talk(client, grant)` for a registered client that has work."""

    async def run():
        client = LearnerClient(server.address, tracing=tracing)
        try:
            await client.get_run()
            await client.register(register_request(A))
            with server.locked() as coordinator:
                coordinator.publish(publication(1))
                coordinator.open_round(server.now(), n_envs=2, n_steps=2)
            (grant,) = (await client.pull(lambda: pull_request(A))).grants
            return await talk(client, grant.grant_id)
        finally:
            await client.close()

    return asyncio.run(run())


def test_both_sides_of_a_call_are_in_one_trace(server, traced):
    exporter, tracing = traced

    async def push(client, grant):
        return await client.push(push_request(A, 1, grant, make_batch(1, [Part(0)])))

    assert sample(server, tracing, push).verdict == learner_pb2.VERDICT_ACCEPTED
    for method in ("GetRun", "Register", "PullWeights", "PushTrajectories"):
        (client,) = spans_of(exporter, method, SpanKind.CLIENT)
        (served,) = spans_of(exporter, method, SpanKind.SERVER)
        assert served.context.trace_id == client.context.trace_id
        assert served.parent.span_id == client.context.span_id
        assert client.start_time <= served.start_time <= served.end_time
        assert served.status.status_code == client.status.status_code == StatusCode.UNSET
        assert served.attributes["rpc.response.status_code"] == "OK"
    (pushed,) = spans_of(exporter, "PushTrajectories", SpanKind.CLIENT)
    assert dict(pushed.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/PushTrajectories",
        "rpc.response.status_code": "OK",
        "wiserl.run_id": RUN,
        "wiserl.sampler_index": 0,
        "wiserl.policy_version": 1,
        "wiserl.attempt": 1,
        "wiserl.request_bytes": pushed.attributes["wiserl.request_bytes"],
    }
    assert pushed.attributes["wiserl.request_bytes"] > 100
    # Every call is a trace of its own.
    assert len({span.context.trace_id for span in exporter.get_finished_spans()}) == 4


def test_refusals_are_errors_of_the_client_and_each_attempt_is_a_span(server, traced):
    exporter, tracing = traced

    async def talk(client, grant):
        answer = await push_malformed(client, grant)
        with server.locked() as coordinator:
            coordinator.drain()
        pushing = asyncio.ensure_future(
            client.push(push_request(A, 2, grant, make_batch(1, [Part(0)])))
        )
        while client.record.calls["PushTrajectories", "UNAVAILABLE"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        return answer

    async def push_malformed(client, grant):
        malformed = push_request(A, 1, grant, make_batch(1, [Part(0)]))
        del malformed.batch.columns[0]
        return await client.push(malformed)

    assert sample(server, tracing, talk).code == Code.INVALID_ARGUMENT
    first, *later = spans_of(exporter, "PushTrajectories", SpanKind.CLIENT)
    assert first.status.status_code == StatusCode.ERROR
    assert "observation" in first.status.description
    assert first.attributes["error.type"] == "INVALID_ARGUMENT"
    assert [span.attributes["wiserl.attempt"] for span in later[:2]] == [1, 2]
    assert {span.attributes["error.type"] for span in later[:2]} == {"UNAVAILABLE"}
    served = spans_of(exporter, "PushTrajectories", SpanKind.SERVER)
    # What a client did wrong is no error of the server's; that it drains is.
    assert served[0].status.status_code == StatusCode.UNSET
    assert served[0].attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert served[1].status.status_code == StatusCode.ERROR
    assert not any(span.events for span in exporter.get_finished_spans())


def test_a_stranger_s_calls_are_in_no_trace(traced, tmp_path):
    exporter, tracing = traced
    authority = Authority(tmp_path)

    async def talk(stub):
        await refused(stub.GetRun(learner_pb2.GetRunRequest(), timeout=20))
        stream = stub.WatchRun(learner_pb2.WatchRunRequest(), timeout=20)
        return await refused(stream.read())

    with running(make_coordinator(), security=authority.server(), tracing=tracing) as server:
        stranger = authority.client("u" * 20).credentials()
        assert call(server, talk, credentials=stranger).code == Code.UNAUTHENTICATED
        known = authority.client(VIEWER).credentials()
        call(server, lambda stub: stub.GetRun(learner_pb2.GetRunRequest()), credentials=known)
    (span,) = exporter.get_finished_spans()
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)


@pytest.fixture
def variables(monkeypatch):
    for name in ("OTEL_TRACES_EXPORTER", *tracing._ENDPOINTS, *tracing._PROTOCOLS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_without_being_asked_nothing_is_traced(asked, variables):
    for name, value in asked.items():
        variables.setenv(name, value)
    assert tracing.from_environment("wiserl-test") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")],
)
def test_what_there_is_not_is_named(name, value, variables):
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    variables.setenv(name, value)
    with pytest.raises(InvalidFieldError, match=value) as caught:
        tracing.from_environment("wiserl-test")
    assert caught.value.field == name


def test_where_the_extra_lacks_it_is_said_and_nothing_stops(variables, capsys):
    variables.setenv("OTEL_TRACES_EXPORTER", "otlp")
    variables.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing.from_environment("wiserl-test") is None
    assert "wiserl[tracing]" in capsys.readouterr().err


def test_the_standard_variables_say_where_spans_go():
    """A process of its own, whose exporter writes to stderr."""
    code = (
        "from common import tracing; t = tracing.from_environment('wiserl-test')\n"
        "with t.client('S/M', {'wiserl.attempt': 1}) as call: call.ended('OK')\n"
        "t.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    span = json.loads(done.stderr[done.stderr.index("{\n") :])
    assert span["name"] == "S/M"
    resource = span["resource"]["attributes"]
    assert resource["service.name"] == "wiserl-test"
    assert resource["deployment.environment.name"] == "lab"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans over OTLP as a collector does; `spans` are (service, span)."""

    def __init__(self):
        self.spans = []

    def Export(self, request, _):  # noqa: N802 - as the service calls it
        for each in request.resource_spans:
            named = {one.key: one.value.string_value for one in each.resource.attributes}
            self.spans += [
                (named["service.name"], span) for scope in each.scope_spans for span in scope.spans
            ]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector():
    """One that listens, and its address."""
    taking = Collector()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taking, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield taking, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_pushes_and_pulls_reach_a_collector_over_otlp(collector, variables):
    taking, endpoint = collector
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    sides = {name: tracing.from_environment(name) for name in ("wiserl-learner", "wiserl-sampler")}

    async def push(client, grant):
        return await client.push(push_request(A, 1, grant, make_batch(1, [Part(0)])))

    try:
        with running(make_coordinator(), tracing=sides["wiserl-learner"]) as server:
            sample(server, sides["wiserl-sampler"], push)
    finally:
        for side in sides.values():
            side.close()
    for method in ("PullWeights", "PushTrajectories"):
        found = {name: span for name, span in taking.spans if span.name == f"{SERVICE}/{method}"}
        assert set(found) == set(sides)
        served, called = found["wiserl-learner"], found["wiserl-sampler"]
        assert served.trace_id == called.trace_id
        assert served.parent_span_id == called.span_id


def test_a_collector_that_is_gone_keeps_nobody_from_ending(variables):
    variables.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    found = tracing.from_environment("wiserl-test")
    with found.client("S/M", {}) as span:
        span.ended("UNAVAILABLE", "nobody is there")
    found.close()
