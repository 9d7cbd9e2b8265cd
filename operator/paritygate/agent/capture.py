"""Capture: writes a source's answers to a dataset as a capture folder (docs/reference/formats.md)."""

import json
import os
import warnings
from collections import OrderedDict

import numpy as np

from paritygate.agent import coverage, environment, exchange, mapping, noise, probes, signature, steps
from paritygate.agent.answering import answer
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import framework_module
from paritygate.agent.frameworks.pickles import importable
from paritygate.agent.stage import progress
from paritygate.agent.wire import is_ragged


def run(request_file, out):
    """Carries out the CaptureRequest in `request_file`; writes to the folder `out`. AgentError says why it cannot."""
    try:
        with open(request_file, encoding="utf-8") as stream:
            request = json.load(stream)
    except (OSError, ValueError) as error:
        raise AgentError("InvalidRequest", "--request %s cannot be read: %s" % (request_file, error)) from error
    missing = [key for key in ("format", "model", "rows", "sourceDigest", "datasetDigest") if key not in request]
    if missing:
        raise AgentError("InvalidRequest", "--request %s lacks %s" % (request_file, mapping.listed(missing)))
    model = os.path.abspath(request["model"])
    # For the whole capture: the model's code may import its neighbours only when it is called.
    with importable(model if os.path.isdir(model) else os.path.dirname(model)):
        capture(request, out)


def capture(request, out):
    """Carries out a CaptureRequest, a dict with camelCase keys; returns the manifest as a dict."""
    module = framework_module(request["format"])
    table = exchange.load(request["rows"])
    rows = len(next(iter(table.values()))) if table else 0
    if not rows:
        raise AgentError("DatasetEmpty", "the dataset has no rows; nothing can be learnt about the source from it")
    annotations = mapping.annotations(table, request)
    progress("loading the source")
    model = module.adapt(module.load(request["model"], request.get("loader")), request)
    inputs = mapping.inputs_of(model, table, request)
    originals = OrderedDict((one.name, one.original) for one in inputs)
    answers = answer(model, originals, "answering the dataset")
    outputs = signature.outputs_of(model, answers, request, annotations)
    exact = all(one.is_exact() for one in inputs)
    save = _Saver(out)
    save("inputs", OrderedDict((one.wire_name, one.wire()) for one in inputs))
    save("reference", signature.renamed(answers, outputs))
    if not exact:
        cast = OrderedDict((one.name, one.restore(one.wire())) for one in inputs)
        save("cast", signature.renamed(answer(model, cast, "answering the rows as cast to the wire"), outputs))
    save("annotations", annotations)
    measured, probed, probe_rows = _asked_again(model, inputs, outputs, answers, save)
    _unused(model, table, annotations, inputs)
    progress("looking into the source")
    values, inner, inner_rows, skipped = steps.record(model, inputs)
    if values:
        save("steps", values)
    reached, uncounted = coverage.count(model, inputs, probed, probe_rows)
    manifest = OrderedDict(
        apiVersion="paritygate.dev/v1alpha1",
        kind="Capture",
        format=request["format"],
        framework=model.framework,
        frameworkVersion=model.version,
        source=request["sourceDigest"],
        dataset=request["datasetDigest"],
        rows=rows,
        columns=[column for one in inputs for column in one.columns],
        task=request.get("task") or model.task() or signature.task_of(outputs, answers, annotations, request),
        signature=OrderedDict(inputs=[_tensor(one) for one in inputs], outputs=outputs),
        sourceDatatypes=OrderedDict((o["name"], _dtype(a)) for o, a in zip(outputs, answers.values())),
        castExact=exact,
        environment=environment.describe(request.get("environmentDigest")),
        noise=measured,
        probes=probed,
        probedCells=probes.passed_over(model, inputs),
        steps=inner,
        stepRows=inner_rows,
        stepsSkipped=skipped,
        coverage=reached,
        coverageSkipped=uncounted,
        findings=model.findings,
    )
    _write_manifest(os.path.join(out, "capture.json"), manifest)
    return manifest


class _Saver(object):
    """Writes tables of the capture folder."""

    def __init__(self, out):
        self.out = out

    def __call__(self, name, table):
        exchange.save(os.path.join(self.out, name + ".npz"), table)


def _asked_again(model, inputs, outputs, answers, save):
    """Noise of each output, the probes, and their rows by wire name."""
    repeats = noise.repeat(model, OrderedDict((one.name, one.original) for one in inputs))
    progress("asking probes")
    made, wires = probes.make(model, inputs)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # NaN and infinities are meant, and what frameworks say about them would hide warnings about the dataset.
        warnings.simplefilter("ignore")
        found = probes.ask(model, inputs, made, wires)
        rows, inside = probes.inside(inputs, made, wires, found)
        # Both at once: to compute in double precision a network's parameters are copied.
        finer = model.finer([repeats.part] if inside is None else [repeats.part, inside])
        empty = probes.ask_empty_batch(model, inputs)
    names = {own: output["name"] for own, output in zip(answers, outputs)}
    for row, distances in probes.noise_of(rows, found, finer[-1]).items():
        made[row]["noise"] = OrderedDict((names[own], distance) for own, distance in distances.items())
    measured = noise.measure(repeats, finer[0])
    for entry, output in zip(measured, outputs):
        entry["output"] = output["name"]
    save("probes", wires)
    save("probes_reference", signature.renamed(signature.aligned(found, answers), outputs))
    return measured, made + [empty], wires


def _tensor(one):
    return OrderedDict(name=one.wire_name, datatype=one.datatype, shape=list(one.shape))


def _dtype(column):
    if is_ragged(column):
        return str(column[0].dtype)
    return str(column.dtype) if column.dtype.kind not in "OUS" else "str"


def _unused(model, table, annotations, inputs):
    used = {column for one in inputs for column in one.columns} | set(annotations)
    unused = [name for name in table if name not in used]
    if unused:
        model.find(
            "UNUSED-COLUMNS",
            "Info",
            "the model takes no notice of the dataset's columns %s" % mapping.listed(unused),
            "a column that should be an input but has another name would be missed silently",
            "remove them from the dataset, or correct their names",
        )
    if any(one.empty_is_missing and one.datatype == "BYTES" and _has_missing(one.original) for one in inputs):
        names = [one.wire_name for one in inputs if one.datatype == "BYTES" and _has_missing(one.original)]
        model.find(
            "MISSING-TEXT",
            "Info",
            "inputs %s have missing text" % mapping.listed(names),
            "the Open Inference Protocol has no missing text",
            'on the wire, "" stands for missing text in these inputs; clients must send it so',
        )


def _has_missing(column):
    if isinstance(column, exchange.Category):
        return bool((column.codes < 0).any())
    return column.dtype == object and any(value is None for value in column.reshape(-1))


def _write_manifest(path, manifest):
    text = json.dumps(_jsonable(manifest), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    with open(path, "wb") as stream:
        stream.write(text.encode("utf-8"))


def _jsonable(value):
    """Values of the manifest as canonical JSON has them: no None, infinities as words."""
    if isinstance(value, dict):
        return OrderedDict((key, _jsonable(part)) for key, part in value.items() if part is not None)
    if isinstance(value, (list, tuple)):
        return [_jsonable(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value
