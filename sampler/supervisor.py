"""The sampler's main process, to which its workers belong.

It keeps nothing that matters: it may be killed at any time.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from common import allocator, logging
from common.errors import WiseRLError
from sampler.exits import ExitCode, SamplerStopError
from sampler.nursery_process import start_nursery

if TYPE_CHECKING:
    from sampler.nursery_process import NurseryProcess
    from sampler.options import SamplerOptions
    from sampler.pool import Pool, PoolConfig

_logger = logging.Logger()


def run(options: SamplerOptions, nursery: NurseryProcess | None = None) -> int:
    """Runs a sampler; answers the exit code of its process (see `ExitCode`).

    Args:
        options: Its flags.
        nursery: One that was started ahead; None starts one.
    """
    logging.configure(process="sampler", sampler=options.name)
    allocator.keep_large_buffers()
    ahead = [nursery or start_nursery()]

    def make_pool(config: PoolConfig) -> Pool:
        from sampler.process_pool import ProcessPool

        # Another run with another environment needs another nursery.
        return ProcessPool(config, ahead.pop() if ahead else None)

    # gRPC's own lines of a learner that stops are no news, and no JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Imports gRPC, while the nursery imports what the workers need.
    from sampler.lifetime import Lifetime

    try:
        return asyncio.run(Lifetime(options, make_pool).run())
    except SamplerStopError as stop:
        # No traceback: it ended as the contract or its user wants.
        _logger.error("sampler_stopped", exit_code=int(stop.exit_code), reason=str(stop))  # noqa: TRY400
        return stop.exit_code
    except WiseRLError as error:
        # A file that a flag names cannot be used, or a port.
        _logger.error("sampler_stopped", exit_code=int(ExitCode.USAGE), reason=str(error))  # noqa: TRY400
        return ExitCode.USAGE
