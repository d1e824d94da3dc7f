"""The commands `sidlsg triggers`: runs that events of the registry start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Runs that events of MLflow's registry start.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    # Without it, typer would make a group of one command that command.
    pass


@app.command()
def check(file: Annotated[Path, typer.Option(help="TOML table of events and runs.")]) -> None:
    """Read a table of triggers, and say what it starts. Exit code 2: it has mistakes, and all are named."""
    from sidlsg.trigger.service.table import read_table

    for rule in read_table(file).on:
        print(f"{rule.name}: {rule.event} of {rule.model} {rule.alias}".rstrip() + f" runs {rule.run.pipeline}")
