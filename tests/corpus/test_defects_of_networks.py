"""Silent defects of exported networks: each must be stopped, although a network's own rounding widens its tolerance."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

torch = pytest.importorskip("torch", reason="needs the torch extra")

from corpus import networks  # noqa: E402 - after the check for torch
from corpus.damages import (  # noqa: E402
    BatchStatistics,
    Damage,
    Network,
    attribute,
    before,
    cast,
    gates_reordered,
    module,
    only,
    put,
    rolled,
    set_to,
    tanh_gelu,
    to_bfloat16,
    to_int8,
    weights,
    without_mask,
)
from paritygate.api.report import CheckName, Verdict  # noqa: E402
from paritygate.api.spec import SourceFormat  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
ROWS = 240


def trained(module: Any, rows: Any, truth: Any, steps: int) -> Any:
    """The module after a few steps, so that its statistics and weights are not those of an initialisation."""
    rows, truth = torch.from_numpy(rows), torch.from_numpy(truth)
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    module.train()
    for step in range(steps):
        part = torch.arange(step * 64, step * 64 + 64) % len(rows)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(rows[part]), truth[part]).backward()
        optimiser.step()
    return module.eval()


def images() -> tuple[Any, str, Any]:
    """The digits of scikit-learn in three tints, and a network that reads them."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    tints = np.random.default_rng(0).uniform(0.2, 1, size=(len(x), 3, 1, 1))
    tinted = (x.reshape(-1, 1, 8, 8) / 16 * tints).astype(np.float32)
    return trained(networks.images(), tinted[ROWS:], y[ROWS:], 60), "image", tinted[:ROWS]


def sentences(name: str = "sentences", steps: int = 60) -> tuple[Any, str, Any]:
    """Sequences of tokens, padded to their length, and an encoder that tells four kinds apart."""
    random = np.random.default_rng(1)
    ids = random.integers(1, networks.VOCABULARY - 1, size=(1200, networks.LENGTH))
    # One row holds the last token of the vocabulary, as a dataset that mirrors the traffic would.
    ids[7, 2] = networks.VOCABULARY - 1
    ids[np.arange(networks.LENGTH) >= random.integers(4, networks.LENGTH + 1, size=(1200, 1))] = networks.PAD
    truth = ids[:, 0] % 2 + 2 * (ids[:, 1] > ids[:, 2])
    return trained(getattr(networks, name)(), ids[ROWS:], truth[ROWS:], steps), "ids", ids[:ROWS]


def series() -> tuple[Any, str, Any]:
    """Waves in noise, and a recurrent network that tells three frequencies apart."""
    random = np.random.default_rng(2)
    truth = random.integers(0, 3, 1200)
    waves = np.sin(np.arange(10)[None, :, None] * (1 + truth[:, None, None]) / 3 + np.arange(4))
    x = (waves + random.normal(scale=0.5, size=waves.shape)).astype(np.float32)
    return trained(networks.series(), x[ROWS:], truth[ROWS:], 60), "series", x[:ROWS]


def sharp(name: str, factor: float) -> tuple[Any, str, Any]:
    """Ten layers of sharp attention, which magnify the rounding of single precision."""
    module, argument, rows = sentences(name, steps=0)
    with torch.no_grad():
        for layer in module.layers:
            layer.narrow.weight *= 4
            layer.out.weight *= 4
            layer.mixed.weight *= factor
    return module, argument, rows


NETWORKS = {
    "images": images,
    "sentences": sentences,
    "series": series,
    "deep": lambda: sharp("deep", 5),
    "scales": lambda: sharp("scales", 4),
}


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory, gates: Any, case_type: Any) -> Iterator[Any]:
    """Each network by name, trained, captured and converted once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    @functools.cache
    def network(name: str) -> Network:
        torch.manual_seed(0)
        module, argument, rows = NETWORKS[name]()
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(Path(networks.__file__), folder / "networks.py")
        torch.save(module.state_dict(), folder / "weights.pt")
        gate = gates(tmp_path_factory.mktemp("gate"))
        case = case_type(folder, {argument: rows}, SourceFormat.PYTORCH, request={"loader": f"networks:{name}"})
        return Network(gate, case, module, gate.converted(case))

    yield network
    torch.set_num_threads(threads)


@pytest.fixture
def network(request: pytest.FixtureRequest, captured: Any) -> Network:
    return captured(request.param)


DEFECTS: dict[str, tuple[str, Damage]] = {
    "padding on one side only": ("images", attribute("Conv", pads=[0, 0, 2, 2])),
    "pool with ceil_mode": ("images", attribute("MaxPool", ceil_mode=1)),
    "average pool leaves the padding out": ("images", attribute("AveragePool", count_include_pad=0)),
    "resize without aligned corners": (
        "images",
        attribute("Resize", coordinate_transformation_mode="half_pixel"),
    ),
    "resize by nearest neighbours": (
        "images",
        attribute("Resize", mode="nearest", nearest_mode="round_prefer_floor"),
    ),
    "eps of batch normalisation of another framework": ("images", module(put("norm", eps=1e-3))),
    "batch normalisation in training mode": (
        "images",
        module(lambda whole: whole.register_module("norm", BatchStatistics(whole.norm))),
    ),
    "dropout in training mode": (
        "images",
        before(
            "Gemm",
            ("RandomUniformLike", ["from"], ["chance"], {"seed": 1.0}),
            ("Less", ["chance", "rate"], ["lost"], {}),
            ("Where", ["lost", "zero", "from"], ["to"], {}),
            place=1,
            rate=np.asarray(0.1, np.float32),
            zero=np.asarray(0, np.float32),
        ),
    ),
    "red and blue swapped": (
        "images",
        before("Conv", ("Gather", ["from", "order"], ["to"], {"axis": 1}), order=np.asarray([2, 1, 0])),
    ),
    "gelu by tanh in a convolutional network": ("images", tanh_gelu),
    "a square weight transposed": ("images", weights(only("square.weight", lambda value: value.T))),
    "one channel's scale off by a thousandth": (
        "images",
        weights(only("second.weight", set_to(3, lambda row: row * 1.001))),
    ),
    "one element of a constant folded wrong": (
        "images",
        weights(only("square.weight", set_to((5, 7), lambda one: one * 1.05))),
    ),
    "images: weights cast to float16": ("images", weights(lambda _, value: value.astype(np.float16))),
    "images: weights cast to bfloat16": ("images", weights(lambda _, value: to_bfloat16(value))),
    "images: weights quantised to int8": ("images", weights(lambda _, value: to_int8(value))),
    "attention sees the padding": ("sentences", without_mask),
    "mask shifted by one place": (
        "sentences",
        before(
            "Where",
            ("Gather", ["from", "shifted"], ["to"], {"axis": 3}),
            shifted=np.roll(np.arange(networks.LENGTH), 1),
        ),
    ),
    "softmax over the queries": ("sentences", attribute("Softmax", axis=-2)),
    "gelu by tanh in an encoder": ("sentences", tanh_gelu),
    "eps of the first layer normalisation as in another framework": (
        "sentences",
        attribute("LayerNormalization", epsilon=1e-12),
    ),
    "positions off by one": ("sentences", weights(only("embedding_1", rolled(1)))),
    "last row of the embedding missing": ("sentences", weights(only("tokens.weight", set_to(-1, 0)))),
    "tokens cast to int8": ("sentences", cast(TensorProto.INT8)),
    "sentences: one row of a weight off by a thousandth": (
        "sentences",
        weights(only("head.weight", set_to(2, lambda row: row * 1.001))),
    ),
    "sentences: weights cast to float16": ("sentences", weights(lambda _, value: value.astype(np.float16))),
    "sentences: weights quantised to int8": ("sentences", weights(lambda _, value: to_int8(value))),
    "gates of an LSTM in another order": ("series", gates_reordered),
    "directions of an LSTM swapped": (
        "series",
        weights(lambda _, value: value[::-1] if value.shape[0] == 2 else value),
    ),
    "series: weights cast to float16": ("series", weights(lambda _, value: value.astype(np.float16))),
    "deep: attention sees the padding": ("deep", without_mask),
    "deep: gelu by tanh": ("deep", tanh_gelu),
    "deep: eps of the first layer normalisation": ("deep", attribute("LayerNormalization", epsilon=1e-12)),
    "deep: last row of the embedding missing": ("deep", weights(only("tokens.weight", set_to(-1, 0)))),
    "deep: one row of a weight off by a thousandth": (
        "deep",
        weights(only("head.weight", set_to(2, lambda row: row * 1.001))),
    ),
    "deep: weights cast to float16": ("deep", weights(lambda _, value: value.astype(np.float16))),
    "deep: weights quantised to int8": ("deep", weights(lambda _, value: to_int8(value))),
    "scales: the fine answer's weights cast to float16": (
        "scales",
        weights(only("fine.weight", lambda value: value.astype(np.float16))),
    ),
    "scales: the fine answer off by a few ten-thousandths": (
        "scales",
        weights(only("fine.weight", lambda value: value * 1.0003)),
    ),
}
EACH = sorted(DEFECTS.items(), key=lambda item: list(NETWORKS).index(item[1][0]))


@pytest.mark.parametrize("network", NETWORKS, indirect=True)
def test_the_sound_conversion_passes(network: Network) -> None:
    assert network.sound.verdict is Verdict.PASSED, network.sound.sentence


@pytest.mark.parametrize(
    ("network", "damage"), [pytest.param(*entry, id=name) for name, entry in EACH], indirect=["network"]
)
def test_a_damaged_network_is_stopped(network: Network, damage: Damage) -> None:
    report = network.judged(damage)
    assert report.verdict is Verdict.FAILED, report.sentence
    numeric = next(check for check in report.checks if check.name is CheckName.NUMERIC)
    assert numeric.result is Verdict.FAILED, "an error in the rows themselves is not left to the other checks"
