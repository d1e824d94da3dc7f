"""The command line."""

from sidlsg.cli.app import main

__all__ = ["main"]
