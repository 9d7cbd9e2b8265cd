"""Bags of words: tokens as Python finds them, in the regular expressions (RE2) that onnxruntime's tokenizer reads."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from paritygate.api.spec import Datatype
from paritygate.worker import findings
from paritygate.worker.sources._sklearn.scale import row_normalized
from paritygate.worker.sources._sklearn.writer import Table, Writer, numbers, transformer
from paritygate.worker.targets.onnx_graph import MICROSOFT

# Python's \w knows all scripts, RE2's only ASCII.
_WORD: Final = r"[\p{L}\p{N}_]"
_TOKENS: Final = {
    r"(?u)\b\w\w+\b": _WORD + "{2,}",
    r"\b\w\w+\b": _WORD + "{2,}",
    r"(?u)\b\w+\b": _WORD + "+",
    r"\b\w+\b": _WORD + "+",
    r"\w+": _WORD + "+",
    r"(?u)\w+": _WORD + "+",
    r"\w{2,}": _WORD + "{2,}",
    r"\S+": r"\S+",
}
_PLAIN: Final = re.compile(r"^\[[A-Za-z0-9_]+-?[A-Za-z0-9_-]*\](\+|\{[0-9]+,\})$")
"""Patterns of one set of ASCII characters, which Python and RE2 read alike."""
_PADDING: Final = "\x01"
_LOCALE: Final = "C.UTF-8"
"""Always there with glibc; others must be installed, and the serving image has none."""


@transformer("CountVectorizer")
def count_vectorizer(w: Writer, model: Any, table: Table) -> Table:
    """How often each term of the vocabulary occurs."""
    return numbers(_counts(w, model, table), len(model.vocabulary_))


@transformer("TfidfVectorizer")
def tfidf_vectorizer(w: Writer, model: Any, table: Table) -> Table:
    """Counts, weighted as the TfidfTransformer inside says."""
    return weighted_counts(w, model._tfidf, numbers(_counts(w, model, table), len(model.vocabulary_)))  # noqa: SLF001


@transformer("TfidfTransformer")
def weighted_counts(w: Writer, model: Any, table: Table) -> Table:
    """Counts times inverse document frequency, rows normalized."""
    value = w.dense(table)
    if model.sublinear_tf:
        present = w.op("Greater", value, 0.0)
        logarithm = w.op("Add", w.op("Log", w.op("Where", present, value, 1.0)), 1.0)
        value = w.op("Where", present, logarithm, 0.0)
    if model.use_idf:
        value = w.op("Mul", value, np.asarray(model.idf_, dtype=np.float64).reshape(1, -1))
    if model.norm is not None:
        value = row_normalized(w, value, model.norm)
    return numbers(value, table.width)


def _counts(w: Writer, model: Any, table: Table) -> str:
    _refuse_unknown(w, model)
    if table.width != 1 or table.blocks[0].datatype is not Datatype.BYTES:
        raise w.unsupported("it must read one column of text", model)
    # One more document: without any token, or row, the tokenizer and the counter lose their shapes.
    texts = w.op("Concat", w.flat(table.blocks[0].tensor), np.array(["a"], dtype=object), axis=0)
    if model.lowercase:
        texts = w.op("StringNormalizer", texts, case_change_action="LOWER", locale=_LOCALE)
    tokens = w.op(
        "Tokenizer", texts, domain=MICROSOFT, mark=0, pad_value=_PADDING, mincharnum=1, tokenexp=_expression(w, model)
    )
    counts = w.double(w.op("TfIdfVectorizer", tokens, **_pool(w, model)))
    counts = w.op("Slice", counts, np.array([0]), np.array([-1]), np.array([0]))
    w.findings.append(
        findings.TEXT_TOKENIZER.found(
            f"{w.where} counts words; lower-casing differs for a few letters, such as final Σ"
        )
    )
    return w.op("Min", counts, 1.0) if model.binary else counts


def _refuse_unknown(w: Writer, model: Any) -> None:
    reasons = {
        f"analyzer {model.analyzer!r}: only 'word' can be expressed": model.analyzer != "word",
        "its tokenizer is a Python function": model.tokenizer is not None,
        "its preprocessor is a Python function": model.preprocessor is not None,
        f"strip_accents {model.strip_accents!r} has no counterpart": model.strip_accents is not None,
        "stop words are removed before words are paired": bool(model.stop_words) and tuple(model.ngram_range) != (1, 1),
        f"input {model.input!r}: requests carry the text itself": model.input != "content",
    }
    for why, applies in reasons.items():
        if applies:
            raise w.unsupported(why, model)


def _expression(w: Writer, model: Any) -> str:
    pattern = model.token_pattern
    if pattern in _TOKENS:
        return _TOKENS[pattern]
    if _PLAIN.match(pattern):
        return str(pattern)
    raise w.unsupported(
        f"token_pattern {pattern!r} may mean something else to RE2; known are {', '.join(_TOKENS)} and one set of "
        f"ASCII characters such as [a-z]+",
        model,
    )


def _pool(w: Writer, model: Any) -> dict[str, Any]:
    """The vocabulary as ONNX holds it: terms by their number of words, each with its column."""
    stop_words = model.get_stop_words() or frozenset()
    shortest, longest = model.ngram_range
    by_length: dict[int, list[tuple[list[str], int]]] = {length: [] for length in range(1, longest + 1)}
    for term, column in model.vocabulary_.items():
        words = term.split(" ")
        if len(words) > longest or len(words) < shortest:
            continue
        if term not in stop_words:
            by_length[len(words)].append((words, int(column)))
    starts: list[int] = []
    indexes: list[int] = []
    pool: list[str] = []
    for length in range(1, longest + 1):
        starts.append(len(pool))
        for words, column in sorted(by_length[length], key=lambda entry: entry[1]):
            pool.extend(words)
            indexes.append(column)
    if len(indexes) < len(model.vocabulary_):
        raise w.unsupported("its vocabulary holds terms that its own tokens cannot make", model)
    return {
        "min_gram_length": int(shortest), "max_gram_length": int(longest), "max_skip_count": 0, "mode": "TF",
        "ngram_counts": starts, "ngram_indexes": indexes, "pool_strings": pool,
    }  # fmt: skip
