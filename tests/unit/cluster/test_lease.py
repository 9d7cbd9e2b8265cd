"""Who leads, on clocks that a test moves."""

import asyncio
from datetime import UTC, datetime

import pytest

from paritygate.cluster.lease import DURATION, RENEW_DEADLINE, Lease
from paritygate.errors import Conflict, Missing, Unavailable


class Server:
    """One Lease, with versions; may be unreachable."""

    def __init__(self):
        self.lease, self.version, self.away = None, 0, False

    async def get(self, *_):
        if self.away:
            raise Unavailable("away")
        if self.lease is None:
            raise Missing("none")
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(self.lease)}

    async def create(self, _, body):
        if self.lease is not None:
            raise Conflict("there")
        self.version, self.lease = 1, body["spec"]

    async def replace(self, _, body):
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict("newer")
        self.version, self.lease = self.version + 1, body["spec"]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return {"now": 100.0}


@pytest.fixture
def replica(server, clock):
    def make(name):
        return Lease(server, "ns", "lease", name, lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: clock["now"])

    return make


def tried(lease):
    return asyncio.run(lease._try())


def test_one_of_two_leads(replica):
    one, two = replica("one"), replica("two")
    assert tried(one)
    assert not tried(two)
    assert (one.leading, two.leading) == (True, False)


def test_a_leader_that_cannot_renew_stops_before_another_may_begin(replica, server, clock):
    one, two = replica("one"), replica("two")
    tried(one)
    tried(two)
    server.away = True
    clock["now"] += RENEW_DEADLINE
    assert not tried(one)
    assert not one.leading
    server.away = False
    assert not tried(two)
    clock["now"] += DURATION - RENEW_DEADLINE
    assert tried(two)
    assert two.leading
    assert not tried(one)


def test_a_deposed_leader_knows_at_once(replica, server):
    one = replica("one")
    tried(one)
    server.lease["holderIdentity"] = "two"
    tried(one)
    assert not one.leading


def test_a_lease_that_was_given_up_is_taken_at_once(replica):
    one, two = replica("one"), replica("two")
    tried(one)
    asyncio.run(one.give_up())
    assert not one.leading
    assert tried(two)
