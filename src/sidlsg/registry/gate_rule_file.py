"""The gate's rules as a TOML file.

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
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sidlsg.registry.gate_rules import (
    Approval,
    Better,
    DataFree,
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
from sidlsg.runtime.validation import first_mistake

_ADVICE = "`sidlsg gate-rules` prints rules to begin with"
TABLES: dict[str, tuple[str, type[Any]]] = {
    "floor": ("floors", Floor),
    "ratio": ("ratios", Ratio),
    "no_regression": ("no_regression", NoRegression),
    "not_worse": ("not_worse", NotWorse),
    "better": ("better", Better),
    "required": ("required", Required),
    "data_free": ("data_free", DataFree),
    "cost": ("costs", MaximumCost),
    "approval": ("approvals", Approval),
}
"""By table: the field of `GateRules`, and the class of a row."""


def read_gate_rules(path: Path) -> GateRules:
    """Read a file of rules; InputError if there is none, or it holds something else."""
    return parse_gate_rules(read_text(path, _ADVICE), f"gate rules {path}")


def parse_gate_rules(text: str, source: str = "the gate rules given") -> GateRules:
    """Parse the text of a file of rules, as a pipeline's parameter has it.

    Raises:
        InputError: it is not TOML, or has a name or value that no rule has.
    """
    values: dict[str, tuple[Any, ...]] = {}
    for name, rows in parse_toml(text, source, _ADVICE).items():
        if name not in TABLES:
            raise InputError(f"{source}: no rule is called {name!r}{nearest(name, TABLES)}; rules: {', '.join(TABLES)}")
        rows = [rows] if isinstance(rows, dict) else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{source}: {name} must be a table, [{name}], or tables, [[{name}]]")
        field, kind = TABLES[name]
        values[field] = tuple(_rule(kind, row, f"{source}: [{name}]") for row in rows)
    try:
        return GateRules(**values)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def gate_rules_text(rules: GateRules) -> str:
    """The rules as a file that `read_gate_rules` reads back."""
    tables = []
    for name, (field, _) in TABLES.items():
        for rule in getattr(rules, field):
            # Strings, numbers and lists of JSON are TOML's too.
            lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in vars(rule).items()]
            tables.append(f"[[{name}]]\n{''.join(lines)}")
    return "\n".join(tables)


def _rule(kind: type[Any], row: dict[str, Any], where: str) -> Any:
    names = [field.name for field in fields(kind)]
    for name in row:
        if name not in names:
            raise InputError(f"{where} has no value {name!r}{nearest(name, names)}; it has: {', '.join(names)}")
    try:
        # In JSON's strict mode a list may become a tuple, but a string no number.
        return TypeAdapter(kind).validate_json(json.dumps(row), strict=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except ValidationError as error:
        raise InputError(f"{where}: {first_mistake(error, 'the table')}") from error
    except TypeError as error:  # JSON has no dates
        raise InputError(f"{where}: a value is a date or a time; give a text, a number or a list") from error
