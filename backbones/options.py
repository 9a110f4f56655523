"""Options of an encoder: from keyword arguments or a checkpoint's `cfg` to a checked dataclass."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

from backbones.contract import BackboneError
from backbones.plugins import did_you_mean

Config = TypeVar("Config")
LARGEST = 2**20  # of a size: products of two of them still are numbers that torch can count with
MOST_LAYERS = 1_000  # the deepest published audio encoders have 48


def updated(config: Config, values: Mapping[str, Any], *, what: str) -> Config:
    """Return a configuration with some of its values replaced, each checked against its declared type.

    Args:
        config: a dataclass whose fields are bool, int, float, str or int | None.
        values: new values by field name.
        what: how an error names the source of the values, for example "backbone beats".

    Raises:
        BackboneError: when a name is unknown, a value has another type, or a number is not finite.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]  # any dataclass
    types = get_type_hints(type(config))
    for name, value in values.items():
        if name not in known:
            raise BackboneError(
                f"{what} has no option {name}.{did_you_mean(str(name), known)} Its options are: "
                f"{', '.join(sorted(known))}."
            )
        if not _fits(value, types[name]):
            wanted = getattr(types[name], "__name__", str(types[name]))
            raise BackboneError(f"The option {name} of {what} must be of type {wanted}, but got {reprlib.repr(value)}.")
        if types[name] is float and not _is_finite(value):
            raise BackboneError(f"The option {name} of {what} must be a finite number, but got {reprlib.repr(value)}.")
    return replace(config, **values)  # type: ignore[type-var]  # any dataclass


def _fits(value: object, wanted: Any) -> bool:
    if wanted is bool or isinstance(value, bool):
        return isinstance(value, bool) and wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    return isinstance(value, wanted)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # a whole number beyond what a float holds
        return False


def must_be_positive(config: object, names: tuple[str, ...], *, what: str) -> None:
    """Refuse sizes below 1, and those that no model has, before anything of that size is built.

    Raises:
        BackboneError: naming the first.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise BackboneError(f"The option {name} of {what} must be at least 1, but got {reprlib.repr(value)}.")
        most = MOST_LAYERS if name.endswith("layers") else LARGEST
        if value is not None and value > most:
            raise BackboneError(f"The option {name} of {what} must be at most {most:,}, but got {reprlib.repr(value)}.")


def must_agree(options: Mapping[str, Any], there: Mapping[str, Any], *, path: object) -> None:
    """Refuse options that contradict what a checkpoint says of itself.

    Args:
        options: as the caller gave them.
        there: what the checkpoint says.
        path: of the checkpoint.

    Raises:
        BackboneError: naming the first.
    """
    for name, value in options.items():
        if name in there and there[name] != value:
            raise BackboneError(
                f"The option {name} must be {there[name]!r}, as {path} says, but got {reprlib.repr(value)}; leave the "
                "option out."
            )
