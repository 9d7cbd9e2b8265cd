"""The plainest script that exports a LightGBM classifier to ONNX and compares all answers."""

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

model = lightgbm.Booster(model_file="model.txt")
rows = pd.read_parquet("holdout.parquet").drop(columns=["segment", "label"]).to_numpy()
probabilities = model.predict(rows)
onx = convert_lightgbm(model, initial_types=[("features", FloatTensorType([None, rows.shape[1]]))], zipmap=False)
with open("plain.onnx", "wb") as file:
    file.write(onx.SerializeToString())
session = onnxruntime.InferenceSession("plain.onnx", providers=["CPUExecutionProvider"])
label, converted = session.run(None, {"features": rows.astype(np.float32)})
print("largest error", np.abs(converted[:, 1] - probabilities).max())
print("flips", (label != (probabilities > 0.5)).sum())
