"""Whether a file of Universal Binary JSON (https://ubjson.org) is whole, told without decoding it.

XGBoost believes the lengths that such a file states: of one that was cut off it reads on behind its end, and may take
all of the machine's memory before it fails.
"""

import itertools
import struct

_FIXED = {"Z": 0, "N": 0, "T": 0, "F": 0, "i": 1, "U": 1, "C": 1, "I": 2, "l": 4, "d": 4, "L": 8, "D": 8}
"""Bytes of a value, by its type."""
_LENGTHS = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q"}


def begins(path):
    """Whether a file begins as an object of UBJSON, and not as one of JSON or as something else."""
    with open(path, "rb") as file:
        head = file.read(2)
    return head[:1] == b"{" and head[1:] not in (b'"', b" ", b"\t", b"\r", b"\n")


def require_whole(path):
    """ValueError: the file ends before the object does that it begins with; with the byte where that shows."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        _behind(content, 1, _kind(content, 0))
    except RecursionError:
        raise ValueError("it is nested too deeply")


def _behind(content, at, kind):
    """Where the value of this type ends that begins at byte `at`."""
    if kind in _FIXED:
        return _within(content, at + _FIXED[kind])
    if kind in "SH":
        return _behind_text(content, at)
    if kind not in "[{":
        raise ValueError("byte %d is no type of UBJSON" % (at - 1))
    return _behind_container(content, at, kind == "{")


def _behind_container(content, at, named):
    common, count, at = _header(content, at)
    if common in _FIXED and not named:
        return _within(content, at + count * _FIXED[common])
    left = itertools.count() if count is None else range(count)
    for _ in left:
        if count is None and _kind(content, at) == ("}" if named else "]"):
            return at + 1
        if named:
            at = _behind_text(content, at)
        at = _behind(content, at, common) if common else _behind(content, at + 1, _kind(content, at))
    return at


def _header(content, at):
    """The type that all values of a container have, and how many there are, each None = not said; where they begin."""
    common, count = None, None
    if _kind(content, at) == "$":
        common = _kind(content, at + 1)
        at += 2
    if _kind(content, at) == "#":
        count, at = _length(content, at + 1)
    elif common is not None:
        raise ValueError("byte %d should say how many values there are" % at)
    return common, count, at


def _behind_text(content, at):
    length, at = _length(content, at)
    return _within(content, at + length)


def _length(content, at):
    """A length, and where what is so long begins."""
    layout = _LENGTHS.get(_kind(content, at))
    if layout is None:
        raise ValueError("byte %d should begin a length" % at)
    ends = _within(content, at + 1 + struct.calcsize(layout))
    length = struct.unpack_from(layout, content, at + 1)[0]
    if length < 0:
        raise ValueError("the length at byte %d is negative" % at)
    return length, ends


def _kind(content, at):
    _within(content, at + 1)
    return chr(content[at])


def _within(content, ends):
    if ends > len(content):
        raise ValueError("it ends at byte %d, in the middle of a value" % len(content))
    return ends
