"""What the generator starts from, where that is not the teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sidlsg.runtime.errors import InputError
from sidlsg.stages.distil import _origin
from sidlsg.storage.uri import PIN
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.source import unet_of


@pytest.mark.parametrize("pinned", [True, False])
def test_a_student_is_hashed_once(assets: Path, tiny_student: Path, hashed: list[str], pinned: bool) -> None:
    teacher, sha256 = load_teacher(assets / "tiny-sd"), folder_digest(tiny_student)
    hashed.clear()
    unet, found = _origin(f"{tiny_student}{PIN}{sha256}" if pinned else str(tiny_student), teacher)
    assert found == sha256
    assert hashed.count(str(tiny_student / "unet" / "diffusion_pytorch_model.safetensors")) == 1
    assert unet is not None
    assert torch.equal(unet.conv_in.weight, unet_of(str(tiny_student)).conv_in.weight)


def test_without_a_place_it_is_the_teacher(assets: Path, tiny_student: Path) -> None:
    teacher = load_teacher(assets / "tiny-sd")
    assert _origin("", teacher) == (None, "")
    with pytest.raises(InputError, match="has SHA-256"):
        _origin(f"{tiny_student}{PIN}{'0' * 64}", teacher)
