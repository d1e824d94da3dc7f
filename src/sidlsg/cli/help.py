"""What each command has alike: options from dataclasses, panels and examples in its help, and --quiet."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from sidlsg.cli import configuration
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import without_remarks

OPTIONS, COMMON = "Options", "Common"
"""Panels: a command's own options, and those that many have."""
EXAMPLES = "Examples:"
"""Begins the part of a command's docstring that has one example a line."""
VALUES = {bool: "", int: "N", float: "N", Path: "PATH", str: "TEXT"}
"""What the help writes for a value of a type, where an option has no word of its own for it."""
SETTINGS = {"help_option_names": ["-h", "--help"]}
QUIET = inspect.Parameter(
    "quiet",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--quiet", "-q", metavar="", rich_help_panel=COMMON, help="Print errors alone.")
    ],
)


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Options that several commands share: a subclass has one field for each."""

    PANEL: ClassVar[str]


class _Narrow:
    """Leaves most of the width to the texts, and colours them on a terminal alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from typer import rich_utils  # it takes a while

        rich_utils.STYLE_OPTIONS_TABLE_PADDING = (0, 1, 0, 0)  # type: ignore[assignment]
        rich_utils.FORCE_TERMINAL = None  # CI writes to a file; FORCE_COLOR works without this
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        option.metavar, option.rich_help_panel = "", COMMON
        return option


class Command(_Narrow, TyperCommand):
    """A command."""


class Group(_Narrow, TyperGroup):
    """A group of commands."""


def add(
    app: typer.Typer,
    command: Callable[..., None],
    panel: str | None = None,
    name: str | None = None,
    quiet: bool = False,
) -> None:
    """Add a command with its options, its examples at the end of its help, and --quiet if asked."""
    text, _, examples = inspect.cleandoc(command.__doc__ or "").partition(f"\n{EXAMPLES}\n")
    app.command(
        name or command.__name__.strip("_").replace("_", "-"),
        cls=Command,
        help=re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip()),  # the terminal's width breaks lines, not the source's
        short_help=re.split(r"[;.](?:\s|$)", text)[0].replace("\n", " "),
        epilog=f"{EXAMPLES}\n{examples}" if examples else None,
        rich_help_panel=panel,
    )(with_groups(command, quiet))


def with_groups(command: Callable[..., None], quiet: bool = False) -> Callable[..., None]:
    """Wrap a command so that each OptionGroup becomes one option per field, in the panel that it names."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, OptionGroup):
            groups[name] = kind
            inner = get_type_hints(kind, include_extras=True)
            parameters += [
                each.replace(annotation=_shown(inner[each.name], kind.PANEL, each.default))
                for each in inspect.signature(kind).parameters.values()
            ]
        else:
            own = parameter.replace(
                annotation=_shown(kind, OPTIONS, parameter.default), kind=inspect.Parameter.KEYWORD_ONLY
            )
            parameters.append(own)
    repeated = [parameter.name for parameter in parameters if parameter.default == ()]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        if quiet and given.pop(QUIET.name):
            if given.get("as_json"):
                raise InputError("--quiet and --json are both given; give one of them")
            silence: AbstractContextManager[None] = _silence()
        else:
            silence = contextlib.nullcontext()
            configuration.say_if_used()
        given |= {name: tuple(given[name]) for name in repeated}
        for value in given.values():
            _require_local(value)
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        with silence:
            command(**given)

    # Typer takes a list where an option repeats.
    parameters = [
        each.replace(annotation=Annotated[list[str], *each.annotation.__metadata__], default=[])
        if each.name in repeated
        else each
        for each in (*parameters, *([QUIET] if quiet else ()))
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _require_local(value: object) -> None:
    """Refuse a URI where a path is wanted: as a path, s3://BUCKET/KEY is a folder named `s3:`."""
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, Path) and re.match("[a-z][a-z0-9]+:/", str(each)):
            uri = str(each).replace(":/", "://", 1)
            raise InputError(f"{uri} is given where a path on this machine is needed; give such a path")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard notes, and what this process and its children print to standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing), without_remarks():
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _shown(annotation: Any, panel: str, default: object) -> Any:
    """An option's annotation with its panel, a short word for its value, and no default that says nothing."""
    kind, *others = get_args(annotation)
    others = [copy.copy(other) for other in others]  # other commands share them
    for info in others:
        if isinstance(info, OptionInfo):
            info.rich_help_panel = info.rich_help_panel or panel
            if (default in (0.0, "", "{}") and not isinstance(default, int)) or str(default).startswith("bundled:"):
                info.show_default = False
            if info.metavar is None:
                info.metavar = next(VALUES[each] for each in (kind, *get_args(kind)) if each in VALUES)
    return Annotated[kind, *others]
