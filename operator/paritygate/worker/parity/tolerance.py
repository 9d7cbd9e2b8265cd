"""Tolerances τ, and errors in their unit.

τ of an element is the larger of `atol · scale + rtol · max(|reference|, scale)` and ten times the source's own noise,
the latter up to a hundred times the default of the column. Noise counts by column where it was measured by column:
a column of large numbers does not excuse errors in one of small numbers.
rtol and atol are the defaults of the coarser of the source's and the wire's dtype, as in torch.testing.assert_close
(https://pytorch.org/docs/stable/testing.html). `scale` is the median magnitude of the element's last-axis column, so
that a column of small numbers is not judged by the tolerance of a column of large ones. For probabilities the scale
is at least 1 / classes: rare classes are judged by their logarithms as well. Tolerances that the user states count
literally, as atol + rtol · |reference|; where only one of them is stated, the other keeps its default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import Noise
from paritygate.api.base import decimal
from paritygate.api.report import OutputRole, OutputSignature
from paritygate.api.spec import Datatype, Numeric
from paritygate.worker.parity.columns import flat, is_numeric, is_ragged

Array = npt.NDArray[Any]
NOISE_FACTOR: Final = 10.0
_DEFAULTS: Final[dict[str, tuple[float, float, float]]] = {
    "FP64": (1e-7, 1e-7, 2.0**-53),
    "FP32": (1.3e-6, 1e-5, 2.0**-24),
    "FP16": (1e-3, 1e-5, 2.0**-11),
    "BF16": (1.6e-2, 1e-5, 2.0**-8),
}
"""Datatype → rtol, atol, unit roundoff; finest first."""
_OF_DTYPE: Final = {"float64": "FP64", "float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}
_CHUNK: Final = 1 << 22
"""Elements compared at a time: bounds memory for large tensors."""
_SCALE_LINES: Final = 100_000
"""Lines from which medians are taken, evenly spread."""
_LOG_RESOLUTION: Final = 8.0
"""Probabilities below so many unit roundoffs are 0 to the arithmetic that made them."""


@dataclass(frozen=True)
class Tolerance:
    """τ of one output."""

    rtol: float
    atol: float
    scale: Array
    """(columns,) magnitude by which atol counts; ones where the user states atol."""
    rounding: float
    """Unit roundoff of the coarser datatype."""
    floor: Array | float = 0.0
    """Ten times the noise of the source, in the output's unit, by column; 0 where it does not count."""
    noise: float = 0.0
    """The source's noise, p99.9, in the output's unit."""
    share: Array | float = 1.0
    """Noise of each column, as a share of that of all."""
    stated: bool = False
    """Whether the user states it."""
    noisy: bool = False
    """Whether the noise is too large to count, or the source answers at random."""

    def of(self, reference: Array) -> Array:
        """τ of each element of `reference`, (…, columns) float64."""
        with np.errstate(all="ignore"):
            magnitude = np.abs(reference)
            if not self.stated:
                magnitude = np.maximum(magnitude, self.scale)
            return np.maximum(self.atol * self.scale + self.rtol * magnitude, self.floor)

    def with_noise(self, noise: float) -> Tolerance:
        """With ten times `noise`, in the output's unit, as the least that is allowed, up to 100 times the default.

        `noise` is that of the noisiest column; the others get their share of it. A tolerance that the user states, or
        that a noisy source must not widen, stays as it is.
        """
        if self.stated or self.noisy:
            return self
        most = NOISE_FACTOR**2 * (self.rtol + self.atol) * self.scale
        return replace(self, floor=np.maximum(self.floor, np.minimum(NOISE_FACTOR * noise * self.share, most)))

    @property
    def typical(self) -> float:
        """τ of an element of median magnitude in the median column."""
        return float(np.median(self._by_column))

    @property
    def smallest(self) -> float:
        """τ of an element of median magnitude in the column with the smallest."""
        return float(self._by_column.min())

    @property
    def _by_column(self) -> Array:
        """(columns,) τ of an element of median magnitude; one column where there is none."""
        scale = self.scale if self.scale.size else np.ones(1)
        return np.maximum((self.atol + self.rtol) * scale, self.floor if self.scale.size else 0.0)


@dataclass(frozen=True)
class RowErrors:
    """Errors of each row."""

    absolute: Array
    """(rows,) largest absolute difference; infinite where NaN or infinities stand in different places."""
    ratio: Array
    """(rows,) largest error / τ."""
    column: Array
    """(rows,) last-axis column of the largest ratio."""
    misplaced: Array
    """(rows,) bool: NaN or infinities in different places."""
    compared: Array
    """(rows,) bool: rows that hold at least one finite number of the source."""


def tolerance_of(
    output: OutputSignature, reference: Array, source_dtype: str | None, noise: Noise | None, stated: Numeric
) -> Tolerance | None:
    """τ of `output`; None where its values are not floating-point and compare exactly."""
    if not is_numeric(reference) or (output.datatype not in _DEFAULTS and _kind(reference) != "f"):
        return None
    coarser = _coarser(output.datatype, source_dtype)
    rtol, atol, rounding = _DEFAULTS[coarser]
    own = next((entry for entry in stated.outputs if entry.name == output.name), None)
    user_rtol = own.rtol if own and own.rtol is not None else stated.rtol
    user_atol = own.atol if own and own.atol is not None else stated.atol
    scale = _scale(output, reference)
    measured = noise.floor if noise is not None else 0.0
    if user_rtol is not None or user_atol is not None:
        return Tolerance(
            rtol=rtol if user_rtol is None else decimal(user_rtol),
            atol=atol if user_atol is None else decimal(user_atol),
            # Stating rtol alone must not bring an absolute tolerance of 1e-5 to numbers of 1e-5.
            scale=scale if user_atol is None else np.ones_like(scale),
            rounding=rounding,
            noise=measured,
            stated=True,
        )
    default = Tolerance(rtol=rtol, atol=atol, scale=scale, rounding=rounding, noise=measured)
    noisy = noise is not None and (noise.stochastic or not measured <= NOISE_FACTOR * default.typical)
    if noisy:
        return replace(default, noisy=True)
    return replace(default, share=_share(noise, scale)).with_noise(measured)


def row_errors(reference: Array, candidate: Array, tolerance: Tolerance) -> RowErrors:
    """Error of each row against τ. NaN and infinities are compared by place before anything is subtracted."""
    return _by_row(reference, candidate, lambda r, c: _element_errors(r, c, tolerance.of(r)))


def log_errors(reference: Array, candidate: Array, tolerance: Tolerance) -> RowErrors:
    """Error of each row's log-probabilities, so that rare classes count.

    Probabilities that are rounded, or made by subtraction from 1, hold an absolute error of a few roundoffs whatever
    their size; so much is allowed: τ = atol + rtol · |log p| + (8 roundoffs + floor) / p.
    """
    resolution = _LOG_RESOLUTION * tolerance.rounding

    def errors(r: Array, c: Array) -> tuple[Array, Array, Array]:
        with np.errstate(all="ignore"):
            left, right = np.log(np.maximum(r, resolution)), np.log(np.maximum(c, resolution))
            allowed = tolerance.atol + tolerance.rtol * np.abs(left)
            allowed += (resolution + tolerance.floor) / np.maximum(r, resolution)
        return _element_errors(left, right, allowed)

    return _by_row(reference, candidate, errors)


def _element_errors(reference: Array, candidate: Array, allowed: Array) -> tuple[Array, Array, Array]:
    with np.errstate(all="ignore"):
        same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
        misplaced = ~same & ~(np.isfinite(reference) & np.isfinite(candidate))
        absolute = np.abs(reference - candidate)
        ratio = absolute / allowed
    absolute[same], ratio[same] = 0.0, 0.0
    absolute[misplaced], ratio[misplaced] = np.inf, np.inf
    return absolute, ratio, misplaced


def _by_row(reference: Array, candidate: Array, errors: Any) -> RowErrors:
    rows = len(reference)
    result = RowErrors(
        absolute=np.zeros(rows),
        ratio=np.zeros(rows),
        column=np.zeros(rows, dtype=np.int64),
        misplaced=np.zeros(rows, dtype=bool),
        compared=np.zeros(rows, dtype=bool),
    )
    ragged = is_ragged(reference)
    size = 1 if ragged else max(1, reference[:1].size)
    step = max(1, _CHUNK // size) if not ragged else rows
    for start in range(0, rows, max(step, 1)):
        part = slice(start, start + step)
        left, line_rows = flat(reference[part])
        right, _ = flat(candidate[part])
        if left.size:
            _fill(result, part, line_rows, errors(left.astype(np.float64), right.astype(np.float64)), left)
    return result


def _fill(result: RowErrors, part: slice, line_rows: Array, found: tuple[Array, Array, Array], left: Array) -> None:
    absolute, ratio, misplaced = found
    starts = np.flatnonzero(np.r_[True, line_rows[1:] != line_rows[:-1]])
    rows = line_rows[starts] + part.start
    worst = ratio.max(axis=1)
    result.absolute[rows] = np.maximum.reduceat(absolute.max(axis=1), starts)
    result.ratio[rows] = np.maximum.reduceat(worst, starts)
    result.misplaced[rows] = np.logical_or.reduceat(misplaced.any(axis=1), starts)
    result.compared[rows] = np.logical_or.reduceat(np.isfinite(left.astype(np.float64)).any(axis=1), starts)
    columns = ratio.argmax(axis=1)
    if len(starts) == len(worst):
        result.column[rows] = columns
    else:
        peak = np.repeat(np.maximum.reduceat(worst, starts), np.diff(np.r_[starts, len(worst)]))
        lines = np.flatnonzero(worst == peak)[::-1]
        result.column[line_rows[lines] + part.start] = columns[lines]


def _scale(output: OutputSignature, reference: Array) -> Array:
    lines, _ = flat(reference)
    if len(lines) > _SCALE_LINES:
        lines = lines[np.linspace(0, len(lines) - 1, _SCALE_LINES).astype(np.int64)]
    magnitudes = np.abs(lines.astype(np.float64))
    magnitudes[~np.isfinite(magnitudes)] = np.nan
    columns = magnitudes.shape[1]
    scale = np.ones(columns)
    known = ~np.isnan(magnitudes).all(axis=0) if len(magnitudes) else np.zeros(columns, dtype=bool)
    if known.any():
        own = np.nanmedian(magnitudes[:, known], axis=0)
        # Mostly zeros, as in word counts: the median of the others counts, which no outlier can raise.
        for column in np.flatnonzero(own == 0):
            others = magnitudes[:, known][:, column]
            own[column] = np.median(others[others > 0]) if (others > 0).any() else 0.0
        # Nothing but zeros: no larger than the smallest of the other columns, whatever the largest is.
        scale[known] = np.where(own > 0, own, min([1.0, *own[own > 0].tolist()]))
    if output.role is OutputRole.PROBABILITIES and columns:
        scale = np.maximum(scale, 1.0 / max(columns, 2))
    return scale


def _share(noise: Noise | None, scale: Array) -> Array | float:
    """Noise of each column by that of all: its own, or the usual one for its magnitude where that is larger.

    Few rows tell the noise, so a column may look quieter than it is; the other columns say what is usual.
    """
    if noise is None or not noise.floor or len(noise.columns) != scale.size or not scale.all():
        return 1.0
    own = np.asarray(noise.columns)
    usual = float(np.median(own / scale)) * scale
    share: Array = np.minimum(np.maximum(own, usual) / noise.floor, 1.0)
    return share


def _coarser(datatype: Datatype, source_dtype: str | None) -> str:
    names = [str(datatype.value), _OF_DTYPE.get(source_dtype or "", "FP64")]
    order = list(_DEFAULTS)
    return max((name for name in names if name in order), key=order.index, default="FP64")


def _kind(column: Array) -> str:
    return np.asarray(column[0]).dtype.kind if is_ragged(column) else column.dtype.kind
