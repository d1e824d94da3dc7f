"""The configuration file: values of options, changes of recipes and variables that people repeat.

An option on the command line wins over the environment, and the environment over the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.runtime.parsing import read_toml
from sidlsg.runtime.provenance import remark

FILE, PROJECT = "sidlsg.toml", "pyproject.toml"
VARIABLE = "SIDLSG_CONFIG"
"""The environment variable that names a file, instead of the nearest one."""
ADVICE = f"mend it, delete it, or let {VARIABLE} name another"
VARIABLES = ("AWS_", "MLFLOW_", "SIDLSG_", "KF_PIPELINES_")
"""How the names of variables begin that a file may set."""
SECRET = re.compile("SECRET|PASSWORD|TOKEN(?!_PATH)|ACCESS_KEY")


TABLES = ("options", "recipes", "environment")
OPTIONS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        (
            "tracking_uri",
            "model_name",
            "teacher",
            "teacher_layout",
            "held_out",
            "judge",
            "weights",
            "gate_rules",
            "host",
            "namespace",
            "token_env",
            "token_file",
            "experiment",
            "gpu",
        ),
        str,
    ),
    "hourly_price": (int, float),
    "price": (int, float),
    "prices": dict,
}
"""What a file may set, for every command that has the option, and of which type."""
WORDS = {str: "a text", (int, float): "a number", dict: "a table of numbers"}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a file sets."""

    path: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """By a parameter's name."""
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By a recipe's name: its changed values."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def apply(self) -> None:
        """Set the variables that are not set yet."""
        for name, value in self.environment.items():
            os.environ.setdefault(name, value)


current = Configuration()
"""The configuration of this process; `main` reads it."""


def say_if_used() -> None:
    """Name the file on standard error, where there is one: its values can change a result."""
    if current.path is not None:
        remark(f"configuration: {current.path}")


def read_configuration(folder: Path) -> Configuration:
    """Read the file that `SIDLSG_CONFIG` names, or the nearest `sidlsg.toml` or `[tool.sidlsg]` in or above a folder.

    Raises:
        InputError: the file is not there, is no TOML, or has a key or value that is not allowed.
    """
    if given := os.environ.get(VARIABLE):
        return _checked(Path(given), read_toml(Path(given), ADVICE))
    for path, values in _nearest(folder.absolute()):
        return _checked(path, values)
    return Configuration()


def _nearest(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for each in (folder, *folder.parents):
        if (path := each / FILE).is_file():
            yield path, read_toml(path, ADVICE)
        elif (path := each / PROJECT).is_file() and "[tool.sidlsg" in path.read_text(errors="replace"):
            yield path, read_toml(path, ADVICE)["tool"]["sidlsg"]


def _checked(path: Path, values: dict[str, Any]) -> Configuration:
    wrong = [_wrong_table(name) for name in values if name not in TABLES]
    tables: dict[str, dict[str, Any]] = {}
    for name in TABLES:
        table = values.get(name, {})
        if isinstance(table, dict):
            tables[name] = table
        else:
            wrong.append(f"{name} is not a table")
    wrong += [each for name, value in tables.get("options", {}).items() for each in _wrong_option(name, value)]
    wrong += [each for name, value in tables.get("recipes", {}).items() for each in _wrong_recipe(name, value)]
    wrong += [each for name, value in tables.get("environment", {}).items() for each in _wrong_variable(name, value)]
    if wrong:
        raise InputError(f"{path}: {'; '.join(wrong)}; {ADVICE}")
    options = {
        name: json.dumps(value) if isinstance(value, dict) else value for name, value in tables["options"].items()
    }
    return Configuration(path=path, options=options, recipes=tables["recipes"], environment=tables["environment"])


def _wrong_table(name: str) -> str:
    if name in OPTIONS:
        return f"{name} stands alone; put it below [options]"
    return f"{name!r} is not allowed{nearest(name, TABLES)}; allowed: {', '.join(f'[{each}]' for each in TABLES)}"


def _wrong_option(name: str, value: object) -> Iterator[str]:
    if name not in OPTIONS:
        yield f"options.{name} is not allowed{nearest(name, OPTIONS)}; the page on configuration lists what is"
    elif not isinstance(value, OPTIONS[name]) or isinstance(value, bool):
        yield f"options.{name} is {value!r}; give {WORDS[OPTIONS[name]]}"
    elif name == "prices" or OPTIONS[name] is not str:
        from sidlsg.runtime.costs import parse_prices

        try:
            parse_prices(json.dumps(value if name == "prices" else {"distil": value}))
        except InputError as error:
            yield f"options.{name}: {error}"


def _wrong_recipe(name: str, changes: object) -> Iterator[str]:
    from sidlsg.distil.recipes import recipe_with_changes

    try:
        recipe_with_changes(name, json.dumps(changes, default=str))
    except InputError as error:
        yield f"recipes.{name}: {error}"


def _wrong_variable(name: str, value: object) -> Iterator[str]:
    if not name.startswith(VARIABLES):
        yield f"environment.{name}: a file sets variables that begin with {', '.join(VARIABLES)} alone"
    elif SECRET.search(name):
        yield f"environment.{name} looks like a secret; set it in the environment, not in a file"
    elif not isinstance(value, str):
        yield f"environment.{name} is {value!r}; give a text"
