"""What a curation tells of files that it passes over, and of rows that it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidlsg.prompts.curation import preview
from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rules import CurationRules, DuplicatesRule, HeldOutRule, ScoreRule
from sidlsg.prompts.source.problems import NO_SCORE, NOT_A_NUMBER, NOT_UTF8, Misread, warnings
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate

RULES = CurationRules(
    score=ScoreRule(enabled=False), duplicates=DuplicatesRule(similarity=0), held_out=HeldOutRule(similarity=0)
)
CAPTIONS = [f"a photo of dog number {n} in the garden" for n in range(20)]


def misread(
    problem: str = NOT_UTF8, rows: int = 4, of_rows: int = 14, file: str = "a.txt", given: bytes = b"caf\xe9 au lait"
) -> Misread:
    return Misread(file=file, problem=problem, rows=rows, of_rows=of_rows, examples=((7, given),))


def test_unread_files_and_rows_are_reported_and_kept_in_the_manifest(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    lines = [*(caption.encode() for caption in CAPTIONS), "a café terrace in the evening".encode("cp1252")]
    (source / "a.txt").write_bytes(b"\n".join(lines))
    (source / "b.xlsx").write_bytes(b"")
    reported: list[str] = []
    curate([str(source)], tmp_path / "out", RULES, [], report=reported.append)
    passed_over = f"passed over 1 file in {source}, which end in no suffix of a known format: b.xlsx"
    warning = next(line for line in reported if line.startswith("warning:"))
    assert passed_over in reported
    assert (
        '1 of 21 rows of a.txt have a text that is not UTF-8 (row 770: "a caf\\xe9 terrace in the evening")' in warning
    )
    assert 'in windows-1252 that is "a café terrace in the evening"' in warning
    assert "set text.encoding to windows-1252" in warning
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [(some["count"], some["examples"]) for some in manifest["passed_over"]] == [(1, ["b.xlsx"])]
    example = [770, "a caf\\xe9 terrace in the evening"]
    assert manifest["misread"] == [
        {"file": "a.txt", "problem": NOT_UTF8, "rows": 1, "of_rows": 21, "examples": [example]}
    ]
    summary = (tmp_path / "out/summary.md").read_text()
    assert passed_over in summary
    assert warning in summary
    _, notes = preview([str(source)], RULES, [], 1000, Execution())
    assert notes == [passed_over, warning]


def test_no_problem_gives_no_warning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(CAPTIONS))
    _, notes = preview([str(tmp_path / "a.txt")], RULES, [], 1000, Execution())
    assert notes == []


def test_rows_that_cannot_be_read_are_the_reason_where_no_prompt_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,score\n" + "".join(f"{caption},high\n" for caption in CAPTIONS))
    with pytest.raises(
        InputError, match=r"rule 'score'.*; warning: 20 of 20 .* a score that is not a number \(row 0: \"high"
    ):
        curate([str(tmp_path / "a.csv")], tmp_path / "out", CurationRules(), [])
    assert not (tmp_path / "out").exists()


def test_single_bad_rows_are_no_warning() -> None:
    assert warnings([misread(rows=1, of_rows=51), misread(NO_SCORE, rows=1, of_rows=60)], "") == []
    (line,) = warnings([misread(rows=1, of_rows=50), misread(rows=3, of_rows=9, file="b.txt")], "")
    assert line.startswith("warning: 4 of 59 rows of a.txt and 1 more file have a text that is not UTF-8")


@pytest.mark.parametrize(
    ("given", "encoding", "advice"),
    [
        (b"caf\xe9 au lait", "", "set text.encoding to windows-1252"),
        ("кот на столе".encode("cp1251"), "", "set text.encoding to theirs, such as windows-1251"),
        (b"a \x81 in it", "windows-1252", "they are not windows-1252 (text.encoding) either"),
    ],
)
def test_the_likely_encoding_is_named_where_it_is_known(given: bytes, encoding: str, advice: str) -> None:
    (line,) = warnings([misread(given=given)], encoding)
    assert advice in line


def test_each_problem_has_a_separate_line() -> None:
    lines = warnings([misread(), misread(NOT_A_NUMBER, given=b"high\x1b[2J")], "")
    assert len(lines) == 2
    assert lines[1].isprintable()
