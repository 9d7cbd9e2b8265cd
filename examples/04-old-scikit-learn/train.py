"""Trains the model that example 04 migrates, where scikit-learn 1.2 and numpy 1 are installed.

    uv run --no-project --python 3.11 --with-requirements requirements.txt train.py FOLDER

writes `wine.pkl` and the held-out rows `holdout.csv` to FOLDER.
"""

import pickle
import sys
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = Path(sys.argv[1])
wines = load_wine()
train, holdout, train_labels, holdout_labels = train_test_split(
    wines.data, wines.target, test_size=0.5, random_state=0, stratify=wines.target
)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, train_labels)

folder.mkdir(parents=True, exist_ok=True)
(folder / "wine.pkl").write_bytes(pickle.dumps(model))
header = ",".join([*(name.replace("/", "_") for name in wines.feature_names), "cultivar"])
table = np.column_stack([holdout, holdout_labels])
np.savetxt(folder / "holdout.csv", table, delimiter=",", header=header, comments="", fmt=["%r"] * 13 + ["%d"])
print(f"trained with scikit-learn {sklearn.__version__} and numpy {np.__version__}")
