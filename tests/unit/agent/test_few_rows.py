"""How many rows are asked beside the dataset."""

import numpy as np
import pytest

from paritygate.agent import noise
from paritygate.agent.frameworks.model import Model


class Doubling(Model):
    """Counts the rows that it answers."""

    asked = 0

    def answer(self, inputs):
        """Twice the input."""
        self.asked += len(inputs["x"])
        return {"y": 2 * inputs["x"]}


@pytest.mark.parametrize(
    ("rows", "costly", "repeated"),
    [(10_000, False, 64), (10_000, True, 64), (192, True, 8), (192, False, 64), (30, True, 4), (3, True, 3)],
)
def test_noise_is_learnt_on_few_rows_of_a_costly_model(rows, costly, repeated):
    model = Doubling(None, {})
    model.costly = costly
    repeats = noise.repeat(model, {"x": np.arange(rows, dtype=np.float64)})
    (measured,) = noise.measure(repeats, *model.finer([repeats.part]))
    assert measured["rows"] == repeated
    assert measured["floor"] == 0
    assert model.asked == 2 * repeated + -(-repeated // noise.SINGLE)
