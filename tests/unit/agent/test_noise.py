"""How far a source is from itself."""

from __future__ import annotations

import contextlib
from collections import OrderedDict

import numpy as np
import pytest

from paritygate.agent import noise
from paritygate.agent.frameworks.model import Model

torch = pytest.importorskip("torch")
TorchModel = pytest.importorskip("paritygate.agent.frameworks.torchlike").TorchModel

ROWS = OrderedDict(x=np.linspace(-1, 1, 24 * 32, dtype=np.float32).reshape(24, 32))


class Given(TorchModel):
    """A module with one argument, as it is."""

    def arguments(self):
        return ["x"], []

    def forward(self, tensors):
        return self.native(tensors["x"])


ROWS_OF_SHAKING = OrderedDict(x=np.arange(8.0))


class Shaking(Model):
    """Answers as told, and with one thread otherwise."""

    def __init__(self, columns, shaken):
        super().__init__(None, {})
        self.columns, self.shaken, self.one = columns, shaken, False

    def answer(self, inputs):
        rows = inputs["x"].astype(int)
        return OrderedDict((name, column[rows]) for name, column in (self.shaken if self.one else self.columns).items())

    @contextlib.contextmanager
    def threads(self, count):
        self.one = count == 1
        yield True
        self.one = False


@pytest.fixture
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 256), torch.nn.Tanh(), torch.nn.Linear(256, 3)).eval()


def measured(model, rows):
    repeats = noise.repeat(model, rows)
    return noise.measure(repeats, *model.finer([repeats.part]))


def test_rounding_of_single_precision_counts_as_noise(network) -> None:
    (found,) = measured(Given(network, {}), ROWS)
    single = network(torch.from_numpy(ROWS["x"])).detach().double().numpy()
    double = network.double()(torch.from_numpy(ROWS["x"]).double()).detach().numpy()
    farthest = float(np.abs(single - double).max())
    assert 0 < found["floor"] <= farthest
    assert found["finer"]
    assert not found["stochastic"]


def test_a_module_is_left_as_it_was(network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = Given(network, {})
    answers = model.answer(ROWS)["output"]
    first, refused, second = model.finer([ROWS, OrderedDict(y=ROWS["x"]), ROWS])
    assert first["output"].dtype == np.float64
    assert refused is None
    assert np.array_equal(first["output"], second["output"])
    after = network.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())
    assert np.array_equal(model.answer(ROWS)["output"], answers)


def test_a_module_that_takes_no_double_precision_is_judged_by_its_repeats(network) -> None:
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x.float()) @ torch.ones(3, 3, dtype=torch.float32)

    model = Given(Stubborn(), {})
    assert model.finer([ROWS, ROWS]) == [None, None]
    (found,) = measured(model, ROWS)
    assert found["floor"] < 1e-5
    assert not found["finer"]


def test_two_answers_that_agree_or_cannot_be_subtracted_are_not_apart() -> None:
    assert noise.apart(np.ones((1, 2)), np.ones((1, 2))) is None
    assert noise.apart(np.asarray(["a"], dtype=object), np.asarray(["b"], dtype=object)) is None
    assert noise.apart(np.asarray([1.0]), np.asarray([np.nan])) is None
    assert noise.apart(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.5])) == 0.5


def test_each_column_tells_its_own_noise() -> None:
    columns = OrderedDict(wide=np.ones((8, 2000)), one=np.ones(8), pair=np.ones((8, 2)))
    shaken = {name: np.array(column) for name, column in columns.items()}
    shaken["pair"][3] = [1.5, 1.25]
    found = {entry["output"]: entry for entry in measured(Shaking(columns, shaken), ROWS_OF_SHAKING)}
    assert found["pair"]["columns"] == [0.5, 0.25]
    assert found["pair"]["floor"] == 0.5
    assert found["one"]["columns"] == found["wide"]["columns"] == []
