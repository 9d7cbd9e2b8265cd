"""Trains the model that example 02 migrates: histogram gradient boosting with a categorical feature.

    python train.py FOLDER

writes `progression.joblib` and the held-out rows `holdout.parquet` to FOLDER. `sex` is a code
without an order, and the model is told so.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

folder = Path(sys.argv[1])
rows = load_diabetes(as_frame=True, scaled=False)
columns = list(rows.data.columns)
train, holdout = train_test_split(rows.data.assign(progression=rows.target), test_size=0.5, random_state=0)

model = HistGradientBoostingRegressor(
    max_iter=40, learning_rate=0.05, min_samples_leaf=10, categorical_features=[columns.index("sex")], random_state=0
)
model.fit(train[columns].to_numpy(), train["progression"])

folder.mkdir(parents=True, exist_ok=True)
joblib.dump(model, folder / "progression.joblib")
holdout.reset_index(drop=True).to_parquet(folder / "holdout.parquet")
print(f"trained on {len(train)} rows, kept {len(holdout)} rows to judge by")
