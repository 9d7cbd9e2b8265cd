"""What is known about a model before it is loaded, in plain text: the output of `paritygate assess`."""

from __future__ import annotations

from collections.abc import Sequence

from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding, Signature, TensorSignature
from paritygate.report import numbers, text, words

_MOST_LISTED = 8
_KIBI = 1024


def render(assessment: Assessment, *, name: str | None = None, width: int = text.WIDTH) -> str:
    """Framework, versions, size, parts, imports and findings.

    Args:
        assessment: What the Assess stage found.
        name: How the user calls the file; None = its digest alone names it.
        width: Columns to wrap sentences to.
    """
    version = f" {assessment.framework_version}" if assessment.framework_version else ", version not recorded"
    head = f"{name or assessment.format}: {assessment.framework}{version}"
    entries = [("Format", assessment.format.value), ("Size", size(assessment.size))]
    if assessment.packages:
        entries.append(("Saved with", ", ".join(f"{k} {v}" for k, v in sorted(assessment.packages.items()))))
    if assessment.parameters is not None:
        entries.append(("Learned", numbers.count(assessment.parameters, "number")))
    if assessment.estimators:
        entries.append(("Parts", _listed([part.rpartition(".")[2] for part in assessment.estimators])))
    if assessment.hardware:
        entries.append(("Needs", ", ".join(assessment.hardware)))
    if assessment.imports:
        foreign = len(assessment.custom_code)
        ours = "all from known packages" if not foreign else f"{foreign} from your own code"
        entries.append(("Imports", f"{numbers.count(len(assessment.imports), 'name')}, {ours}"))
    if assessment.custom_code:
        entries.append(("Own code", _listed(assessment.custom_code)))
    entries.append(("Digest", assessment.digest))
    blocks = [text.printable(head), text.labelled(entries, width=width)]
    if assessment.signature is not None:
        blocks.append(_signature(assessment.signature))
    blocks.append(_findings(assessment.findings, width))
    return "\n\n".join(blocks) + "\n"


def size(count: int) -> str:
    """'118 KiB'; bytes below one KiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < _KIBI:
            break
        value, unit = value / _KIBI, larger
    return f"{numbers.number(value)} {unit}"


def _listed(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = [f"{len(shown) - _MOST_LISTED} more"] if len(shown) > _MOST_LISTED else []
    return ", ".join(shown[:_MOST_LISTED] + more)


def _signature(signature: Signature) -> str:
    def row(direction: str, tensor: TensorSignature) -> tuple[str, str, str, str]:
        return direction, tensor.name, tensor.datatype.value, numbers.answer(list(tensor.shape))

    rows = [row("input", tensor) for tensor in signature.inputs]
    rows += [row("output", tensor) for tensor in signature.outputs]
    return text.table(("", "name", "datatype", "shape"), rows)


def _findings(findings: tuple[Finding, ...], width: int) -> str:
    if not findings:
        return "No finding: no rule for known silent failures matched."
    lines = [f"{numbers.count(len(findings), 'finding')}:"]
    for finding in sorted(findings, key=lambda each: words.SEVERITIES[each.severity]):
        lines.append(f"\n  {finding.severity.upper()}  {finding.rule}")
        lines += [text.paragraph(part, "    ", width) for part in (finding.message, finding.why)]
        lines.append(text.labelled([("→", finding.action)], "    ", width))
    return "\n".join(lines)
