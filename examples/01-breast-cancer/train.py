"""Trains the model that example 01 migrates: a scikit-learn pipeline on a data frame.

    python train.py FOLDER

writes `tumours.joblib` and the held-out rows `holdout.parquet` to FOLDER.
"""

import sys
from pathlib import Path

import joblib
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

folder = Path(sys.argv[1])
rows = load_breast_cancer(as_frame=True)
frame = rows.data.assign(diagnosis=rows.target_names[rows.target])
train, holdout = train_test_split(frame, test_size=0.5, random_state=0, stratify=frame["diagnosis"])

columns = list(rows.data.columns)
areas = [name for name in columns if "area" in name]
others = [name for name in columns if "area" not in name]
model = make_pipeline(
    make_column_transformer((PowerTransformer(), areas), (StandardScaler(), others)),
    LogisticRegression(max_iter=1000),
)
model.fit(train[columns], train["diagnosis"])

folder.mkdir(parents=True, exist_ok=True)
joblib.dump(model, folder / "tumours.joblib")
holdout.reset_index(drop=True).to_parquet(folder / "holdout.parquet")
print(f"trained on {len(train)} rows, kept {len(holdout)} rows to judge by")
