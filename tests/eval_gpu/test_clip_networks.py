"""CLIP's networks against open_clip's own pieces put together by hand, and files that must be refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from safetensors.torch import save_file

from eval_gpu.tiny_clip import SIDE, TinyClip
from sidlsg.evaluate.clip_networks import HPS_KEY, ClipCosine, PairScore, PreferenceScore, load_clip
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.images import Images

try:
    import open_clip
except (ImportError, RuntimeError, OSError, AttributeError) as error:
    # With a torchvision that does not fit torch, it is no ImportError.
    pytest.skip(f"open_clip cannot be imported ({error}); see `make test-eval-gpu`", allow_module_level=True)

START, END, LENGTH = 49406, 49407, 77
PREFIX = [320, 1125, 29340]
"""The tokens of "a", "photo", "depicts"."""
LONG = " ".join(f"a red cube number {i} beside a blue ball" for i in range(20))
PROMPTS = ["a red cube", "Two dogs, on grass!", LONG, "a red cube", "", "ein Bär", "a photo of a cat"]

SCORES: dict[str, Callable[[TinyClip], PairScore]] = {
    "clip": lambda tiny: ClipCosine(tiny.plain, "cpu", tiny.name),
    "hps": lambda tiny: PreferenceScore(tiny.nested, "cpu", tiny.name),
}
each_score = pytest.mark.parametrize("make", SCORES.values(), ids=SCORES)


def images(count: int = len(PROMPTS), height: int = 300, width: int = 261) -> Images:
    """Coarse squares of random colours, which survive the reduction to few pixels."""
    small = np.random.default_rng(0).integers(0, 256, (count, 6, 5, 3), np.uint8)
    large = [Image.fromarray(image).resize((width, height), Resampling.BICUBIC) for image in small]
    return np.stack([np.asarray(image) for image in large])


def theirs(tiny: TinyClip) -> tuple[Any, Any]:
    """The network and its preprocessing, all by open_clip."""
    network, _, preprocess = open_clip.create_model_and_transforms(tiny.name, pretrained=str(tiny.plain))
    return network.eval(), preprocess


@torch.no_grad()
def cosines(network: Any, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    seen, said = network.encode_image(pixels).double(), network.encode_text(tokens).double()
    return ((seen * said).sum(1) / (seen.norm(dim=1) * said.norm(dim=1)))[:, None]


def test_the_prefix_is_three_tokens() -> None:
    # Pinned as open_clip 3.3.0 gives them: another version must not move the scores.
    assert open_clip.tokenize("A photo depicts ")[0].tolist() == [START, *PREFIX, END] + [0] * (LENGTH - 5)


def test_the_cosine_is_open_clips_own_of_the_whole_sentence(tiny_clip: TinyClip) -> None:
    given = images()
    network, preprocess = theirs(tiny_clip)
    # The middle 261 of 300 rows: 19.5 above, rounded to the even 20.
    squares = [Image.fromarray(image).crop((0, 20, 261, 281)) for image in given]
    pixels = torch.stack([preprocess(square.resize((256, 256), Resampling.LANCZOS)) for square in squares])
    tokens = open_clip.tokenize([f"A photo depicts {prompt}" for prompt in PROMPTS])
    expected = cosines(network, pixels, tokens)
    found = ClipCosine(tiny_clip.plain, "cpu", tiny_clip.name)(given, PROMPTS)
    assert found.shape == (len(PROMPTS), 1) and found.dtype == torch.float32 and found.device.type == "cpu"
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    # The comparison can tell: without the prefix, and with another image, the numbers are others.
    assert (cosines(network, pixels, open_clip.tokenize(PROMPTS)) - expected).abs().min() > 1e-3
    assert (cosines(network, pixels.roll(1, 0), tokens) - expected).abs().min() > 1e-3


@each_score
def test_it_goes_below_zero(tiny_clip: TinyClip, tmp_path: Path, make: Callable[[TinyClip], PairScore]) -> None:
    file = tmp_path / "against.safetensors"
    save_file(tiny_clip.tensors | {"visual.proj": -tiny_clip.tensors["visual.proj"]}, file)
    score = make(tiny_clip)
    against: Any = type(score)
    expected = -score(images(), PROMPTS)
    assert expected.min() < -0.03 * score.scale
    torch.testing.assert_close(against(file, "cpu", tiny_clip.name)(images(), PROMPTS), expected, rtol=0, atol=1e-5)


def test_a_long_prompt_gives_its_last_words_for_the_prefix(tiny_clip: TinyClip) -> None:
    score = ClipCosine(tiny_clip.plain, "cpu", tiny_clip.name)
    plain = open_clip.tokenize(LONG)[0].tolist()
    assert plain[-1] == END and END not in plain[:-1] and 0 not in plain
    assert score._tokens([LONG])[0].tolist() == [START, *PREFIX, *plain[1:73], END]


@pytest.mark.parametrize(("height", "width"), [(38, 64), (100, 71), (32, 32), (20, 9)])
def test_preference_is_a_hundred_cosines_of_padded_images(tiny_clip: TinyClip, height: int, width: int) -> None:
    given = images(height=height, width=width)
    network, _ = theirs(tiny_clip)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    # open_clip has the same resizing by other code: longest side, then padding.
    padded = open_clip.image_transform(SIDE, is_train=False, mean=mean, std=std, resize_mode="longest", fill_color=0)
    pixels = torch.stack([padded(Image.fromarray(image)) for image in given])
    expected = 100 * cosines(network, pixels, open_clip.tokenize(PROMPTS))
    found = PreferenceScore(tiny_clip.nested, "cpu", tiny_clip.name)(given, PROMPTS)
    assert found.shape == (len(PROMPTS), 1) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
    if height != width:
        shortest = open_clip.image_transform(SIDE, is_train=False, mean=mean, std=std)
        cut = torch.stack([shortest(Image.fromarray(image)) for image in given])
        assert (100 * cosines(network, cut, open_clip.tokenize(PROMPTS)) - expected).abs().min() > 1e-2


def test_safetensors_hold_the_same_without_a_level(tiny_clip: TinyClip) -> None:
    given = images()
    for make in (ClipCosine, PreferenceScore):
        file = tiny_clip.plain if make is ClipCosine else tiny_clip.nested
        safe, other = (make(path, "cpu", tiny_clip.name)(given, PROMPTS) for path in (tiny_clip.safe, file))
        assert torch.equal(safe, other)


@each_score
def test_the_batch_does_not_matter(tiny_clip: TinyClip, make: Callable[[TinyClip], PairScore]) -> None:
    score, given = make(tiny_clip), images()
    together = score(given, PROMPTS)
    alone = torch.cat([score(given[i : i + 1], PROMPTS[i : i + 1]) for i in range(len(PROMPTS))])
    assert score.width == together.shape[1]
    torch.testing.assert_close(alone / score.scale, together / score.scale, rtol=0, atol=1e-5)


@each_score
def test_each_distinct_prompt_is_encoded_once(
    tiny_clip: TinyClip, make: Callable[[TinyClip], PairScore], monkeypatch: pytest.MonkeyPatch
) -> None:
    score, rows = make(tiny_clip), []
    encode = score._network.encode_text

    def counted(tokens: torch.Tensor) -> torch.Tensor:
        rows.append(len(tokens))
        return encode(tokens)

    monkeypatch.setattr(score._network, "encode_text", counted)
    score(images(), PROMPTS)
    assert rows == [len(PROMPTS) - 1]


@each_score
def test_images_and_prompts_must_be_pairs(tiny_clip: TinyClip, make: Callable[[TinyClip], PairScore]) -> None:
    score = make(tiny_clip)
    with pytest.raises(InputError, match="2 images and 1 prompts given; give one prompt an image"):
        score(images(2), ["a"])
    with pytest.raises(InputError, match="0 images and 0 prompts"):
        score(images(2)[:0], [])


@each_score
def test_it_is_float32_under_autocast_and_tf32(tiny_clip: TinyClip, make: Callable[[TinyClip], PairScore]) -> None:
    score, given = make(tiny_clip), images()
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in score._network.parameters())
    assert not score._network.training
    expected = score(given, PROMPTS)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before, seen = (matmul.allow_tf32, cudnn.allow_tf32), []
    score._network.visual.register_forward_pre_hook(lambda *_: seen.append((matmul.allow_tf32, cudnn.allow_tf32)))
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = True
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(score(given, PROMPTS), expected)
        assert seen == [(False, False)]
        assert matmul.allow_tf32 and cudnn.allow_tf32
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_loading_draws_no_random_numbers_and_says_nothing(
    tiny_clip: TinyClip, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    state, handlers = torch.get_rng_state(), list(logging.root.handlers)
    network = load_clip(tiny_clip.name, tiny_clip.plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.root.handlers == handlers and logging.root.manager.disable == 0
    assert not caplog.records and capfd.readouterr() == ("", "")
    assert all(torch.equal(value, tiny_clip.tensors[name]) for name, value in network.state_dict().items())


class Intruder:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tiny_clip: TinyClip, tmp_path: Path, zipped: bool) -> None:
    mark, file = tmp_path / "ran", tmp_path / "hostile.pt"
    content = {HPS_KEY: tiny_clip.tensors, "more": Intruder(mark)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"holds more than tensors \(posix.system\).* nothing in it was run"
    ) as refusal:
        PreferenceScore(file, "cpu", tiny_clip.name)
    assert not mark.exists() and "\n" not in str(refusal.value)
    # The file is what it should be: torch without the bound does run it.
    torch.load(file, weights_only=False)
    assert mark.exists()


def other(tiny: TinyClip, *without: str, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tiny.tensors.items() if name not in without} | tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tiny: other(tiny, "visual.proj", "ln_final.bias"),
            r"another network than ViT-tiny-test: 2 of its weights are missing \(the first: visual.proj\)$",
        ),
        (
            lambda tiny: other(tiny, surplus=torch.ones(1)),
            r"1 are not its \(the first: surplus\)$",
        ),
        (
            lambda tiny: other(tiny, **{"visual.proj": torch.ones(32, 8)}),
            r"1 have another shape \(the first: visual.proj is \(32, 8\), not \(32, 16\)\)$",
        ),
        (
            lambda tiny: {f"module.{name}": value for name, value in tiny.tensors.items()},
            r"\d+ of its weights are missing \(the first: \w+\); \d+ are not its \(the first: module\.[\w.]+\)$",
        ),
    ],
    ids=["missing", "surplus", "shape", "prefixed"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_another_architecture_is_refused(
    tiny_clip: TinyClip, tmp_path: Path, change: Callable[[TinyClip], Any], message: str, suffix: str
) -> None:
    file = tmp_path / f"other{suffix}"
    tensors = change(tiny_clip)
    if suffix == ".pt":
        torch.save(tensors, file)
    else:
        save_file(tensors, file)
    with pytest.raises(InputError, match=message) as refusal:
        ClipCosine(file, "cpu", tiny_clip.name)
    assert "\n" not in str(refusal.value) and str(file) in str(refusal.value)


def test_a_checkpoint_of_the_other_protocol_is_refused(tiny_clip: TinyClip) -> None:
    with pytest.raises(InputError, match=r"has no entry 'state_dict' but a dictionary of \d+: 'positional_embedding'"):
        PreferenceScore(tiny_clip.plain, "cpu", tiny_clip.name)
    with pytest.raises(InputError, match=r"must be tensors by name, and is a dictionary of 3: 'epoch' \(int\)"):
        ClipCosine(tiny_clip.nested, "cpu", tiny_clip.name)


@each_score
def test_a_missing_or_cut_file_is_refused(
    tiny_clip: TinyClip, tmp_path: Path, make: Callable[[TinyClip], PairScore]
) -> None:
    kind: Any = type(make(tiny_clip))
    with pytest.raises(InputError, match=r"no such file: .*gone\.pt"):
        kind(tmp_path / "gone.pt", "cpu", tiny_clip.name)
    for whole in (tiny_clip.nested, tiny_clip.safe):
        cut = tmp_path / whole.name
        cut.write_bytes(whole.read_bytes()[:-1000])
        with pytest.raises(InputError, match=r"or is damaged \(.*\); get it again$"):
            kind(cut, "cpu", tiny_clip.name)


OFFLINE = """
import socket, sys
touched = []
def refuse(*arguments, **_):
    touched.append(arguments)
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
import numpy as np
import open_clip
from sidlsg.evaluate.clip_networks import ClipCosine, PreferenceScore
config, plain, nested = map(Path, sys.argv[1:])
open_clip.add_model_config(config)
for score in (ClipCosine(plain, "cpu", config.stem), PreferenceScore(nested, "cpu", config.stem)):
    assert score(np.zeros((2, 40, 30, 3), np.uint8), ["a cat", "a dog"]).isfinite().all()
for name in ("ViT-g-14", "ViT-H-14"):
    open_clip.get_tokenizer(name)
assert not touched, touched
"""


def test_no_network_is_touched(tiny_clip: TinyClip, tmp_path: Path) -> None:
    # HF_HOME: nothing can come from what was downloaded before.
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    files = map(str, (tiny_clip.config, tiny_clip.plain, tiny_clip.nested))
    command = [sys.executable, "-c", OFFLINE, *files]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("architecture", "layers", "width", "parameters"),
    [("ViT-g-14", 40, 1408, 1_366_678_273), ("ViT-H-14", 32, 1280, 986_109_441)],
)
def test_the_protocols_architectures(architecture: str, layers: int, width: int, parameters: int) -> None:
    with torch.device("meta"):
        network = open_clip.create_model(architecture, pretrained=None, device="meta")
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    # Parameters are all that a file must have: a buffer among them would be missing from files of other versions.
    assert shapes.keys() == dict(network.named_parameters()).keys()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    # Names and sizes that published files have had since the first of them.
    assert len(shapes) == 9 + 12 * (layers + 24) + 5
    for tower, blocks, size in (("visual.transformer", layers, width), ("transformer", 24, 1024)):
        assert sum(name.startswith(f"{tower}.resblocks.") for name in shapes) == 12 * blocks
        assert shapes[f"{tower}.resblocks.{blocks - 1}.attn.in_proj_weight"] == (3 * size, size)
        assert {name.split(".", tower.count(".") + 3)[-1] for name in shapes if name.startswith(f"{tower}.res")} == {
            *(f"{part}.{kind}" for part in ("ln_1", "ln_2", "attn.out_proj") for kind in ("weight", "bias")),
            *(f"mlp.{part}.{kind}" for part in ("c_fc", "c_proj") for kind in ("weight", "bias")),
            *("attn.in_proj_weight", "attn.in_proj_bias"),
        }
    assert shapes["visual.conv1.weight"] == (width, 3, 14, 14)
    assert shapes["visual.positional_embedding"] == (257, width)
    assert shapes["token_embedding.weight"] == (49408, 1024)
    assert shapes["positional_embedding"] == (77, 1024)
    preprocess = open_clip.get_model_preprocess_cfg(network)
    assert preprocess["size"] == (224, 224)
    assert (preprocess["interpolation"], preprocess["resize_mode"]) == ("bicubic", "shortest")
