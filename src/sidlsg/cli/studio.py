"""The command `sidlsg studio`: a live page of a student's images."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sidlsg.cli.options import LOCAL, TRACKING, Address, Port, TeacherLayout, Variant
from sidlsg.runtime.errors import InputError


def studio(
    student: Annotated[
        str,
        typer.Argument(
            metavar="STUDENT", help="Folder of a run or a student, s3://… with its digest, or models:/NAME@ALIAS."
        ),
    ],
    teacher: Annotated[
        str, typer.Argument(metavar="TEACHER", help="Its teacher's URI; by default the run's, or a bundled one.")
    ] = "",
    variant: Variant = "",
    teacher_layout: TeacherLayout = "",
    tracking_uri: Annotated[
        str,
        typer.Option(metavar="URI", envvar=TRACKING, help="MLflow whose versions may be chosen; by default the run's."),
    ] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help="File of tokens that open the page, one per line; by default the one in SIDLSG_STUDIO_TOKEN."
        ),
    ] = None,
    address: Address = LOCAL,
    port: Port = 7860,
) -> None:
    """Show images of a student live while a prompt is typed.

    The page has its teacher's images beside them, with both times. An address that other machines reach needs a
    token, which the browser asks for as the password.

    Examples:
      sidlsg studio runs/demo
      sidlsg studio models:/sidlsg-tiny@champion --port 7861
    """
    try:
        from sidlsg.studio.server import access_tokens, application, listening, page_url, serve

        tokens = access_tokens(address, secret_file)
        import gradio  # noqa: F401 - for the message
    except ImportError as error:
        raise InputError("gradio is not installed, which makes the page; pip install 'sidlsg[studio]'") from error
    from sidlsg.runtime.hardware import sampling_threads, set_threads
    from sidlsg.studio.models import Models
    from sidlsg.studio.page import LOOK, build
    from sidlsg.studio.sources import find_student

    # By default the signal ends a process at once, and what it downloaded stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="sidlsg-studio-") as scratch, listening(address, port) as listener:
        found = find_student(student, tracking_uri, Path(scratch))
        set_threads(sampling_threads(found.folder))
        models = Models(
            found,
            Path(scratch),
            tracking_uri=tracking_uri or found.tracking_uri,
            teacher=teacher,
            layout=teacher_layout,
            variant=variant,
        )
        app = application(build(models), tokens, **LOOK)
        typer.echo(f"{found.name} is on {page_url(address, port)}; Ctrl-C ends it")
        serve(app, listener)
