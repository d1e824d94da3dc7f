"""A teacher's shape, without its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from sidlsg.distil.estimate.fake_networks import shape_of
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.architectures import ARCHITECTURES
from sidlsg.teacher.config import INDEX

CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)


@pytest.fixture
def configs(assets: Path, tmp_path: Path) -> Path:
    """The bundled teacher's configurations alone."""
    for name in (INDEX, *CONFIGS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(assets / "tiny-sd" / name, tmp_path / name)
    return tmp_path


def test_a_folder_is_read_without_weights(configs: Path, assets: Path) -> None:
    shape = shape_of(str(configs), "sd15")
    assert shape.config["sample_size"] == 8
    text_model = CLIPTextModel.from_pretrained(assets / "tiny-sd" / "text_encoder", local_files_only=True)
    assert shape.text_encoder_parameters == sum(p.numel() for p in text_model.parameters())
    assert shape_of("", "tiny").text_encoder_parameters == shape.text_encoder_parameters


@pytest.mark.parametrize(
    ("recipe", "name"), [("sd15_kappa2", "sd15"), ("sd21_base_kappa3", "sd21_base"), ("sd21", "sd21")]
)
def test_without_a_folder_a_recipe_has_the_shape_that_it_is_named_after(recipe: str, name: str) -> None:
    assert shape_of("", recipe).config == ARCHITECTURES[name].config


@pytest.mark.parametrize(("name", "width", "layers"), [("sd15", 768, 12), ("sd21_base", 1024, 23), ("sd21", 1024, 23)])
def test_text_encoders_have_the_parameters_of_their_shape(name: str, width: int, layers: int) -> None:
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        vocab_size=49408,
    )
    with torch.device("meta"):
        model = CLIPTextModel(config)
    assert sum(p.numel() for p in model.parameters()) == ARCHITECTURES[name].text_encoder_parameters


def test_what_cannot_be_read_is_reported(configs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe 'own' is for no architecture .* give a teacher's folder"):
        shape_of("", "own")
    path = configs / "unet" / "config.json"
    path.write_text(json.dumps({"sample_size": [64, 32]}))
    with pytest.raises(InputError, match=r"sample_size is \[64, 32\]; allowed: a whole number .* for a square"):
        shape_of(str(configs), "sd15")
    path.write_text(json.dumps({"sample_size": 64, "down_block_types": ["NoBlock"]}))
    with pytest.raises(InputError, match=r"unet/config.json cannot be loaded: .*; save the whole pipeline again"):
        shape_of(str(configs), "sd15")
    path.write_text(json.dumps({"sample_size": 64, "in_channels": 4, "cross_attention_dim": "wide"}))
    with pytest.raises(InputError, match="cross_attention_dim is 'wide'; allowed: a whole number from 1 to"):
        shape_of(str(configs), "sd15")
    path.write_text("[]")
    with pytest.raises(InputError, match="is not a JSON object"):
        shape_of(str(configs), "sd15")
    path.unlink()
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        shape_of(str(configs), "sd15")
    file = tmp_path / "one.safetensors"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="is a file, which does not describe its networks"):
        shape_of(str(file), "sd15")


def test_a_square_pair_is_the_size_that_distil_takes(configs: Path) -> None:
    path = configs / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": [8, 8]}))
    assert shape_of(str(configs), "sd15").config["sample_size"] == 8


@pytest.mark.parametrize("values", [{"hidden_size": None}, {"num_hidden_layers": 10**9}, {"hidden_act": "none"}])
def test_a_text_encoder_that_cannot_be_built_is_named_with_its_file(configs: Path, values: dict[str, object]) -> None:
    path = configs / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(InputError, match=r"text_encoder/config.json") as caught:
        shape_of(str(configs), "sd15")
    assert "\n" not in str(caught.value)
