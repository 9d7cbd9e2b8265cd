"""The base model and the scalar types of the API: decimals, durations, digests and names as strings."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError

from paritygate.api.rules import Rule, broken_places

GROUP: Final = "paritygate.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "paritygate.dev/v1alpha1"


def list_map(key: str) -> dict[str, Any]:
    """Schema keys of a list whose items have distinct values of `key`, by which server-side apply merges them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


LIST_SET: Final = {"x-kubernetes-list-type": "set"}
"""Schema keys of a list of distinct scalars."""


class Model(BaseModel):
    """An immutable API object: camelCase on the wire, unknown fields refused, no silent conversion of types."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=False,
        use_enum_values=False,
        ser_json_inf_nan="strings",
        val_json_bytes="base64",
        use_attribute_docstrings=True,  # they become the descriptions of the CRD and the reference
    )

    RULES: ClassVar[tuple[Rule, ...]] = ()
    """What must hold between the fields."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        if self.RULES:
            stated = self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
            broken = [rule.message for rule in self.RULES if broken_places(rule, stated)]
            if broken:
                raise PydanticCustomError("rule", "{messages}", {"messages": "; ".join(broken)})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema, with the rules as Kubernetes evaluates them."""
        reference = handler(core)
        rules = [{"rule": rule.cel, "message": rule.message} for rule in cls.RULES if rule.cel]
        if rules:
            handler.resolve_ref_schema(reference)["x-kubernetes-validations"] = rules
        return reference

    def to_dict(self) -> dict[str, object]:
        """The object as JSON-ready data, camelCase, without fields that are None."""
        # Through JSON text: model_dump(mode="json") leaves NaN and infinities as floats despite ser_json_inf_nan.
        data: dict[str, object] = json.loads(self.model_dump_json(by_alias=True, exclude_none=True))
        return data


DecimalString = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE]-?[0-9]{1,3})?$", max_length=32),
]
"""A decimal ≥ 0 as a string, such as '1e-4' or '0.005': Kubernetes objects hold no floats."""

ProbabilityString = Annotated[
    str,
    StringConstraints(strict=True, pattern=r"^(0(\.[0-9]+)?|1(\.0+)?|[1-9](\.[0-9]+)?[eE]-[0-9]{1,3})$", max_length=32),
]
"""A decimal between 0 and 1 as a string."""

DurationString = Annotated[str, StringConstraints(strict=True, pattern=r"^([0-9]+(ms|s|m|h|d))+$", max_length=32)]
"""A duration such as '300ms', '5m' or '1h30m'."""

Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
"""`sha256:` and 64 hexadecimal digits, of a file's bytes or of a folder's listing (see docs/reference/formats.md)."""

MigrationName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=40)
]
"""The name of a ModelMigration: a DNS label of at most 40 characters, so that names of children fit 63."""

PinnedImage = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$", max_length=512)]
"""An image by digest."""

Namespace = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)
]
"""The name of a namespace."""

Registry = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[^\s:@]*)?$", max_length=256)
]
"""A registry of images, or a folder in one."""

_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_DURATION_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def duration(text: str) -> timedelta:
    """The length of time that a `DurationString` names."""
    return sum((int(count) * _DURATION_UNITS[unit] for count, unit in _DURATION_PART.findall(text)), timedelta())


def decimal(text: str) -> float:
    """The number that a `DecimalString` names, as the nearest double."""
    return float(Decimal(text))
