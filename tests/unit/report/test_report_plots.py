"""Pictures: what is marked, and that empty or infinite data draw something readable."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest

from paritygate.api.report import Histogram, Measurement, Scatter
from paritygate.report import plots


def measured(**fields: float | None) -> Measurement:
    return Measurement(subject="y", statistic="flip rate", rows=100, blocking=True, **fields)


def elements(svg: str, name: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if e.attrib.get("class") == name]  # noqa: S314 - our own


def coordinates(svg: str) -> list[float]:
    return [float(v) for v in re.findall(r'(?:x|y|x1|x2|y1|y2|cx|cy|width|height)="(-?[\d.]+)"', svg)]


def test_the_limit_stands_at_two_thirds_of_the_bar() -> None:
    svg = plots.bullet(measured(measured=0.005, lower=0.0, upper=0.02, limit=0.01))
    track, limit, dot = (elements(svg, name)[0].attrib for name in ("track", "limit", "dot"))
    begin, width = float(track["x"]), float(track["width"])
    assert float(limit["x1"]) == pytest.approx(begin + width * 2 / 3, abs=0.1)
    assert float(dot["cx"]) == pytest.approx(begin + width / 3, abs=0.1)


def test_a_value_off_the_scale_is_an_arrow_inside_the_picture() -> None:
    for value in (97_600.0, math.inf, math.nan):
        svg = plots.bullet(measured(measured=value, limit=1.0))
        assert elements(svg, "dot")[0].tag == "path"
        assert all(0 <= v <= plots.BULLET_WIDTH for v in coordinates(svg))


def test_a_gain_lies_left_of_zero() -> None:
    svg = plots.bullet(measured(measured=-0.002, lower=-0.004, upper=0.0, limit=0.005))
    limit, dot = elements(svg, "limit")[0], elements(svg, "dot")[0]
    assert float(dot.attrib["cx"]) < float(limit.attrib["x1"])


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_limit_of_zero_draws(value: float) -> None:
    svg = plots.bullet(measured(measured=value, limit=0.0))
    assert len(elements(svg, "dot")) == 1
    assert (elements(svg, "dot")[0].tag == "circle") is (value == 0.0)


def test_nothing_is_drawn_without_a_limit_or_a_number() -> None:
    assert plots.bullet(measured(measured=1.0)) == ""
    assert plots.bullet(measured(limit=1.0)) == ""
    assert plots.bullet(measured(measured=1.0, limit=math.nan)) == ""


def test_bars_beyond_the_limit_are_hatched_and_counted() -> None:
    histogram = Histogram(output="y", edges=(0.01, 0.1, 1.0, 10.0, 100.0), counts=(5, 4, 3, 0), zeros=2)
    svg = plots.error_histogram(histogram)
    assert len(elements(svg, "over")) == 1
    assert len(elements(svg, "bar")) == 3, "two bins and the rows without error"
    assert "3 of 14 rows beyond the limit" in svg
    assert all(0 <= v <= plots.WIDTH for v in coordinates(svg))


def test_a_single_row_is_visible_among_a_million() -> None:
    histogram = Histogram(output="y", edges=(0.1, 1.0, 10.0), counts=(1_000_000, 1), zeros=0)
    assert float(elements(plots.error_histogram(histogram), "over")[0].attrib["height"]) > 5


def test_bins_without_end_are_drawn_within_the_picture() -> None:
    svg = plots.error_histogram(Histogram(output="y", edges=(0.0, 1.0, math.inf), counts=(5, 2), zeros=0))
    assert all(0 <= v <= plots.WIDTH for v in coordinates(svg))
    assert len(elements(svg, "over")) == 1


@pytest.mark.parametrize(
    "histogram",
    [
        Histogram(output="y", edges=(), counts=(), zeros=0),
        Histogram(output="y", edges=(1.0, 10.0), counts=(0,), zeros=0),
        Histogram(output="y", edges=(1.0,), counts=(3,), zeros=0),
    ],
)
def test_a_histogram_of_nothing_says_so(histogram: Histogram) -> None:
    assert "No row was compared" in plots.error_histogram(histogram)


def test_rows_without_any_error_alone_are_drawn() -> None:
    svg = plots.error_histogram(Histogram(output="y", edges=(0.1, 1.0, 10.0), counts=(0, 0), zeros=500))
    assert len(elements(svg, "bar")) == 1


def test_flips_are_crosses_and_thresholds_are_lines() -> None:
    scatter = Scatter(
        subject="p", reference=(0.1, 0.6, 0.9), candidate=(0.1, 0.4, 0.9), flipped=(False, True, False), threshold=0.5
    )
    svg = plots.flip_scatter(scatter)
    assert elements(svg, "kept")[0].attrib["d"].count("M") == 2
    assert elements(svg, "flip")[0].attrib["d"].count("M") == 1
    assert len(elements(svg, "limit dashed")) == 2
    assert "threshold 0.5" in svg
    assert "1 flips among 3 points" not in svg
    assert "1 flip among 3 points" in svg


def test_points_that_are_not_finite_are_left_out() -> None:
    scatter = Scatter(subject="p", reference=(math.nan, 1.0), candidate=(1.0, 1.0), flipped=(True, False))
    svg = plots.flip_scatter(scatter)
    assert "0 flips among 1 point" in svg
    assert "nan" not in svg


def test_equal_values_still_make_an_axis() -> None:
    for value in (0.0, 5.0, -3.0, 1e-12, 1e12):
        scatter = Scatter(subject="p", reference=(value,), candidate=(value,), flipped=(False,))
        assert all(math.isfinite(v) for v in coordinates(plots.flip_scatter(scatter)))


def test_a_scatter_of_nothing_says_so() -> None:
    assert "No row was compared" in plots.flip_scatter(Scatter(subject="p", reference=(), candidate=(), flipped=()))
