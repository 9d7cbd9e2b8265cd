"""Many migrations, and what the API server tells of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from control_plane import plane
from control_plane.client import condition, path_of

_CONNECTIONS = 16


@dataclass
class Fleet:
    """The migrations as the API server tells of them; times are of the monotonic clock."""

    http: aiohttp.ClientSession
    count: int
    observed: dict[tuple[str, str], float] = field(default_factory=dict)
    ready: dict[tuple[str, str], float] = field(default_factory=dict)
    stalled: dict[tuple[str, str], str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, version: str) -> None:
        """Reads the watch until cancelled."""
        query = {"watch": "true", "resourceVersion": version}
        async with self.http.get(path_of("ModelMigration"), params=query) as answer:
            rest = b""
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line)["object"])
                self.changed.set()
        raise RuntimeError("the watch of the benchmark ended")

    def _hear(self, item: Mapping[str, Any]) -> None:
        key, now = (item["metadata"]["namespace"], item["metadata"]["name"]), time.monotonic()
        if item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]:
            self.observed.setdefault(key, now)
        if condition(item, "Ready").get("status") == "True":
            self.ready.setdefault(key, now)
        if condition(item, "Stalled"):
            self.stalled[key] = condition(item, "Stalled")["message"]

    async def until(self, found: Mapping[Any, Any], seconds: float, operator: subprocess.Popen[bytes]) -> bool:
        """Whether all came into `found` in time."""
        ends = time.monotonic() + seconds
        while len(found) < self.count and time.monotonic() < ends:
            if operator.poll() is not None:
                raise SystemExit(f"the operator ended with status {operator.returncode}; see its log")
            if self.stalled:
                raise SystemExit(f"{len(self.stalled)} migrations are stalled: {next(iter(self.stalled.items()))}")
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 1.0)
        return len(found) == self.count


def migration(namespace: str, number: int) -> dict[str, Any]:
    """A manifest such as people write."""
    return {
        "apiVersion": "paritygate.dev/v1alpha1",
        "kind": "ModelMigration",
        "metadata": {"name": f"model-{number:05}", "namespace": namespace, "labels": {"team": namespace}},
        "spec": {
            "source": {"format": "SKLearn", "uri": f"s3://models/{namespace}/model-{number:05}.pkl"},
            "target": {"format": "ONNX"},
            "validation": {
                "dataset": {
                    "uri": f"s3://models/{namespace}/holdout-{number:05}.parquet", "label": "churned",
                    "slices": [{"column": "region"}],
                }
            },
            "storage": {"object": {"uri": "s3://artefacts/models", "secretName": "store"}},
            "serving": {"replicas": 1},
        },
    }  # fmt: skip


async def create(http: aiohttp.ClientSession, namespaces: list[str], count: int) -> str:
    """Creates the migrations; a resourceVersion from before the first."""
    async with http.get(path_of("ModelMigration"), params={"limit": "1"}) as answer:
        version = str((await answer.json())["metadata"]["resourceVersion"])
    waiting = iter(range(count))

    async def work() -> None:
        for number in waiting:
            namespace = namespaces[number % len(namespaces)]
            async with http.post(path_of("ModelMigration", namespace), json=migration(namespace, number)) as answer:
                if answer.status != 201:
                    raise SystemExit(f"a migration was refused: {await answer.text()}")

    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))
    return version


@contextlib.asynccontextmanager
async def connected(found: plane.ControlPlane) -> AsyncIterator[aiohttp.ClientSession]:
    """An administrator's connections for the benchmark itself."""
    context = ssl.create_default_context(cafile=str(found.authority))
    connector = aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS + 1)
    headers = {"Authorization": f"Bearer {found.token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(found.url, connector=connector, headers=headers, timeout=timeout) as http:
        yield http
