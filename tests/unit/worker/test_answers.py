"""Asking for all rows: each answer in its place, whatever the server refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import Probe
from paritygate.api.report import OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Datatype, SourceFormat
from paritygate.worker.answers import ask_all, ask_in_batches, ask_probes, is_large
from paritygate.worker.inference import RequestRefused

SIGNATURE = Signature(
    inputs=(TensorSignature(name="x", datatype=Datatype.FP32, shape=(-1, 1)),),
    outputs=(OutputSignature(name="y", datatype=Datatype.FP32, shape=(-1, 1)),),
)


class Doubling:
    """Answers twice the input; refuses batches above `most`, and rows that hold `never`."""

    def __init__(self, most: int = 10**9, never: float | None = None, status: int = 400) -> None:
        self._most, self._never, self._status = most, never, status
        self.sizes: list[int] = []

    def infer(self, feeds: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
        del inputs
        batch = feeds["x"]
        self.sizes.append(len(batch))
        if len(batch) > self._most or (self._never is not None and (batch == self._never).any()):
            raise RequestRefused(self._status, f"{len(batch)} rows refused")
        return {"y": batch.astype(np.float32) * 2}


def column(rows: int) -> dict[str, Any]:
    return {"x": np.arange(rows, dtype=np.float32)[:, None]}


def test_all_rows_come_back_in_their_places() -> None:
    client: Any = Doubling()
    answers = ask_all(client, SIGNATURE, column(20_000), 20_000)
    assert answers.table["y"][:, 0].tolist() == (np.arange(20_000) * 2).tolist()
    assert answers.answered.all()
    assert max(client.sizes) == 8192


def test_a_row_that_is_refused_is_found_and_the_others_are_answered() -> None:
    client: Any = Doubling(never=777.0)
    answers = ask_all(client, SIGNATURE, column(5000), 5000)
    assert np.flatnonzero(~answers.answered).tolist() == [777]
    assert np.isnan(answers.table["y"][777, 0])
    assert answers.refusal == "5000 rows refused"


def test_a_frozen_batch_ends_the_search_for_rows_at_fault() -> None:
    client: Any = Doubling(most=1)
    answers = ask_all(client, SIGNATURE, column(5000), 5000)
    assert not answers.answered.all()
    assert len(client.sizes) < 200


def test_batches_that_are_too_large_for_the_server_are_halved() -> None:
    client: Any = Doubling(most=100, status=413)
    answers = ask_all(client, SIGNATURE, column(5000), 5000)
    assert answers.answered.all()
    assert answers.refusal is None


def test_rows_of_one_length_go_together() -> None:
    ragged = np.empty(5, dtype=object)
    ragged[:] = [np.full(n, n, dtype=np.float32) for n in (2, 3, 2, 3, 4)]
    client: Any = Doubling()
    answers = ask_all(client, SIGNATURE, {"x": ragged}, 5)
    assert client.sizes == [2, 2, 1]
    assert [row.tolist() for row in answers.table["y"]] == [[4, 4], [6, 6, 6], [4, 4], [6, 6, 6], [8, 8, 8, 8]]


def test_the_fixed_part_is_asked_at_every_batch_size() -> None:
    client: Any = Doubling()
    batches = ask_in_batches(client, SIGNATURE, column(500), 500)
    assert [batch.size for batch in batches] == [1, 2, 3, 7, 14]
    assert all((batch.answers["y"] == batches[-1].answers["y"]).all() for batch in batches)


def test_a_large_candidate_is_asked_one_batch_of_each_size() -> None:
    client: Any = Doubling()
    batches = ask_in_batches(client, SIGNATURE, column(500), 500, large=True)
    assert client.sizes == [1, 2, 3, 7, 14]
    assert all((batch.answers["y"][:, 0] == 2 * batch.rows).all() for batch in batches)
    assert np.concatenate([batch.rows for batch in batches[:-1]]).tolist() == batches[-1].rows[:13].tolist()


def test_batches_of_few_rows_are_full() -> None:
    client: Any = Doubling()
    ask_in_batches(client, SIGNATURE, column(4), 4, large=True)
    assert client.sizes == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("source", "size", "large"),
    [
        (SourceFormat.PYTORCH, 65 << 20, True),
        (SourceFormat.PYTORCH, 1 << 20, False),
        (SourceFormat.SKLEARN, 65 << 20, False),
    ],
)
def test_only_networks_are_large(source: SourceFormat, size: int, large: bool) -> None:
    assert is_large(source, size) is large


def test_a_batch_size_that_is_refused_says_so() -> None:
    client: Any = Doubling(most=3)
    batches = ask_in_batches(client, SIGNATURE, column(500), 500)
    assert [batch.refused is None for batch in batches] == [True, True, True, False, False]


@pytest.mark.parametrize(("kind", "rows"), [("zero", 1), ("empty-batch", 0)])
def test_probes_are_asked_one_by_one(kind: str, rows: int) -> None:
    client: Any = Doubling()
    probe = Probe(description="a probe", kind=kind, inside_domain=True)
    answers = ask_probes(client, SIGNATURE, (probe,), column(1))
    assert answers[0].answers["y"].shape == (rows, 1)


def test_a_probe_that_is_refused_keeps_the_servers_words() -> None:
    client: Any = Doubling(never=0.0)
    probe = Probe(description="zero", kind="zero", inside_domain=True)
    assert ask_probes(client, SIGNATURE, (probe,), column(1))[0].refused == "1 rows refused"
