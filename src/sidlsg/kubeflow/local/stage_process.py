"""What the process of one stage of a local run does."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sidlsg.runtime.errors import SidlsgError
from sidlsg.runtime.progress import emit


def run_component(source: str, arguments: Sequence[str]) -> None:
    """Run a component by kfp's executor in this process, a fork; an error is reported before it is raised."""
    # Imported here: only what the environment tells kfp decides how much of it loads.
    from kfp.dsl.executor_main import executor_main

    folder = Path(tempfile.mkdtemp())
    file = folder / "ephemeral_component.py"
    file.write_text(source)
    sys.argv = ["kfp.dsl.executor_main", "--component_module_path", str(file), *arguments]
    try:
        executor_main()
    except BaseException as error:
        text = str(error) if isinstance(error, SidlsgError) else next(iter(str(error).splitlines()), "")
        emit(kind="error", type=type(error).__name__, text=text, exit_code=getattr(error, "exit_code", None))
        raise
