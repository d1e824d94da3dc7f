"""The bundled teacher as one file comes back as it was, and what does not fit is refused."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting
from sidlsg.teacher.source import Conversion, convert_single_file

Write = Callable[..., Path]
PROMPTS = ["a small red circle on a blue background", "a large white ring on a black background"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may ask for an address or connect: the attempt fails the test that made it."""

    def attempt(*arguments: object, **_: object) -> None:
        pytest.fail(f"a connection was attempted: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", attempt)
    monkeypatch.setattr(socket.socket, "connect", attempt)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    teacher = load_teacher(folder)
    parts = {"unet": teacher.network, "vae": teacher.vae, "text_encoder": teacher.encode.text_encoders[0]}
    return {
        f"{part}.{name}": tensor for part, network in parts.items() for name, tensor in network.state_dict().items()
    }


def with_scheduler(layout: Path, **values: object) -> None:
    path = layout / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def with_config(layout: Path, part: str, **values: object) -> None:
    path = layout / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("open_clip", [False, True], ids=["SD 1", "SD 2"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_file_is_the_folder_that_it_was_made_from(
    single_file: Write, assets: Path, layout: Path, tmp_path: Path, open_clip: bool, prediction_type: str
) -> None:
    with_scheduler(layout, prediction_type=prediction_type)
    convert_single_file(single_file(tmp_path / "model.safetensors", open_clip), layout, tmp_path / "teacher")
    check_folder(tmp_path / "teacher")
    ours, theirs = weights(tmp_path / "teacher"), weights(assets / "tiny-sd")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_teacher(tmp_path / "teacher").schedule.prediction_type == prediction_type


def test_it_generates_the_same_images(single_file: Write, assets: Path, layout: Path, tmp_path: Path) -> None:
    convert_single_file(single_file(tmp_path / "model.safetensors"), layout, tmp_path / "teacher")
    drawn = [
        StockSampler(folder)(PROMPTS, range(len(PROMPTS)), Setting(steps=3, guidance_scale=2.0))
        for folder in (tmp_path / "teacher", assets / "tiny-sd")
    ]
    assert np.array_equal(np.asarray(drawn[0]), np.asarray(drawn[1]))


def test_precision_stays_and_a_scheduler_table_does_not_count(single_file: Write, layout: Path, tmp_path: Path) -> None:
    def in_single(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}

    half = convert_single_file(single_file(tmp_path / "half.safetensors"), layout, tmp_path / "half")
    single = convert_single_file(
        single_file(tmp_path / "single.safetensors", change=in_single), layout, tmp_path / "single"
    )
    for name, dtype in (("half", torch.float16), ("single", torch.float32)):
        stored = load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors")
        assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert half.folder_sha256 == folder_digest(tmp_path / "half") != single.folder_sha256
    assert Conversion.load(tmp_path / "half") == half


def test_small_files_are_the_layouts_and_no_safety_checker_is_promised(
    single_file: Write, layout: Path, tmp_path: Path
) -> None:
    index = json.loads((layout / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (layout / "model_index.json").write_text(json.dumps(index))
    (layout / "text_encoder" / "model.safetensors.index.json").write_text("{}")
    convert_single_file(single_file(tmp_path / "model.safetensors"), layout, tmp_path / "teacher")
    for name in ("unet/config.json", "text_encoder/config.json", "tokenizer/tokenizer.json"):
        assert (tmp_path / "teacher" / name).read_bytes() == (layout / name).read_bytes()
    written = json.loads((tmp_path / "teacher" / "model_index.json").read_text())
    assert written["safety_checker"] == written["feature_extractor"] == [None, None]
    assert not (tmp_path / "teacher" / "text_encoder" / "model.safetensors.index.json").exists()
    load_teacher(tmp_path / "teacher")


@pytest.mark.parametrize("extractor", [True, False])
def test_a_safety_checker_stays_with_its_weights_and_its_extractor_alone(
    single_file: Write, layout: Path, tmp_path: Path, extractor: bool
) -> None:
    index = json.loads((layout / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    if extractor:
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
        (layout / "feature_extractor").mkdir()
        (layout / "feature_extractor" / "preprocessor_config.json").write_text("{}")
    (layout / "model_index.json").write_text(json.dumps(index))
    (layout / "safety_checker").mkdir()
    (layout / "safety_checker" / "config.json").write_text("{}")
    save_file({"weight": torch.ones(1)}, layout / "safety_checker" / "model.safetensors")
    convert_single_file(single_file(tmp_path / "model.safetensors"), layout, tmp_path / "teacher")
    check_folder(tmp_path / "teacher")
    assert (tmp_path / "teacher" / "safety_checker" / "model.safetensors").is_file() is extractor


def test_the_ema_is_taken_where_both_are_there(single_file: Write, assets: Path, layout: Path, tmp_path: Path) -> None:
    def with_ema(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        start = "model.diffusion_model."
        flat = {
            f"model_ema.diffusion_model{name.removeprefix(start).replace('.', '')}": tensor
            for name, tensor in tensors.items()
            if name.startswith(start)
        }
        raw = {name: tensor + 1 if name.startswith(start) else tensor for name, tensor in tensors.items()}
        return {**raw, **flat, "model_ema.decay": torch.tensor(0.99)}

    file = single_file(tmp_path / "model.safetensors", change=with_ema)
    convert_single_file(file, layout, tmp_path / "teacher")
    ours, theirs = weights(tmp_path / "teacher"), weights(assets / "tiny-sd")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def bare(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As some programs save the text encoder: without the name of its first module."""
    return {name.replace(".transformer.text_model.", ".transformer."): tensor for name, tensor in tensors.items()}


def test_a_text_encoder_without_its_first_modules_name_is_taken(
    single_file: Write, assets: Path, layout: Path, tmp_path: Path
) -> None:
    convert_single_file(single_file(tmp_path / "model.safetensors", change=bare), layout, tmp_path / "teacher")
    ours, theirs = weights(tmp_path / "teacher"), weights(assets / "tiny-sd")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda t: {**t, "cond_stage_model.transformer.layers.0.lora_A": torch.zeros(2, 2)}, "nothing uses .*lora_A"),
        (
            lambda t: {name: v for name, v in t.items() if not name.endswith("final_layer_norm.bias")},
            "lacks weights of the text encoder",
        ),
    ],
)
def test_such_a_text_encoder_must_be_whole(
    single_file: Write, layout: Path, tmp_path: Path, changed: Callable[..., Any], said: str
) -> None:
    file = single_file(tmp_path / "model.safetensors", change=lambda tensors: changed(bare(tensors)))
    with pytest.raises(InputError, match=said):
        convert_single_file(file, layout, tmp_path / "teacher")


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ("model.diffusion_model.out.2", "lacks weights of the UNet"),
        ("first_stage_model.decoder.conv_out", "lacks weights of the VAE"),
        ("cond_stage_model.transformer.text_model.final", "lacks weights of the text encoder"),
        ("first_stage_model.", r"holds no weight named first_stage_model.…, so it lacks the VAE"),
        ("cond_stage_model.", r"holds no weight named cond_stage_model.…, so it lacks the text encoder"),
        ("model.diffusion_model.", "holds no weight named model.diffusion_model"),
    ],
)
def test_missing_weights_are_refused(single_file: Write, layout: Path, tmp_path: Path, dropped: str, said: str) -> None:
    file = single_file(
        tmp_path / "model.safetensors",
        change=lambda tensors: {name: t for name, t in tensors.items() if not name.startswith(dropped)},
    )
    with pytest.raises(InputError, match=said):
        convert_single_file(file, layout, tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("unet", {"cross_attention_dim": 128}),
        ("text_encoder", {"hidden_size": 128}),
        ("text_encoder", {"num_hidden_layers": 3}),
        ("vae", {"latent_channels": 8}),
        ("unet", {"layers_per_block": 2}),
        # Fewer layers than the file has: everything that is asked for is there.
        (
            "unet",
            {
                "block_out_channels": [64],
                "down_block_types": ["CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D"],
            },
        ),
    ],
)
def test_the_layout_of_another_model_is_refused(
    single_file: Write, layout: Path, tmp_path: Path, part: str, values: dict[str, Any]
) -> None:
    with_config(layout, part, **values)
    with pytest.raises(InputError, match=r"layout.*give the layout of the model that the file is of"):
        convert_single_file(single_file(tmp_path / "model.safetensors"), layout, tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_weights_that_no_part_of_the_layout_takes_are_refused(single_file: Write, layout: Path, tmp_path: Path) -> None:
    def with_more(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**tensors, "model.diffusion_model.label_emb.0.0.weight": torch.ones(4, 4)}

    with pytest.raises(InputError, match=r"has [\d,]+ numbers, and the layout"):
        convert_single_file(single_file(tmp_path / "model.safetensors", change=with_more), layout, tmp_path / "teacher")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("model_index.json", "has no model_index.json"),
        ("vae/config.json", "vae has no config.json"),
        ("tokenizer/tokenizer.json", "tokenizer has no vocabulary"),
        ("scheduler/scheduler_config.json", "scheduler has no scheduler_config.json"),
    ],
)
def test_an_incomplete_layout_is_refused(
    single_file: Write, layout: Path, tmp_path: Path, missing: str, said: str
) -> None:
    (layout / missing).unlink()
    with pytest.raises(InputError, match=said):
        convert_single_file(single_file(tmp_path / "model.safetensors"), layout, tmp_path / "teacher")


def test_files_of_another_kind_are_refused(layout: Path, tmp_path: Path) -> None:
    for name, content, said in (
        ("model.ckpt", pickle.dumps({}), "is a pickle, which can run code"),
        ("model.zip", b"", "is not a .safetensors file"),
        ("model.safetensors", b"nothing of the kind", "is not a readable safetensors file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            convert_single_file(tmp_path / name, layout, tmp_path / "teacher")


def test_a_folder_that_it_did_not_write_stays(single_file: Write, layout: Path, tmp_path: Path) -> None:
    file = single_file(tmp_path / "model.safetensors")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="holds something else"):
        convert_single_file(file, layout, tmp_path / "mine")
    assert (tmp_path / "mine" / "model_index.json").read_text() == "{}"
    convert_single_file(file, layout, tmp_path / "ours")
    with pytest.raises(InputError, match="lies inside the output folder"):
        convert_single_file(file, tmp_path / "ours", tmp_path / "ours")
    assert convert_single_file(file, layout, tmp_path / "ours") == Conversion.load(tmp_path / "ours")
