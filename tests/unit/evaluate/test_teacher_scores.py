"""A teacher's stored scores count only for the same files under the same protocols."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.protocols import BASELINE_SEED, DomainProtocols, real_images
from sidlsg.cli.options import ScoreOptions
from sidlsg.evaluate.teacher_scores import CFG, TEACHER_SETTINGS, TeacherScores, read_teacher_scores
from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import SubjectScores

GOOD, OTHER = "teacher 20 steps", "teacher 1 step"


@pytest.fixture(scope="module")
def subjects(protocols: DomainProtocols) -> tuple[SubjectScores, ...]:
    scores = protocols.score(real_images(SHAPES, protocols.captions, BASELINE_SEED))
    return (
        SubjectScores(subject=GOOD, steps=20, guidance_scale=1.0, scores=scores),
        SubjectScores(subject=OTHER, steps=1, guidance_scale=1.0, scores=scores),
    )


def test_the_options_help_names_a_setting_that_exists() -> None:
    (option,) = get_type_hints(ScoreOptions, include_extras=True)["teacher_settings"].__metadata__
    named = re.findall("'([^']+)'", option.help)
    assert named
    assert set(named) <= set(TEACHER_SETTINGS)


def read(folder: Path, protocols: DomainProtocols, sha256: str = "abc") -> dict[str, SubjectScores]:
    return read_teacher_scores(folder, sha256, protocols.digests, len(protocols.captions))


def stored(folder: Path, *subjects: SubjectScores, sha256: str = "abc") -> Path:
    TeacherScores(teacher_sha256=sha256, subjects=subjects).save(folder)
    return folder


def test_stored_scores_are_read(
    tmp_path: Path, subjects: tuple[SubjectScores, ...], protocols: DomainProtocols
) -> None:
    found = read(stored(tmp_path, *subjects), protocols)
    assert found == {GOOD: subjects[0], OTHER: subjects[1]}


def test_a_teacher_without_stored_scores_has_none(tmp_path: Path, protocols: DomainProtocols) -> None:
    assert read(tmp_path, protocols) == {}


def test_scores_of_other_files_do_not_count(
    tmp_path: Path, subjects: tuple[SubjectScores, ...], protocols: DomainProtocols
) -> None:
    assert read(stored(tmp_path, *subjects), protocols, "abd") == {}


@pytest.mark.parametrize("change", [{"protocol": "fid/other"}, {"n": 2016}, {"reference_digest": "other"}])
@pytest.mark.parametrize("place", [0, 3])
def test_one_score_that_is_not_comparable_excludes_its_subject(
    tmp_path: Path,
    subjects: tuple[SubjectScores, ...],
    protocols: DomainProtocols,
    change: dict[str, Any],
    place: int,
) -> None:
    scores = list(subjects[0].scores)
    scores[place] = replace(scores[place], **change)
    changed = replace(subjects[0], scores=tuple(scores))
    assert read(stored(tmp_path, changed, subjects[1]), protocols) == {OTHER: subjects[1]}


@pytest.mark.parametrize("change", [{"steps": 10}, {"guidance_scale": 7.5}, {"subject": "teacher 20 steps, CFG"}])
def test_a_subject_sampled_in_another_way_is_excluded(
    tmp_path: Path, subjects: tuple[SubjectScores, ...], protocols: DomainProtocols, change: dict[str, Any]
) -> None:
    changed = replace(subjects[0], **change)
    assert read(stored(tmp_path, changed), protocols) == {}


def test_a_subject_that_lacks_a_score_is_excluded(
    tmp_path: Path, subjects: tuple[SubjectScores, ...], protocols: DomainProtocols
) -> None:
    for scores in ((), subjects[0].scores[:3]):
        changed = replace(subjects[0], scores=scores)
        assert read(stored(tmp_path, changed), protocols) == {}


def test_a_damaged_file_is_refused(tmp_path: Path, protocols: DomainProtocols) -> None:
    (tmp_path / TeacherScores.FILE).write_text('{"teacher_sha256": "abc"')
    with pytest.raises(InputError, match="is not a TeacherScores record"):
        read(tmp_path, protocols)


def test_the_settings_are_named_after_their_values() -> None:
    for name, (steps, scale) in TEACHER_SETTINGS.items():
        assert name == f"teacher {steps} step{'s' if steps > 1 else ''}{', CFG' if scale == CFG else ''}"
        assert scale in (1.0, CFG)
