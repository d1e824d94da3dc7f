"""The command `sidlsg curate`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import HeldOut, set_values
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.provenance import say
from sidlsg.storage.store import S3
from sidlsg.storage.uri import HELD_OUT, PROMPTS

SAMPLE = 100_000
WORK, LOOK = "Work", "Look instead of curating"
"""Panels of the help."""


def curate(
    output: Annotated[str, typer.Option(metavar="URI", help="Folder or s3:// prefix of the prompt set.")] = "",
    source: Annotated[
        list[str],
        typer.Option(
            metavar="[LABEL=]URI",
            help="Parquet, .csv, .txt or .jsonl: file, folder or s3:// prefix; repeat for more. By default the "
            "bundled prompts.",
        ),
    ] = [],  # noqa: B006 - typer reads the default and never changes it
    held_out: HeldOut = HELD_OUT,
    rules: Annotated[Path | None, typer.Option(help="TOML file of rules; `--print-rules` prints all.")] = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="RULE=VALUE",
            help="Change a rule, such as score.minimum=6.5; repeat for more.",
        ),
    ] = [],  # noqa: B006
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="native, ray, ray:auto or ray://HOST:PORT.", rich_help_panel=WORK)
    ] = "native",
    workers: Annotated[int, typer.Option(min=1, help="Tasks at once on this machine.", rich_help_panel=WORK)] = 1,
    memory_gb: Annotated[
        float, typer.Option(help="Memory of all workers together, in GB.", rich_help_panel=WORK)
    ] = 2.0,
    work: Annotated[
        str,
        typer.Option(
            metavar="URI",
            help="Folder or s3:// prefix of unfinished work; by default beside the output.",
            rich_help_panel=WORK,
        ),
    ] = "",
    rows_per_shard: Annotated[
        int, typer.Option(min=1, help="Maximum prompts per output file.", rich_help_panel=WORK)
    ] = 65536,
    skip_bad_files: Annotated[
        bool, typer.Option("--skip-bad-files", help="Skip unusable files, and list them.", rich_help_panel=WORK)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the funnel of a sample, and write nothing.", rich_help_panel=LOOK)
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Number of rows in a dry run.", rich_help_panel=LOOK)] = SAMPLE,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="FILE:ROW|ID",
            help="Explain why a row is not in --output, or where a prompt comes from.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    print_rules: Annotated[
        bool, typer.Option("--print-rules", help="Print the rules as TOML, and stop.", rich_help_panel=LOOK)
    ] = False,
) -> None:
    """Select, clean and deduplicate prompts; the same command again resumes.

    Evaluation prompts are left out.

    Identical inputs give identical bytes, regardless of engine, workers and file order.

    Examples:
      sidlsg curate --source captions/ --output prompts
      sidlsg curate --source captions/ --set score.minimum=6 --dry-run
    """
    # Polars takes half a second.
    from sidlsg.prompts.curation import preview
    from sidlsg.prompts.explanation import explain as explanation
    from sidlsg.prompts.held_out import read_held_out
    from sidlsg.prompts.plan import Execution
    from sidlsg.prompts.rule_files import read_rules, rules_toml, rules_with
    from sidlsg.stages.curate import curate as stage
    from sidlsg.storage.uri import resolve

    asked = {"--print-rules": print_rules, "--dry-run": dry_run, "--explain": explain is not None}
    if sum(asked.values()) > 1:
        raise InputError(f"{' and '.join(name for name in asked if asked[name])} are given; give one of them")
    values = rules_with({} if rules is None else read_rules(rules), set_values(set_))
    if print_rules:
        print(rules_toml(values), end="")
        return
    captions = read_held_out(resolve(held_out))
    sources = source or [PROMPTS]
    execution = Execution(
        engine=engine,
        workers=workers,
        memory_gb=memory_gb,
        work=work,
        rows_per_shard=rows_per_shard,
        skip_bad_files=skip_bad_files,
    )
    if dry_run:
        funnel, notes = preview(sources, values, captions, sample, execution)
        print("".join(f"{note}\n" for note in notes), end="")
        _print_funnel((name, step.rows_in, step.rows_out) for name, step in funnel.items())
        return
    if not output:
        raise InputError("no --output is given; give the folder of the prompt set, or --dry-run to write nothing")
    if explain is not None:
        if output.startswith(S3):
            raise InputError(f"output {output} is on S3; copy the set to a folder, and explain it there")
        say("\n".join(explanation(explain, Path(output), captions)))
        return
    record = stage(sources, output, values, captions, execution, print)
    _print_funnel((step.name, step.rows_in, step.rows_out) for step in record.funnel)
    print(f"{record.count:,} prompts in {output}")


def _print_funnel(steps: Iterable[tuple[str, int, int]]) -> None:
    for name, rows_in, rows_out in steps:
        print(f"{name:<16} {rows_in:>14,} -> {rows_out:>14,}")
