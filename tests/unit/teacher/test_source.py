"""A teacher by URI: a folder as it is, a file converted once, and a UNet to start from."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.folder import write_folder
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file
from sidlsg.storage.uri import TEACHER
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.pipeline import load_pipeline, load_teacher
from sidlsg.teacher.source import checked_teacher

UNET = "unet/diffusion_pytorch_model.safetensors"


def teacher_folder(uri: str, sha256: str = "", layout: str = "") -> Path:
    return checked_teacher(uri, sha256, layout)[0]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(single_file: Callable[..., Path], tmp_path: Path) -> Path:
    return single_file(tmp_path / "model.safetensors")


def test_a_folder_is_taken_as_it_is(assets: Path, cache: Path) -> None:
    digest = folder_digest(assets / "tiny-sd")
    assert teacher_folder(TEACHER) == assets / "tiny-sd"
    assert teacher_folder(str(assets / "tiny-sd"), digest) == assets / "tiny-sd"
    assert not cache.exists()
    with pytest.raises(InputError, match="has SHA-256"):
        teacher_folder(TEACHER, "0" * 64)
    with pytest.raises(InputError, match="which is a folder and has its own"):
        teacher_folder(TEACHER, layout=TEACHER)


def test_a_file_is_converted_once(file: Path, layout: Path, cache: Path) -> None:
    folder = teacher_folder(str(file), sha256_file(file), str(layout))
    assert folder.is_relative_to(cache)
    check_folder(folder)
    before = (folder / UNET).stat()
    assert teacher_folder(str(file), layout=str(layout)) == folder
    after = (folder / UNET).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(InputError, match="has SHA-256"):
        teacher_folder(str(file), "0" * 64, str(layout))


def test_the_digest_that_was_checked_is_returned(file: Path, layout: Path, assets: Path) -> None:
    digest = folder_digest(assets / "tiny-sd")
    assert checked_teacher(TEACHER) == (assets / "tiny-sd", "")
    assert checked_teacher(TEACHER, digest) == (assets / "tiny-sd", digest)
    assert checked_teacher(f"{TEACHER}@sha256:{digest}") == (assets / "tiny-sd", digest)
    # Of a converted one it is always known, and it is the folder's, not the file's.
    for _ in range(2):
        folder, found = checked_teacher(str(file), sha256_file(file), str(layout))
        assert found == folder_digest(folder)


def test_another_file_or_layout_is_another_folder(
    file: Path, layout: Path, single_file: Callable[..., Path], tmp_path: Path
) -> None:
    first = teacher_folder(str(file), layout=str(layout))
    other = single_file(tmp_path / "other.safetensors", change=lambda t: t | {"alphas_cumprod": torch.ones(3)})
    assert teacher_folder(str(other), layout=str(layout)) != first
    scheduler = layout / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"epsilon"', '"v_prediction"'))
    third = teacher_folder(str(file), layout=str(layout))
    assert third != first
    assert load_teacher(third).schedule.prediction_type == "v_prediction"
    assert load_teacher(first).schedule.prediction_type == "epsilon"


@pytest.mark.parametrize("damage", ["changed", "lost", "no record"])
def test_a_damaged_copy_is_made_again(file: Path, layout: Path, damage: str) -> None:
    folder = teacher_folder(str(file), layout=str(layout))
    digest = folder_digest(folder)
    if damage == "changed":
        content = bytearray((folder / UNET).read_bytes())
        content[-1] ^= 1
        (folder / UNET).write_bytes(content)
    else:
        (folder / (UNET if damage == "lost" else "conversion.json")).unlink()
        for path in (folder / "vae").iterdir() if damage == "lost" else ():
            path.unlink()
    assert teacher_folder(str(file), layout=str(layout)) == folder
    assert folder_digest(folder) == digest


def _folder_and_inode(file: str, layout: str) -> tuple[Path, int]:
    folder = teacher_folder(file, layout=layout)
    return folder, (folder / UNET).stat().st_ino


def test_processes_that_ask_at_once_get_one_copy(file: Path, layout: Path, cache: Path) -> None:
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        asked = [pool.submit(_folder_and_inode, str(file), str(layout)) for _ in range(2)]
        assert len({job.result(timeout=120) for job in asked}) == 1
    assert len([path for path in (cache / "teachers").iterdir() if path.is_dir()]) == 1


def test_what_a_killed_process_left_is_deleted(file: Path, layout: Path, cache: Path) -> None:
    folder = teacher_folder(str(file), layout=str(layout))
    left = folder.with_name(f".{folder.name}.abcdef")
    folder.rename(left)
    assert teacher_folder(str(file), layout=str(layout)) == folder
    assert sorted(path.name for path in (cache / "teachers").iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_what_cannot_be_a_teacher_is_refused(file: Path, layout: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a single file; a teacher also needs .* --teacher-layout"):
        teacher_folder(str(file))
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="is a pickle"):
        teacher_folder(str(tmp_path / "model.ckpt"), layout=str(layout))
    with pytest.raises(InputError, match="there is nothing at"):
        teacher_folder(str(file), layout=str(tmp_path / "nowhere"))


def test_a_unet_to_start_from(assets: Path, tmp_path: Path) -> None:
    teacher = load_teacher(assets / "tiny-sd")
    (tmp_path / "student").mkdir()
    with torch.no_grad():
        teacher.network.conv_in.bias += 1
    write_folder(teacher, teacher.network, FewSteps(), "float32", tmp_path / "student")
    student = load_pipeline(tmp_path / "student").unet.state_dict()
    assert {tensor.dtype for tensor in student.values()} == {torch.float32}
    assert all(torch.equal(tensor, student[name]) for name, tensor in teacher.network.state_dict().items())
    assert not torch.equal(load_pipeline(assets / "tiny-sd").unet.state_dict()["conv_in.bias"], student["conv_in.bias"])
    with pytest.raises(InputError, match=r"has no model_index.json"):
        load_pipeline(assets / "prompts")
