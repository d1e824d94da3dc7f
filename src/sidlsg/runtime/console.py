"""What commands print in colour: texts as they are, which may be a server's or a file's."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from sidlsg.runtime.pipeline_run import printable


class PlainConsole(Console):
    """Reads no markup, emoji names or control characters in what it prints."""

    def __init__(self, file: TextIO | None = None, soft_wrap: bool = False) -> None:
        super().__init__(file=file, markup=False, highlight=False, emoji=False, soft_wrap=soft_wrap)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text to print or a table's cell, control characters shown as escapes."""
        return super().render_str(printable(text), **options)
