"""JSON and TOML within bounds: what would exhaust the stack or overflow a float later is refused when it is read."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sidlsg
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import (
    MOST_BYTES,
    MOST_NESTED,
    MOST_TOML,
    http_address,
    parse_json,
    read_json,
    read_object,
    read_toml,
)
from sidlsg.runtime.parsing import (
    parse_toml as parse_user_toml,
)


def parse_toml(text: str) -> Any:
    return parse_user_toml(text, "it", "give another")


DEEP: dict[str, tuple[Callable[[str], Any], Callable[[int], str]]] = {
    "JSON lists": (parse_json, lambda n: "[" * n + "]" * n),
    "JSON objects": (parse_json, lambda n: '{"a":' * n + "1" + "}" * n),
    "TOML lists": (parse_toml, lambda n: f"a = {'[' * (n - 1)}{']' * (n - 1)}"),
    "TOML tables": (parse_toml, lambda n: f"a = {'{a=' * (n - 1)}1{'}' * (n - 1)}"),
    "TOML dotted keys": (parse_toml, lambda n: f"{'.'.join('a' * n)} = 1"),
}
OWN = {
    "parsing.py": "the bounds",
    "distributed.py": "what a fork of this process reports",
    "training.py": "what this process wrote for its own",
    "supervisor.py": "what a process of this run wrote for it",
    "job_spec.py": "a value by its JSON form",
    "sweep.py": "what this process wrote itself",
    "released.py": "a value by its JSON form",
    "checkpoint.py": "a value by its JSON form",
    "forks.py": "jobs from the process that made the fork",
    "tiny_sd.py": "the tokenizer of the library itself",
    "pyfunc_model.py": "the served model, which is carried without the package",
    "json_lines.py": "a line at a time, each with its own limit",
}
"""Modules that may call the parser itself, and on what."""


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("depth", [MOST_NESTED + 1, 900, 100_000])
def test_deep_nesting_is_refused(kind: str, depth: int) -> None:
    parse, text = DEEP[kind]
    parse(text(MOST_NESTED))
    with pytest.raises(
        (ValueError, InputError), match=f"nested more than {MOST_NESTED} deep|line 1 has .* dots; allowed: 200"
    ):
        parse(text(depth))


@pytest.mark.parametrize("text", ["1" * 301, "1" * 10_000, "[1, -" + "9" * 400 + "]"])
def test_a_number_too_large_for_a_float_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"a number has .* digits; allowed: 300"):
        parse_json(text)


def test_a_hexadecimal_number_that_cannot_be_printed_is_refused() -> None:
    with pytest.raises(InputError, match="more than 300 digits"):
        parse_toml(f"a = 0x{'f' * 9000}")


def test_a_toml_file_of_many_megabytes_is_refused() -> None:
    with pytest.raises(InputError, match="1,048,577 characters; allowed: 1,048,576"):
        parse_toml("#" * (MOST_TOML + 1))


@pytest.mark.parametrize("value", [1, -1, 10**30, 0.5, None, True, "ü", [], {}, [[1], {"a": [None]}]])
def test_values_are_those_of_the_library(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize("read", [read_json, read_toml])
@pytest.mark.parametrize("content", [None, b"\xff", b"{[", b"= 1", b"[" * 10_000])
def test_a_file_that_cannot_be_read_is_named_with_advice(
    read: Callable[[Path, str], Any], content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"file .*; (write it again|save it as UTF-8)") as caught:
        read(path, "write it again")
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_file_of_gigabytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory; give a file"):
        read_json(tmp_path, "give a file")
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="has 67,108,865 bytes; allowed: 67,108,864; give another"):
        read_object(path, "give another")


def test_every_reader_of_the_package_parses_within_the_bounds() -> None:
    """What calls the libraries' parsers on its own lacks the bounds."""
    source = Path(sidlsg.__file__).parent
    calls = {
        (path.name, f"{node.func.value.id}.{node.func.attr}")
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("json", "tomllib")
        and node.func.attr in ("load", "loads")
    }
    assert {name for name, call in calls} == OWN.keys()
    assert {name for name, call in calls if call.startswith("tomllib")} == {"parsing.py"}


@pytest.mark.parametrize(
    ("text", "netloc"),
    [
        ("http://mlflow:5000", "mlflow:5000"),
        ("https://[::1]/path?x=1", "[::1]"),
        ("http://me:secret@host", "me:secret@host"),
        ("ftp://host", None),
        ("host:80", None),
        ("http://", None),
        ("http:///path", None),
        ("http://host:port", None),
        ("http://host:0", None),
        ("http://[host", None),
        ("http://a b", None),
        ("http://host\n", None),
        ("", None),
    ],
)
def test_an_http_address_has_a_host(text: str, netloc: str | None) -> None:
    found = http_address(text)
    assert (found and found.netloc) == netloc
