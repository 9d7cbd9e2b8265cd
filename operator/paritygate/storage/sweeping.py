"""What may be removed from the store of one migration.

Only one Job of a migration works in its store at a time, but for one that is being stopped beside the one that takes
its place. That one may have found an old receipt a moment ago. Hence two steps: a sweep removes receipts, and artefacts
only where no receipt named them when it began; what lost its receipt now is removed by the sweep of a later Job, whose
order then says whether it is wanted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Stored:
    """A receipt, or an artefact."""

    name: str
    written: datetime
    output: str | None
    """Digest of the artefact that it is or names; None = it cannot be read."""


@dataclass(frozen=True)
class Shelf:
    """Everything in a store, as listed at one time: artefacts after receipts, so that none seems to lack its own."""

    receipts: tuple[Stored, ...]
    artefacts: tuple[Stored, ...]


@dataclass(frozen=True)
class Unwanted:
    """Names of what goes, in this order."""

    receipts: tuple[str, ...]
    artefacts: tuple[str, ...]


def unwanted(shelf: Shelf, kept: Collection[str], before: datetime) -> Unwanted:
    """What goes: last written before a moment, not kept, and of artefacts only what no receipt names.

    Args:
        shelf: what is there.
        kept: digests of artefacts.
        before: what is younger may belong to work at hand.
    """
    named = {one.output for one in shelf.receipts}
    return Unwanted(
        tuple(one.name for one in shelf.receipts if one.output not in kept and one.written < before),
        tuple(
            one.name
            for one in shelf.artefacts
            if one.output not in kept and one.output not in named and one.written < before
        ),
    )
