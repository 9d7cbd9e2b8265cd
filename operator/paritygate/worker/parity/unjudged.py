"""What a run says nothing about (DESIGN.md §5)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paritygate.api.report import Check, CheckName, NotJudged, Verdict
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.columns import is_ragged
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.measure import count
from paritygate.worker.parity.slices import too_small

_DEFAULT_FLIP_RATE = 0.01
_DEFAULT_TIE_RATE = 0.02
_FEW_ROWS = 5
_MOST_CATEGORIES = 10


def not_judged(evidence: Evidence, checks: tuple[Check, ...]) -> tuple[NotJudged, ...]:
    """Steps outside the artefact, loosened limits, small slices, rare categories, and checks that did not run."""
    return (
        NotJudged(
            what="what happens before and after the model",
            why="only the artefact's own inputs and outputs are compared",
        ),
        *_loosened(evidence),
        *_labels(evidence),
        *_decisions(evidence, checks),
        *_repeats(evidence),
        *_probes(evidence),
        *_batches(evidence),
        *_categories(evidence),
        *_coverage(evidence),
        *too_small(evidence),
        *_vacuity(checks),
    )  # fmt: skip


def _loosened(evidence: Evidence) -> Iterator[NotJudged]:
    validation = evidence.policy.validation
    numeric = validation.numeric
    for field in ("rtol", "atol"):
        stated = getattr(numeric, field)
        if stated is not None:
            yield NotJudged(
                what=f"differences below validation.numeric.{field} {stated}",
                why="the tolerance is stated by the user, not derived from datatypes and noise",
            )
    for output in numeric.outputs:
        yield NotJudged(
            what=f"differences in {output.name} below rtol {output.rtol or 'default'}, atol {output.atol or 'default'}",
            why="the tolerance is stated by the user, not derived from datatypes and noise",
        )
    for name, value, default in (
        ("maxFlipRate", validation.decisions.max_flip_rate, _DEFAULT_FLIP_RATE),
        ("maxTieRate", validation.decisions.max_tie_rate, _DEFAULT_TIE_RATE),
    ):
        if float(value) > default:
            yield NotJudged(
                what=f"rates below validation.decisions.{name} {value}",
                why=f"the limit is looser than the default of {default}",
            )


def _labels(evidence: Evidence) -> Iterator[NotJudged]:
    label = evidence.policy.validation.dataset.label
    if label is None:
        yield NotJudged(what="whether the model is any good", why="validation.dataset.label is not stated")


def _decisions(evidence: Evidence, checks: tuple[Check, ...]) -> Iterator[NotJudged]:
    if not any(check.name is CheckName.DECISIONS and check.measurements for check in checks):
        yield NotJudged(
            what="decisions", why="none is defined for these outputs; validation.decisions.thresholds defines one"
        )
    matched = {pair.output.name for pair in evidence.pairs}
    for output in evidence.capture.signature.outputs:
        if output.name not in matched:
            yield NotJudged(what=f"output {output.name}", why="it is missing or has another shape; see the contract")


def _repeats(evidence: Evidence) -> Iterator[NotJudged]:
    if evidence.unit_count < evidence.rows:
        yield NotJudged(
            what=f"{evidence.rows - evidence.unit_count:,} of {evidence.rows:,} rows as evidence of their own",
            why=f"they repeat others or belong to their group: {count(evidence.unit_count, evidence.unit_name)} count",
        )


def _probes(evidence: Evidence) -> Iterator[NotJudged]:
    if not any(probe.inside_domain for probe in evidence.capture.probes):
        yield NotJudged(what="unusual inputs inside the domain", why="the capture holds no probe rows there")
    outside = sum(not probe.inside_domain for probe in evidence.capture.probes)
    if outside:
        yield NotJudged(
            what="inputs outside the range of the dataset",
            why=f"{count(outside, 'probes')} there are reported and do not decide",
        )
    for entry in evidence.capture.probed_cells:
        yield NotJudged(
            what=f"unusual values in {entry.total - entry.cells:,} of the {entry.total:,} cells of {entry.input}",
            why=f"probes change {count(entry.cells, 'cells')} one at a time, and all at once; of a network with few "
            "rows fewer than of a table",
        )


def _batches(evidence: Evidence) -> Iterator[NotJudged]:
    """Batch sizes that were tried once, because a row may take long."""
    part = max((len(batch.rows) for batch in evidence.batches), default=0)
    once = [str(batch.size) for batch in evidence.batches if batch.size < part and len(batch.rows) == batch.size]
    if once and all(len(batch.rows) <= batch.size for batch in evidence.batches):
        yield NotJudged(
            what=f"whether a second batch of {', '.join(once)} rows is answered as the first",
            why="the candidate is a large network, and each of these sizes was tried on one batch",
        )


def _categories(evidence: Evidence) -> Iterator[NotJudged]:
    """Text values that too few rows hold."""
    for name, column in evidence.inputs.items():
        array = np.asarray(column)
        if array.dtype != object or is_ragged(array) or array.size != evidence.rows:
            continue
        values, counts = np.unique(np.asarray([str(v) for v in array.reshape(-1)]), return_counts=True)
        rare = values[counts < _FEW_ROWS]
        if len(values) <= evidence.rows // 2 and len(rare):
            shown = ", ".join(rare[:_MOST_CATEGORIES]) + (", …" if len(rare) > _MOST_CATEGORIES else "")
            yield NotJudged(
                what=f"{name}: {shown}", why=f"fewer than {_FEW_ROWS} rows hold each of {len(rare):,} values"
            )


def _coverage(evidence: Evidence) -> Iterator[NotJudged]:
    """Leaves and categories of the model that no row reaches."""
    for entry in evidence.capture.coverage:
        unseen = entry.total - entry.rows
        if not unseen:
            continue
        probed = f"; probes reach {entry.probes:,} of these" if entry.probes else ""
        if entry.kind == "leaves":
            yield NotJudged(
                what=f"{unseen:,} of {entry.total:,} leaves of {entry.subject}",
                why=f"no row ends there{probed}; bring rows that do, such as rarer cases, or more of them",
            )
        else:
            shown = ", ".join(entry.examples) + (", …" if unseen > len(entry.examples) else "")
            yield NotJudged(
                what=f"{entry.subject}: {shown}",
                why=f"of the {entry.total:,} categories that the model knows, no row shows "
                f"{'this' if unseen == 1 else f'these {unseen:,}'}{probed}; bring rows that do",
            )
    if evidence.capture.coverage_skipped is not None:
        yield NotJudged(
            what="leaves and categories that no row reaches",
            why=f"they were not counted to the end: {evidence.capture.coverage_skipped}",
        )


def _vacuity(checks: tuple[Check, ...]) -> Iterator[NotJudged]:
    if not any(check.name is CheckName.VACUITY for check in checks):
        failed = verdict_of(checks) is Verdict.FAILED
        yield NotJudged(
            what="vacuity",
            why="the candidate failed, and not even one that answers as the source does would pass on these rows"
            if failed
            else "the other checks are inconclusive already",
        )
