"""What scripts call: commands, their options and arguments, and the exit codes of errors."""

from __future__ import annotations

import inspect
import json

import pytest

from sidlsg.runtime import errors
from sidlsg.runtime.errors import SidlsgError
from unit.stored.commands import COMMAND, FILE, commands

EXIT_CODES = {
    "SidlsgError": 1,
    "StageError": 1,
    "InputError": 2,
    "ContentError": 2,
    "MissingError": 2,
    "AccessError": 2,
    "StorageError": 1,
    "AlarmError": 4,
    "NotFiniteError": 1,
    "StoppedError": 75,
    "VerdictError": 3,
    "RunFailedError": 5,
}
KEPT, FOUND = json.loads(FILE.read_text()), json.loads(json.dumps(commands()))


def test_no_command_is_new_or_gone() -> None:
    assert sorted(FOUND) == sorted(KEPT), f"if that is wanted, run `{COMMAND}`"


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_command_takes_what_it_took(name: str) -> None:
    assert FOUND[name] == KEPT[name], f"if that is wanted, run `{COMMAND}`"


def test_each_error_ends_the_program_with_its_exit_code() -> None:
    kinds = inspect.getmembers(errors, lambda each: inspect.isclass(each) and issubclass(each, SidlsgError))
    assert {name: kind.exit_code for name, kind in kinds} == EXIT_CODES
