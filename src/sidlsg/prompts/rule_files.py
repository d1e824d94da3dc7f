"""Rules of curation as text: a TOML file, a JSON object, or single values by dotted names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sidlsg.prompts.rules import CurationRules
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml


def read_rules(path: Path) -> dict[str, Any]:
    """The values that a rules file replaces: TOML with a table a section, such as `[score]` with `minimum = 6.5`.

    Raises:
        InputError: there is no such file, or it is not TOML.
    """
    return read_toml(path, "give a file of rules; `sidlsg curate --print-rules` prints one to begin with")


def rules_with(*changes: Mapping[str, Any]) -> CurationRules:
    """The default rules with some values replaced; later changes win.

    Args:
        changes: sections of values, `{"score": {"minimum": 6.5}}`, or values by dotted names, `{"score.minimum": 6.5}`.

    Raises:
        InputError: a name is unknown, or a value is of another kind or out of range.
    """
    values = asdict(CurationRules())
    for change in changes:
        for name, value in _dotted(change).items():
            section, _, key = name.partition(".")
            if section not in values:
                raise InputError(
                    f"the rules have no section {section!r}{nearest(section, values)}; they have: {', '.join(values)}"
                )
            if not key or key not in values[section]:
                keys = values[section]
                raise InputError(
                    f"the rules have no value {name!r}{nearest(key, keys)}; {section} has: {', '.join(keys)}"
                )
            values[section][key] = _fitting(name, value, values[section][key])
    if tuple(values["score"]["cuts"]) == CurationRules().score.cuts:
        # Default cuts below a higher minimum are no mistake of the user's.
        minimum = values["score"]["minimum"]
        values["score"]["cuts"] = [
            c for c in values["score"]["cuts"] if not isinstance(minimum, float | int) or c > minimum
        ]
    try:
        return TypeAdapter(CurationRules).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name} is {first['input']!r}: {first['msg'].lower()}") from error


def rules_toml(rules: CurationRules) -> str:
    """The rules as a TOML file that `read_rules` reads."""
    lines = []
    for section in fields(rules):
        lines.append(f"[{section.name}]")
        values = getattr(rules, section.name)
        assert is_dataclass(values)
        lines += [f"{item.name} = {_toml(getattr(values, item.name))}" for item in fields(values)]
        lines.append("")
    return "\n".join(lines)


def _fitting(name: str, value: Any, default: Any) -> Any:
    """The value, where one alone may stand for a list of them. Pydantic would take true for 1."""
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


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)
