"""The gate's rules as a TOML file: read strictly, and printed to begin with.

```toml
[[floor]]
score = "attributes"
limit = 0.95

[approval]
people = ["ann"]
```
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sidlsg.registry.rules import (
    Approval,
    Better,
    Floor,
    GateRules,
    MaximumCost,
    NoRegression,
    NotWorse,
    Ratio,
    Required,
)
from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import parse_toml, read_text

_ADVICE = "`sidlsg gate-rules` prints rules to begin with"
SUBJECT = "student 1 step"
"""Whose scores a rule is about where it does not say."""
TABLES: dict[str, tuple[str, type[Any]]] = {
    "floor": ("floors", Floor),
    "ratio": ("ratios", Ratio),
    "no_regression": ("no_regression", NoRegression),
    "not_worse": ("not_worse", NotWorse),
    "better": ("better", Better),
    "required": ("required", Required),
    "cost": ("costs", MaximumCost),
    "approval": ("approvals", Approval),
}
"""The name of each table, the field of `GateRules` that it fills, and what a row becomes."""


def read_gate_rules(path: Path) -> GateRules:
    """Read a file of rules.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    return parse_gate_rules(read_text(path, _ADVICE), f"gate rules {path}")


def parse_gate_rules(text: str, source: str = "the gate rules given") -> GateRules:
    """Read the text of a file of rules, as a pipeline's parameter has it.

    Raises:
        InputError: it is not TOML, or a name or a value is none of a rule's.
    """
    values: dict[str, list[Any]] = {}
    for name, rows in parse_toml(text, source, _ADVICE).items():
        if name not in TABLES:
            raise InputError(f"{source}: no rule is called {name!r}{nearest(name, TABLES)}; rules: {', '.join(TABLES)}")
        rows = [rows] if isinstance(rows, dict) else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{source}: {name} must be a table, [{name}], or tables, [[{name}]]")
        field, kind = TABLES[name]
        values[field] = [_rule(kind, row, f"{source}: [{name}]") for row in rows]
    try:
        return GateRules(**{field: tuple(rows) for field, rows in values.items()})
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def gate_rules_text(rules: GateRules) -> str:
    """The rules as a file that `read_gate_rules` reads to the same rules."""
    tables = []
    for name, (field, _) in TABLES.items():
        for rule in getattr(rules, field):
            values = {value.name: getattr(rule, value.name) for value in fields(rule)}
            # A text or a list of JSON is one of TOML.
            lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
            tables.append(f"[[{name}]]\n{''.join(lines)}")
    return "\n".join(tables)


def _rule(kind: type[Any], row: dict[str, Any], where: str) -> Any:
    names = [field.name for field in fields(kind)]
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.name != "subject"]
    for name in row:
        if name not in names:
            raise InputError(f"{where} has no value {name!r}{nearest(name, names)}; it has: {', '.join(names)}")
    missing = [name for name in needed if name not in row]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    given = {"subject": SUBJECT, **row} if "subject" in names else row
    try:
        # Through JSON: there a list may become a tuple, and a text no number.
        return TypeAdapter(kind).validate_json(json.dumps(given), strict=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(map(str, first["loc"])) or "the table"
        raise InputError(f"{where}: {place}: {first['msg']}") from error
