"""Files of users in the encodings that their programs write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sidlsg.cli.catalog import get_compiled
from sidlsg.evaluate.weights import read_weights
from sidlsg.kubeflow.profile_file import read_profile
from sidlsg.kubeflow.server.schedules import read_schedules
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.rule_files import read_rules
from sidlsg.registry.gate_rule_file import read_gate_rules
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_user_text
from sidlsg.webhooks.rules import read_table


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_are_no_part_of_a_text(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "a").write_bytes(f"é{end}b{end}".encode(encoding))
    assert read_user_text(tmp_path / "a") == "é\nb\n"


def test_another_encoding_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("one\nein süßes Kätzchen\n".encode("cp1252"))
    message = r"a is not UTF-8 \(byte 9\) in the line 'ein s.*windows-1252 that line is 'ein süßes Kätzchen'"
    with pytest.raises(InputError, match=message):
        read_user_text(tmp_path / "a")
    (tmp_path / "a").write_bytes("\ufeffone".encode("utf-16-le")[:-1])
    with pytest.raises(InputError, match="a begins as UTF-16 and is not"):
        read_user_text(tmp_path / "a")


@pytest.mark.parametrize(
    "read",
    [
        read_rules,
        read_weights,
        read_profile,
        read_gate_rules,
        partial(read_schedules, get_compiled=get_compiled),
        read_table,
        read_held_out,
    ],
)
def test_every_file_of_a_user_may_begin_with_a_byte_order_mark(tmp_path: Path, read: Callable[[Path], object]) -> None:
    def outcome(data: bytes) -> object:
        (tmp_path / "a.toml").write_bytes(data)
        try:
            return read(tmp_path / "a.toml")
        except InputError as error:
            return str(error)

    # What is wrong with the content is said of the content.
    plain = outcome(b"# a comment\n")
    assert outcome("\ufeff# a comment\n".encode()) == plain
    assert outcome("# a comment\n".encode("utf-16")) == plain
    assert "is not UTF-8" in str(outcome(b"# caf\xe9\n"))
