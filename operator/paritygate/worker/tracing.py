"""Runs a candidate in this process with its inner tensors exposed, as serving does it and without optimisation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_AT_ONCE: Final = 64
"""Tensors exposed in one session: bounds memory, since a runtime keeps what is exposed."""
_MOST: Final = 2048
"""Tensors looked at where none is named."""
_INITIALIZER_FOLDER: Final = "session.model_external_initializers_file_folder_path"


class TracingError(Exception):
    """Why the candidate cannot be looked into, as the end of a sentence."""


class Graph:
    """A candidate's graph. TracingError from any method: it cannot be read or run here."""

    def __init__(self, path: Path) -> None:
        import onnx  # noqa: PLC0415 - takes long, and a candidate that passes is not looked into

        self._path = path
        self._model = onnx.load(str(path), load_external_data=False)
        graph = self._model.graph
        self._given = [value.name for value in graph.input]
        self._inner = [name for node in graph.node for name in node.output if name]
        self._outputs = [value.name for value in graph.output]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Inputs and what nodes make, in the order of the file."""
        return (*self._given, *self._inner)

    def run(
        self, feeds: Mapping[str, Array], names: Sequence[str], *, optimised: bool = True, exposed: bool = False
    ) -> dict[str, Array]:
        """Values of some tensors by name; what is no tensor is left out. `exposed`: inner tensors are outputs too."""
        wanted = [name for name in names if name not in feeds]
        shown = list(dict.fromkeys([*wanted, *(self._inner[:_AT_ONCE] if exposed else ())]))
        session = self._session(shown, optimised=optimised)
        try:
            made = session.run(shown, dict(feeds)) if shown else []
        except Exception as error:
            raise TracingError(f"the candidate does not run with its inner values exposed ({_line(error)})") from error
        found = {name: value for name, value in zip(shown, made, strict=True) if isinstance(value, np.ndarray)}
        return {**found, **{name: np.asarray(feeds[name]) for name in names if name in feeds}}

    def each(self, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Inner tensors in order, a few at a time. TracingError: there are too many."""
        names = [name for name in self._inner if name not in self._outputs]
        if len(names) > _MOST:
            raise TracingError(f"the artefact has {len(names):,} tensors, and at most {_MOST:,} are looked through")
        for start in range(0, len(names), _AT_ONCE):
            yield from self.run(feeds, names[start : start + _AT_ONCE]).items()

    def _session(self, names: Sequence[str], *, optimised: bool) -> Any:
        import onnx  # noqa: PLC0415 - as above

        try:
            import onnxruntime as ort  # noqa: PLC0415 - comes with the extra `server`, which judging does not need
        except ImportError as error:
            raise TracingError(
                "onnxruntime is not installed where the gate runs; install it with pip install 'paritygate[server]'"
            ) from error
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        own = {value.name: value for value in self._model.graph.output}
        model.graph.output.extend(own.get(name) or onnx.ValueInfoProto(name=name) for name in names)
        options = ort.SessionOptions()
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        options.add_session_config_entry(_INITIALIZER_FOLDER, str(self._path.parent.resolve()))
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise TracingError(
                f"onnxruntime does not load the candidate with its inner values exposed ({_line(error)})"
            ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
