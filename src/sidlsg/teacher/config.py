"""The configurations in a pipeline's folder: the values that are read, and what each may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import read_object
from sidlsg.teacher.families import PIPELINES
from sidlsg.teacher.families.family import NETWORKS, Family, clip_tokenizer
from sidlsg.teacher.families.sd import SD

INDEX = "model_index.json"
SAVE_AGAIN = "save the whole pipeline again"
_LARGEST, _MOST_LAYERS = 1 << 20, 256


class Config(dict[str, Any]):
    """A component's configuration; a missing value that is asked for is an error of the user's folder."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self.path} has no {key}; {SAVE_AGAIN}")


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
_NAME = _Form("a text, or null", str | None)
_FLAG = _Form("true or false", bool)
_LENGTH = _Form(
    f"{_WHOLE.allowed}, or 1000000000000000019884624838656, the library's value for none",
    _WHOLE.kind | Literal[1000000000000000019884624838656],
)
_BLOCKS = {"block_out_channels": _WHOLES, "down_block_types": _TEXTS, "up_block_types": _TEXTS}
_LAYERED = {
    "hidden_size": _WHOLE,
    "intermediate_size": _WHOLE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _WHOLE,
    "num_key_value_heads": _WHOLE,
    "head_dim": _WHOLE,
}
_T5 = {"d_model": _WHOLE, "d_kv": _WHOLE, "d_ff": _WHOLE, "num_layers": _LAYERS, "num_heads": _WHOLE}
_FORMS: dict[str, dict[str, _Form]] = {
    "unet": {
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
        "addition_embed_type": _NAME,
        "addition_time_embed_dim": _WHOLE.or_null(),
        "projection_class_embeddings_input_dim": _WHOLE.or_null(),
        "encoder_hid_dim_type": _NULL,
    },
    "transformer": {
        "sample_size": _WHOLE,
        "patch_size": _WHOLE,
        "in_channels": _WHOLE,
        "out_channels": _WHOLE.or_null(),
        "num_layers": _LAYERS,
        "num_single_layers": _LAYERS,
        "attention_head_dim": _WHOLE,
        "num_attention_heads": _WHOLE,
        "num_cross_attention_heads": _WHOLE,
        "cross_attention_head_dim": _WHOLE,
        "cross_attention_dim": _WHOLE,
        "joint_attention_dim": _WHOLE,
        "caption_channels": _WHOLE,
        "caption_projection_dim": _WHOLE,
        "pooled_projection_dim": _WHOLE,
        "pos_embed_max_size": _WHOLE,
        "axes_dims_rope": _WHOLES,
        "mlp_ratio": _SCALE,
        "timestep_scale": _SCALE,
        "guidance_embeds": _FLAG,
    },
    "vae": {
        **_BLOCKS,
        "in_channels": _WHOLE,
        "out_channels": _WHOLE,
        "latent_channels": _WHOLE,
        "layers_per_block": _LAYERS,
        "norm_num_groups": _WHOLE,
        "scaling_factor": _SCALE,
        "shift_factor": _NUMBER.or_null(),
        "encoder_block_out_channels": _WHOLES,
        "decoder_block_out_channels": _WHOLES,
    },
    "text_encoder": {
        **_LAYERED,
        **_T5,
        "vocab_size": _WHOLE,
        "max_position_embeddings": _WHOLE,
        "projection_dim": _WHOLE,
    },
    "scheduler": {
        "num_train_timesteps": _WHOLE,
        "beta_start": _NUMBER,
        "beta_end": _NUMBER,
        "trained_betas": _BETAS,
        "shift": _SCALE,
    },
    "tokenizer": {"model_max_length": _LENGTH},
}
"""The values that are read, by kind of component; the libraries have defaults for missing ones."""


def family_in(folder: Path) -> Family:
    """The family of the pipeline that a folder's index names.

    Raises:
        InputError: it has no index, or names another pipeline.
    """
    named = read_object(folder / INDEX, SAVE_AGAIN).get("_class_name", SD.pipeline)
    if not isinstance(named, str) or named not in PIPELINES:
        raise InputError(f"{folder} is a {named}; a teacher is one of {', '.join(PIPELINES)}: give another folder")
    return PIPELINES[named]


def is_present(index: Mapping[str, Any], name: str) -> bool:
    """Whether a pipeline's index names a class for an optional component."""
    return index.get(name) not in (None, [None, None])


def present(folder: Path) -> list[str]:
    """The names of a pipeline's components: those that its family needs, and of the others those in its index."""
    index = read_object(folder / INDEX, SAVE_AGAIN)
    components = family_in(folder).components
    return [name for name, component in components.items() if component.needed or is_present(index, name)]


def read_config(folder: Path, component: str) -> Config:
    """Read and check a component's configuration; raises InputError where it cannot be read, or a value is wrong."""
    path = folder / component / family_in(folder).components[component].config
    return checked_config(path, read_object(path, SAVE_AGAIN))


def checked_config(path: Path, values: Mapping[str, Any]) -> Config:
    """The values of a component's configuration; raises InputError where one is wrong."""
    config = Config(path, values)
    _check(path, config, _FORMS[re.sub(r"_\d+$", "", path.parent.name)])
    if path.parent.name in NETWORKS and isinstance(size := config.get("sample_size"), list):
        config["sample_size"] = size[0]
    return config


def read_configs(folder: Path) -> dict[str, Config]:
    """The configurations of all components that a folder has; raises as `read_config`."""
    return {name: read_config(folder, name) for name in present(folder)}


def network_config(folder: Path) -> Config:
    """The configuration of the network that is distilled; raises as `read_config`."""
    return read_config(folder, family_in(folder).network)


def latent_shape(folder: Path) -> tuple[int, int, int]:
    """(C, H, W) of a teacher's latents; raises as `read_config`."""
    return family_in(folder).latent_shape(network_config(folder))


def check_checker_forms(path: Path, config: Mapping[str, Any]) -> None:
    """Check the values of a safety checker's configuration; raises InputError where one is wrong."""
    for part in ("text_config", "vision_config"):
        values = config.get(part, {})
        if not isinstance(values, dict):
            raise InputError(f"{path}: {part} is {values!r}; allowed: an object of values")
        _check(path, values, _LAYERED, f"{part}.")


def _check(path: Path, config: Mapping[str, Any], forms: Mapping[str, _Form], prefix: str = "") -> None:
    for key, form in forms.items():
        if key in config and not form.fits(config[key]):
            raise InputError(f"{path}: {prefix}{key} is {config[key]!r}; allowed: {form.allowed}")


def check_agreement(family: Family, configs: Mapping[str, Config]) -> None:
    """Check that the components fit each other; raises InputError where two configurations contradict each other."""
    family.latent_shape(configs[family.network])  # raises where a value is missing
    for component, key, found, wanted, why in family.agreements(configs):
        if found != wanted:
            path = configs[component].path
            raise InputError(f"{path}: {key} is {found!r}, and {why}; give a text-to-image {family.title}, saved whole")
    for name, tokenizer in family.text_encoders.items():
        if (name in configs) != (tokenizer in configs):
            here, missing = (name, tokenizer) if name in configs else (tokenizer, name)
            folder = configs[here].path.parents[1]
            raise InputError(f"{folder / INDEX} names a {here} and no {missing}; save both, or neither")
        if name in configs and family.components[tokenizer].classes == clip_tokenizer().classes:
            _check_length(configs[name], configs[tokenizer])


def _check_length(encoder: Config, tokenizer: Config) -> None:
    tokens = tokenizer["model_max_length"]
    positions = encoder.get("max_position_embeddings", tokens)
    if tokens > positions:
        raise InputError(
            f"{tokenizer.path}: model_max_length is {tokens}, and the text encoder has {positions} positions; "
            "save both together"
        )
