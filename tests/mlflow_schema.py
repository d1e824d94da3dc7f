"""SQLite stores of MLflow in less time: a new one gets its tables by a copy, as MLflow's migrations take seconds.

No commit of a test's process waits for the disk.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

import mlflow
from mlflow.store.db import utils
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine

_make = utils._initialize_tables


def _tables() -> Path:
    """A store with all tables and nothing in them; made by MLflow once for each of its versions."""
    made = Path(tempfile.gettempdir()) / f"mlflow-{mlflow.__version__}-tables-{os.getuid()}.db"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            _make(create_engine(f"sqlite:///{folder}/tables.db"))
            Path(folder, "tables.db").replace(made)
    return made


def _initialize_tables(engine: Engine) -> None:
    file = engine.url.database
    if engine.url.get_backend_name() != "sqlite" or not file or (Path(file).exists() and Path(file).stat().st_size):
        _make(engine)
        return
    engine.dispose()
    with sqlite3.connect(_tables()) as source, sqlite3.connect(file) as target:
        source.backup(target)


@event.listens_for(Engine, "connect")
def _without_waiting(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


utils._initialize_tables = _initialize_tables
