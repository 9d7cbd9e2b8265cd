"""Who leads: a Lease that one replica holds and renews, with the times of client-go.

https://pkg.go.dev/k8s.io/client-go/tools/leaderelection: a lease is taken over when nobody was seen to renew it for
its duration *by our own clock*, so that clocks need not agree. The holder stops writing before others may begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from paritygate.cluster.client import LEASES, Client, Object
from paritygate.errors import ClusterError, Conflict, Missing

DURATION: Final = 15.0
RENEW_DEADLINE: Final = 10.0
RETRY: Final = 2.0


class Lease:
    """One replica's view of the Lease.

    Args:
        client: to read and write it with.
        namespace: where it is.
        name: of it.
        identity: of this replica, unlike that of any other.
        now: the time, for people who read the Lease.
        monotonic: seconds that never go back.
        failed: told of requests that failed; they are made again.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - each is independent of the others
        self, client: Client, namespace: str, name: str, identity: str,
        now: Callable[[], datetime], monotonic: Callable[[], float],
        failed: Callable[[ClusterError], None] = lambda _error: None,
    ) -> None:  # fmt: skip
        self._client, self._namespace, self._name, self._identity = client, namespace, name, identity
        self._now, self._monotonic, self._failed = now, monotonic, failed
        self._renewed: float | None = None
        self._seen: tuple[str, float] | None = None

    @property
    def leading(self) -> bool:
        """Whether we may write: renewed less than the deadline ago."""
        return self._renewed is not None and self._monotonic() - self._renewed < RENEW_DEADLINE

    async def acquire(self) -> None:
        """Returns once we lead."""
        while not await self._try():  # noqa: ASYNC110 - nothing tells us of a Lease that runs out
            await asyncio.sleep(RETRY)

    async def keep(self) -> None:
        """Renews; returns when the Lease is lost, and then for good."""
        while self.leading:
            await asyncio.sleep(RETRY)
            if not await self._try() and self._renewed is None:
                return
        self._renewed = None

    async def give_up(self) -> None:
        """Lets another replica take over at once."""
        self._renewed = None
        try:
            there = await self._client.get(LEASES, self._namespace, self._name)
            if there["spec"].get("holderIdentity") == self._identity:
                there["spec"]["holderIdentity"] = ""
                await self._client.replace(LEASES, there)
        except ClusterError:
            return  # it runs out by itself

    async def _try(self) -> bool:
        began = self._monotonic()
        try:
            there = await self._client.get(LEASES, self._namespace, self._name)
        except Missing:
            return await self._written(None, began)
        except ClusterError as error:
            self._failed(error)
            return False
        holder = there["spec"].get("holderIdentity")
        if holder == self._identity:
            return await self._written(there, began)
        self._renewed = None  # somebody else holds it: whatever we believed is over
        version = there["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, began)
        lapsed = began - self._seen[1] >= float(there["spec"].get("leaseDurationSeconds", DURATION))
        return await self._written(there, began) if lapsed or not holder else False

    async def _written(self, there: Object | None, began: float) -> bool:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = there["spec"] if there else {}
        same = before.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "acquireTime": before.get("acquireTime", stamp) if same else stamp,
            "renewTime": stamp,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if same or there is None else 1),
        }
        try:
            if there is None:
                metadata = {"namespace": self._namespace, "name": self._name}
                body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
                await self._client.create(LEASES, body)
            else:
                await self._client.replace(LEASES, {**there, "spec": spec})
        except Conflict:
            return False
        except ClusterError as error:
            self._failed(error)
            return False  # whether it was written is not known; the next try reads it
        self._renewed = began
        return True
