from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.kubeflow.nodes.job_spec import JobSpec
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.records import PromptSet
from unit.kubeflow.nodes.launch import make_bundle


def test_inputs_that_nodes_can_read_are_not_staged(tiny_student: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tiny_student, tmp_path, judge=f"s3://b/judge.safetensors@sha256:{'0' * 64}")
    assert bundle.spec.teacher == "bundled:tiny-sd"
    assert bundle.spec.judge == f"s3://b/judge.safetensors@sha256:{'0' * 64}"
    assert {name.split("/")[0] for name in bundle.files} == {"prompts"}
    assert bundle.spec.prompts_sha256 == PromptSet.load(tiny_student.parent / "prompts").digest


def test_inputs_on_this_machine_are_staged(tiny_student: Path, tmp_path: Path, assets: Path) -> None:
    held_out = assets / "prompts" / "held_out.txt"
    bundle = make_bundle(tiny_student, tmp_path, teacher=str(assets / "tiny-sd"), held_out=str(held_out))
    assert (bundle.spec.teacher, bundle.spec.held_out) == ("handover:teacher", "handover:held_out/held_out.txt")
    assert {"teacher/model_index.json", "teacher/unet/config.json", "held_out/held_out.txt"} <= bundle.files.keys()
    assert not [name for name in bundle.files if "training_log" in name]
    assert {ref.path for ref in bundle.spec.inputs} == bundle.files.keys()


def test_a_uri_keeps_its_digest(tiny_student: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tiny_student, tmp_path, teacher=f"s3://b/teacher@sha256:{'1' * 64}")
    assert bundle.spec.teacher == f"s3://b/teacher@sha256:{'1' * 64}"


def test_inputs_that_cannot_be_used_are_refused(tiny_student: Path, tmp_path: Path, assets: Path) -> None:
    for values, message in (
        ({"teacher": "s3://b/teacher"}, "comes without a digest"),
        ({"tracking_uri": "sqlite:///mlflow.db"}, "other nodes cannot reach"),
        ({"recipe": "tyni"}, "did you mean 'tiny'"),
        ({"teacher": str(tmp_path / "nowhere")}, "there is nothing at"),
    ):
        with pytest.raises(InputError, match=message):
            make_bundle(tiny_student, tmp_path, **values)
    with pytest.raises(ContentError, match="was changed, or it is another"):
        make_bundle(tiny_student, tmp_path, teacher=f"{assets / 'tiny-sd'}@sha256:{'1' * 64}")


def test_a_jobs_name_follows_from_its_spec_and_its_run(tiny_student: Path, tmp_path: Path) -> None:
    one, same = (make_bundle(tiny_student, tmp_path).spec for _ in range(2))
    other = make_bundle(tiny_student, tmp_path, seed=1).spec
    assert one.job_name("a") == same.job_name("a")
    assert len({one.job_name("a"), one.job_name("b"), other.job_name("a")}) == 3


def test_only_what_changes_checkpoints_changes_the_digest_of_the_training(tiny_student: Path, tmp_path: Path) -> None:
    one = make_bundle(tiny_student, tmp_path).spec
    quicker = make_bundle(tiny_student, tmp_path, changes=one.changes.replace('"micro_batch": 4', '"micro_batch": 2'))
    assert quicker.spec.training == one.training
    assert make_bundle(tiny_student, tmp_path, seed=1).spec.training != one.training
    assert make_bundle(tiny_student, tmp_path, checkpoints="s3://b/other").spec.training != one.training


def test_a_job_spec_is_read_as_it_was_written(tiny_student: Path, tmp_path: Path) -> None:
    order = make_bundle(tiny_student, tmp_path).spec
    assert JobSpec.from_json(order.to_json()) == order
