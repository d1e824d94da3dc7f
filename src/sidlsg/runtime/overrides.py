"""Values of frozen dataclasses, replaced by name from the command line and pipeline parameters."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_json

T = TypeVar("T")


def parse_changes(text: str) -> dict[str, Any]:
    """Read a JSON object such as `{"iterations": 400}`; raises InputError for any other text."""
    try:
        changes = parse_json(text)
    except ValueError as error:
        raise InputError(f"changes {text!r} are not JSON ({error}); give an object such as {{}}") from error
    if not isinstance(changes, dict):
        raise InputError(f"changes {text!r} are not a JSON object; give one such as {{}}")
    return changes


def parse_value(text: str) -> Any:
    """A value as users write it: JSON if it is valid JSON, otherwise the text itself."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def changes_text(changes: Mapping[str, Any]) -> str:
    """The JSON that `parse_changes` reads, whole doubles as integers: a pipeline's parameters have no integers."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps(plain(changes))


def with_changes(instance: T, changes: dict[str, Any], fixed: tuple[str, ...] = ()) -> T:
    """A copy of a dataclass instance with some values replaced, except those that are `fixed`.

    Raises:
        InputError: a name is unknown, or a value has another type than the one it replaces.
    """
    what = type(instance).__name__
    current = {
        field.name: getattr(instance, field.name)
        for field in dataclasses.fields(instance)  # type: ignore[arg-type]
        if field.name not in fixed
    }
    declared = get_type_hints(type(instance))
    values = dict(changes)
    for name, value in changes.items():
        if name not in current:
            raise InputError(
                f"{what} has no value {name!r}{nearest(name, current)}; it has: {', '.join(sorted(current))}"
            )
        # A float's default may be written as 1000.
        kind = float if declared[name] is float else type(current[name])
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or isinstance(value, bool) is not (kind is bool):
            raise InputError(f"{name} is {value!r}; it must be of kind {kind.__name__}, like {current[name]!r}")
        values[name] = float(value) if kind is float else value
    return dataclasses.replace(instance, **values)  # type: ignore[type-var]
