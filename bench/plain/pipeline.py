"""The plainest script that exports a scikit-learn pipeline to ONNX and compares all answers."""

import joblib
import numpy as np
import onnxruntime
import pandas as pd
from skl2onnx import to_onnx

model = joblib.load("model.joblib")
rows = pd.read_parquet("holdout.parquet").drop(columns=["segment", "label"]).to_numpy()
probabilities = model.predict_proba(rows)
onx = to_onnx(model, rows[:1], options={"zipmap": False})
with open("plain.onnx", "wb") as file:
    file.write(onx.SerializeToString())
session = onnxruntime.InferenceSession("plain.onnx", providers=["CPUExecutionProvider"])
label, converted = session.run(None, {session.get_inputs()[0].name: rows})
print("largest error", np.abs(converted - probabilities).max())
print("flips", (label != model.classes_[probabilities.argmax(axis=1)]).sum())
