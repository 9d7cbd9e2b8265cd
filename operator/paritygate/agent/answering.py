"""Asks a source for many rows: in batches, rows of one length together, with progress and errors that name the row."""

import sys
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks.pickles import traceback_tail
from paritygate.agent.stage import progress
from paritygate.agent.wire import is_ragged, ragged, take


class SourceError(Exception):
    """The source's own code raised; `__cause__` is what it raised."""


def answer(model, inputs, message=None, batch=None):
    """Answers of `model` to all rows of `inputs` (name → original column), by output name.

    Outputs whose rows differ in shape are ragged. `message`: of the progress lines, None = none. AgentError
    (ModelRaised) names the first row that raises.
    """
    rows = len(next(iter(inputs.values())))
    pieces, order = [], []
    done = 0
    for chosen, found in _answered(model, inputs, list(_batches(inputs, rows, batch or model.batch))):
        if isinstance(found, SourceError):
            raise _raised(model, inputs, chosen, found.__cause__) from found.__cause__
        pieces.append(found)
        order.append(chosen)
        done += len(chosen)
        if message:
            progress(message, done, rows)
    return _joined(pieces, np.concatenate(order), rows)


def _answered(model, inputs, batches):
    """(rows, answers or SourceError) of each batch in order, as far as the first error."""

    def ask(chosen):
        try:
            return once(model, _taken(inputs, chosen), len(chosen))
        except SourceError as error:
            return error

    if model.workers == 1 or len(batches) == 1:
        for chosen in batches:
            yield chosen, ask(chosen)
        return
    with ThreadPoolExecutor(model.workers) as pool:
        waiting = deque()
        for chosen in batches + [None] * model.workers:
            if chosen is not None:
                waiting.append((chosen, pool.submit(ask, chosen)))
            # No further ahead than there are threads, so that an error ends it and answers do not pile up.
            if waiting and (chosen is None or len(waiting) > model.workers):
                rows, future = waiting.popleft()
                yield rows, future.result()


def once(model, inputs, rows):
    """One call. SourceError: the source's code raised; AgentError: its answer does not have one entry per row."""
    try:
        answers = model.answer(inputs)
    except (AgentError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise SourceError from error
    for name, column in answers.items():
        if column.ndim == 0 or len(column) != rows:
            raise AgentError(
                "OutputWithoutRows",
                "output %r has shape %s for %d rows; an output must have one entry per row along its first axis"
                % (name, list(column.shape), rows),
            )
    return answers


def some_rows(inputs, rows):
    """The inputs of some rows of one shape, as a batch."""
    return _taken(inputs, np.asarray(rows))


def _taken(inputs, chosen):
    batch = OrderedDict()
    for name, column in inputs.items():
        part = take(column, chosen)
        batch[name] = np.stack(list(part)) if is_ragged(part) else part
    return batch


def _batches(inputs, rows, size):
    """Row numbers of each call: rows of one shape together, in order of first appearance."""
    varying = [column for column in inputs.values() if not isinstance(column, Category) and is_ragged(column)]
    if not varying:
        groups = [np.arange(rows)]
    else:
        by_shape = OrderedDict()
        for row in range(rows):
            by_shape.setdefault(tuple(column[row].shape for column in varying), []).append(row)
        groups = [np.asarray(group) for group in by_shape.values()]
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _joined(pieces, order, rows):
    joined = OrderedDict()
    for name in pieces[0]:
        parts = [piece[name] for piece in pieces]
        if len({part.shape[1:] for part in parts}) == 1:
            values = np.concatenate(parts)
            column = np.empty_like(values)
            column[order] = values
        else:
            column = ragged([None] * rows)
            position = 0
            for part in parts:
                for answer_of_row in part:
                    column[order[position]] = np.asarray(answer_of_row)
                    position += 1
        joined[name] = column
    return joined


def _raised(model, inputs, chosen, error):
    """ModelRaised for the first row of a batch that raises alone, or for the batch where none does."""
    where = "rows %d to %d together, though none of them alone" % (chosen[0], chosen[-1])
    low, high = 0, len(chosen)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            once(model, _taken(inputs, chosen[low:middle]), middle - low)
            low = middle
        except SourceError as found:
            high, error = middle, found.__cause__
    try:
        once(model, _taken(inputs, chosen[low:high]), 1)
    except SourceError as found:
        where, error = "row %d" % chosen[low], found.__cause__
    sys.stderr.write(traceback_tail(error, 40) + "\n")
    return AgentError(
        "ModelRaised",
        "the source raised on %s of the dataset: %s\n%s\nCorrect the row, or the environment in which the source runs"
        % (where, one_line(error), traceback_tail(error)),
    )
