"""The three migrations that `make bench` times. `python bench/cases.py FOLDER [ROWS]` writes what they take.

All weights are trained on synthetic data or random; nothing is downloaded. Sizes are chosen so that the plain script
works for some 10 seconds or more on two cores, where a fixed start-up cost no longer hides the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import yaml

ROWS = 200_000
"""Of the tables, unless others are asked for."""
SENTENCES = 192
SENTENCE_LENGTH = 128
VOCABULARY = 30_522

ENCODER = '''
"""A transformer encoder of 66 million parameters, shaped like DistilBERT, with random weights."""

import torch


class Encoder(torch.nn.Module):
    def __init__(self, vocabulary=30522, width=768, depth=6, heads=12, classes=4):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.position = torch.nn.Parameter(torch.zeros(512, width))
        layer = torch.nn.TransformerEncoderLayer(
            width, heads, 4 * width, batch_first=True, activation="gelu", norm_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, classes)

    def forward(self, tokens):
        states = self.embedding(tokens) + self.position[: tokens.shape[1]]
        return self.head(self.encoder(states).mean(dim=1))


def build():
    return Encoder()
'''


def write(folder: Path, rows: int) -> None:
    """Writes each case that is not there in this size to `folder/CASE/`, with `migration.yaml` as its manifest."""
    for case in (pipeline, boosting, encoder):
        target = folder / case.__name__
        size = f"{rows} rows, {SENTENCES} sentences"
        made = target / "size.txt"
        if made.exists() and made.read_text() == size:
            continue
        made.unlink(missing_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        spec = case(target, rows)
        manifest = {
            "apiVersion": "paritygate.dev/v1alpha1",
            "kind": "ModelMigration",
            "metadata": {"name": case.__name__},
            "spec": spec,
        }
        (target / "migration.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        made.write_text(size)


def _tabular(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows, 24)) * rng.uniform(0.5, 50, size=24)
    signal = features[:, 0] + np.sin(features[:, 1]) * features[:, 2] + rng.normal(size=rows) * 5
    return features, (signal > 0).astype(np.int64)


def _frame(features: np.ndarray, labels: np.ndarray, path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(features, columns=[f"f{column}" for column in range(features.shape[1])])
    frame["segment"] = np.array(["north", "east", "south", "west"])[np.arange(len(frame)) % 4]
    frame["label"] = labels
    frame.to_parquet(path)


def pipeline(folder: Path, rows: int) -> dict[str, object]:
    """A scikit-learn pipeline: scaler and a forest of 300 trees."""
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, labels = _tabular(10_000 + rows)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(300, max_depth=12, random_state=0, n_jobs=2))
    model.fit(features[:10_000], labels[:10_000])
    joblib.dump(model, folder / "model.joblib")
    _frame(features[10_000:], labels[10_000:], folder / "holdout.parquet")
    return _tabular_spec("SKLearn", "model.joblib")


def boosting(folder: Path, rows: int) -> dict[str, object]:
    """A LightGBM classifier of 800 trees with 63 leaves."""
    import lightgbm

    features, labels = _tabular(10_000 + rows)
    model = lightgbm.LGBMClassifier(n_estimators=800, num_leaves=63, learning_rate=0.02, verbose=-1, n_jobs=2)
    model.fit(features[:10_000], labels[:10_000])
    model.booster_.save_model(folder / "model.txt")
    _frame(features[10_000:], labels[10_000:], folder / "holdout.parquet")
    return _tabular_spec("LightGBM", "model.txt")


def _tabular_spec(source_format: str, uri: str) -> dict[str, object]:
    return {
        "source": {"format": source_format, "uri": uri},
        "target": {"format": "ONNX"},
        "validation": {
            "dataset": {"uri": "holdout.parquet", "label": "label", "slices": [{"column": "segment"}]},
            "metrics": [{"name": "accuracy", "maxDrop": "0.005"}, {"name": "roc_auc", "maxDrop": "0.005"}],
        },
    }


def encoder(folder: Path, rows: int) -> dict[str, object]:
    """A transformer encoder of 66 million parameters with random weights."""
    import torch

    del rows  # it has sentences
    code = folder / "model"
    code.mkdir(exist_ok=True)
    (code / "model.py").write_text(ENCODER)
    sys.path.insert(0, str(code))
    from model import build  # type: ignore[import-not-found]

    torch.manual_seed(0)
    torch.save(build().state_dict(), code / "weights.pt")
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, size=(SENTENCES, SENTENCE_LENGTH))
    np.savez(folder / "holdout.npz", tokens=tokens, label=rng.integers(0, 4, size=SENTENCES))
    return {
        "source": {"format": "PyTorch", "uri": "model", "loader": "model:build"},
        "target": {"format": "ONNX"},
        "validation": {"task": "Classification", "dataset": {"uri": "holdout.npz", "label": "label"}},
    }


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ROWS)
