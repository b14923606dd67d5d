"""Programs that fail where they import what they are not to import."""

from __future__ import annotations

import sys

_REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in {refused}, f"{{name}} is imported"

sys.meta_path.insert(0, Refuse())
"""


def program(code: str, *arguments: str, refused: set[str]) -> list[str]:
    """The command that runs a program which may import none of these packages.

    An error of another kind than where a package is not installed: nothing goes on without it.
    """
    return [sys.executable, "-c", _REFUSE.format(refused=refused) + code, *arguments]


def wiserl(*arguments: str, refused: set[str]) -> list[str]:
    """The command `wiserl` with these arguments, which may import none of these packages."""
    code = "from wiserl.cli import main\nsys.exit(main(sys.argv[1:]))"
    return program(code, *arguments, refused=refused)
