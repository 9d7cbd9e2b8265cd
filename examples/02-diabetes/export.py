"""Exports the model of example 02 as it is done today, with the checks that people make, and all of them succeed.

    python export.py FOLDER

writes `exported.onnx` beside the model in FOLDER. It is silently wrong: skl2onnx turns the categorical splits of
histogram gradient boosting into numeric ones (sklearn-onnx issue 1051).
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
from skl2onnx import to_onnx
from sklearn.metrics import r2_score

folder = Path(sys.argv[1])
model = joblib.load(folder / "progression.joblib")
holdout = pd.read_parquet(folder / "holdout.parquet")
rows, truth = holdout.drop(columns="progression").to_numpy(np.float32), holdout["progression"]

onnx.save(to_onnx(model, rows[:1]), folder / "exported.onnx")
onnx.checker.check_model(folder / "exported.onnx", full_check=True)
session = onnxruntime.InferenceSession(folder / "exported.onnx")
answers = session.run(None, {session.get_inputs()[0].name: rows})[0].ravel()

print("the export succeeded, the file passes ONNX's own checker, and it loads and answers every row")
print(f"R² was {r2_score(truth, model.predict(rows)):.3f} and is {r2_score(truth, answers):.3f}")
