"""Who is let in, over real sockets: TLS, mutual TLS, tokens, roles, and files that are replaced."""

import asyncio
import ssl

import grpc
import pytest
from front_server import SECONDS, call, refused
from front_support import RUN, register_request
from security_support import EXPIRED, SAMPLER, TOKENS, VIEWER, Authority, start

from common.errors import InvalidFieldError, Reason, WiseRLError
from common.security import ClientSecurity
from common.statuses import Code
from learner.front.security import AddressError, ServerSecurity
from learner.front.server import FrontServer
from protos.wiserl.v1 import learner_pb2
from sampler.client import LearnerClient

GetRun = learner_pb2.GetRunRequest()
WatchRun = learner_pb2.WatchRunRequest(interval_milliseconds=100)
REGISTER = "/wiserl.v1.LearnerService/Register"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def protected(authority):
    server = start(authority.server())
    yield server
    server.stop()


def get_run(stub):
    return stub.GetRun(GetRun, timeout=SECONDS)


def refused_get_run(server, security):
    return call(server, lambda stub: refused(get_run(stub)), credentials=security.credentials())


def test_a_sampler_and_a_viewer_are_let_in(protected, authority):
    async def sample(stub):
        await stub.Register(register_request("sampler-a"), timeout=SECONDS)
        return (await get_run(stub)).run_id

    async def view(stub):
        stream = stub.WatchRun(WatchRun, timeout=SECONDS)
        return [each.name for each in (await stream.read()).samplers]

    assert call(protected, sample, credentials=authority.client(SAMPLER).credentials()) == RUN
    assert call(protected, view, credentials=authority.client(VIEWER).credentials()) == ["host"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [("u" * 20, Reason.TOKEN_UNKNOWN), (EXPIRED, Reason.TOKEN_EXPIRED)],
)
def test_a_token_that_counts_no_more(token, reason, protected, authority):
    status = refused_get_run(protected, authority.client(token))
    assert (status.code, status.reason) == (Code.UNAUTHENTICATED, reason)
    assert token not in status.message


@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", SAMPLER),), (("authorization", "Basic abc"),)],
    ids=["none", "no-scheme", "other-scheme"],
)
def test_a_call_without_a_token(metadata, protected, authority):
    tls = ClientSecurity(tls_ca=authority.pem).credentials()

    async def talk(stub):
        return await refused(stub.GetRun(GetRun, metadata=metadata, timeout=SECONDS))

    status = call(protected, talk, credentials=tls)
    assert (status.code, status.reason) == (Code.UNAUTHENTICATED, Reason.TOKEN_MISSING)


def test_roles(protected, authority):
    async def view(stub):
        return await refused(stub.Register(register_request("a" * 8), timeout=SECONDS))

    async def sample(stub):
        return await refused(stub.WatchRun(WatchRun, timeout=SECONDS).read())

    for token, talk in ((VIEWER, view), (SAMPLER, sample)):
        status = call(protected, talk, credentials=authority.client(token).credentials())
        assert (status.code, status.reason) == (Code.PERMISSION_DENIED, Reason.ROLE_FORBIDDEN)


def test_a_method_that_is_not_listed_is_nobody_s(protected, authority):
    async def talk(stub):
        channel = stub.channel
        return await refused(channel.unary_unary("/wiserl.v1.Other/Do")(b"", timeout=SECONDS))

    status = on_channel(protected, authority.client().credentials(), talk)
    assert (status.code, status.reason) == (Code.PERMISSION_DENIED, Reason.ROLE_FORBIDDEN)


def on_channel(server, credentials, talk):
    """Runs `talk` with a bare channel, for calls that no stub makes."""

    class Bare:
        def __init__(self, channel):
            self.channel = channel

    async def run():
        async with grpc.aio.secure_channel(
            server.address,
            credentials,
            options=[("grpc.max_send_message_length", 128 << 20)],
        ) as channel:
            return await talk(Bare(channel))

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1 << 10, 80 << 20], ids=["small", "above-the-limit"])
def test_a_stranger_s_body_is_never_read(size, protected, authority):
    garbage = b"\xff" * size

    async def talk(stub):
        register = stub.channel.unary_unary(REGISTER)
        return await refused(register(garbage, timeout=SECONDS))

    tls = ClientSecurity(tls_ca=authority.pem).credentials()
    status = on_channel(protected, tls, talk)
    # Were the body received, one above the limit would be RESOURCE_EXHAUSTED; were it parsed, this
    # one would be INVALID_ARGUMENT.
    assert (status.code, status.reason) == (Code.UNAUTHENTICATED, Reason.TOKEN_MISSING)
    known = on_channel(protected, authority.client().credentials(), talk)
    assert known.code in {Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("kind", ["plaintext", "wrong-authority", "wrong-name"])
def test_no_connection_comes_about(kind, authority, tmp_path):
    server = start(authority.server(*(["elsewhere"] if kind == "wrong-name" else [])))
    other = tmp_path / "other"
    other.mkdir()
    security = {
        "plaintext": ClientSecurity(),
        "wrong-authority": Authority(other).client(),
        "wrong-name": authority.client(),
    }[kind]
    try:
        assert refused_get_run(server, security).code == Code.UNAVAILABLE
    finally:
        server.stop()


def test_tls_where_the_learner_has_none(authority):
    server = start(ServerSecurity())
    try:
        assert refused_get_run(server, authority.client()).code == Code.UNAVAILABLE
    finally:
        server.stop()


def own_pair(certificate, key):
    return {"tls_client_cert": certificate, "tls_client_key": key}


def test_mutual_tls(authority, tmp_path):
    server = start(authority.server(tls_client_ca=authority.pem))
    other = tmp_path / "other"
    other.mkdir()
    own = own_pair(*authority.issue("sampler", stem="own"))
    strange = own_pair(*Authority(other).issue("sampler", stem="strange"))
    try:
        assert refused_get_run(server, authority.client()).code == Code.UNAVAILABLE
        assert refused_get_run(server, authority.client(**strange)).code == Code.UNAVAILABLE
        credentials = authority.client(**own).credentials()
        assert call(server, get_run, credentials=credentials).run_id == RUN
    finally:
        server.stop()


def test_tokens_are_replaced_while_it_serves(protected, authority):
    tokens = authority.folder / "tokens"
    credentials = authority.client(SAMPLER).credentials()

    async def talk(stub):
        await get_run(stub)
        tokens.write_text(f"sampler {'n' * 20}\n")
        status = await refused(get_run(stub))
        # The client reads its own file anew, too.
        (authority.folder / "token").write_text("n" * 20)
        await get_run(stub)
        # Half a replacement locks nobody out.
        tokens.write_text("sampler")
        await get_run(stub)
        return status

    assert call(protected, talk, credentials=credentials).reason == Reason.TOKEN_UNKNOWN


def test_a_certificate_is_replaced_while_it_serves(protected, authority):
    host, _, port = protected.address.rpartition(":")
    before = ssl.get_server_certificate((host, int(port)))
    authority.issue("localhost", "127.0.0.1", "renewed")
    after = ssl.get_server_certificate((host, int(port)))
    assert before != after
    assert after in (authority.folder / "learner.pem").read_text()
    assert call(protected, get_run, credentials=authority.client().credentials()).run_id == RUN


def test_a_sampler_s_client_goes_on_with_a_new_token(protected, authority):
    security = authority.client("old-token-that-nobody-knows")

    async def talk():
        client = LearnerClient(protected.address, credentials=security.credentials())
        try:
            asyncio.get_running_loop().call_later(
                0.05, (authority.folder / "token").write_text, SAMPLER
            )
            return await client.get_run()
        finally:
            await client.close()

    assert asyncio.run(talk()).run_id == RUN


@pytest.mark.parametrize("address", ["0.0.0.0:0", "learner:5555"])
def test_other_addresses_need_tls_and_tokens(address, authority):
    complete = authority.server()
    complete.check_address(address)
    for half in (ServerSecurity(), ServerSecurity(complete.tls_cert, complete.tls_key)):
        with pytest.raises(AddressError, match=r"--tokens-file.*--insecure"):
            half.check_address(address)


def test_what_would_protect_nothing_is_refused(authority):
    certificate, key = authority.issue("localhost")
    for settings, field in (
        ({"tokens_file": certificate}, "tokens_file"),
        ({"tls_client_ca": certificate}, "tls_client_ca"),
        ({"tls_cert": certificate}, "tls_key"),
        ({"tls_key": key}, "tls_cert"),
    ):
        with pytest.raises(InvalidFieldError) as error:
            ServerSecurity(**settings)
        assert error.value.field == field
    for settings, field in (
        ({"token_file": key}, "token_file"),
        (own_pair(certificate, key), "tls_client_cert"),
        ({"tls_ca": certificate, "tls_client_cert": certificate}, "tls_client_key"),
    ):
        with pytest.raises(InvalidFieldError) as error:
            ClientSecurity(**settings)
        assert error.value.field == field


def test_files_that_cannot_be_used_are_named(authority):
    server, client = authority.server(), authority.client()
    good = {path: path.read_bytes() for path in authority.folder.iterdir()}
    for path, make in (
        (server.tls_cert, lambda: FrontServer(None, security=server)),
        (server.tls_key, lambda: FrontServer(None, security=server)),
        (client.tls_ca, client.credentials),
        (client.token_file, client.credentials),
    ):
        for spoil in (lambda path: path.write_bytes(b"\xff nothing"), lambda path: path.unlink()):
            spoil(path)
            with pytest.raises(WiseRLError, match=str(path)):
                make()
            path.write_bytes(good[path])


def test_a_key_of_another_certificate_is_refused(authority):
    server = authority.server()
    other, _ = authority.issue("localhost", stem="other")
    with pytest.raises(WiseRLError, match="no pair"):
        ServerSecurity(other, server.tls_key).credentials()


def test_what_a_file_of_tokens_may_hold(tmp_path):
    from learner.front.tokens import parse

    assert len(parse(TOKENS, "tokens")) == 3
    for text, complaint in (
        ("", "no token"),
        ("# nothing", "no token"),
        ("admin 0123456789abcdef", "line 1"),
        ("\nsampler short", "line 2"),
        ("sampler 0123456789abcdef tomorrow", "no time"),
        ("sampler 0123456789abcdef 2027-01-31", "with an offset"),
        ("sampler 0123456789abcdef\nviewer 0123456789abcdef", "twice"),
        ("sampler 0123456789abcdéf", "printable ASCII"),
    ):
        with pytest.raises(WiseRLError, match=complaint) as error:
            parse(text, "tokens")
        assert "0123456789abcd" not in str(error.value)


def test_every_call_of_the_service_has_its_roles():
    from learner.front.tokens import ALLOWED

    service = learner_pb2.DESCRIPTOR.services_by_name["LearnerService"]
    assert set(ALLOWED) == {f"/{service.full_name}/{method.name}" for method in service.methods}
