"""The help of every command fits a screen, leaves width to the texts, and has examples that the parser takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from sidlsg.cli.app import app

Run = Callable[..., tuple[int, str, str]]

WIDTH = 80
LONGEST = 60
NARROWEST = 40


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not command.hidden:
        yield words, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*words, word))


COMMANDS = dict(walk(typer.main.get_command(app)))
every_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def help_of(words: tuple[str, ...], sidlsg: Run, monkeypatch: pytest.MonkeyPatch, flag: str = "--help") -> str:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    code, out, errors = sidlsg(*words, flag)
    assert (code, errors) == (0, "")
    return out


@every_command
def test_a_commands_help_fits_a_screen(words: tuple[str, ...], sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = help_of(words, sidlsg, monkeypatch)
    assert len(shown.splitlines()) <= LONGEST
    assert max(len(line) for line in shown.splitlines()) <= WIDTH
    assert "…" not in re.sub(r"s3://…", "", shown), "a word was cut"
    assert shown == help_of(words, sidlsg, monkeypatch, "-h")


@every_command
def test_the_text_breaks_where_the_screen_ends(words: tuple[str, ...]) -> None:
    assert "\n" not in (COMMANDS[words].help or "").replace("\n\n", "")


@every_command
def test_no_options_text_is_narrow(words: tuple[str, ...], sidlsg: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for panel in re.findall(r"^╭─ .*?^╰", help_of(words, sidlsg, monkeypatch), re.MULTILINE | re.DOTALL):
        rows = [line[1:-1] for line in panel.splitlines()[1:-1]]
        # The text begins where the lines that continue one begin.
        begins = [len(row) - len(row.lstrip()) for row in rows if row.startswith(" " * 12)]
        assert not begins or WIDTH - 3 - max(begins) >= NARROWEST, panel


@pytest.mark.parametrize(
    "words", [words for words, command in COMMANDS.items() if not hasattr(command, "commands")], ids=" ".join
)
def test_a_command_has_two_examples_that_parse(words: tuple[str, ...]) -> None:
    heading, *examples = (COMMANDS[words].epilog or "").splitlines()
    assert heading == "Examples:"
    assert len(examples) == 2
    for example in examples:
        assert len(example) <= WIDTH - 2
        found = re.search(r"(?:^ *|\$\()sidlsg (.*?)(?:\)\"| > .*)?$", example)
        assert found is not None, example
        given = shlex.split(found[1])
        assert tuple(given[: len(words)]) == words
        required = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in required.items():
                patch.setenv(name, value)
            context = COMMANDS[words].make_context(" ".join(words), given[len(words) :])
        assert not context.args
