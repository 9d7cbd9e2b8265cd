"""Where models, datasets and other inputs lie, as `uri` says it."""

from __future__ import annotations

import re
from typing import Final

SEPARATOR: Final = "://"
IN_A_CLUSTER: Final = ("s3", "gs", "az", "https", "pvc")
"""Schemes that the pods of a Job can read."""
KNOWN: Final = r"^((file|pvc)://|(https|s3|gs|az)://[^/])"
"""How an address with a scheme begins; `file` is for one machine, and `CLAIM` says more of `pvc`."""
CLAIM: Final = r"^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]"
STEPS: Final = r"/[.][.]?(/|$)"
"""What a path inside a claim may not hold."""
HINT: Final = "use s3://, gs://, az://, https:// or pvc://claim/path"

CUT: Final = "what follows ? or # would not be read; use an address without them"


def scheme_of(uri: str) -> str | None:
    """The scheme; None = a path."""
    scheme, separator, _ = uri.partition(SEPARATOR)
    return scheme if separator else None


def is_known(uri: str) -> bool:
    """Whether it is a path, or of a scheme that is read on one machine or in a cluster."""
    return SEPARATOR not in uri or re.search(KNOWN, uri) is not None


def is_sound(uri: str) -> bool:
    """Whether an address of a claim names a claim and a path that stays inside it; True for all other addresses."""
    return not uri.startswith("pvc://") or (re.search(CLAIM, uri) is not None and re.search(STEPS, uri) is None)


def is_cut(uri: str) -> bool:
    """Whether an address has a query or a fragment, such as that of a signed link, which no store takes."""
    return scheme_of(uri) not in {None, "pvc"} and any(mark in uri for mark in "?#")


def in_claim(uri: str) -> tuple[str, str] | None:
    """Name of the claim and the path inside it; None = it lies elsewhere."""
    if scheme_of(uri) != "pvc":
        return None
    claim, _, path = uri.removeprefix("pvc://").partition("/")
    return claim, path
