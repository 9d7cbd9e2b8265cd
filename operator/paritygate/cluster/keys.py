"""Names of what the operator reconciles."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """A namespaced migration. It names the place and not the object: one may be deleted and made anew under it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
