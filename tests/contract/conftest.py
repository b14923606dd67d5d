"""What the tests of the contract share."""

import contextlib

import pytest
from front_server import running
from front_support import make_coordinator


@pytest.fixture
def serve():
    """Starts servers; stops them at the end."""
    with contextlib.ExitStack() as started:
        yield lambda **settings: started.enter_context(running(make_coordinator(**settings)))
