"""The configurations of a pipeline's folder: which values are read, and the form that each must have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object

UNET, VAE, TEXT_ENCODER = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
CONFIGS = (UNET, VAE, TEXT_ENCODER, SCHEDULER, TOKENIZER)
"""Each component's own, relative to the pipeline's folder."""
SAVE_AGAIN = "save the whole pipeline again"
_LARGEST, _MOST_LAYERS, _LONGEST = 1 << 20, 256, 64

Config = dict[str, Any]


@dataclass(frozen=True)
class _Form:
    """What a value may be."""

    allowed: str
    """In words."""
    fits: Callable[[Any], bool]

    def or_null(self) -> _Form:
        return _Form(f"{self.allowed}, or null", lambda value: value is None or self.fits(value))

    def or_each(self) -> _Form:
        return _Form(f"{self.allowed}, or a list of such", lambda value: self.fits(value) or _all(self.fits, value))


def _whole(most: int) -> _Form:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    return _Form(f"a whole number from 1 to {most:,}", fits)


def _all(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= _LONGEST and all(map(fits, value))


def _are_betas(value: Any) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= _LARGEST:
        return False
    return all(_is_number(each) and 0 <= each <= 1 for each in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_WHOLE, _LAYERS = _whole(_LARGEST), _whole(_MOST_LAYERS)
_WHOLES = _Form(f"a list of whole numbers from 1 to {_LARGEST:,}", lambda value: _all(_WHOLE.fits, value))
_TEXTS = _Form("a list of texts", lambda value: _all(lambda each: isinstance(each, str), value))
_NUMBER = _Form("a finite number", _is_number)
_SCALE = _Form("a number above 0", lambda value: _is_number(value) and value > 0)
_SIZE = _Form(
    f"{_WHOLE.allowed}, or the same one twice for a square",
    lambda value: _WHOLE.fits(value) or (_all(_WHOLE.fits, value) and len(value) == 2 and value[0] == value[1]),
)
_BETAS = _Form("null, or a list of numbers from 0 to 1", lambda value: value is None or _are_betas(value))
_NULL = _Form(
    "null: a Stable Diffusion's pipeline gives its UNet latents, a timestep and text embeddings alone",
    lambda value: value is None,
)
_BLOCKS = {"block_out_channels": _WHOLES, "down_block_types": _TEXTS, "up_block_types": _TEXTS}
_TRANSFORMER = {
    "hidden_size": _WHOLE,
    "intermediate_size": _WHOLE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _WHOLE,
}
_FORMS: dict[str, dict[str, _Form]] = {
    UNET: {
        **_BLOCKS,
        "sample_size": _SIZE,
        "in_channels": _WHOLE,
        "out_channels": _WHOLE,
        "cross_attention_dim": _WHOLE,
        "layers_per_block": _LAYERS.or_each(),
        "transformer_layers_per_block": _LAYERS.or_each(),
        "attention_head_dim": _WHOLE.or_each(),
        "num_attention_heads": _WHOLE.or_each().or_null(),
        "norm_num_groups": _WHOLE.or_null(),
        "class_embed_type": _NULL,
        "num_class_embeds": _NULL,
        "addition_embed_type": _NULL,
        "encoder_hid_dim_type": _NULL,
    },
    VAE: {
        **_BLOCKS,
        "in_channels": _WHOLE,
        "out_channels": _WHOLE,
        "latent_channels": _WHOLE,
        "layers_per_block": _LAYERS,
        "norm_num_groups": _WHOLE,
        "scaling_factor": _SCALE,
    },
    TEXT_ENCODER: {**_TRANSFORMER, "vocab_size": _WHOLE, "max_position_embeddings": _WHOLE},
    SCHEDULER: {
        "num_train_timesteps": _WHOLE,
        "beta_start": _NUMBER,
        "beta_end": _NUMBER,
        "trained_betas": _BETAS,
    },
    TOKENIZER: {"model_max_length": _WHOLE},
}
"""The values that are read, by file; where one is not there, the libraries' default holds."""
_NEEDED = {UNET: ("sample_size",), TEXT_ENCODER: ("hidden_size",), TOKENIZER: ("model_max_length",)}
_CHANNELS = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280}
"""The libraries' defaults of a UNet."""
_PARTS = ("text_config", "vision_config")
"""Of a safety checker's configuration."""


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read one of `CONFIGS`, its values checked in form.

    Raises:
        InputError: it cannot be read, lacks a value, or one is of another form.
    """
    config = read_object(folder / name, SAVE_AGAIN)
    check_forms(folder / name, config, name)
    return config


def unet_config(folder: Path) -> dict[str, Any]:
    """The UNet's configuration with its default channels and width, and `sample_size` as one number.

    Raises:
        InputError: as for `read_config`.
    """
    config = _CHANNELS | read_config(folder, UNET)
    if isinstance(config["sample_size"], list):
        config["sample_size"] = config["sample_size"][0]
    return config


def check_forms(path: Path, config: Config, name: str) -> None:
    """Check the form of each value that is read.

    Args:
        path: of the file.
        config: what it holds.
        name: which of `CONFIGS` it is.

    Raises:
        InputError: a value is missing, or of another form.
    """
    for key in _NEEDED.get(name, ()):
        if key not in config:
            raise InputError(f"{path} has no {key}; {SAVE_AGAIN}")
    _check(path, config, _FORMS[name])


def check_checker_forms(path: Path, config: Config) -> None:
    """`check_forms` of a safety checker's configuration."""
    for part in _PARTS:
        values = config.get(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{path}: {part} is {values!r}; allowed: an object of values")
        _check(path, values, _TRANSFORMER, f"{part}.")


def _check(path: Path, config: Config, forms: Mapping[str, _Form], prefix: str = "") -> None:
    for key, form in forms.items():
        if key in config and not form.fits(config[key]):
            raise InputError(f"{path}: {prefix}{key} is {config[key]!r}; allowed: {form.allowed}")


def check_agreement(folder: Path, configs: Mapping[str, Config]) -> None:
    """Check that a pipeline's components fit each other.

    Args:
        folder: of the pipeline.
        configs: by the names of `CONFIGS`, checked in form.

    Raises:
        InputError: two configurations contradict each other.
    """
    unet, vae, encoder = _CHANNELS | configs[UNET], configs[VAE], configs[TEXT_ENCODER]
    latent, width = vae.get("latent_channels", 4), encoder["hidden_size"]
    channels = f"the VAE's latents have {latent} channels"
    for name, key, found, wanted, why in (
        (UNET, "in_channels", unet["in_channels"], latent, channels),
        (UNET, "out_channels", unet["out_channels"], latent, channels),
        (UNET, "cross_attention_dim", unet["cross_attention_dim"], width, f"the text encoder's hidden_size is {width}"),
        (VAE, "out_channels", vae.get("out_channels", 3), 3, "an image has 3 channels"),
    ):
        if found != wanted:
            raise InputError(
                f"{folder / name}: {key} is {found}, and {why}; give a text-to-image Stable Diffusion, saved as a whole"
            )
    tokens = configs[TOKENIZER]["model_max_length"]
    positions = encoder.get("max_position_embeddings", tokens)
    if tokens > positions:
        raise InputError(
            f"{folder / TOKENIZER}: model_max_length is {tokens}, and the text encoder has {positions} positions; "
            "save both together"
        )
