"""Texts of servers and files on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table

from sidlsg.runtime.progress import PlainConsole


@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/x]", ":smile:", "plain", "κ1..κ4 ↑"])
def test_a_text_is_printed_as_it_is(text: str) -> None:
    console = PlainConsole(out := io.StringIO())
    console.print(text)
    assert out.getvalue() == f"{text}\n"


@pytest.mark.parametrize("where", ["line", "cell"])
def test_control_characters_do_not_reach_the_terminal(where: str) -> None:
    console = PlainConsole(out := io.StringIO())
    text = "\x1b]0;gone\x07\x1b[2J\u202eright"
    if where == "cell":
        table = Table()
        table.add_column("x", no_wrap=True)
        table.add_row(text)
        console.print(table)
    else:
        console.print(text)
    assert r"\x1b]0;gone\x07\x1b[2J\u202eright" in out.getvalue()
    assert not {"\x1b", "\x07", "\u202e"} & set(out.getvalue())
