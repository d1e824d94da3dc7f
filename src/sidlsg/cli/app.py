"""The command line. Commands import heavy libraries themselves."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sidlsg import __version__
from sidlsg.cli import (
    configuration,
    deletion,
    evaluation,
    installation,
    kubeflow,
    pipelines,
    prompts,
    real_images,
    registry,
    servers,
    studio,
    teachers,
    training,
    webhooks,
)
from sidlsg.cli.help import SETTINGS, Group, add
from sidlsg.cli.options import process_rank
from sidlsg.runtime.errors import AlarmError, SidlsgError, StoppedError
from sidlsg.runtime.provenance import headed

app = typer.Typer(
    cls=Group,
    context_settings=SETTINGS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a diffusion model to one step or a few, evaluate and promote it.",
)

DISK_FULL = "no space left on the device of {}; free some, or give another folder, and run the same command again"
LONGEST = 3000
"""Maximum characters of an error message."""
INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def main() -> None:
    """Run the command line; an error prints one line to standard error and sets the exit code."""
    # Transformers warns at import.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        configuration.current = configuration.read_configuration(Path())
        configuration.current.apply()
        code = app(standalone_mode=False, default_map=_defaults(configuration.current.options))
    except SidlsgError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(DISK_FULL.format(f"{error.filename or 'the output'}"), 1)
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 1)
    except Exception as error:  # the parser's own errors have no stable import path
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors has its own type
            _fail(DISK_FULL.format("the output"), 1)
        if not hasattr(error, "format_message"):
            raise
        # Without a command the parser has printed the help.
        if not error.format_message():
            sys.exit(2)
        from sidlsg.cli.refusals import refusal

        _fail(refusal(error), getattr(error, "exit_code", 2))
    # The parser returns this for an interrupt, and the code of a command's `typer.Exit`.
    if code == INTERRUPTED:
        _fail("interrupted; the same command again resumes from the last checkpoint", INTERRUPTED)
    if isinstance(code, int) and code:
        sys.exit(code)


def _defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options for every command, in the parser's form."""
    words: dict[str, Any] = {str(each.name): options for each in app.registered_commands}
    for group in app.registered_groups:
        words[str(group.name)] = {each.name: options for each in (group.typer_instance or app).registered_commands}
    return words


def _fail(message: str, code: int) -> None:
    process = process_rank()
    # Only rank 0 reports what all processes do together.
    if not process or code not in (AlarmError.exit_code, StoppedError.exit_code):
        text = " ".join(message.split())
        if len(text) > LONGEST:  # it quotes a long value, and advice is at the end
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        line = f"{f'process {process}: ' if process else ''}error: {text}"
        print(headed(line), file=sys.stderr)
    sys.exit(code)


# In the order of `--help`.
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (pipelines.run, pipelines.sweep, training.generate, studio.studio),
    "Stages": (
        prompts.curate,
        training.encode,
        training.distil,
        registry.register,
        evaluation.evaluate,
        registry.gate,
        registry.promote,
    ),
    "Registry": (
        registry.approve,
        registry.rollback,
        registry.transfer,
        pipelines.evaluate_version,
        registry.register_teacher,
        registry.gate_rules,
        servers.serve,
    ),
    "Kubeflow": (pipelines.compile_, kubeflow.submit, kubeflow.schedule, kubeflow.profile_images),
    "Tools": (
        installation.doctor,
        training.recipes,
        training.estimate,
        evaluation.protocols,
        teachers.digest,
        teachers.teach,
    ),
}
GROUPS: dict[str, tuple[str, str, tuple[Callable[..., None], ...]]] = {
    "delete": (
        "Registry",
        "Delete versions, students, checkpoints, servers' data",
        (deletion.version, deletion.student, deletion.checkpoints, deletion.webhook, deletion.services),
    ),
    "registry": (
        "Registry",
        "Inspect, repair and download from the model registry",
        (registry.fetch, registry.doctor),
    ),
    "triggers": (
        "Kubeflow",
        "React to MLflow's registry: runs, copies, rollouts",
        (webhooks.serve, webhooks.check, webhooks.webhook, webhooks.list_),
    ),
    "convert": (
        "Tools",
        "Convert one-file teachers and released generators",
        (teachers.convert_single_file, teachers.convert_released),
    ),
    "images": (
        "Tools",
        "Score images of any origin; encode or draw real ones",
        (evaluation.features, evaluation.statistics, evaluation.score, real_images.encode, real_images.draw),
    ),
    "services": (
        "Tools",
        "MLflow with PostgreSQL and S3 on this machine",
        (servers.start, servers.stop, servers.status, servers.env),
    ),
}
"""By name: the panel, the help and the commands."""
NAMES = {teachers.convert_single_file: "single-file", teachers.convert_released: "released"}
"""Commands whose function has another name."""

QUIET = (
    *(*COMMANDS["Start"], *COMMANDS["Stages"]),
    *(registry.approve, registry.rollback, registry.transfer, registry.register_teacher, pipelines.evaluate_version),
    *(kubeflow.submit, *GROUPS["delete"][2]),
)
"""Commands that do something; what the others print is their purpose."""

for panel, commands in COMMANDS.items():
    for command in commands:
        add(app, command, panel, quiet=command in QUIET)
for group_name, (panel, text, commands) in GROUPS.items():
    group = typer.Typer(cls=Group, no_args_is_help=True, help=text)
    for command in commands:
        add(group, command, name=NAMES.get(command), quiet=command in QUIET)
    app.add_typer(group, name=group_name, rich_help_panel=panel)
for process in (training.distil_process, kubeflow.distil_node, kubeflow.distil_node_process):
    app.command(hidden=True)(process)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"sidlsg {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
