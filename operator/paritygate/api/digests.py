"""Digests of JSON data. Digests of files and folders are in `paritygate.storage`."""

from __future__ import annotations

import hashlib
import json


def canonical_json(data: object) -> bytes:
    """One byte string per value: keys sorted, no spaces, UTF-8; NaN and infinities are refused (ValueError)."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(data: object) -> str:
    """`sha256:…` of the canonical JSON of `data`."""
    return digest_of_bytes(canonical_json(data))


def digest_of_bytes(content: bytes) -> str:
    """`sha256:…` of `content`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
