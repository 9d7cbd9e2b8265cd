"""Liveness, readiness and metrics over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

OLDEST_KEY: Final = 900.0
"""Seconds that a key may wait or be worked on; a reconcile is bounded by request timeouts far below it."""


@dataclass(frozen=True)
class Pulse:
    """How the operator is."""

    leading: bool
    listed_ago: float | None
    """Seconds since everything was last listed; None = not yet."""
    longest_listing: float
    """Seconds after which a listing is overdue."""
    oldest_key: float

    def complaint(self) -> str | None:
        """Why the process should be started anew; None = it is well. One that does not lead has nothing to do."""
        if not self.leading:
            return None
        if self.listed_ago is not None and self.listed_ago > self.longest_listing:
            return f"everything was last listed {self.listed_ago:.0f} s ago"
        if self.oldest_key > OLDEST_KEY:
            return f"a migration waits since {self.oldest_key:.0f} s"
        return None


def application(pulse: Callable[[], Pulse], metrics: Callable[[], bytes]) -> web.Application:
    """`/livez`, `/readyz`, `/metrics`. That an answer comes proves that the event loop turns.

    Readiness does not ask for leadership: a rolling update would wait for ever for the second replica.
    """

    async def live(_: web.Request) -> web.Response:
        said = pulse().complaint()
        return web.Response(status=503 if said else 200, text=said or "ok")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="leading" if pulse().leading else "standing by")

    async def measured(_: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", measured)
    return app
