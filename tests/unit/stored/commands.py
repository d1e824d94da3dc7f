"""Every command of the program with its options and arguments, as users' scripts know them: without the wording.

After a wanted change, `python tests/unit/stored/commands.py` writes commands.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from sidlsg.cli.app import app

FILE = Path(__file__).with_name("commands.json")
COMMAND = "python tests/unit/stored/commands.py"


def commands() -> dict[str, Any]:
    """By each command's words, such as `sidlsg registry fetch`."""
    found: dict[str, Any] = {}
    _collect(typer.main.get_command(app), "sidlsg", found)
    return found


def _collect(command: Any, name: str, found: dict[str, Any]) -> None:
    parameters = [(" ".join((*each.opts, *each.secondary_opts)), each) for each in command.params]
    found[name] = {
        "hidden": command.hidden,
        # The order of options means nothing, unlike that of arguments.
        "options": {key: _described(each) for key, each in parameters if each.param_type_name == "option"},
        "arguments": [
            {"name": key, **_described(each)} for key, each in parameters if each.param_type_name != "option"
        ],
    }
    for word, inner in getattr(command, "commands", {}).items():
        _collect(inner, f"{name} {word}", found)


def _described(parameter: Any) -> dict[str, Any]:
    default = parameter.default
    values = {
        "takes a value": not getattr(parameter, "is_flag", False),
        "values": parameter.nargs,
        "repeats": bool(getattr(parameter, "multiple", False)),
        "required": parameter.required,
        "default": default if isinstance(default, bool | int | float | list | None) else str(default),
        "lowest": parameter.min,
        "highest": parameter.max,
        "environment": parameter.envvar,
    }
    # What does not hold is left out.
    return {name: value for name, value in values.items() if value is not None and value is not False}


if __name__ == "__main__":
    FILE.write_text(json.dumps(commands(), indent=1, sort_keys=True) + "\n")
