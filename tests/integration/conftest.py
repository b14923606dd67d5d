from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def own_graph_cache(tmp_path_factory):
    """Graphs exported by a module's runs are its own: the first run exports, the others reuse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WISERL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
