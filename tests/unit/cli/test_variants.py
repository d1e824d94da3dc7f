"""`--variant` of the commands that take a teacher, and what their results say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.kubeflow.nodes.job_spec import pack
from sidlsg.runtime.errors import InputError
from sidlsg.stages.inputs import common_arguments
from sidlsg.stages.resolve import resolve_inputs
from sidlsg.stages.run_request import RunRequest
from sidlsg.stages.training import PodTraining
from sidlsg.storage.records import EmbeddingSet, Student
from sidlsg.teacher.format import TeacherVariant
from sidlsg.teacher.pipeline import load_pipeline
from unit.teacher.downloaded import make_downloaded

Run = Callable[..., tuple[int, str, str]]

SHORT = ("iterations=1", "batch=2", "micro_batch=2", "grids=0", "log_every=1", "evaluate_every=0", "on_alarm=off")
CHANGES = [word for change in (*SHORT, "processes=1") for word in ("--set", change)]


@pytest.fixture(scope="module")
def sd15(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_downloaded(tmp_path_factory.mktemp("downloaded") / "sd15", assets / "tiny-sd"))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))


def digest_of(sidlsg: Run, *words: str) -> str:
    code, out, errors = sidlsg("digest", *words)
    assert code == 0, errors
    return out.strip()


def test_the_option_and_the_uri_say_the_same(sidlsg: Run, sd15: str) -> None:
    plain, fp16 = digest_of(sidlsg, sd15), digest_of(sidlsg, sd15, "--variant", "fp16")
    assert plain != fp16 == digest_of(sidlsg, f"{sd15}@variant:fp16")
    assert fp16 == digest_of(sidlsg, f"{sd15}@sha256:{fp16}", "--variant", "fp16")
    code, out, errors = sidlsg("digest", sd15, "--variant", "bf16")
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {sd15} has no safetensors weights of the variant 'bf16'")
    code, _, errors = sidlsg("digest", f"{sd15}@variant:non_ema", "--variant", "fp16")
    assert (code, "is given with two variants, non_ema and fp16; give one" in errors) == (2, True)


def test_a_student_says_which_variant_taught_it(sidlsg: Run, sd15: str, tiny_student: Path, tmp_path: Path) -> None:
    prompts = str(tiny_student.parent / "prompts")
    words = ["distil", "--prompts", prompts, "--teacher", sd15, *CHANGES, "--checkpoints", "state"]
    code, _, errors = sidlsg(*words, "--output", "student", "--variant", "fp16")
    assert code == 0, errors
    student = Student.load(tmp_path / "student")
    student.verify(tmp_path / "student")
    assert student.teacher_sha256 == digest_of(sidlsg, sd15, "--variant", "fp16")
    assert TeacherVariant.load(tmp_path / "student" / "lineage").variant == "fp16"
    assert f"lineage/{TeacherVariant.FILE}" in {ref.path for ref in student.lineage}
    assert not [path for path in (tmp_path / "student").rglob("*") if path.is_symlink() or "fp16" in path.name]
    load_pipeline(tmp_path / "student")
    code, _, errors = sidlsg(*words, "--output", "other")
    assert code == 2
    assert f"teacher is {digest_of(sidlsg, sd15)[:12]}… here and {student.teacher_sha256[:12]}… there" in errors
    code, _, errors = sidlsg("evaluate", "--student", "student", "--teacher", sd15, "--output", "scores")
    assert code == 2
    assert f"was distilled from the teacher {student.teacher_sha256[:16]}…" in errors
    assert not (tiny_student / "lineage" / TeacherVariant.FILE).exists()


def test_prompts_are_encoded_by_the_variants_text_encoder(
    sidlsg: Run, sd15: str, tiny_student: Path, tmp_path: Path
) -> None:
    words = ["encode", "--prompts", str(tiny_student.parent / "prompts"), "--teacher", sd15, "--budget-gb", "0"]
    found = []
    for variant in ("", "non_ema", "fp16"):
        code, _, errors = sidlsg(*words, "--variant", variant, "--output", f"e{variant}")
        assert code == 0, errors
        found.append(EmbeddingSet.load(tmp_path / f"e{variant}").text_encoder_sha256)
    assert found[0] == found[1] != found[2]


def test_a_registered_teacher_keeps_its_variant(sidlsg: Run, sd15: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    words = ["register-teacher", sd15, "--variant", "fp16", "--name", "teachers", "--tracking-uri", store]
    code, out, errors = sidlsg(*words)
    assert code == 0, errors
    assert digest_of(sidlsg, sd15, "--variant", "fp16") in out
    assert MlflowClient(store).get_model_version("teachers", "1").tags["place"] == f"{sd15}@variant:fp16"


def test_a_pipeline_gets_it_in_the_teachers_uri(sidlsg: Run, sd15: str, tmp_path: Path) -> None:
    given = common_arguments(RunRequest(run_dir=tmp_path, teacher=sd15, variant="fp16"), tmp_path)
    assert given["teacher"] == f"{sd15}@variant:fp16"
    files = {"held_out": "bundled:prompts/held_out.txt", "judge": "bundled:judge/judge.safetensors"}
    empty = {"teacher_layout": "", "weights": "", "gate_rules": "", "seed": "0", "pipeline_run": ""}
    recipe = {"recipe": "tiny", "changes": {}}
    found = resolve_inputs(prompts=[], teacher=given["teacher"], **files, **empty, **recipe)
    assert found.teacher == f"{sd15}@variant:fp16@sha256:{digest_of(sidlsg, sd15, '--variant', 'fp16')}"
    with pytest.raises(InputError, match="bf16"):
        common_arguments(RunRequest(run_dir=tmp_path, teacher=sd15, variant="bf16"), tmp_path)


def test_nodes_get_its_files_alone(sd15: str, tiny_student: Path, tmp_path: Path) -> None:
    training = PodTraining(
        prompts=str(tiny_student.parent / "prompts"),
        teacher=f"{sd15}@variant:fp16",
        recipe="tiny",
        changes=json.dumps({"evaluate_every": 0}),
        seed=0,
        checkpoints=str(tmp_path / "state"),
        held_out="",
        judge="",
        output="",
    )
    bundle = pack(training)
    staged = {name.removeprefix("teacher/"): path for name, path in bundle.files.items() if name.startswith("teacher/")}
    weights = {name: path.resolve().name for name, path in staged.items() if name.endswith(".safetensors")}
    assert weights == {
        "unet/diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors": "model.fp16.safetensors",
        "safety_checker/model.safetensors": "model.fp16.safetensors",
    }
    assert {TeacherVariant.FILE, "README.md", "model_index.json"} <= staged.keys()
