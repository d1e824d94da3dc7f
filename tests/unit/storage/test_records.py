"""The stages' records: to JSON and back, distinguished, and checked against their files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.runtime.errors import InputError
from sidlsg.storage.records import (
    EmbeddingSet,
    Extreme,
    FileRef,
    FunnelStep,
    Licence,
    ModelVersion,
    Promotion,
    PromptSet,
    Record,
    RuleResult,
    Score,
    Scorecard,
    Student,
    SubjectScores,
    Verdict,
    file_ref,
    file_refs,
)

KINDS: tuple[type[Record], ...] = (PromptSet, EmbeddingSet, Student, ModelVersion, Scorecard, Verdict, Promotion)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8), st.lists, max_leaves=4)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    int: st.integers(0, 2**40),
    # A float may be given as a whole number, as recipes do.
    float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    bool: st.booleans(),
    type(None): st.none(),
    dict[str, Any]: st.dictionaries(st.text(max_size=8), JSON, max_size=3),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a record may hold, records themselves included."""
    if kind in PLAIN:
        return PLAIN[kind]
    if kind is FileRef:
        names = st.text(st.characters(exclude_characters="/", codec="utf-8"), min_size=1, max_size=8).filter(
            lambda name: name != ".."
        )
        return st.builds(FileRef, path=st.lists(names, min_size=1, max_size=2).map("/".join), sha256=PLAIN[str])
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{field.name: values_of(hints[field.name]) for field in fields(kind)})
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return st.dictionaries(values_of(parts[0]), values_of(parts[1]), max_size=3)
    if get_origin(kind) is not tuple:
        return st.one_of(*map(values_of, parts))
    if parts[-1] is Ellipsis:
        return st.lists(values_of(parts[0]), max_size=3).map(tuple)
    return st.tuples(*map(values_of, parts))


def example(kind: type[Record]) -> Any:
    ref = FileRef(path="a.txt", sha256="0" * 64)
    score = Score(name="fid", value=2.5, protocol="p", n=8, reference_digest="r", higher_is_better=False)
    values: dict[str, Any] = {
        "shards": (ref,),
        "funnel": (FunnelStep(name="read", rows_in=3, rows_out=2),),
        "recipe_values": {"batch": 64, "scales": {"kappa": 1.5}},
        "kappas": (1.5, 1.5, 1.5, 1.5),
        "shape": (16, 96),
        "more": {"pooled": (96,)},
        "uncond": ref,
        "evaluations": None,
        "model": (ref, replace(ref, path="unet/b.safetensors")),
        "training_log": ref,
        "grids": (ref,),
        "licence": Licence(name="mit", files=(ref,)),
        "lineage": (ref,),
        "subjects": (SubjectScores(subject="student 1 step", steps=1, guidance_scale=0.0, scores=(score,)),),
        "grid_prompts": ("a", "b"),
        "images_seen": 64,
        "minimum_score": 6.25,
        "extremes": (Extreme(prompt="a", seed=3, value=0.5, measure="m", best=True, picture=ref),),
        "reused": (),
        "rules": (RuleResult(rule="r", found="f", passed=True),),
        "champion_version": None,
        "previous_version": 3,
        "changed": True,
        "passed": False,
        "seconds": 1.5,
    }
    given = {f.name: values.get(f.name, 1 if f.type in ("int", "NonNegativeInt") else f.name) for f in fields(kind)}
    return kind(**given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_comes_back_with_its_digest(kind: type[Record]) -> None:
    @settings(deadline=None)
    @given(values_of(kind))
    def comes_back(record: Record) -> None:
        text = record.to_json()
        back = kind.from_json(text)
        assert back == record
        assert back.to_json() == text
        assert back.digest == hashlib.sha256(text.encode()).hexdigest()

    comes_back()


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_saved_and_loaded_by_folder_and_by_file(kind: type[Record], tmp_path: Path) -> None:
    record = example(kind)
    path = record.save(tmp_path / "new")
    assert path == tmp_path / "new" / kind.FILE
    assert kind.load(path) == kind.load(path.parent) == record
    plain = json.loads(path.read_text())
    assert list(plain) == sorted(plain)
    assert set(plain) == {field.name for field in fields(kind)}


def test_each_kind_has_its_own_file_name() -> None:
    assert len({kind.FILE for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_is_refused_with_one_line(kind: type[Record], tmp_path: Path) -> None:
    for other in KINDS:
        if other is kind:
            continue
        path = tmp_path / kind.FILE
        path.write_text(example(other).to_json())
        with pytest.raises(InputError, match=f"is not a {kind.__name__} record: ") as caught:
            kind.load(tmp_path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"{}", b"\xff\xfe{", b"PK\x03\x04"])
def test_other_content_is_refused_with_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / Verdict.FILE).write_bytes(content)
    with pytest.raises(InputError, match="is not a Verdict record: ") as caught:
        Verdict.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_message_names_the_field() -> None:
    plain = json.loads(example(Scorecard).to_json())
    plain["subjects"][0]["scores"][0]["value"] = "good"
    with pytest.raises(InputError, match=r"subjects\.0\.scores\.0\.value is .*; give a number"):
        Scorecard.from_json(json.dumps(plain))


def test_no_count_is_negative() -> None:
    plain = json.loads(example(PromptSet).to_json()) | {"count": -1}
    with pytest.raises(InputError, match="count is -1; give a number of at least 0"):
        PromptSet.from_json(json.dumps(plain))


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "../secret.txt", "a/../../secret.txt", "//host/file"])
def test_no_file_lies_outside_the_records_folder(path: str) -> None:
    plain = json.loads(example(Student).to_json())
    plain["grids"][0]["path"] = path
    with pytest.raises(InputError, match=f"is not a Student record: .*the path '{path}' leaves the record's folder"):
        Student.from_json(json.dumps(plain))
    plain["grids"][0]["path"] = "s3://bucket/../grid.png"
    assert Student.from_json(json.dumps(plain)).grids[0].path == "s3://bucket/../grid.png"


def test_no_record_at_all_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none", tmp_path / "none.json"):
        with pytest.raises(InputError, match=r"no Student record at .*; give the folder that the earlier stage wrote"):
            Student.load(place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A student's folder with small files in place of a model."""
    for name in ("log", "unet/w", "vae/w", "grids/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def student_of(folder: Path) -> Student:
    refs = {name: file_ref(folder / name, folder) for name in ("log", "unet/w", "vae/w", "grids/1.png")}
    return replace(
        example(Student),
        model=(refs["unet/w"], refs["vae/w"]),
        training_log=refs["log"],
        grids=(refs["grids/1.png"],),
        licence=Licence(),
        lineage=(),
    )


def test_files_are_referred_to_by_relative_name_and_digest(folder: Path) -> None:
    assert file_ref(folder / "unet" / "w", folder) == FileRef(
        path="unet/w", sha256=hashlib.sha256(b"unet/w").hexdigest()
    )
    assert [ref.path for ref in file_refs(student_of(folder))] == ["unet/w", "vae/w", "log", "grids/1.png"]


def test_files_as_recorded_are_accepted(folder: Path) -> None:
    student_of(folder).verify(folder)
    remote = replace(student_of(folder), grids=(FileRef(path="s3://bucket/grid.png", sha256="0"),))
    remote.verify(folder)


@pytest.mark.parametrize("name", ["log", "unet/w", "vae/w", "grids/1.png"])
def test_a_damaged_or_missing_file_is_named(folder: Path, name: str) -> None:
    student = student_of(folder)
    (folder / name).write_text(name + "!")
    with pytest.raises(InputError, match="was changed or damaged") as caught:
        student.verify(folder)
    assert str(folder / name) in str(caught.value)
    assert hashlib.sha256(f"{name}!".encode()).hexdigest()[:16] in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing, though student.json names it"):
        student.verify(folder)


def test_what_no_digest_names_is_refused_where_it_would_be_loaded(folder: Path) -> None:
    student = student_of(folder)
    for harmless in ("notes.txt", "grids/2.png", "unet/.DS_Store", "vae/.cache/x"):
        (folder / harmless).parent.mkdir(exist_ok=True)
        (folder / harmless).write_text("x")
    student.verify(folder)
    for name in ("unet/w.index.json", "vae/deep/w"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
        with pytest.raises(InputError, match=r"student\.json does not name it") as caught:
            student.verify(folder)
        assert str(folder / name) in str(caught.value)
        (folder / name).unlink()


SCORE = Score(name="fid", value=2.0, protocol="p", n=8, reference_digest="r", higher_is_better=False)


@pytest.mark.parametrize("change", [{"name": "other"}, {"protocol": "q"}, {"n": 9}, {"reference_digest": "s"}])
def test_unlike_scores_do_not_compare(change: dict[str, Any]) -> None:
    other = replace(SCORE, **change)
    field = next(iter(change))
    for compare in (SCORE.require_comparable, SCORE.better_by):
        with pytest.raises(InputError, match=f"unlike {field} do not compare"):
            compare(other)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_better_is_lower_or_higher_as_the_score_runs(a: float, b: float) -> None:
    lower = replace(SCORE, value=a), replace(SCORE, value=b)
    assert lower[0].better_by(lower[1]) == b - a
    higher = tuple(replace(score, higher_is_better=True) for score in lower)
    assert higher[0].better_by(higher[1]) == a - b


def test_subjects_and_scores_are_found_by_name() -> None:
    card = example(Scorecard)
    assert card.subject("student 1 step").score("fid").value == 2.5
    with pytest.raises(InputError, match="no subject 'teacher' on the scorecard; it has: student 1 step"):
        card.subject("teacher")
    with pytest.raises(InputError, match="student 1 step has no score 'clip'; it has: fid"):
        card.subjects[0].score("clip")
