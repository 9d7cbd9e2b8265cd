"""Counts what of a model the rows reach: leaves of trees, and categories that encoders and boosters know.

What no row reaches, nobody compared: the report says so. Probes are counted apart, since they are no real inputs.
"""

import contextlib
import functools
import warnings
from collections import OrderedDict

import numpy as np

from paritygate.agent.failures import one_line
from paritygate.agent.frameworks.reach import LEAVES
from paritygate.agent.wire import take

MOST = 20000000
"""Rows times trees after which leaves are counted no further."""
_ROWS = 2048
"""Rows looked at before asking whether anything is left to reach."""
_EXAMPLES = 10
_EMPTY = "empty-batch"


class TooMuch(Exception):
    """Counting would take too long; says how far it came."""


def count(model, inputs, probes, wires):
    """`Coverage` list and the reason why there is none, else None. Whatever goes wrong is such a reason.

    `probes`: as in the manifest, `wires`: their rows by wire name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _count(model, inputs, probes, wires), None
    except TooMuch as error:
        return [], str(error)
    except Exception as error:
        return [], "counting them failed: %s" % one_line(error)


def _count(model, inputs, probes, wires):
    rows, visits = len(inputs[0].original), 0
    parts = OrderedDict()
    for start in range(0, rows, _ROWS):
        chosen = np.arange(start, min(start + _ROWS, rows))
        part = model.reach(OrderedDict((one.name, take(one.original, chosen)) for one in inputs), _seen(parts))
        if not part:
            return []
        _add(parts, part)
        if all(seen.all() for _, seen in parts.values()):
            break
        visits += sum(one.visits for one in part)
        if visits > MOST and chosen[-1] + 1 < rows:
            raise TooMuch(_unfinished(parts, chosen[-1] + 1, rows))
    answered = [place for place, probe in enumerate(probes) if probe.get("refused") is None and probe["kind"] != _EMPTY]
    probed = OrderedDict()
    if answered and not all(seen.all() for _, seen in parts.values()):
        _add_probes(probed, answered, functools.partial(_of_probes, model, inputs, wires, _seen(parts)))
    return [_entry(key, names, seen, probed.get(key)) for key, (names, seen) in parts.items()]


def _seen(parts):
    return {key: seen for key, (_, seen) in parts.items()}


def _unfinished(parts, looked, rows):
    seen = np.concatenate([seen for (_, kind), (_, seen) in parts.items() if kind == LEAVES])
    text = "counting would take too long; the first {:,} of {:,} rows reach {:,} of {:,} leaves"
    return text.format(looked, rows, int(seen.sum()), len(seen))


def _add_probes(parts, chosen, reached):
    """All probes together; where the model refuses that, each alone, as it was asked. `reached(probes)`: by those."""
    try:
        together = [reached(chosen)]
    except Exception:
        together = []
    for found in together or _each(chosen, reached):
        _add(parts, found)


def _each(chosen, reached):
    for place in chosen:
        with contextlib.suppress(Exception):
            yield reached([place])


def _of_probes(model, inputs, wires, seen, chosen):
    chosen = np.asarray(chosen)
    given = OrderedDict((one.name, one.restore(wires[one.wire_name][chosen])) for one in inputs)
    return model.reach(given, seen)


def _add(parts, found):
    for one in found:
        key = (one.subject, one.kind)
        if key in parts:
            parts[key][1][:] |= one.reached
        else:
            parts[key] = (one.names, np.array(one.reached))


def _entry(key, names, seen, probed):
    others = ~seen
    entry = OrderedDict(
        subject=key[0],
        kind=key[1],
        total=len(seen),
        rows=int(seen.sum()),
        probes=0 if probed is None else int((probed[1] & others).sum()),
    )
    if names is not None:
        entry["examples"] = [names[place] for place in np.flatnonzero(others)[:_EXAMPLES]]
    return entry
