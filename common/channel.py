"""The client's channel to a learner: message sizes, keepalive, reconnection, retries."""

from __future__ import annotations

import json
from typing import Any

import grpc
import grpc.aio

from common.addresses import is_loopback

DEFAULT_MAX_MESSAGE_BYTES = 64 * 2**20
"""What to receive before GetRun names the run's limit; gRPC's 4 MiB is too small for models."""

_KEEPALIVE_MILLISECONDS = 60_000
_KEEPALIVE_TIMEOUT_MILLISECONDS = 20_000

# gRPC's own 1 s growing to 120 s would keep a sampler away long after its learner has come back.
# gRPC adds the jitter.
_FIRST_RECONNECT_MILLISECONDS = 50
_LONGEST_RECONNECT_MILLISECONDS = 1_000
_CONNECT_TIMEOUT_MILLISECONDS = 5_000

# A learner's container comes back with another address; gRPC would ask for it every 30 s at most.
_RESOLVE_AGAIN_MILLISECONDS = 1_000

_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "wiserl.v1.LearnerService"}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def client_options(address: str, max_message_bytes: int) -> list[tuple[str, Any]]:
    """The channel arguments of a client of the learner at `address`."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLISECONDS),
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MILLISECONDS),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MILLISECONDS),
        # Despite its name this bounds one attempt to connect.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MILLISECONDS),
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.dns_min_time_between_resolutions_ms", _RESOLVE_AGAIN_MILLISECONDS),
        # A proxy for the world outside must not stand between two processes of one machine.
        ("grpc.enable_http_proxy", 0 if is_loopback(address) else 1),
    ]


def open_channel(
    address: str,
    *,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    credentials: grpc.ChannelCredentials | None = None,
    own_connection: bool = False,
) -> grpc.aio.Channel:
    """A channel to the learner at `HOST:PORT`; it connects with the first call.

    Args:
        address: Where the learner serves.
        max_message_bytes: The largest message either way.
        credentials: TLS, with a token where composed with call credentials; None for plain text.
        own_connection: Not the one that other channels of this process to this address share.

    Raises:
        InvalidFieldError: The address cannot be one.
    """
    options = client_options(address, max_message_bytes)
    if own_connection:
        options.append(("grpc.use_local_subchannel_pool", 1))
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)
