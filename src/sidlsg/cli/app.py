"""The command line. Commands import heavy libraries themselves."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from sidlsg import __version__
from sidlsg.cli import (
    evaluation,
    kubeflow,
    pipelines,
    prompts,
    registry,
    servers,
    teachers,
    training,
    webhooks,
)
from sidlsg.cli.options import process_rank, with_groups
from sidlsg.runtime.errors import AlarmError, SidlsgError, StoppedError
from sidlsg.runtime.provenance import headed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a pretrained Stable Diffusion into a one-step generator (SiD-LSG), evaluate, register and promote it.",
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
        code = app(standalone_mode=False)
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
        _fail(error.format_message(), getattr(error, "exit_code", 2))
    # The parser returns this for an interrupt, and the code of a command's `typer.Exit`.
    if code == INTERRUPTED:
        _fail("interrupted; the same command again resumes from the last checkpoint", INTERRUPTED)
    if isinstance(code, int) and code:
        sys.exit(code)


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


# In the order of `--help`: runs, stages, other commands for models, servers and clusters.
for command in (
    pipelines.run,
    pipelines.sweep,
    pipelines.evaluate_version,
    prompts.curate,
    training.encode,
    training.distil,
    registry.register,
    evaluation.evaluate,
    registry.gate,
    registry.promote,
    training.generate,
    training.recipes,
    training.estimate,
    evaluation.protocols,
    registry.gate_rules,
    registry.approve,
    registry.transfer,
    registry.rollback,
    registry.register_teacher,
    teachers.digest,
    teachers.teach,
    servers.serve,
    kubeflow.submit,
    kubeflow.schedule,
    kubeflow.profile_images,
):
    app.command()(with_groups(command))
app.command("compile")(pipelines.compile_)
for name, group in {
    "convert": teachers.app,
    "images": evaluation.images,
    "registry": registry.registry,
    "services": servers.app,
    "triggers": webhooks.app,
}.items():
    app.add_typer(group, name=name)
for process in (training.distil_process, kubeflow.distil_node, kubeflow.distil_node_process):
    app.command(hidden=True)(process)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(f"sidlsg {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
