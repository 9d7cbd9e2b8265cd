"""Trains the model that example 03 migrates: a convolutional network on scikit-learn's digits.

    python train.py FOLDER

writes `model/` (code and weights), `holdout.npz`, and `training-mode.onnx`: the same network exported while it was
still in training mode, a mistake that exporters accept.
"""

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
code = Path(__file__).resolve().parent / "model"
if code != (folder / "model").resolve():
    shutil.copytree(code, folder / "model", dirs_exist_ok=True)
sys.path.insert(0, str(folder / "model"))
from digits import build  # noqa: E402  (it lies in the folder that was just copied)

pictures, labels = load_digits(return_X_y=True)
pictures = (pictures / 16).astype(np.float32).reshape(-1, 1, 8, 8)
train, holdout, train_labels, holdout_labels = train_test_split(
    pictures, labels, test_size=0.5, random_state=0, stratify=labels
)

torch.manual_seed(0)
model = build()
optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(12):
    for batch in torch.randperm(len(train)).split(64):
        optimiser.zero_grad()
        logits = model(torch.from_numpy(train[batch]))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(train_labels[batch])).backward()
        optimiser.step()

torch.save(model.state_dict(), folder / "model" / "weights.pt")
np.savez(folder / "holdout.npz", pixels=holdout, label=holdout_labels)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the exporter's deprecation; it says nothing of the mode
    torch.onnx.export(
        model,
        (torch.from_numpy(train[:2]),),
        folder / "training-mode.onnx",
        dynamo=False,
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
        training=torch.onnx.TrainingMode.PRESERVE,
    )
model.eval()
with torch.no_grad():
    accuracy = (model(torch.from_numpy(holdout)).argmax(1).numpy() == holdout_labels).mean()
print(f"trained on {len(train)} pictures, accuracy {accuracy:.3f} on {len(holdout)} kept to judge by")
