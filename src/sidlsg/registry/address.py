"""Tracking URIs and model names: which are allowed, checked without importing MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sidlsg.runtime.errors import InputError

ALLOWED = "give sqlite:///<file> or the http(s):// address of an MLflow server"
SERVERS = ("http://", "https://")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_model_name(name: str) -> None:
    """Raise InputError unless the name can be part of URIs and aliases."""
    if not _MODEL_NAME.fullmatch(name):
        raise InputError(f"model name {name!r} is not allowed; use letters, digits, '.', '_' and '-'")


def check_address(tracking_uri: str) -> None:
    """Raise InputError if `connection.connect` does not take such a URI, or it holds a login."""
    if not tracking_uri.startswith(SERVERS):
        sqlite_file(tracking_uri)
    elif shown(tracking_uri) != tracking_uri:
        # It would be in the arguments of processes and in the run's files.
        raise InputError(
            f"tracking URI {shown(tracking_uri)!r} holds a login, which other users of this machine could read; give "
            "the address alone, and the login in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )


def given_address(tracking_uri: str) -> str:
    """The tracking URI that a step was given, or else the environment's."""
    found = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not found:
        raise InputError(
            "no MLflow is given; give the parameter tracking_uri, or let the profile's endpoints set "
            "MLFLOW_TRACKING_URI"
        )
    return found


def sqlite_file(tracking_uri: str) -> Path:
    """The database file of a `sqlite:///` URI."""
    # Imported here: SQLAlchemy takes a third of a second to import.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = make_url(tracking_uri)
    except SQLAlchemyError as error:
        raise InputError(f"tracking URI {shown(tracking_uri)!r} is not an address; {ALLOWED}") from error
    if url.get_backend_name() != "sqlite":
        # A bare database would leave MLflow to put artifacts in the current directory.
        raise InputError(f"tracking URI {shown(tracking_uri)!r} is not of an allowed kind; {ALLOWED}")
    if not url.database or url.database == ":memory:":
        raise InputError(f"tracking URI {tracking_uri!r} names no file; {ALLOWED}")
    return Path(url.database).resolve()


def shown(address: str) -> str:
    """A URI without its login, for messages."""
    return re.sub(r"//[^/]*@", "//…@", address)
