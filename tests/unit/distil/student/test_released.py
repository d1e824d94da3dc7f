"""A released checkpoint as a student: it generates the module's images, registers, and is scored like any other."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from forked import run
from sidlsg.bundled.protocols import load_domain_protocols
from sidlsg.bundled.shapes.captions import held_out_captions
from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.student.generation import generate
from sidlsg.distil.student.released import convert_released
from sidlsg.registry.connection import connect
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import InputError
from sidlsg.stages import evaluate as stage
from sidlsg.stages.evaluate import evaluate
from sidlsg.storage.files import sha256_file
from sidlsg.storage.records import Student
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.format import TeacherVariant
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import seeded_noise

Write = Callable[..., Path]
PROMPTS = ["a small red circle on a blue background", "a large white ring on a black background"]


@pytest.fixture(autouse=True)
def forked_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading process is a fork here, which has its libraries; test_reading.py is about the process itself."""
    code = "import sys; from sidlsg.distil.student.pickles import main; sys.exit(main(sys.argv[1:]))"

    real = subprocess.run

    def read(command: Sequence[str], **given: Any) -> subprocess.CompletedProcess[Any]:
        if "sidlsg.distil.student.pickles" not in command:
            return real(command, **given)
        return run(command[-2:], code=code, env=given["env"])

    monkeypatch.setattr(subprocess, "run", read)


@pytest.mark.parametrize(
    ("half", "tolerance"),
    [pytest.param(False, 0.0, id="fp32", marks=pytest.mark.long), pytest.param(True, 0.0, id="fp16")],
)
def test_the_student_generates_the_same_latents_as_the_module(
    released: Write, generator: UNet2DConditionModel, teacher: Path, tmp_path: Path, half: bool, tolerance: float
) -> None:
    student = convert_released(released(half=half), teacher, tmp_path / "student", kappa=1.5)
    assert student.recipe_values["export_dtype"] == ("float16" if half else "float32")
    module = UNet2DConditionModel.from_config(generator.config)
    module.load_state_dict(generator.state_dict())
    module = (module.half().float() if half else module).to(memory_format=torch.channels_last)
    ours, theirs = load_teacher(tmp_path / "student"), load_teacher(teacher)
    z = seeded_noise([1, 2], ours.latent_shape)[0]
    with torch.no_grad():
        found = generate_latents(ours.network, ours.schedule, z, ours.encode(PROMPTS), student.t_init)
        expected = generate_latents(module, theirs.schedule, z, theirs.encode(PROMPTS), 625)
        teachers = generate_latents(theirs.network, theirs.schedule, z, theirs.encode(PROMPTS), 625)
    assert (found - expected).abs().max() <= tolerance
    assert (found - teachers).abs().max() > 0.1


def test_the_stock_pipeline_generates_the_same_image(released: Write, teacher: Path, tmp_path: Path) -> None:
    convert_released(released(), teacher, tmp_path / "student", kappa=1.5)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(tmp_path / "student", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(7)
    stock = pipeline(PROMPTS[:1], num_inference_steps=1, guidance_scale=0, generator=noise, output_type="np").images
    ours = torch.as_tensor(generate(tmp_path / "student", PROMPTS[:1], [7]), dtype=torch.float64)
    assert (torch.as_tensor(stock, dtype=torch.float64) * 255 - ours).abs().max() <= 1


def test_the_record_holds_what_is_known(released: Write, teacher: Path, tmp_path: Path) -> None:
    file = released()
    student = convert_released(file, teacher, tmp_path / "student", kappa=4.5, t_init=600)
    assert Student.load(tmp_path / "student") == student
    student.verify(tmp_path / "student")
    assert (student.recipe, student.kappas, student.t_init) == ("released", (4.5,) * 4, 600)
    assert student.teacher_sha256 == folder_digest(teacher)
    assert student.recipe_values["source_sha256"] == sha256_file(file)
    assert student.recipe_values["source"] == file.name
    assert student.images_seen == 18_835_000
    assert (student.prompts_sha256, student.hardware) == ("unknown", "unknown")
    card = (tmp_path / "student" / "README.md").read_text()
    for part in ("κ = 4.5", "images seen | 18,835,000", sha256_file(file), "Not known: iterations, nan_samples"):
        assert part in card
    # The same command again replaces its own output.
    again = convert_released(file, teacher, tmp_path / "student", kappa=4.5, t_init=600)
    assert again == student


def test_a_teacher_of_another_family_is_refused(
    released: Write, of_family: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is a Stable Diffusion 3; released checkpoints are of Stable Diffusion 1"):
        convert_released(released(), of_family("sd3"), tmp_path / "student", kappa=1.5)
    assert not (tmp_path / "student").exists()


def test_the_teachers_variant_is_recorded(released: Write, teacher: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(teacher, tmp_path / "teacher"))
    TeacherVariant(variant="fp16").save(copy)
    student = convert_released(released(), copy, tmp_path / "student", kappa=1.5)
    assert [ref.path for ref in student.lineage] == ["lineage/teacher_variant.json"]
    student.verify(tmp_path / "student")
    assert convert_released(released(), teacher, tmp_path / "other", kappa=1.5).lineage == ()


def test_images_seen_are_given_or_named_or_not_known(released: Write, teacher: Path, tmp_path: Path) -> None:
    file = released("model.pkl")
    student = convert_released(file, teacher, tmp_path / "student", kappa=1.5)
    assert student.images_seen == 0
    assert "images_seen" in student.recipe_values["not_known"]
    assert "| images seen | not known |" in (tmp_path / "student" / "README.md").read_text()
    assert convert_released(file, teacher, tmp_path / "student", kappa=1.5, images_seen=5).images_seen == 5


@pytest.mark.long
def test_it_registers_and_is_evaluated(
    released: Write, teacher: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = convert_released(released(), teacher, tmp_path / "student", kappa=1.5)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    version = register(tmp_path / "student", uri, "released")
    assert (version.version, version.student_sha256) == (1, student.digest)
    assert register(tmp_path / "student", uri, "released") == version
    tracked = connect(uri).get_run(version.run_id)
    assert tracked.data.params["source_sha256"] == f"{student.recipe_values['source_sha256']}"
    monkeypatch.setattr(stage, "load_domain_protocols", functools.partial(load_domain_protocols, count=40))
    settings = {"teacher 20 steps": (2, 0.0), "teacher 1 step": (1, 0.0)}
    monkeypatch.setattr(stage, "TEACHER_SETTINGS", settings)
    held_out = [caption.text for caption in held_out_captions()]
    judge = assets / "judge" / "judge.safetensors"
    card = evaluate(tmp_path / "student", teacher, tmp_path / "card", held_out, judge, print)
    assert card.student_sha256 == student.digest
    assert card.subject("student 1 step").score("attributes").n == 40


def with_config(**values: Any) -> Callable[[UNet2DConditionModel], UNet2DConditionModel]:
    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        unet.register_to_config(**values)
        return unet

    return change


def without(name: str) -> Callable[[UNet2DConditionModel], UNet2DConditionModel]:
    def change(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        module, _, parameter = name.rpartition(".")
        del unet.get_submodule(module)._parameters[parameter]
        return unet

    return change


def with_more(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    unet.conv_in.more = torch.nn.Parameter(torch.ones(2))
    return unet


def with_another_shape(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    unet.conv_in.bias = torch.nn.Parameter(torch.ones(3))
    return unet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_config(sample_size=96), "has sample_size = 96, and the teacher .* has 8"),
        (with_config(attention_head_dim=8), "has attention_head_dim = 8, and the teacher .* has 4"),
        (without("conv_in.bias"), "lacks conv_in.bias"),
        (with_more, "has an unexpected conv_in.more"),
        (with_another_shape, r"has conv_in.bias of shape \(3,\), and the teacher \(64,\)"),
    ],
)
def test_the_checkpoint_of_another_teacher_is_refused(
    released: Write, teacher: Path, tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(InputError, match=f"{message}; give the teacher that the checkpoint was distilled from"):
        convert_released(released(change=change), teacher, tmp_path / "student", kappa=1.5)
    assert not (tmp_path / "student").exists()
    assert not list(tmp_path.glob(".student.*"))


def test_a_configuration_of_an_older_release_is_taken(released: Write, teacher: Path, tmp_path: Path) -> None:
    def older(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        values = {name: value for name, value in unet.config.items() if name != "attention_type"}
        unet._internal_dict = type(unet.config)({**values, "upcast_attention": True, "_name_or_path": "somewhere"})
        return unet

    assert convert_released(released(change=older), teacher, tmp_path / "student", kappa=1.5).recipe == "released"


def test_what_is_refused_leaves_nothing(released: Write, teacher: Path, tmp_path: Path) -> None:
    for t_init in (0, 1000):
        with pytest.raises(InputError, match=f"t_init is {t_init}; allowed: 1 to 999"):
            convert_released(released(), teacher, tmp_path / "student", kappa=1.5, t_init=t_init)
    (tmp_path / "a.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"^\S+a.pkl is refused: it asks for the name 'os.system'"):
        convert_released(tmp_path / "a.pkl", teacher, tmp_path / "student", kappa=1.5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(InputError, match="holds something else"):
        convert_released(released(), teacher, tmp_path / "mine", kappa=1.5)
    assert not (tmp_path / "student").exists()
