from pathlib import Path

import pytest
from scenarios import Scenario

GOLDEN = Path(__file__).parents[2] / "golden" / "sampler"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path):
    text = path.read_text()
    assert Scenario().run(text) == text


def test_there_are_scenarios():
    assert len(list(GOLDEN.glob("*.txt"))) > 5
