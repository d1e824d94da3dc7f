"""What a teacher's folder must hold, what its digest covers, and the one line about what is wrong."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object
from sidlsg.teacher import folder as folder_module
from sidlsg.teacher.config import network_config
from sidlsg.teacher.folder import check_folder, folder_digest, is_loaded, is_present, model_files
from sidlsg.teacher.pipeline import load_pipeline
from unit.teacher.spoilt import changed, with_index

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def teacher(assets: Path, tmp_path: Path) -> Path:
    """A copy of the bundled teacher."""
    return Path(shutil.copytree(assets / "tiny-sd", tmp_path / "teacher"))


def as_pickle(folder: Path) -> None:
    """The UNet's weights as older pipelines keep them."""
    (folder / UNET).unlink()
    (folder / UNET).with_suffix(".bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def safety_checker_as_pickle(folder: Path) -> None:
    with_index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("{}")
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def emptied(name: str) -> Callable[[Path], None]:
    def empty(folder: Path) -> None:
        for path in (folder / name).iterdir():
            path.unlink()

    return empty


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder: .*; give the folder of a saved pipeline"),
    "no UNet folder": (
        lambda folder: shutil.rmtree(folder / "unet"),
        "has no unet; a StableDiffusionPipeline needs unet, vae",
    ),
    "no VAE in the index": (
        lambda folder: written(
            "model_index.json", '{"unet": [], "text_encoder": [], "tokenizer": [], "scheduler": []}'
        )(folder),
        "has no vae; a StableDiffusionPipeline needs",
    ),
    "a pickle": (as_pickle, r"diffusion_pytorch_model.bin is a pickle, .*; only safetensors are read"),
    "no weights": (lambda folder: (folder / UNET).unlink(), r"unet has no weights \(\*.safetensors\)"),
    "no config": (lambda folder: (folder / "vae" / "config.json").unlink(), "vae has no config.json"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "has no model_index.json"),
    "broken index": (written("model_index.json", "{"), "model_index.json is not JSON"),
    "an index of another kind": (written("model_index.json", "[]"), "model_index.json is not a JSON object"),
    "a number for an index": (written("model_index.json", "3"), "model_index.json is not a JSON object"),
    "broken config": (written("unet/config.json", "{"), "unet/config.json is not JSON"),
    "broken tokenizer": (written("tokenizer/tokenizer.json", "["), "tokenizer/tokenizer.json is not JSON"),
    "another pipeline": (
        lambda folder: with_index(folder, _class_name="StableDiffusionXLImg2ImgPipeline"),
        "is a StableDiffusionXLImg2ImgPipeline; a teacher is one of StableDiffusionPipeline, StableDiffusionXLPipeline",
    ),
    "empty tokenizer": (emptied("tokenizer"), "tokenizer is empty"),
    "empty scheduler": (emptied("scheduler"), "scheduler is empty"),
    "a safety checker in a pickle": (safety_checker_as_pickle, "safety_checker/pytorch_model.bin is a pickle"),
    "a safety checker that is not there": (
        lambda folder: with_index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
        "safety_checker has no config.json",
    ),
}


def test_the_bundled_teacher_is_accepted(teacher: Path) -> None:
    check_folder(teacher)
    # The libraries write this for a pipeline without one.
    with_index(teacher, safety_checker=[None, None])
    check_folder(teacher)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder_is_refused_with_one_line(teacher: Path, name: str) -> None:
    spoil, said = WRONG[name]
    spoil(teacher)
    with pytest.raises(InputError, match=said) as caught:
        check_folder(teacher)
    assert "\n" not in str(caught.value)
    assert str(teacher) in str(caught.value)


@pytest.mark.parametrize("name", ["LICENSE.txt", "teacher_variant.json", "unet", "vae/config.json"])
def test_a_link_that_leaves_the_folder_is_refused(teacher: Path, tmp_path: Path, name: str) -> None:
    """Else a student's folder, which carries its teacher's texts, could publish any file of this machine."""
    link, elsewhere = teacher / name, tmp_path / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.write_text("a secret")
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"{name} is a link to .*elsewhere, outside of the folder"):
        check_folder(teacher)


def test_links_inside_the_folder_and_to_the_hubs_cache_are_taken(teacher: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.parent.mkdir()
    teacher.rename(snapshot)
    weights = next((snapshot / "unet").glob("*.safetensors"))
    weights.rename(blobs / "digest")
    weights.symlink_to(Path("../../../blobs/digest"))
    (snapshot / "LICENSE.txt").symlink_to("model_index.json")
    check_folder(snapshot)


@pytest.mark.parametrize("value", [None, True, "8", 8.0, -1, 0, 10**30, [], [8], [8, 9], {"a": 1}])
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("unet/config.json", "sample_size"),
        ("unet/config.json", "in_channels"),
        ("unet/config.json", "cross_attention_dim"),
        ("vae/config.json", "latent_channels"),
        ("text_encoder/config.json", "max_position_embeddings"),
        ("scheduler/scheduler_config.json", "num_train_timesteps"),
        ("tokenizer/tokenizer_config.json", "model_max_length"),
    ],
)
def test_a_value_of_another_form_is_named_with_its_file(teacher: Path, file: str, key: str, value: object) -> None:
    changed(teacher / file, **{key: value})
    with pytest.raises(InputError, match=f"{file}: {key} is .*; allowed: a whole number from 1 to") as caught:
        check_folder(teacher)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, True, "1", 0, -0.5, math.nan, math.inf, [1]])
def test_a_scale_is_a_number_above_0(teacher: Path, value: object) -> None:
    changed(teacher / "vae" / "config.json", scaling_factor=value)
    with pytest.raises(InputError, match=r"vae/config.json: scaling_factor is .*; allowed: a number above 0"):
        check_folder(teacher)


@pytest.mark.parametrize("value", [0.5, [], [[0.1]], ["0.1"], [0.1, math.nan], [-0.1], [1.5], {"a": 1}])
def test_betas_are_numbers_from_0_to_1(teacher: Path, value: object) -> None:
    changed(teacher / "scheduler" / "scheduler_config.json", trained_betas=value)
    with pytest.raises(InputError, match=r"trained_betas is .*; allowed: null, or a list of numbers from 0 to 1"):
        check_folder(teacher)


def test_a_square_pair_is_one_size(teacher: Path) -> None:
    changed(teacher / "unet" / "config.json", sample_size=[8, 8])
    assert network_config(teacher)["sample_size"] == 8
    assert load_pipeline(teacher).unet.config.sample_size == 8


@pytest.mark.parametrize("value", [None, 0, "8", [], [0], [8, "8"], 10**30, [8] * 65, {"a": 8}])
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("unet/config.json", "block_out_channels"),
        ("unet/config.json", "layers_per_block"),
        ("unet/config.json", "transformer_layers_per_block"),
        ("unet/config.json", "attention_head_dim"),
        ("vae/config.json", "block_out_channels"),
        ("vae/config.json", "layers_per_block"),
        ("text_encoder/config.json", "num_hidden_layers"),
    ],
)
def test_what_a_network_is_built_from_is_checked_in_form(teacher: Path, file: str, key: str, value: object) -> None:
    changed(teacher / file, **{key: value})
    with pytest.raises(InputError, match=f"{file}: {key} is .*; allowed: (a list of )?(a )?whole numbers? from 1 to"):
        check_folder(teacher)


def test_layers_without_end_are_refused_before_they_are_built(teacher: Path) -> None:
    changed(teacher / "unet" / "config.json", layers_per_block=[1, 257])
    with pytest.raises(InputError, match=r"layers_per_block is .*; allowed: a whole number from 1 to 256, or a list"):
        check_folder(teacher)


@pytest.mark.parametrize("key", ["class_embed_type", "num_class_embeds", "encoder_hid_dim_type"])
def test_a_unet_that_needs_more_than_the_pipeline_gives_is_refused(teacher: Path, key: str) -> None:
    changed(teacher / "unet" / "config.json", **{key: "text"})
    with pytest.raises(InputError, match=f"{key} is 'text'; allowed: null: a Stable Diffusion's UNet takes"):
        check_folder(teacher)


def test_another_familys_unet_is_refused(teacher: Path) -> None:
    changed(teacher / "unet" / "config.json", addition_embed_type="text_time")
    with pytest.raises(InputError, match="addition_embed_type is 'text_time', and a Stable Diffusion's UNet takes"):
        check_folder(teacher)


@pytest.mark.parametrize(
    ("file", "key", "said"),
    [
        ("unet/config.json", "in_channels", "in_channels is 9, and the VAE's latents have 4 channels"),
        ("unet/config.json", "out_channels", "out_channels is 9, and the VAE's latents have 4 channels"),
        ("unet/config.json", "cross_attention_dim", "cross_attention_dim is 9, and the text encoder's hidden_size is"),
        ("vae/config.json", "out_channels", "out_channels is 9, and an image has 3 channels"),
    ],
)
def test_components_that_do_not_fit_each_other_are_refused(teacher: Path, file: str, key: str, said: str) -> None:
    """Such as an inpainting model's UNet, whose input is wider."""
    changed(teacher / file, **{key: 9})
    with pytest.raises(InputError, match=f"{file}: {said}"):
        check_folder(teacher)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
@pytest.mark.parametrize("named", [None, [], [None, None], "x", ["subprocess", "Popen"], ["diffusers", ["x"]], [1, 2]])
def test_a_class_that_is_not_ours_to_load_is_refused(teacher: Path, component: str, named: object) -> None:
    with_index(teacher, **{component: named})
    with pytest.raises(InputError, match=f"model_index.json names .* for the {component}; allowed: "):
        check_folder(teacher)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({}, "has no weight_map of file names"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": {"a": 1}}, "has no weight_map"),
        ({"weight_map": {"a": "part-1.safetensors"}}, "names part-1.safetensors, which is not in "),
        ({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}, "which is not in "),
    ],
)
def test_an_index_of_shards_is_checked(teacher: Path, index: object, said: str) -> None:
    (teacher / UNET).with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=said):
        check_folder(teacher)


def test_shards_are_taken(teacher: Path) -> None:
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}}
    (teacher / UNET).rename(teacher / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    (teacher / UNET).with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    check_folder(teacher)


@pytest.mark.parametrize("file", [UNET, "text_encoder/model.safetensors"])
def test_weights_under_another_name_are_refused(teacher: Path, file: str) -> None:
    (teacher / file).rename(teacher / file.replace("model.", "weights."))
    with pytest.raises(InputError, match=r"weights\.safetensors, which the stock pipeline does not look for; name it"):
        check_folder(teacher)


def test_each_small_file_is_read_once(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(
        folder_module, "read_object", lambda path, advice: read.append(path) or read_object(path, advice)
    )
    check_folder(teacher)
    assert sorted(read) == sorted(path for path in teacher.rglob("*.json") if path.name != "teacher_scores.json")


def test_more_tokens_than_positions_are_refused(teacher: Path) -> None:
    changed(teacher / "tokenizer" / "tokenizer_config.json", model_max_length=17)
    with pytest.raises(InputError, match="model_max_length is 17, and the text encoder has 16 positions"):
        check_folder(teacher)


@pytest.mark.parametrize("file", ["tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"])
def test_a_missing_file_is_named(teacher: Path, file: str) -> None:
    (teacher / file).rename(teacher / file.replace("_config.json", "_elsewhere.json"))
    with pytest.raises(InputError, match=f"has no {file.split('/')[1]}; save the whole pipeline"):
        check_folder(teacher)


def test_a_file_is_not_a_teacher(teacher: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check_folder(teacher / "model_index.json")


@pytest.mark.parametrize(
    ("index", "expected"),
    [({}, False), ({"x": None}, False), ({"x": [None, None]}, False), ({"x": ["library", "Class"]}, True)],
)
def test_an_optional_part_is_present_where_a_class_is_named(index: dict[str, object], expected: bool) -> None:
    assert is_present(index, "x") is expected


def test_the_model_is_its_index_and_its_components_data(teacher: Path) -> None:
    (teacher / "unet" / "notes.md").write_text("does not count")
    (teacher / "unet" / "old.bin").write_bytes(b"does not count")
    names = [path.relative_to(teacher).as_posix() for path in model_files(teacher)]
    assert names[0] == "model_index.json"
    assert set(names) == {
        path.relative_to(teacher).as_posix()
        for path in teacher.rglob("*")
        if path.suffix in {".json", ".safetensors", ".txt"} and (path.parent != teacher or path.name == names[0])
    }
    lines = "".join(f"{name}\0{hashlib.sha256((teacher / name).read_bytes()).hexdigest()}\n" for name in names)
    assert folder_digest(teacher) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("name", ["README.md", "teacher_scores.json", "unet/README.md", "training_log.jsonl"])
def test_cards_and_scores_do_not_change_the_digest(teacher: Path, name: str) -> None:
    before = folder_digest(teacher)
    (teacher / name).write_text("other")
    assert folder_digest(teacher) == before


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "unet/diffusion_pytorch_model.non_ema-00001-of-00002.safetensors",
        "text_encoder/model.fp16.safetensors",
        "vae/adapter.safetensors",
        "unet/nested/config.json",
    ],
)
def test_weights_that_are_not_loaded_do_not_change_the_digest(teacher: Path, name: str) -> None:
    before = folder_digest(teacher)
    (teacher / name).parent.mkdir(exist_ok=True)
    (teacher / name).write_bytes(b"{}")
    assert not is_loaded(name)
    assert folder_digest(teacher) == before


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "text_encoder/adapter_config.json",
    ],
)
def test_whatever_could_be_loaded_changes_the_digest(teacher: Path, name: str) -> None:
    before = folder_digest(teacher)
    (teacher / name).write_bytes(b"{}")
    assert folder_digest(teacher) != before


@pytest.mark.parametrize(
    "shard", ["other.safetensors", "../vae/diffusion_pytorch_model.safetensors", 7, "model-1-of-1"]
)
def test_an_index_leads_to_files_that_the_digest_covers(teacher: Path, shard: object) -> None:
    (teacher / "unet" / "other.safetensors").write_bytes(b"")
    index = teacher / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))
    wrong = r"index.json (names .*, which is not in .* or not named like a shard|has no weight_map)"
    with pytest.raises(InputError, match=wrong):
        check_folder(teacher)


@pytest.mark.parametrize("name", [UNET, "scheduler/scheduler_config.json", "model_index.json"])
def test_every_model_file_changes_the_digest(teacher: Path, name: str) -> None:
    before = folder_digest(teacher)
    with (teacher / name).open("ab") as file:
        file.write(b" ")
    changed = folder_digest(teacher)
    assert changed != before
    (teacher / UNET).rename(teacher / "unet" / "model.safetensors")
    assert folder_digest(teacher) not in (before, changed)
