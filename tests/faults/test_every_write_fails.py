"""Every write of a migration fails once, in each way in which a write can fail: it must come to the same end."""

import asyncio

import aiohttp
import pytest

from faults.points import Every, labels
from faults.proxy import CUT, HANG, KILL_AFTER, KILL_BEFORE, LOST, Fault
from faults.world import Crew, differences, in_thread, migrating, whole_migration
from paritygate.errors import ClusterError
from paritygate.handlers.operator import Deposed

pytestmark = pytest.mark.timeout(900)  # nine lives of a migration, with everything that goes wrong in them

SECONDS = 1.0
"""How long the operator waits for an answer here."""


def answer(status, **headers):
    return Fault(delivers=False, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


FAULTS = {
    "killed before": KILL_BEFORE,
    "killed after": KILL_AFTER,
    "the answer is lost": LOST,
    "the connection is cut": CUT,
    "no answer comes": HANG,
    "409": answer(409),
    "429": answer(429, Retry_After="1"),
    "500": answer(500),
    "503": answer(503),
}


def hasty(operator):
    """Waits little between tries: a reconcile of many writes fails many times in a row here."""
    operator._queue._spread = lambda: 0.02


def impatient(operator):
    hasty(operator)
    operator._client._timeout = aiohttp.ClientTimeout(total=SECONDS)


async def every_way(plane):
    found = {}
    async with migrating(plane) as world:
        namespace = await world.namespace()
        async with Crew(world, namespace) as crew:
            await whole_migration(world, namespace)
            await crew.rest()
            points, expected = labels(crew.writes), world.normalised(namespace)

        async def one(way, fault):
            space, every = await world.namespace(), Every(points, fault)
            async with Crew(world, space, every, prepare=impatient if fault is HANG else hasty) as crew:
                await whole_migration(world, space)
                await crew.rest()
            found[way] = every, world.normalised(space), crew

        await asyncio.gather(*(one(way, fault) for way, fault in FAULTS.items()))
    return points, expected, found


@pytest.fixture(scope="module")
def ends(control_plane, migrations):  # noqa: ARG001 - the server must know ModelMigration
    return in_thread(every_way(control_plane))


@pytest.mark.parametrize("way", FAULTS)
def test_every_write_fails_once_and_the_end_is_the_same(ends, way):
    points, expected, found = ends
    every, end, crew = found[way]
    assert differences(end, expected) == {}
    assert every.missed == {}
    assert every.struck > 0.6 * points.total()
    # Where this machine is slow, answers are late and the Lease is lost: the operator ends and is started again.
    assert [one for one in crew.crashes if not isinstance(one, Deposed | ClusterError)] == []
    assert len(crew.lives) == 1 + (every.struck if way.startswith("killed") else 0) + len(crew.crashes)
