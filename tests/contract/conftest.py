"""What the tests of the contract share."""

import pytest
from front_support import make_coordinator

from learner.front.server import FrontServer


@pytest.fixture
def serve():
    """Starts servers; stops them at the end."""
    started = []

    def start(**settings):
        server = FrontServer(make_coordinator(**settings))
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()
