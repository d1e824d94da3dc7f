"""Rules of curation as text: a TOML file, a JSON object, or single values by dotted names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sidlsg.prompts.rules import CurationRules
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml
from sidlsg.runtime.validation import first_mistake


def read_rules(path: Path) -> dict[str, Any]:
    """The values in a rules file: TOML with a table for each section, such as `[score]` with `minimum = 6.5`.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    return read_toml(path, "give a file of rules; `sidlsg curate --print-rules` prints one to begin with")


def rules_with(*changes: Mapping[str, Any]) -> CurationRules:
    """The default rules with some values replaced; later changes win.

    Args:
        changes: sections of values, `{"score": {"minimum": 6.5}}`, or values by dotted names, `{"score.minimum": 6.5}`.

    Raises:
        InputError: a name is unknown, or a value is of another type or out of range.
    """
    values = asdict(CurationRules())
    for change in changes:
        for name, value in _dotted(change).items():
            section, _, key = name.partition(".")
            if section not in values:
                raise InputError(
                    f"the rules have no section {section!r}{nearest(section, values)}; they have: {', '.join(values)}"
                )
            keys = values[section]
            if not key or key not in keys:
                raise InputError(
                    f"the rules have no value {name!r}{nearest(key, keys)}; {section} has: {', '.join(keys)}"
                )
            keys[key] = _fitting(name, value, keys[key])
    score = values["score"]
    if tuple(score["cuts"]) == CurationRules().score.cuts and isinstance(score["minimum"], float | int):
        # Default cuts below a higher minimum are not the user's mistake.
        score["cuts"] = [cut for cut in score["cuts"] if cut > score["minimum"]]
    try:
        return TypeAdapter(CurationRules).validate_python(values)
    except ValidationError as error:
        raise InputError(first_mistake(error, "the whole")) from error


def rules_toml(rules: CurationRules) -> str:
    """The rules as a TOML file that `read_rules` reads."""
    # Strings, lists, numbers and truth values are the same in JSON and TOML.
    lines = []
    for section, values in asdict(rules).items():
        lines += [
            f"[{section}]",
            *(f"{name} = {json.dumps(each, ensure_ascii=False)}" for name, each in values.items()),
        ]
        lines.append("")
    return "\n".join(lines)


def _fitting(name: str, value: Any, default: Any) -> Any:
    """The value, in a list where a list is expected. Pydantic would take true for 1."""
    if isinstance(value, bool) is not isinstance(default, bool):
        kind = "true or false" if isinstance(default, bool) else f"like {default!r}"
        raise InputError(f"{name} is {value!r}; it must be {kind}")
    return [value] if isinstance(default, tuple) and isinstance(value, str | int | float) else value


def _dotted(change: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in change.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat
