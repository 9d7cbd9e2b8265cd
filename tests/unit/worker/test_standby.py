"""What a worker imports before it is told its work is there; while it stands by, nobody hears of what is not."""

from __future__ import annotations

import importlib.util

import pytest

from paritygate.api.spec import SourceFormat
from paritygate.worker import standby


def test_every_format_is_prepared_for() -> None:
    assert set(standby._FORMATS) == set(SourceFormat)


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=[pytest.mark.torch] if module in standby._TORCH else [])
        for module in dict.fromkeys(
            module for modules in (*standby._STAGES.values(), *standby._FORMATS.values()) for module in modules
        )
    ],
)
def test_what_is_imported_ahead_of_time_is_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None
