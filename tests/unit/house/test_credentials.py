"""`wiserl credentials`: what it makes lets exactly the right ones in, and is made once."""

import datetime as dt
import stat

import pytest
from front_server import SECONDS, call, refused
from front_support import RUN, make_coordinator

from common.errors import WiseRLError
from common.security import ClientSecurity
from common.statuses import Code
from learner.front.security import ServerSecurity
from learner.front.server import FrontServer
from protos.wiserl.v1 import learner_pb2
from wiserl.cli import main
from wiserl.credentials import Credentials

NOW = dt.datetime.now(dt.UTC)
HOSTS = ("localhost", "127.0.0.1", "learner")


def make(folder, hosts=HOSTS, now=NOW):
    credentials = Credentials(folder, hosts, now)
    credentials.make()
    return {str(made.path.relative_to(folder)) for made in credentials.made if made.is_new}


def client(folder, *, own=True):
    names = {"tls_client_cert": "cert.pem", "tls_client_key": "key.pem"} if own else {}
    pair = {setting: folder / name for setting, name in names.items()}
    return ClientSecurity(tls_ca=folder / "ca.pem", token_file=folder / "token", **pair)


def test_they_let_samplers_and_viewers_in(tmp_path):
    make(tmp_path)
    learner = tmp_path / "learner"
    security = ServerSecurity(
        learner / "cert.pem", learner / "key.pem", learner / "ca.pem", learner / "tokens"
    )
    server = FrontServer(make_coordinator(), security=security)
    server.start()
    request = learner_pb2.GetRunRequest()
    try:
        for name in ("sampler", "viewer"):
            answer = call(
                server,
                lambda stub: stub.GetRun(request, timeout=SECONDS),
                credentials=client(tmp_path / name).credentials(),
            )
            assert answer.run_id == RUN
        status = call(
            server,
            lambda stub: refused(stub.GetRun(request, timeout=SECONDS)),
            credentials=client(tmp_path / "sampler", own=False).credentials(),
        )
        assert status.code == Code.UNAVAILABLE
    finally:
        server.stop()


def test_nothing_is_made_twice(tmp_path):
    first = make(tmp_path)
    assert "learner/tokens" in first
    assert make(tmp_path) == set()
    (tmp_path / "viewer/token").unlink()
    assert make(tmp_path) == {"viewer/token", "learner/tokens"}
    # The former token stays until somebody takes it out.
    assert (tmp_path / "learner/tokens").read_text().count("viewer ") == 2


def test_a_certificate_is_made_anew_in_time_and_for_other_hosts(tmp_path):
    make(tmp_path)
    assert make(tmp_path, (*HOSTS, "other")) == {"learner/cert.pem", "learner/key.pem"}
    assert make(tmp_path, (*HOSTS, "other"), NOW + dt.timedelta(days=300)) == set()
    assert make(tmp_path, (*HOSTS, "other"), NOW + dt.timedelta(days=310)) == {
        f"{name}/{file}" for name in ("sampler", "viewer") for file in ("cert.pem", "key.pem")
    } | {"learner/cert.pem", "learner/key.pem"}
    with pytest.raises(WiseRLError, match="ended"):
        make(tmp_path, now=NOW + dt.timedelta(days=3660))


def test_only_the_owner_can_read_them(tmp_path):
    make(tmp_path)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_what_is_broken_is_named(tmp_path):
    make(tmp_path)
    (tmp_path / "authority/key.pem").write_text("nothing")
    with pytest.raises(WiseRLError, match=r"key\.pem is no private key"):
        make(tmp_path)


def test_the_command(tmp_path, capsys):
    assert main(["credentials", str(tmp_path / "c"), "--host", "learner"]) == 0
    assert "made" in capsys.readouterr().out
    assert main(["credentials", str(tmp_path / "c"), "--host", "learner"]) == 0
    assert "made" not in capsys.readouterr().out
