import pytest

from common.addresses import is_loopback, split_address
from common.errors import InvalidFieldError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("learner:1", ("learner", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_host_and_port(address, expected):
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    ["", "learner", ":5555", "learner:", "learner:x", "learner:0", "learner:65536", "::1:5555"],
)
def test_what_is_no_address(address):
    with pytest.raises(InvalidFieldError, match="address"):
        split_address(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.1.2.3:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("learner:1", False),
    ],
)
def test_loopback(address, expected):
    assert is_loopback(address) == expected
