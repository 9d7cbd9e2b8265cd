"""`paritygate operator`: starts one replica, and ends it when told to or when another leads."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
from pathlib import Path
from typing import Final

from paritygate import __version__
from paritygate.cluster.configuration import load_settings
from paritygate.cluster.connection import connection
from paritygate.errors import ParityGateError, UsageError
from paritygate.handlers import logs
from paritygate.handlers.operator import Deposed, Identity, Operator

LOST: Final = 1
CANNOT: Final = 3
WRONG: Final = 64
_logger = logging.getLogger(__name__)


def run(config: Path, port: int) -> int:
    """Exit status: 0 told to stop, 1 the Lease was lost, 3 it cannot work in this cluster, 64 it was started wrongly.

    Raises:
        InvalidSettings: the configuration cannot be read or contradicts itself.
        UsageError: no cluster is known.
    """
    settings = load_settings(config)
    found = connection(os.environ)
    logs.configure()
    namespace = os.environ.get("POD_NAMESPACE", found.namespace)
    name = os.environ.get("POD_NAME") or f"{platform.node()}-{os.getpid()}"
    return asyncio.run(_run(Operator(settings, found, Identity(name, namespace, port=port))))


async def _run(operator: Operator) -> int:
    """From here on everything that is said is a line of the log."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await operator.run(stop)
    except Deposed as error:
        _logger.warning("%s", error)
        return LOST
    except UsageError as error:
        _logger.error("%s", error)  # noqa: TRY400 - the message says all
        return WRONG
    except ParityGateError as error:
        reason = getattr(error, "reason", type(error).__name__)
        _logger.error("%s", error, extra=logs.keys(reason=reason))  # noqa: TRY400 - the same
        return CANNOT
    except Exception:
        _logger.exception(
            "a defect in ParityGate %s; please report it", __version__, extra=logs.keys(reason="InternalError")
        )
        return CANNOT
    _logger.info("stopped as told")
    return 0
