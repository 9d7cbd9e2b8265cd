"""Target formats: how a candidate is built and finished."""

from typing import Final

MODEL_FILE: Final = "model.onnx"
DATA_FILE: Final = "model.onnx.data"
