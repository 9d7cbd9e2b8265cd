"""Every write of a migration fails once, in each way in which a write can fail: it must come to the same end."""

import aiohttp
import pytest

from faults.crew import Crew
from faults.points import Every, labels
from faults.proxy import CUT, HANG, KILL_AFTER, KILL_BEFORE, LOST, Fault
from faults.world import differences, in_thread, migrating, together, whole_migration
from paritygate.errors import ClusterError
from paritygate.handlers.operator import Deposed

pytestmark = pytest.mark.timeout(900)  # ten lives of a migration, with everything that goes wrong in them

SECONDS = 1.0
"""How long the operator waits for an answer here."""


def answer(status, message="as a test says", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return Fault(delivers=False, status=status, headers=headers, message=message)


FAULTS = {
    "killed before": KILL_BEFORE,
    "killed after": KILL_AFTER,
    "the answer is lost": LOST,
    "the connection is cut": CUT,
    "no answer comes": HANG,
    "403": answer(403, 'it is forbidden: User "operator" cannot do resource "this" in the namespace "here"'),
    "409": answer(409),
    "429": answer(429, Retry_After="1"),
    "500": answer(500),
    "503": answer(503),
}


def hasty(operator):
    """Waits little between tries: a reconcile of many writes fails many times in a row here."""
    operator._queue._spread = lambda: 0.02


def persistent(operator):
    """Does not wait a minute until somebody gave back what was taken away."""
    hasty(operator)
    operator._reconciler._look_again = 0.2


def impatient(operator):
    hasty(operator)
    operator._client._timeout = aiohttp.ClientTimeout(total=SECONDS)


UNTRUE = {"403", "409"}
"""What the operator says of its rights is news of its own; that an event is there already, it believes."""
PREPARED = {"no answer comes": impatient, "403": persistent}


async def every_way(plane):
    found = {}
    async with migrating(plane) as world:
        namespace = await world.namespace()
        async with Crew(world, namespace) as crew:
            await whole_migration(world, namespace)
            await crew.rest()
            points, expected = labels(crew.writes), world.normalised(namespace)
            told = await world.told(namespace)

        async def one(way, fault):
            space, every = await world.namespace(), Every(points, fault)
            async with Crew(world, space, every, prepare=PREPARED.get(way, hasty)) as crew:
                await whole_migration(world, space)
                await crew.rest()
            found[way] = every, world.normalised(space), crew, await world.told(space)

        await together(*(one(way, fault) for way, fault in FAULTS.items()))
    return points, expected, told, found


@pytest.fixture(scope="module")
def ends(control_plane, migrations):  # noqa: ARG001 - the server must know ModelMigration
    return in_thread(every_way(control_plane))


@pytest.mark.parametrize("way", FAULTS)
def test_every_write_fails_once_and_the_end_is_the_same(ends, way):
    points, expected, _, found = ends
    every, end, crew, _ = found[way]
    assert differences(end, expected) == {}
    assert every.missed == {}
    assert every.struck > 0.6 * points.total()
    # Where this machine is slow, answers are late and the Lease is lost: the operator ends and is started again.
    assert [one for one in crew.crashes if not isinstance(one, Deposed | ClusterError)] == []
    assert len(crew.lives) == 1 + (every.struck if way.startswith("killed") else 0) + len(crew.crashes)


@pytest.mark.parametrize("way", [way for way in FAULTS if way not in UNTRUE])
def test_what_it_came_to_is_told_once_whatever_fails(ends, way):
    _, _, told, found = ends
    assert told == {"Promoted": 2}
    assert found[way][3] == told


def test_a_right_that_is_missing_is_told_and_waited_for(ends):
    *_, found = ends
    _, _, crew, told = found["403"]
    assert "PATCH modelmigrations/status RightsMissing" in labels(crew.writes)
    assert told["RightsMissing"] > 1
