"""Looks into torch's files without torch and without running what they name: ZIP archives, pickles, safetensors."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from paritygate.errors import ConfigurationError

_LARGEST_HEADER: Final = 100 << 20
_PERSISTENT_PARTS: Final = 5
_DAMAGE: Final = (
    pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, struct.error,
    zipfile.BadZipFile, OSError, RecursionError,
)  # fmt: skip


@dataclass
class Pickled:
    """What a pickle of tensors names and holds."""

    imports: list[str] = field(default_factory=list)
    storages: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Key → (device, elements)."""
    training: bool = False
    """Whether some module in it is in training mode."""

    @property
    def elements(self) -> int:
        """Elements of all storages."""
        return sum(count for _, count in self.storages.values())

    @property
    def devices(self) -> tuple[str, ...]:
        """Kinds of devices other than the CPU, such as 'cuda'."""
        return tuple(sorted({device.partition(":")[0] for device, _ in self.storages.values()} - {"cpu", "meta"}))


class Archive:
    """A ZIP archive of torch. ConfigurationError: it is truncated, or no such archive."""

    def __init__(self, path: Path, expected: str) -> None:
        self.path, self.expected = path, expected
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except _DAMAGE as error:
            raise self.unreadable(error) from error
        self.root = names[0].split("/")[0] + "/" if names and "/" in names[0] else ""
        self.names = [name.removeprefix(self.root) for name in names]

    def read(self, name: str) -> bytes:
        """A member. ConfigurationError: it is missing or damaged."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.root + name)
        except _DAMAGE as error:
            raise self.unreadable(error) from error

    def json(self, name: str) -> Any:
        """A member as JSON. ConfigurationError: it is missing or damaged."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise self.unreadable(error) from error

    def pickled(self, name: str) -> Pickled:
        """A member as a pickle. ConfigurationError: it is missing or damaged."""
        found = Pickled()
        try:
            _Reader(io.BytesIO(self.read(name)), found).load()
        except _DAMAGE as error:
            raise self.unreadable(error) from error
        return found

    def unreadable(self, error: BaseException) -> ConfigurationError:
        """Says that the file is not what was expected."""
        return ConfigurationError(
            "ModelUnreadable",
            f"source.uri: {self.path.name} is not {self.expected} ({type(error).__name__}: {error}); it is truncated, "
            f"damaged or of another format: copy it again, or correct source.format",
        )


def read_safetensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Tensor name → (dtype, shape), from the header. ConfigurationError: the file is truncated or something else."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LARGEST_HEADER, path.stat().st_size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        end = (
            8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"), default=0)
        )
        if end > path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} of {end} bytes")
        return {
            name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__"
        }
    except _DAMAGE as error:
        raise ConfigurationError(
            "ModelUnreadable",
            f"source.uri: {path.name} is no whole safetensors file ({error}); copy it again",
        ) from error


def elements_of(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> int:
    """Elements of all tensors."""
    return sum(math.prod(shape) for _, shape in tensors.values())


class _Foreign:
    """Stands for whatever a pickle imports; it remembers nothing but training modes."""

    pickled: Pickled

    def __new__(cls, *_: Any, **__: Any) -> _Foreign:  # noqa: PYI034 - subclasses stand for foreign classes
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and state.get("training") is True:
            self.pickled.training = True

    def __setitem__(self, key: Any, value: Any) -> None:
        """Foreign mappings are filled, and not kept."""

    def append(self, item: Any) -> None:
        """Foreign lists are filled, and not kept."""

    def extend(self, items: Any) -> None:
        """Foreign lists are filled, and not kept."""


class _Reader(pickle.Unpickler):
    """Carries out a pickle with a stand-in for everything that it imports."""

    def __init__(self, stream: io.BytesIO, found: Pickled) -> None:
        super().__init__(stream)
        self.found = found

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        path = f"{module}.{name}"
        if path not in self.found.imports:
            self.found.imports.append(path)
        return type(name.rpartition(".")[2], (_Foreign,), {"pickled": self.found, "path": path})

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= _PERSISTENT_PARTS and pid[0] == "storage":
            _, _, key, device, count = pid[:_PERSISTENT_PARTS]
            self.found.storages[str(key)] = (str(device), int(count))
        return None
