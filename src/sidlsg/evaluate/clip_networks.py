"""CLIP and HPSv2 networks through open_clip: how well images fit their prompts under the published protocols.

open_clip is in the extra `eval-gpu`, so it is imported lazily. Weights are the user's own file.
"""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from sidlsg.evaluate.resize import padded_square, to_256
from sidlsg.evaluate.suite import ImageBatch
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import plain_float32

PREFIX = "A photo depicts "


def insert_prefix(tokens: Tensor, prefix: Sequence[int], end: int) -> Tensor:
    """Insert a prefix's tokens after the start token and cut the rows to their old length, ending in an end token.

    Args:
        tokens: [N, L] long; each row is a start token, the text's tokens, an end token, and padding.
        prefix: tokens of the words to insert, without start and end.
        end: the end token.

    Returns:
        [N, L] long.

    Raises:
        InputError: the prefix leaves no room for a text, or a row has no end token.
    """
    length = tokens.shape[1]
    if len(prefix) + 2 > length:
        raise InputError(f"a prefix of {len(prefix)} tokens does not fit into {length} with start and end")
    if not bool((tokens == end).any(1).all()):
        raise InputError(f"tokens without an end token ({end}) given; tokenize with start, end and truncation")
    words = torch.tensor(list(prefix), dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
    longer = torch.cat([tokens[:, :1], words, tokens[:, 1:]], 1)[:, :length]
    cut = ~(longer == end).any(1)
    longer[cut, -1] = end
    return longer


HPS_KEY = "state_dict"
"""The entry of HPSv2's checkpoints that has the weights."""


class PairScore(ABC):
    """The cosine of the features of an image and its prompt, in float32; subclasses define the preprocessing."""

    width = 1
    scale = 1.0
    """Factor of the cosine."""

    def __init__(self, file: Path, device: torch.device | str, architecture: str, nested: str | None = None) -> None:
        """See `load_clip`."""
        self._network: Any = load_clip(architecture, file, device, nested)
        self._device = torch.device(device)
        open_clip = _open_clip()
        with _quiet():
            self._tokenizer: Any = open_clip.get_tokenizer(architecture)

    @torch.inference_mode()
    def __call__(self, images: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """Score a batch of N sRGB images and prompts: [N, 1] float32 on the CPU.

        Raises:
            InputError: there are no images, or not one prompt per image.
        """
        if not prompts or len(images) != len(prompts):
            raise InputError(f"{len(images)} images and {len(prompts)} prompts given; give one prompt an image")
        pixels = torch.stack([self._pixels(Image.fromarray(image)) for image in images])
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        with plain_float32(self._device):
            image_features = functional.normalize(self._network.encode_image(pixels.to(self._device)), dim=-1)
            text_features = functional.normalize(
                self._network.encode_text(self._tokens(list(rows)).to(self._device)), dim=-1
            )
            pairs = image_features * text_features[[rows[prompt] for prompt in prompts]]
        return (self.scale * pairs.sum(1, keepdim=True)).cpu()

    @abstractmethod
    def _pixels(self, image: Image.Image) -> Tensor:
        """[3, S, S] input of the network."""

    @abstractmethod
    def _tokens(self, prompts: list[str]) -> Tensor:
        """[N, L] long."""


class ClipCosine(PairScore):
    """`clip/vit-g-14-photo-depicts`: the cosine with "A photo depicts " before the prompt; not ×100, not cut at 0."""

    def __init__(self, file: Path, device: torch.device | str = "cpu", architecture: str = "ViT-g-14") -> None:
        """Load open_clip's weights `laion2b_s12b_b42k`; tests use another architecture."""
        super().__init__(file, device, architecture)
        open_clip = _open_clip()
        cfg = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(self._network))
        self._preprocess: Any = open_clip.transform.image_transform_v2(cfg, is_train=False)
        self._prefix: list[int] = self._tokenizer.encode(PREFIX)

    def _pixels(self, image: Image.Image) -> Tensor:
        pixels: Tensor = self._preprocess(to_256(image))
        return pixels

    def _tokens(self, prompts: list[str]) -> Tensor:
        return insert_prefix(self._tokenizer(prompts), self._prefix, self._tokenizer.eot_token_id)


class PreferenceScore(PairScore):
    """`hpsv2/v2.0` and `hpsv2/v2.1`: 100 × the cosine of a network trained on what people prefer.

    The protocol saves images as JPEG first: give the decoded ones.
    """

    scale = 100.0

    def __init__(self, file: Path, device: torch.device | str = "cpu", architecture: str = "ViT-H-14") -> None:
        """Load HPSv2's checkpoint, or its `state_dict` as safetensors; tests use another architecture."""
        super().__init__(file, device, architecture, HPS_KEY)
        open_clip = _open_clip()
        self._mean, self._std = (
            torch.tensor(values)[:, None, None]
            for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )

    def _pixels(self, image: Image.Image) -> Tensor:
        square = np.array(padded_square(image, self._network.visual.image_size[0]))
        return (torch.from_numpy(square).permute(2, 0, 1) / 255 - self._mean) / self._std

    def _tokens(self, prompts: list[str]) -> Tensor:
        tokens: Tensor = self._tokenizer(prompts)
        return tokens


def load_clip(architecture: str, file: Path, device: torch.device | str = "cpu", nested: str | None = None) -> Any:
    """An open_clip network in float32 with the weights of a file, see `read_checkpoint`; nothing is downloaded.

    Raises:
        InputError: open_clip cannot be imported, or the file cannot be used or is of another architecture.
    """
    open_clip = _open_clip()
    tensors = read_checkpoint(file, nested)
    # Random initial weights must not change the random numbers of others.
    with _quiet(), torch.random.fork_rng(devices=[]):
        network = open_clip.create_model(architecture, pretrained=None, precision="fp32")
    _check_names(file, architecture, tensors, network.state_dict())
    network.load_state_dict(tensors, strict=True)
    return network.eval().requires_grad_(False).to(device)


def read_checkpoint(file: Path, nested: str | None = None) -> dict[str, Tensor]:
    """A network's tensors by name.

    Args:
        file: `.safetensors`, or a file of `torch.save` with tensors and plain values only; no code in it is run.
        nested: the entry of a `torch.save` file that has the tensors.

    Raises:
        InputError: the file is missing, damaged, of another kind, or has other objects.
    """
    if not file.is_file():
        raise InputError(f"no such file: {file}; give the file of the network's weights")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} is not a safetensors file, or is damaged ({error}); get it again") from error
    found = _unpickled(file)
    if nested is not None:
        if not isinstance(found, Mapping) or nested not in found:
            raise InputError(f"{file} has no entry {nested!r} but {_kind(found)}; give the checkpoint that has it")
        found = found[nested]
    tensors = dict(found) if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(n, str) and isinstance(value, Tensor) for n, value in tensors.items()):
        what = f"{file}" if nested is None else f"{nested!r} in {file}"
        raise InputError(f"{what} must be tensors by name, and is {_kind(found)}; give the network's weights alone")
    return tensors


def _unpickled(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns about files that are not checkpoints.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader may fail in any way on a damaged pickle
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name is not None and isinstance(error, pickle.UnpicklingError):
            raise InputError(
                f"{file} holds more than tensors ({name[1]}), and is refused: nothing in it was run; give a file of "
                "the weights alone"
            ) from error
        # The first sentence alone: torch then advises to load the file in a way that runs code.
        reason = re.split(r"\. |\n", str(error))[0] or type(error).__name__
        raise InputError(f"{file} is not a PyTorch checkpoint, or is damaged ({reason}); get it again") from error


def _kind(found: Any) -> str:
    """A short description of an object in place of tensors."""
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    entries = [f"{key!r} ({type(value).__name__})" for key, value in list(found.items())[:3]]
    return f"a dictionary of {len(found):,}: {', '.join(entries)}{', …' if len(found) > 3 else ''}"


def _check_names(file: Path, architecture: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise an `InputError` with the count and first of all differences, unless names and shapes are the network's."""
    found = {
        "of its weights are missing": [name for name in wanted if name not in given],
        "are not its": [name for name in given if name not in wanted],
        "have another shape": [
            f"{name} is {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    differences = [f"{len(names):,} {what} (the first: {names[0]})" for what, names in found.items() if names]
    if differences:
        raise InputError(f"{file} is another network than {architecture}: {'; '.join(differences)}")


def _open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise InputError(
            f"CLIP's networks need the extra: pip install 'sidlsg[eval-gpu]' ({error.name} is not installed)"
        ) from error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        # A torchvision for another torch fails when it registers its operators.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"open_clip is installed and cannot be imported ({reason}); torchvision must be the build for torch "
            f"{torch.__version__}: install the two together, from the same index"
        ) from error
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop open_clip's warning that the weights of a new network are random."""
    # Without any handler, logging would add one to the root logger.
    nothing, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(nothing)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(nothing)
