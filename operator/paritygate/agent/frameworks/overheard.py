"""Probabilities that a classifier computes in order to predict, so that they need not be computed a second time.

The labels remain what the classifier's own `predict` says, and the probabilities what its own `predict_proba` says.
"""

import threading

import numpy as np

COMPARED = 64
"""Rows on which what is overheard must equal, bit by bit, what `predict_proba` answers when it is asked."""
_LIBRARIES = ("sklearn.", "lightgbm.")


class Overheard(object):
    """`predict` and `predict_proba` of a classifier in one pass, where its `predict` calls `predict_proba`."""

    def __init__(self, native):
        self.native = native
        self.heard = threading.local()
        self.listens = False

    def listen(self, rows):
        """Starts to listen where a few rows show that it is the same; `rows()` gives them as `predict` takes them."""
        last = _last(self.native)
        if last is None or not hasattr(last, "predict_proba"):
            return
        own = last.predict_proba

        def predict_proba(*arguments, **options):
            found = own(*arguments, **options)
            if getattr(self.heard, "calls", None) is not None:
                self.heard.calls.append(found)
            return found

        try:
            last.predict_proba = predict_proba
            few = rows()
            _, probabilities = self._hear(few)
            self.listens = probabilities is not None and _equal(probabilities, self.native.predict_proba(few))
        except Exception:
            # What the classifier refuses, it refuses again, where the row is named.
            self.listens = False
        if not self.listens:
            vars(last).pop("predict_proba", None)

    def __call__(self, rows):
        """Labels, and the probabilities of the same rows."""
        labels, found = self._hear(rows) if self.listens else (self.native.predict(rows), None)
        return labels, self.native.predict_proba(rows) if found is None else found

    def _hear(self, rows):
        """Labels, and what was overheard while they were predicted; None = nothing, or not once for all rows."""
        self.heard.calls = []
        try:
            labels = self.native.predict(rows)
            calls = self.heard.calls
        finally:
            self.heard.calls = None
        return labels, calls[0] if len(calls) == 1 and _fits(calls[0], len(labels)) else None


def _last(native):
    """The estimator that predicts, where it and all that leads to it are a library's own; else None."""
    while _is_known(native) and type(native).__name__ == "Pipeline":
        native = native.steps[-1][1]
    return native if _is_known(native) else None


def _is_known(estimator):
    return type(estimator).__module__.startswith(_LIBRARIES)


def _fits(found, rows):
    parts = found if isinstance(found, list) else [found]
    return all(isinstance(part, np.ndarray) and len(part) == rows for part in parts)


def _equal(left, right):
    left, right = ([part] if not isinstance(part, list) else part for part in (left, right))
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(left, right)
    )
