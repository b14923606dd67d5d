"""What the tests of the manifests share."""

import kubectl
import pytest


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """All documents of each overlay; whoever changes one copies it before."""
    return kubectl.render(tmp_path_factory.mktemp("kubernetes"))
