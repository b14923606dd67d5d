"""Where a process tells of itself."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """The address of `common.status_server`."""

    status_port: int | None = None
    """Port for /livez, /readyz and /metrics over plain HTTP; 0 takes a free one, none for none."""
    status_host: str = "127.0.0.1"
    """Address of that port; nothing of the run can be read or changed there, only watched."""
