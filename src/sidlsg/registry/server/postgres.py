"""PostgreSQL, the database of the MLflow server."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from sidlsg.registry.server.process import HOST, LocalServer
from sidlsg.runtime.errors import InputError, SidlsgError

USER = "mlflow"
_SYSTEM_USER = "postgres"
"""The server refuses to run as root; Debian's package creates this user for it."""
_DEBIAN = Path("/usr/lib/postgresql")
INSTALL = "apt-get install --no-install-recommends postgresql"


class Postgres(LocalServer):
    """A database server with one user, who needs a password."""

    NAME = "PostgreSQL"
    # On SIGTERM it would wait until its clients disconnect.
    END = signal.SIGINT

    def new_keys(self) -> dict[str, str]:
        """See `LocalServer`."""
        return {"password": secrets.token_hex(16)}

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database, with the password."""
        return URL.create(
            "postgresql+psycopg2", USER, self.state["password"], HOST, self.port, database
        ).render_as_string(hide_password=False)

    def require_database(self, name: str) -> None:
        """Create a database, unless it exists."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            found = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
            if found.first() is None:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
        engine.dispose()

    def runs_as(self) -> str | None:
        """See `LocalServer`."""
        return _SYSTEM_USER if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Create the database cluster before the first start.

        Raises:
            InputError: PostgreSQL is not installed, or its user cannot enter the folder.
            SidlsgError: it could not be created.
        """
        data, made = self.folder / "data", self.folder / "made"
        # Written last: a cluster without it is unfinished.
        if made.exists():
            return
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        user = self.runs_as()
        if user is not None:
            try:
                shutil.chown(data, user, user)
            except LookupError as error:
                raise InputError(
                    f"PostgreSQL does not run as root, and there is no user {user}; run as another user, or {INSTALL}"
                ) from error
            if subprocess.run(["test", "-x", str(data)], cwd="/", **self.as_user()).returncode:
                raise InputError(
                    f"PostgreSQL does not run as root, and its user {user} cannot enter {data}; give a folder that "
                    "others may pass through, such as one below /srv or /var/tmp, or run as another user"
                )
        password = self.folder / "password"
        options = {"pgdata": data, "auth": "scram-sha-256", "username": USER, "encoding": "UTF8", "locale": "C"}
        options["pwfile"] = password
        password.touch(mode=0o600)
        if user is not None:
            shutil.chown(password, user, user)
        password.write_text(f"{self.state['password']}\n")
        done = subprocess.run(
            [_program("initdb"), *(f"--{name}={value}" for name, value in options.items())],
            capture_output=True,
            text=True,
            cwd="/",
            **self.as_user(),
        )
        password.unlink()
        if done.returncode:
            raise SidlsgError(f"PostgreSQL could not make its files in {data}: {done.stderr.strip()[-500:]}")
        made.touch()

    def command(self) -> list[str]:
        """See `LocalServer`."""
        settings = {"listen_addresses": HOST, "unix_socket_directories": "", "port": self.port}
        # fsync stays on: a power cut loses nothing.
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [_program("postgres"), "-D", str(self.folder / "data"), *options]

    def is_ready(self) -> bool:
        """See `LocalServer`."""
        try:
            engine = create_engine(self.url("postgres"), connect_args={"connect_timeout": 5})
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            engine.dispose()
        except OperationalError:
            return False
        except (ImportError, SQLAlchemyError) as error:
            raise InputError(
                f"PostgreSQL's driver cannot be used ({error}); install it with pip install 'sidlsg[services]'"
            ) from error
        return True


def _program(name: str) -> str:
    """The path of a PostgreSQL program: on the PATH, or else Debian's newest."""
    found = shutil.which(name)
    if found:
        return found
    versions = [path for path in _DEBIAN.glob(f"*/bin/{name}") if path.parts[-3].isdigit()]
    if not versions:
        raise InputError(f"no {name} program, which is PostgreSQL; install it with {INSTALL}")
    return str(max(versions, key=lambda path: int(path.parts[-3])))
