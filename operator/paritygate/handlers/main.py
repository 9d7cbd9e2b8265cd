"""`paritygate operator`: starts one replica, and ends it when told to or when another leads."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
from pathlib import Path

from paritygate.cluster.connection import connection
from paritygate.cluster.settings import load_settings
from paritygate.handlers import logs
from paritygate.handlers.operator import Deposed, Identity, Operator

LOST = 1
_logger = logging.getLogger(__name__)


def run(config: Path, port: int) -> int:
    """Exit status: 0 told to stop, 1 the Lease was lost. InvalidSettings, UsageError: it cannot start."""
    settings = load_settings(config)
    found = connection(os.environ)
    logs.configure()
    namespace = os.environ.get("POD_NAMESPACE", found.namespace)
    name = os.environ.get("POD_NAME") or f"{platform.node()}-{os.getpid()}"
    return asyncio.run(_run(Operator(settings, found, Identity(name, namespace, port=port))))


async def _run(operator: Operator) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await operator.run(stop)
    except Deposed as error:
        _logger.warning("%s", error)
        return LOST
    return 0
