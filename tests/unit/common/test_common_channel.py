import json

from common.channel import DEFAULT_MAX_MESSAGE_BYTES, client_options
from protos.wiserl.v1 import learner_pb2


def options(address="learner:5555", limit=DEFAULT_MAX_MESSAGE_BYTES):
    return dict(client_options(address, limit))


def test_messages_may_be_as_large_as_the_run_says():
    found = options(limit=2**27)
    assert found["grpc.max_receive_message_length"] == 2**27
    assert found["grpc.max_send_message_length"] == 2**27


def test_grpc_itself_repeats_nothing_but_unavailable():
    (config,) = json.loads(options()["grpc.service_config"])["methodConfig"]
    (name,) = config["name"]
    assert name == {"service": learner_pb2.DESCRIPTOR.services_by_name["LearnerService"].full_name}
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_a_proxy_is_for_the_world_outside():
    assert options("127.0.0.1:5555")["grpc.enable_http_proxy"] == 0
    assert options("learner.example:5555")["grpc.enable_http_proxy"] == 1


def test_keepalive_is_what_the_learner_allows():
    found = options()
    assert found["grpc.keepalive_time_ms"] == 60_000
    assert found["grpc.keepalive_timeout_ms"] == 20_000
