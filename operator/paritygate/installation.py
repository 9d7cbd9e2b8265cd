"""What is installed beside us, as far as results of stages depend on it. docs/explanation/digests.md says why so.

Read from the packages' own metadata, so that a virtual environment and an image with the same packages are the same.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, distributions
from typing import Final

from paritygate.agent.environment import fields_of
from paritygate.api.digests import digest_of
from paritygate.api.spec import SourceFormat

_US: Final = "paritygate"
_BOOSTERS: Final = ("worker", "sklearn", "boosting")
_TORCH: Final = ("worker", "torch")
EXTRAS: Final = {
    SourceFormat.SKLEARN: _BOOSTERS,  # pipelines hold estimators of all three
    SourceFormat.XGBOOST: _BOOSTERS,
    SourceFormat.LIGHTGBM: _BOOSTERS,
    SourceFormat.PYTORCH: _TORCH,
    SourceFormat.TORCHSCRIPT: _TORCH,
    SourceFormat.TORCHEXPORT: _TORCH,
    SourceFormat.ONNX: ("worker", "server"),
}
"""Our extras that stages of a format run with; a format that is not listed runs with all."""

_INSTALLERS: Final = frozenset({"pip", "setuptools", "wheel"})
_REQUIREMENT: Final = re.compile(r"\s*(?P<name>[A-Za-z0-9._-]+)\s*(\[(?P<extras>[^\]]*)\])?")
_MARKED_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def converter_digest(source_format: SourceFormat) -> str:
    """Digest of the environment in which candidates of a format are made and judged.

    Of Python, the machine's architecture, and the versions of what the format's extras need, directly or not.
    """
    return _digest(_needed_by(source_format))


def source_digest(source_format: SourceFormat) -> str:
    """Digest of this interpreter as the environment of a source: like `converter_digest`, and all foreign packages.

    A source's own code may import anything; what none of our extras needs may therefore change its answers.
    """
    known = _reachable(("all",))
    foreign = {name: version for name, version in _installed() if name not in known and name not in _INSTALLERS}
    return _digest({**foreign, **_needed_by(source_format)})


def _needed_by(source_format: SourceFormat) -> Mapping[str, str]:
    return _reachable(EXTRAS.get(source_format, ("all",)))


def _digest(packages: Mapping[str, str]) -> str:
    return digest_of({"python": platform.python_version(), "machine": platform.machine(), "packages": dict(packages)})


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    return tuple((_normal(fields["Name"] or ""), fields["Version"]) for fields in map(fields_of, distributions()))


@cache  # what is installed does not change under a running process
def _reachable(extras: tuple[str, ...]) -> Mapping[str, str]:
    """Name → version of ourselves and of every installed package that our `extras` need, directly or not."""
    seen: set[tuple[str, str]] = set()
    found: dict[str, str] = {}
    waiting = [(_US, ""), *((_US, extra) for extra in extras)]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        name, extra = one
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # meant for another platform, or an extra that is not installed
        fields = fields_of(package)
        found[name] = fields["Version"]
        for line in fields.get_all("Requires-Dist") or package.requires or ():
            waiting.extend(_needed(line, extra))
    return found


def _needed(requirement: str, extra: str) -> list[tuple[str, str]]:
    """The packages, each with an extra or "", that a line of metadata asks for where `extra` is wanted."""
    specified, _, marker = requirement.partition(";")
    marked = _MARKED_EXTRA.search(marker)
    if marked and marked[1] != extra:
        return []
    match = _REQUIREMENT.match(specified)
    if match is None:
        return []
    name = _normal(match["name"])
    extras = [each.strip() for each in (match["extras"] or "").split(",") if each.strip()]
    return [(name, ""), *((name, each) for each in extras)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
