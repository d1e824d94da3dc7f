"""The configurations in a pipeline's folder: the values that are read, and what each may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object

UNET, VAE, TEXT_ENCODER = "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
CONFIGS = (UNET, VAE, TEXT_ENCODER, SCHEDULER, TOKENIZER)
"""Relative to the pipeline's folder."""
SAVE_AGAIN = "save the whole pipeline again"
_LARGEST, _MOST_LAYERS = 1 << 20, 256

Config = dict[str, Any]


@dataclass(frozen=True)
class _Form:
    """The values that are allowed, in words and as a type for pydantic in strict mode."""

    allowed: str
    kind: Any

    def fits(self, value: Any) -> bool:
        try:
            TypeAdapter(self.kind).validate_python(value, strict=True)
            return True
        except ValidationError:
            return False

    def or_null(self) -> _Form:
        return _Form(f"{self.allowed}, or null", self.kind | None)

    def or_each(self) -> _Form:
        return _Form(f"{self.allowed}, or a list of such", self.kind | _list_of(self.kind))


def _list_of(kind: Any, most: int = 64) -> Any:
    return Annotated[list[kind], Field(min_length=1, max_length=most)]


def _whole(most: int) -> _Form:
    return _Form(f"a whole number from 1 to {most:,}", Annotated[int, Field(ge=1, le=most)])


def _equal_pair(value: list[int]) -> list[int]:
    if len(value) != 2 or value[0] != value[1]:
        raise ValueError("not a square")
    return value


_WHOLE, _LAYERS = _whole(_LARGEST), _whole(_MOST_LAYERS)
_WHOLES = _Form(f"a list of whole numbers from 1 to {_LARGEST:,}", _list_of(_WHOLE.kind))
_TEXTS = _Form("a list of texts", _list_of(str))
_NUMBER = _Form("a finite number", Annotated[float, Field(allow_inf_nan=False)])
_SCALE = _Form("a number above 0", Annotated[float, Field(gt=0, allow_inf_nan=False)])
_SIZE = _Form(
    f"{_WHOLE.allowed}, or the same one twice for a square",
    _WHOLE.kind | Annotated[_list_of(_WHOLE.kind), AfterValidator(_equal_pair)],
)
_BETAS = _Form(
    "null, or a list of numbers from 0 to 1",
    _list_of(Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)], _LARGEST) | None,
)
_NULL = _Form("null: a Stable Diffusion's UNet takes latents, a timestep and text embeddings alone", None)
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
"""The values that are read, by file; the libraries have defaults for missing ones."""
_NEEDED = {UNET: ("sample_size",), TEXT_ENCODER: ("hidden_size",), TOKENIZER: ("model_max_length",)}
_CHANNELS = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 1280}
"""The libraries' defaults of a UNet."""


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Read and check one of `CONFIGS`; raises InputError where it cannot be read, or a value is missing or wrong."""
    config = read_object(folder / name, SAVE_AGAIN)
    check_forms(folder / name, config, name)
    return config


def unet_config(folder: Path) -> dict[str, Any]:
    """The UNet's configuration with default channels and width, and `sample_size` as one number."""
    config = _CHANNELS | read_config(folder, UNET)
    if isinstance(config["sample_size"], list):
        config["sample_size"] = config["sample_size"][0]
    return config


def check_forms(path: Path, config: Config, name: str) -> None:
    """Check the values of a file that is one of `CONFIGS`; raises InputError where one is missing or wrong."""
    for key in _NEEDED.get(name, ()):
        if key not in config:
            raise InputError(f"{path} has no {key}; {SAVE_AGAIN}")
    _check(path, config, _FORMS[name])


def check_checker_forms(path: Path, config: Config) -> None:
    """`check_forms` of a safety checker's configuration."""
    for part in ("text_config", "vision_config"):
        values = config.get(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{path}: {part} is {values!r}; allowed: an object of values")
        _check(path, values, _TRANSFORMER, f"{part}.")


def _check(path: Path, config: Config, forms: Mapping[str, _Form], prefix: str = "") -> None:
    for key, form in forms.items():
        if key in config and not form.fits(config[key]):
            raise InputError(f"{path}: {prefix}{key} is {config[key]!r}; allowed: {form.allowed}")


def check_agreement(folder: Path, configs: Mapping[str, Config]) -> None:
    """Check that the components fit each other; raises InputError where two configurations contradict each other."""
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
