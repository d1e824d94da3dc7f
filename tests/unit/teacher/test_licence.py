"""Terms of use: read from a model's card, with the texts next to it, into the student's folder."""

from __future__ import annotations

import re
from pathlib import Path

import markdown_it
import pytest

from sidlsg.distil.student.card import licence_head, licence_lines
from sidlsg.storage.records import Licence
from sidlsg.teacher.licence import copy_licence


def copied(tmp_path: Path, card: str | bytes | None, **texts: str) -> Licence:
    teacher, student = tmp_path / "from", tmp_path / "student"
    teacher.mkdir()
    student.mkdir()
    if card is not None:
        (teacher / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    for name, text in texts.items():
        (teacher / name).write_text(text)
    licence = copy_licence(teacher, student)
    for ref in licence.files:
        assert (student / ref.path).read_bytes() == (teacher / Path(ref.path).name).read_bytes()
    return licence


def test_card_and_licence_texts_are_copied(tmp_path: Path) -> None:
    card = "---\nlicense: creativeml-openrail-m\nlicense_link: https://example.org/terms\n---\n# A model\n"
    licence = copied(tmp_path, card, LICENSE="no harm", use_policy="do not", notes="other", weights="w")
    assert (licence.name, licence.link) == ("creativeml-openrail-m", "https://example.org/terms")
    assert [ref.path for ref in licence.files] == ["teacher/LICENSE", "teacher/README.md", "teacher/use_policy"]


@pytest.mark.parametrize(
    ("card", "name"),
    [
        ("---\nlicense: other\nlicense_name: my-terms\n---\n", "my-terms"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\ntags: [x]\n---\n", ""),
        ("# no head\nlicense: mit\n", ""),
        ("---\n[broken: yaml\n---\n", ""),
        ("---\n- a list\n---\n", ""),
        (b"---\nlicense: \xff\n---\n", ""),
        (None, ""),
    ],
)
def test_what_a_card_names(tmp_path: Path, card: str | bytes | None, name: str) -> None:
    assert copied(tmp_path, card).name == name


def test_a_large_file_is_not_a_licence_text(tmp_path: Path) -> None:
    assert copied(tmp_path, None, LICENSE="x" * (1 << 20 | 1)) == Licence()


def test_a_card_reports_an_unknown_licence() -> None:
    assert licence_head(Licence()) == []
    assert "names no licence" in licence_lines(Licence())[0]


def test_a_hostile_name_is_shown_as_it_is() -> None:
    name = "mit\n\n# Run `me`\n<script>alert(1)</script> [x](javascript:1) \x1b[2J"
    (line,) = licence_lines(Licence(name=name))
    assert "\n" not in line
    assert "<script>" not in line
    assert "\x1b" not in line
    html = markdown_it.MarkdownIt().render(line)
    assert re.findall(r"<(\w+)", html) == ["p", "strong"]
    assert "[x](javascript:1)" in html


def test_a_hostile_name_stays_one_value() -> None:
    assert licence_head(Licence(name="mit\ntags: [x]")) == ['license: "mit\\ntags: [x]"']
