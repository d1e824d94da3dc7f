"""Networks of CLIP's family through open_clip: how well pictures fit their prompts under two published protocols.

open_clip is in the extra `eval-gpu`, so it is imported where a network is made. Weights are the user's own file.
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
from sidlsg.evaluate.suite import Pictures
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.hardware import plain_float32

PREFIX = "A photo depicts "


def insert_prefix(tokens: Tensor, prefix: Sequence[int], end: int) -> Tensor:
    """Put a prefix's tokens after the start token, and cut to the length that there was.

    Where the end token falls off, the last position becomes one: the text is read up to there.

    Args:
        tokens: [N, L] long; each row is a start token, the text's, an end token, and padding.
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
"""Where a checkpoint of HPSv2 has its weights."""


class PairScore(ABC):
    """A number for each picture and its prompt, from the cosine of their features; in float32 throughout.

    What a picture and a prompt go through before the network is the protocol's.
    """

    width = 1
    scale = 1.0
    """The cosine's factor."""

    def __init__(self, file: Path, device: torch.device | str, architecture: str, nested: str | None = None) -> None:
        """See `load_clip`."""
        self._network: Any = load_clip(architecture, file, device, nested)
        self._device = torch.device(device)
        open_clip = _open_clip()
        with _quiet():
            self._tokenizer: Any = open_clip.get_tokenizer(architecture)

    @torch.inference_mode()
    def __call__(self, pictures: Pictures, prompts: Sequence[str]) -> Tensor:
        """Score a batch, which the network takes at once.

        Args:
            pictures: [N, H, W, 3] uint8 sRGB.
            prompts: N of them; each distinct one is encoded once.

        Returns:
            [N, 1] float32 on the CPU.

        Raises:
            InputError: there is no picture, or not one prompt a picture.
        """
        if not prompts or len(pictures) != len(prompts):
            raise InputError(f"{len(pictures)} pictures and {len(prompts)} prompts given; give one prompt a picture")
        pixels = torch.stack([self._pixels(Image.fromarray(picture)) for picture in pictures])
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        with plain_float32(self._device):
            seen = functional.normalize(self._network.encode_image(pixels.to(self._device)), dim=-1)
            said = functional.normalize(self._network.encode_text(self._tokens(list(rows)).to(self._device)), dim=-1)
            cosines = (seen * said[[rows[prompt] for prompt in prompts]]).sum(1, keepdim=True)
        return (self.scale * cosines).cpu()

    @abstractmethod
    def _pixels(self, image: Image.Image) -> Tensor:
        """[3, S, S] as the network reads them."""

    @abstractmethod
    def _tokens(self, prompts: list[str]) -> Tensor:
        """[N, L] long."""


class ClipCosine(PairScore):
    """`clip/vit-g-14-photo-depicts`: the cosine with "A photo depicts " before the prompt; not ×100, not cut at 0."""

    def __init__(self, file: Path, device: torch.device | str = "cpu", architecture: str = "ViT-g-14") -> None:
        """Args:
        file: the weights `laion2b_s12b_b42k`, as open_clip publishes them.
        device: where the network runs.
        architecture: a name of open_clip's; another than the protocol's is for tests.

        Raises:
            InputError: see `load_clip`.
        """
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

    The protocol saves pictures as JPEG first: give them as they are read from those files.
    """

    scale = 100.0

    def __init__(self, file: Path, device: torch.device | str = "cpu", architecture: str = "ViT-H-14") -> None:
        """Args:
        file: HPSv2's checkpoint, whose `state_dict` is taken, or the same tensors as safetensors.
        device: where the network runs.
        architecture: a name of open_clip's; another than the protocol's is for tests.

        Raises:
            InputError: see `load_clip`.
        """
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
    """A network of open_clip's with the weights of a file: float32, for evaluation only. Nothing is downloaded.

    Args:
        architecture: its name in open_clip, without weights: `ViT-H-14`.
        file: see `read_checkpoint`; its digest was checked by whoever gives it.
        device: where the network comes to be.
        nested: see `read_checkpoint`.

    Raises:
        InputError: open_clip cannot be imported, the file cannot be used, or it is of another architecture.
    """
    open_clip = _open_clip()
    tensors = read_checkpoint(file, nested)
    # The weights are random until they are loaded: that must not move the numbers that others draw.
    with _quiet(), torch.random.fork_rng(devices=[]):
        network = open_clip.create_model(architecture, pretrained=None, precision="fp32")
    _check_names(file, architecture, tensors, network.state_dict())
    network.load_state_dict(tensors, strict=True)
    return network.eval().requires_grad_(False).to(device)


def read_checkpoint(file: Path, nested: str | None = None) -> dict[str, Tensor]:
    """A network's tensors by name.

    Args:
        file: `.safetensors`; any other is read as a file of `torch.save` that may hold tensors and plain values only.
        nested: the entry of that checkpoint which holds the tensors; safetensors have no such level.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds more; no code in it is run.
    """
    if not file.is_file():
        raise InputError(f"no such file: {file}; give the file of the network's weights")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} is no safetensors file, or is damaged ({error}); get it again") from error
    found = _unpickled(file)
    if nested is not None:
        if not isinstance(found, Mapping) or nested not in found:
            raise InputError(f"{file} has no entry {nested!r} but {_kind(found)}; give the checkpoint that has it")
        found = found[nested]
    tensors = dict(found) if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(n, str) and isinstance(value, Tensor) for n, value in tensors.items()):
        place = f"{file}" if nested is None else f"{nested!r} in {file}"
        raise InputError(f"{place} must be tensors by name, and is {_kind(found)}; give the network's weights alone")
    return tensors


def _unpickled(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # On what torch makes of files that are no checkpoint.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name is None:
            raise InputError(f"{file} is no checkpoint of PyTorch, or is damaged; get it again") from error
        raise InputError(
            f"{file} holds more than tensors ({name[1]}), and is refused: nothing in it was run; give a file of the "
            "weights alone"
        ) from error
    except Exception as error:  # a damaged pickle makes torch's reader fail in any way
        # The first sentence: what torch advises after it would run code in the file.
        reason = re.split(r"\. |\n", str(error))[0] or type(error).__name__
        raise InputError(f"{file} is no checkpoint of PyTorch, or is damaged ({reason}); get it again") from error


def _kind(found: Any) -> str:
    """In few words what was read in place of tensors."""
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}"
    entries = [f"{key!r} ({type(value).__name__})" for key, value in list(found.items())[:3]]
    return f"a dictionary of {len(found):,}: {', '.join(entries)}{', …' if len(found) > 3 else ''}"


def _check_names(file: Path, architecture: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise an `InputError` unless names and shapes are the network's: all differences counted, the first named."""
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    unlike = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    differences = []
    if missing:
        differences.append(f"{len(missing):,} of its weights are missing (the first: {missing[0]})")
    if unknown:
        differences.append(f"{len(unknown):,} are not its (the first: {unknown[0]})")
    if unlike:
        sizes = f"{tuple(given[unlike[0]].shape)}, not {tuple(wanted[unlike[0]].shape)}"
        differences.append(f"{len(unlike):,} have another shape (the first: {unlike[0]} is {sizes})")
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
        # A torchvision that was made for another torch fails when it registers its operators.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"open_clip is installed and cannot be imported ({reason}); torchvision must be the one that was made for "
            f"torch {torch.__version__}: install the two together, from the same index"
        ) from error
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what open_clip logs when it makes a network: a warning that its weights are random."""
    # Without any handler, logging would give the root one for good.
    nothing, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(nothing)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(nothing)
