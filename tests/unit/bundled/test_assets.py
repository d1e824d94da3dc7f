from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.bundled.assets import teach, write_teacher
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.training import TINY
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.pipeline import load_pipeline


@pytest.mark.parametrize("name", ["tiny-sd", "judge", "prompts"])
def test_a_folder_that_holds_something_else_is_refused_before_training(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / "output" / name / "letter.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match=f"{name} holds something else"):
        teach(SHAPES, tmp_path / "output", tmp_path / "work", TINY, print)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [foreign]


def test_an_output_that_is_a_file_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("mine")
    with pytest.raises(InputError):
        teach(SHAPES, tmp_path / "output", tmp_path / "work", TINY, print)
    assert not (tmp_path / "work").exists()


def test_a_teacher_whose_tokenizer_was_called_has_the_same_files(assets: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(assets / "tiny-sd")
    write_teacher(SD, pipeline, tmp_path / "before")
    pipeline.tokenizer(["a small red circle"], padding="longest")
    write_teacher(SD, pipeline, tmp_path / "after")
    assert folder_digest(tmp_path / "before") == folder_digest(tmp_path / "after")
