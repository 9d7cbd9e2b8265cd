"""Trains a second model for the clients of example 01, and exports the first one as it is done today.

    python retrain.py FOLDER

reads `tumours.joblib` and `holdout.parquet` in FOLDER and writes `better.joblib` and `exported.onnx` beside them.
"""

import sys
from pathlib import Path

import joblib
import onnx
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

folder = Path(sys.argv[1])
first, holdout = joblib.load(folder / "tumours.joblib"), pd.read_parquet(folder / "holdout.parquet")
columns = [name for name in holdout.columns if name != "diagnosis"]

rows = load_breast_cancer(as_frame=True)
frame = rows.data.assign(diagnosis=rows.target_names[rows.target])
train, _ = train_test_split(frame, test_size=0.5, random_state=0, stratify=frame["diagnosis"])
model = make_pipeline(PowerTransformer(), LogisticRegression(C=0.1, max_iter=1000))
model.fit(train[columns], train["diagnosis"])
joblib.dump(model, folder / "better.joblib")

types = [(name, FloatTensorType([None, 1])) for name in columns]
exported = to_onnx(first, initial_types=types, options={"zipmap": False})
names = {name.replace(" ", "_"): name for name in columns}  # the exporter takes spaces out; clients send them
for tensor in exported.graph.input:
    tensor.name = names[tensor.name]
for node in exported.graph.node:
    node.input[:] = [names.get(name, name) for name in node.input]
onnx.save(exported, folder / "exported.onnx")

was, is_now = (one.score(holdout[columns], holdout["diagnosis"]) for one in (first, model))
print(f"accuracy was {was:.3f} and is {is_now:.3f}")
