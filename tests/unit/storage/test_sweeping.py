"""Whatever comes and goes, no sweep takes what is kept, named or new, and in the end all else goes."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from paritygate.storage.sweeping import Shelf, Stored, unwanted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
digests = st.integers(0, 8).map(lambda number: f"sha256:{number}")
ages = st.integers(0, 96).map(lambda hours: NOW - timedelta(hours=hours))
receipts = st.lists(
    st.builds(Stored, st.uuids().map(str), ages, st.one_of(st.none(), digests)), max_size=8, unique_by=lambda r: r.name
)
artefacts = st.lists(st.builds(lambda d, w: Stored(d, w, d), digests, ages), max_size=8, unique_by=lambda a: a.name)


def left_by(shelf, gone):
    return Shelf(
        tuple(one for one in shelf.receipts if one.name not in gone.receipts),
        tuple(one for one in shelf.artefacts if one.name not in gone.artefacts),
    )


@given(receipts=receipts, artefacts=artefacts, kept=st.sets(digests))
def test_a_sweep_takes_what_nobody_wants_and_nothing_else(receipts, artefacts, kept):
    shelf = Shelf(tuple(receipts), tuple(artefacts))
    gone = unwanted(shelf, kept, NOW - DAY)
    named = {one.output for one in receipts}
    for one in artefacts:
        if one.name in gone.artefacts:
            assert one.name not in kept | named
            assert one.written < NOW - DAY
    for one in receipts:
        if one.name in gone.receipts:
            assert one.output not in kept
            assert one.written < NOW - DAY
    after = left_by(shelf, gone)
    left = {one.name for one in after.artefacts}
    for one in after.receipts:
        assert one.output in left or one.output not in {a.name for a in artefacts}, "a receipt outlived its artefact"


@given(receipts=receipts, artefacts=artefacts, kept=st.sets(digests))
def test_two_sweeps_leave_only_what_is_kept_or_new(receipts, artefacts, kept):
    shelf = Shelf(tuple(receipts), tuple(artefacts))
    later = NOW + DAY + timedelta(seconds=1)
    for _ in range(2):
        shelf = left_by(shelf, unwanted(shelf, kept, later))
    assert {one.name for one in shelf.artefacts} == kept & {one.name for one in artefacts}
    assert unwanted(shelf, kept, later) == unwanted(Shelf((), ()), kept, later)
