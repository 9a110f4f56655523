"""Options of an encoder: from keyword arguments or a checkpoint's `cfg` to a checked dataclass."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

from backbones.contract import BackboneError

Config = TypeVar("Config")


def did_you_mean(name: str, known: list[str]) -> str:
    """Return " Did you mean ...?" for the nearest known name, "" where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def updated(config: Config, values: Mapping[str, Any], *, what: str) -> Config:
    """Return a configuration with some of its values replaced, each checked against its declared type.

    Args:
        config: a dataclass whose fields are bool, int, float, str or int | None.
        values: new values by field name.
        what: how an error names the source of the values, for example "backbone beats".

    Raises:
        BackboneError: when a name is unknown or a value has another type.
    """
    known = [field.name for field in fields(config)]  # type: ignore[arg-type]  # any dataclass
    types = get_type_hints(type(config))
    for name, value in values.items():
        if name not in known:
            raise BackboneError(
                f"{what} has no option {name}.{did_you_mean(name, known)} Its options are: {', '.join(sorted(known))}."
            )
        if not _fits(value, types[name]):
            wanted = getattr(types[name], "__name__", str(types[name]))
            raise BackboneError(f"The option {name} of {what} must be of type {wanted}, but got {value!r}.")
    return replace(config, **values)  # type: ignore[type-var]  # any dataclass


def _fits(value: object, wanted: Any) -> bool:
    if wanted is bool or isinstance(value, bool):
        return isinstance(value, bool) and wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    return isinstance(value, wanted)


def must_be_positive(config: object, names: tuple[str, ...], *, what: str) -> None:
    """Refuse sizes below 1.

    Raises:
        BackboneError: naming the first.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise BackboneError(f"The option {name} of {what} must be at least 1, but got {value}.")


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
                f"The option {name} must be {there[name]!r}, as {path} says, but got {value!r}; leave the option out."
            )
