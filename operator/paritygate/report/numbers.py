"""Numbers as people read them: three significant digits, thousands separators, percent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from paritygate.api.report import Measurement

DASH = "–"
_LARGEST_PLAIN = 1e6
_SMALLEST_PLAIN = 1e-3
_EXACT_DIGITS = 17
_LONGEST_LIST = 12


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits; counts below a million in full; a dash for None."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else _signed("∞", value)
    if value == 0:
        return "0"
    size = abs(value)
    if float(value).is_integer() and size < _LARGEST_PLAIN:
        return _signed(f"{size:,.0f}", value)
    rounded = float(f"{size:.{digits - 1}e}")
    if not _SMALLEST_PLAIN <= rounded < _LARGEST_PLAIN:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        return _signed(f"{_trimmed(mantissa)}e{int(exponent)}", value)
    decimals = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return _signed(_trimmed(f"{rounded:,.{decimals}f}"), value)


def percent(value: float | None, digits: int = 3) -> str:
    """A share as a percentage: 0.0123 → '1.23%'."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{number(value * 100, digits)}%"


def count(value: int, noun: str) -> str:
    """'1 row', '2,000 rows'."""
    return f"{value:,} {noun if value == 1 else noun + 's'}"


def is_share(measurement: Measurement) -> bool:
    """Whether the number is a share of rows, best read as a percentage."""
    words = re.findall(r"\w+", measurement.statistic.lower())
    return "rate" in words or "share" in words


def quantity(measurement: Measurement, value: float | None) -> str:
    """`value` in the terms of `measurement`: percent for shares of rows, a plain number otherwise."""
    return percent(value) if is_share(measurement) else number(value)


def bounds(measurement: Measurement) -> str:
    """'0 to 0.15%', or nothing for an exact number."""
    if measurement.lower is None or measurement.upper is None:
        return ""
    return f"{quantity(measurement, measurement.lower)} to {quantity(measurement, measurement.upper)}"


def answer(value: object, digits: int = 3) -> str:
    """A model's answer, or an input, on one line; long lists are cut."""
    match value:
        case None:
            text = "missing"
        case bool():
            text = "true" if value else "false"
        case int():
            text = f"{value:,}" if abs(value) >= _LARGEST_PLAIN else str(value)
        case float():
            text = number(value, digits)
        case str():
            text = {"": "“”", "Infinity": "∞", "-Infinity": "−∞"}.get(value, value)
        case Mapping():
            text = " · ".join(f"{key} {answer(part, digits)}" for key, part in value.items())
        case Sequence():
            parts = [answer(part, digits) for part in value[:_LONGEST_LIST]]
            parts += [f"… {len(value) - _LONGEST_LIST:,} more"] if len(value) > _LONGEST_LIST else []
            text = f"[{', '.join(parts)}]"
        case _:
            text = str(value)
    return text


def answers(reference: object, candidate: object) -> tuple[str, str]:
    """Both answers with as many digits as it takes to tell them apart, or as few as three if they are equal."""
    if reference != candidate:
        for digits in range(3, _EXACT_DIGITS + 1):
            pair = answer(reference, digits), answer(candidate, digits)
            if pair[0] != pair[1]:
                return pair
    return answer(reference), answer(candidate)


def _signed(text: str, value: float) -> str:
    return f"−{text}" if value < 0 else text


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
