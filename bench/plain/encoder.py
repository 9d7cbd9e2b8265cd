"""The plainest script that exports a PyTorch encoder to ONNX and compares all answers."""

import sys

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, "model")
from model import build  # type: ignore[import-not-found]

model = build()
model.load_state_dict(torch.load("model/weights.pt"))
model.eval()
rows = np.load("holdout.npz")["tokens"]
with torch.no_grad():
    answers = torch.cat(
        [model(torch.from_numpy(rows[start : start + 32])) for start in range(0, len(rows), 32)]
    ).numpy()
torch.onnx.export(
    model,
    (torch.from_numpy(rows[:2]),),
    "plain.onnx",
    input_names=["tokens"],
    dynamic_shapes={"tokens": {0: torch.export.Dim("batch")}},
    dynamo=True,
)
session = onnxruntime.InferenceSession("plain.onnx", providers=["CPUExecutionProvider"])
converted = np.concatenate(
    [session.run(None, {"tokens": rows[start : start + 32]})[0] for start in range(0, len(rows), 32)]
)
print("largest error", np.abs(converted - answers).max())
print("flips", (converted.argmax(axis=1) != answers.argmax(axis=1)).sum())
