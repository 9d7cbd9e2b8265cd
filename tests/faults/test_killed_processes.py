"""`paritygate operator` as a process, which SIGKILL ends at every write of a migration: nobody is asked to clean up."""

import signal
from collections import Counter

import pytest

from faults.crew import Crew, ProcessCrew
from faults.points import Every, labels
from faults.proxy import KILL_AFTER, KILL_BEFORE
from faults.world import differences, first_migration, in_thread, migrating, together
from paritygate.handlers.operator import Deposed

pytestmark = pytest.mark.timeout(600)

SECONDS = 400
"""A process starts in two seconds or so, fifteen times, where nothing else runs here."""
WAYS = {"before": KILL_BEFORE, "after": KILL_AFTER}


async def killed(plane, folder):
    found = {}
    async with migrating(plane) as world:
        namespace = await world.namespace()
        async with Crew(world, namespace) as crew:
            await first_migration(world, namespace)
            await crew.rest()
            points, expected = labels(crew.writes), world.normalised(namespace)

        async def one(way, fault):
            space, every = await world.namespace(), Every(points, fault)
            async with ProcessCrew(folder, world, space, every) as crew:
                await first_migration(world, space, seconds=SECONDS)
                await crew.rest()
            found[way] = every, world.normalised(space), crew, await world.told(space)

        await together(*(one(way, fault) for way, fault in WAYS.items()))
    return points, expected, found


@pytest.fixture(scope="module")
def ends(control_plane, migrations, tmp_path_factory):  # noqa: ARG001 - the server must know ModelMigration
    return in_thread(killed(control_plane, tmp_path_factory.mktemp("processes")))


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_is_killed_at_every_write_comes_to_the_same_end(ends, way):
    points, expected, found = ends
    every, end, crew, told = found[way]
    assert differences(end, expected) == {}
    assert every.missed == {}
    assert every.struck > 0.6 * points.total()
    assert told == {"Promoted": 1}
    # Where this machine is slow, answers are late and the Lease is lost: the operator ends and is started again.
    assert [one for one in crew.crashes if not isinstance(one, Deposed)] == []
    ended = Counter(crew.ends)
    assert ended[-signal.SIGKILL] == every.struck
    assert len(crew.lives) == 1 + every.struck + len(crew.crashes)
    assert crew.ends[-1] == 0  # told to stop, it does
