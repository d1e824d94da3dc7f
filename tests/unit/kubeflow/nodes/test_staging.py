from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.job_spec import Bundle, JobSpec
from sidlsg.kubeflow.nodes.staging import DIGESTS, Staging
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.records import Student
from unit.kubeflow.nodes.launch import make_bundle


@pytest.fixture
def bundle(tiny_student: Path, tmp_path: Path) -> Bundle:
    return make_bundle(tiny_student, tmp_path)


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return Staging(str(tmp_path / "staging"))


def test_inputs_arrive_as_they_were_sent(staging: Staging, bundle: Bundle) -> None:
    reported: list[str] = []
    staging.upload_inputs(bundle, reported.append)
    spec = staging.job_spec(bundle.spec.digest)
    assert spec == bundle.spec
    folder = staging.download_inputs(spec)
    for name, path in bundle.files.items():
        assert (folder / name).read_bytes() == path.read_bytes()
    assert staging.download_inputs(spec) == folder
    assert reported and reported[0].endswith(f"to {staging.uri}")


def test_another_job_spec_is_refused(staging: Staging, bundle: Bundle) -> None:
    staging.upload_inputs(bundle, print)
    with pytest.raises(ContentError, match="has SHA-256"):
        staging.job_spec("0" * 64)


def test_a_file_that_was_changed_is_refused_and_nothing_counts_as_fetched(staging: Staging, bundle: Bundle) -> None:
    staging.upload_inputs(bundle, print)
    file = Path(staging.uri) / "inputs" / "prompts" / "prompt_set.json"
    text = file.read_text()
    file.write_text(f"{text} ")
    with pytest.raises(ContentError, match="has SHA-256"):
        staging.download_inputs(bundle.spec)
    file.write_text(text)
    assert (staging.download_inputs(bundle.spec) / "prompts" / "prompt_set.json").read_text() == text


def test_without_its_digests_there_is_no_student(
    staging: Staging, bundle: Bundle, tiny_student: Path, tmp_path: Path
) -> None:
    staging.upload_inputs(bundle, print)
    staging.upload_student(tiny_student)
    assert staging.has_student()
    staging.store.delete([DIGESTS])
    assert not staging.has_student()
    with pytest.raises(ContentError, match="SHA256SUMS"):
        staging.download_student(bundle.spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_student_arrives_whole(staging: Staging, bundle: Bundle, tiny_student: Path, tmp_path: Path) -> None:
    staging.upload_student(tiny_student)
    assert staging.download_student(bundle.spec, tmp_path / "out") == Student.load(tiny_student)
    here, there = (
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "out", tiny_student)
    )
    assert here == there


def test_a_new_attempt_begins_without_the_earlier_ones_student(
    staging: Staging, bundle: Bundle, tiny_student: Path
) -> None:
    staging.upload_student(tiny_student)
    staging.upload_inputs(bundle, print)
    assert not staging.has_student()


def test_all_of_it_goes(staging: Staging, bundle: Bundle, tiny_student: Path) -> None:
    staging.upload_inputs(bundle, print)
    staging.upload_student(tiny_student)
    staging.remove()
    assert not Path(staging.uri).exists()
    staging.remove()


def test_a_node_does_not_create_the_staging_area(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Staging(str(tmp_path / "none"), create=False)


def test_a_job_spec_lies_in_its_file(staging: Staging, bundle: Bundle) -> None:
    staging.upload_inputs(bundle, print)
    assert (Path(staging.uri) / JobSpec.FILE).exists()
