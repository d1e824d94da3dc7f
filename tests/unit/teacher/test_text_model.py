import json
import shutil
from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.folder import conditioning_shapes, text_encoder_digest


@pytest.fixture
def teacher(teacher_folder: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))


def change(path: Path, **values: object) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in (config | values).items() if value is not None}))


def test_the_digest_is_of_text_encoder_and_tokenizer_alone(teacher: Path) -> None:
    first = text_encoder_digest(teacher)
    change(teacher / "unet" / "config.json", x=1)
    change(teacher / "scheduler" / "scheduler_config.json", x=1)
    (teacher / "text_encoder" / "notes.md").write_text("not a part of the model")
    assert text_encoder_digest(teacher) == first
    for part in ("text_encoder/config.json", "tokenizer/tokenizer.json"):
        before = text_encoder_digest(teacher)
        change(teacher / part, x=1)
        assert text_encoder_digest(teacher) != before


def test_the_shape_is_that_of_the_configurations(teacher: Path) -> None:
    assert conditioning_shapes(teacher) == {"encoder_hidden_states": (16, 96)}
    change(teacher / "text_encoder" / "config.json", hidden_size=768)
    change(teacher / "tokenizer" / "tokenizer_config.json", model_max_length=77)
    assert conditioning_shapes(teacher) == {"encoder_hidden_states": (77, 768)}


@pytest.mark.parametrize(
    ("part", "name"),
    [("text_encoder/config.json", "hidden_size"), ("tokenizer/tokenizer_config.json", "model_max_length")],
)
def test_a_configuration_that_lacks_a_value_is_refused(teacher: Path, part: str, name: str) -> None:
    for value in (None, "77", 0):
        change(teacher / part, **{name: value})
        with pytest.raises(InputError, match=f"{name}; save the whole pipeline|{name} is .*; allowed: a whole number"):
            conditioning_shapes(teacher)
    (teacher / part).unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        conditioning_shapes(teacher)
