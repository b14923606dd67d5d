"""What learner and sampler tell of themselves over plain HTTP, while real calls go on."""

import asyncio
import time
import urllib.error
import urllib.request

import grpc
import pytest
from front_server import SECONDS, call, refused, running
from front_support import RUN, make_coordinator, publication, pull_request, register_request
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from security_support import VIEWER, Authority

from common import probe, status_server
from common.heartbeat import Heartbeat
from common.security import ClientSecurity
from common.status_options import StatusOptions
from common.status_server import StatusPortError, StatusServer
from protos.wiserl.v1 import learner_pb2
from sampler.client import LearnerClient
from sampler.record import READY_SECONDS, Record
from sampler.record_metrics import RecordCollector

GetRun = learner_pb2.GetRunRequest()


@pytest.fixture
def server():
    with running(make_coordinator(total_steps=500), status=StatusOptions(status_port=0)) as front:
        yield front


def get(port, page):
    """Status and text of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(port):
    """Values of all metrics by name and labels."""
    status, text = get(port, "metrics")
    assert status == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def rpc(method, kind="unary", **more):
    labels = {"grpc_method": method, "grpc_service": "wiserl.v1.LearnerService", "grpc_type": kind}
    return tuple(sorted((labels | more).items()))


def test_the_learner_s_metrics(server):
    async def talk(stub):
        await stub.Register(register_request("sampler-a"), timeout=SECONDS)
        with server.locked() as coordinator:
            coordinator.publish(publication(1))
            coordinator.set_metrics({"rollout/ep_rew_mean": 12.5})
        await stub.PullWeights(pull_request("sampler-a", have_version=0), timeout=SECONDS)
        await refused(stub.PullWeights(pull_request("nobody-at-all"), timeout=SECONDS))
        stream = stub.WatchRun(learner_pb2.WatchRunRequest(), timeout=SECONDS)
        await stream.read()
        stream.cancel()
        return samples(server.status_port)

    found = call(server, talk)
    assert found["wiserl_samplers",] == 1
    assert found["wiserl_policy_version",] == 1
    assert found["wiserl_budget_steps",] == 500
    assert found["wiserl_environment_steps_total",] == 0
    assert found["wiserl_rollout_ep_rew_mean",] == 12.5
    assert found["wiserl_run_phase", ("phase", "training")] == 1
    assert found["wiserl_run_phase", ("phase", "finished")] == 0
    sampler = ("index", "0"), ("sampler", "host")
    assert found["wiserl_sampler_slots", *sampler] == 2
    assert 0 <= found["wiserl_sampler_silence_seconds", *sampler] < 60
    handled = "grpc_server_handled_total"
    assert found[handled, *rpc("PullWeights", grpc_code="OK")] == 1
    assert found[handled, *rpc("PullWeights", grpc_code="FAILED_PRECONDITION")] == 1
    assert found["grpc_server_started_total", *rpc("PullWeights")] == 2
    assert found["grpc_server_handling_seconds_count", *rpc("Register")] == 1
    assert found["grpc_server_started_total", *rpc("WatchRun", "server_stream")] == 1
    assert found["process_resident_memory_bytes",] > 0


async def invent(front, credentials):
    """Calls two methods that do not exist."""
    async with grpc.aio.secure_channel(front.address, credentials) as channel:
        for name in ("/wiserl.v1.LearnerService/One", "/two/Two"):
            await refused(channel.unary_unary(name)(b"", timeout=SECONDS))


def test_what_is_refused_for_its_token_is_counted(tmp_path):
    authority = Authority(tmp_path)
    options = {"security": authority.server(), "status": StatusOptions(status_port=0)}
    with running(make_coordinator(), **options) as front:
        tls = ClientSecurity(tls_ca=authority.pem).credentials()
        asyncio.run(invent(front, tls))
        call(front, lambda stub: refused(stub.GetRun(GetRun, timeout=SECONDS)), credentials=tls)
        known = authority.client(VIEWER).credentials()
        call(front, lambda stub: stub.GetRun(GetRun, timeout=SECONDS), credentials=known)
        found = samples(front.status_port)
    refusals = {
        dict(labels)["grpc_method"]: value
        for (name, *labels), value in found.items()
        if name == "grpc_server_handled_total" and ("grpc_code", "UNAUTHENTICATED") in labels
    }
    assert refusals == {"GetRun": 1, "unknown": 2}
    assert found["grpc_server_handled_total", *rpc("GetRun", grpc_code="OK")] == 1


def test_a_draining_learner_lives_and_is_not_ready(server):
    assert get(server.status_port, "livez") == get(server.status_port, "readyz") == (200, "ok\n")
    with server.locked() as coordinator:
        coordinator.drain()
    status, reason = get(server.status_port, "readyz")
    assert (status, reason.partition(":")[0]) == (503, "draining")
    assert get(server.status_port, "livez")[0] == 200
    assert get(server.status_port, "secrets")[0] == 404


def test_a_standstill_is_noticed():
    now = [0.0]
    heart = Heartbeat(10.0, lambda: now[0])
    now[0] = 10.0
    assert heart.silence("it stands") == ""
    now[0] = 11.0
    assert heart.silence("it stands") == "it stands for 11 s"
    heart.beat()
    assert heart.silence("it stands") == ""


def test_the_sampler_s_metrics_and_readiness(server, monkeypatch):
    async def talk():
        client = LearnerClient(server.address)
        before = client.record.not_ready()
        try:
            run = await client.get_run()
            await client.register(register_request("sampler-a"))

            def request():
                made = pull_request("sampler-a", run_id=run.run_id, wait_milliseconds=1)
                made.progress.rows_rolled, made.progress.idle_seconds = 7, 0.5
                return made

            await client.pull(request)
        finally:
            await client.close()
        return before, client.record

    before, record = asyncio.run(talk())
    assert before == "not registered with a learner yet"
    assert record.not_ready() == ""
    assert (record.run_id, record.index, record.version) == (RUN, 0, 0)
    registry = CollectorRegistry()
    registry.register(RecordCollector(record))
    calls = {"grpc_method": "PullWeights", "grpc_code": "OK"}
    assert registry.get_sample_value("grpc_client_handled_total", calls) == 1
    assert registry.get_sample_value("wiserl_sampler_rows_rolled_total") == 7
    assert registry.get_sample_value("wiserl_sampler_idle_seconds_total") == 0.5
    later = time.monotonic() + READY_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "no word of the learner" in record.not_ready()


def test_a_record_of_another_run_begins_anew():
    record = Record()
    record.found(learner_pb2.GetRunResponse(run_id="a"))
    record.registered(learner_pb2.RegisterResponse(index=3))
    record.pulled(learner_pb2.PullWeightsResponse(version=9))
    record.found(learner_pb2.GetRunResponse(run_id="a"))
    assert (record.run_id, record.index, record.version) == ("a", 3, 9)
    record.found(learner_pb2.GetRunResponse(run_id="b"))
    assert (record.run_id, record.index, record.version) == ("b", None, 0)


def test_the_probe(server, monkeypatch, capsys):
    monkeypatch.setenv(probe.PORT_VARIABLE, str(server.status_port))
    monkeypatch.setattr("sys.argv", ["probe"])
    assert probe.main() == 0
    with server.locked() as coordinator:
        coordinator.drain()
    assert probe.main() == 1
    assert "draining" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["probe", "livez"])
    assert probe.main() == 0
    server.stop()
    assert probe.main() == 1


def test_a_probe_that_hangs_up_is_no_news_and_a_defect_is(monkeypatch):
    told = []
    monkeypatch.setattr(status_server._log, "exception", told.append)
    server = StatusServer("127.0.0.1", 0, not_alive=str, not_ready=str, collectors=[])
    try:
        for error in (BrokenPipeError(), ConnectionResetError(), TimeoutError(), KeyError("x")):
            try:
                raise error  # noqa: TRY301
            except Exception:  # noqa: BLE001 - as the server's own loop does
                server._server.handle_error(None, None)
    finally:
        server.close()
    assert told == ["status_defect"]


def test_a_port_that_is_taken_is_named(server):
    with pytest.raises(StatusPortError, match="--status-port"):
        StatusServer(
            "127.0.0.1",
            server.status_port,
            not_alive=str,
            not_ready=str,
            collectors=[RecordCollector(Record())],
        )
