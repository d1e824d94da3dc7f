"""FLUX.1: a transformer over tokens of four latent pixels each, trained by flow matching.

The published `dev` is guidance-distilled: its transformer takes the scale of guidance as an input, in place of a second
pass for the empty prompt. Here it is given the stock pipeline's default in training and sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sidlsg.teacher.families.family import (
    FLOW_TIMES,
    STATES,
    Agreement,
    Component,
    Configs,
    Family,
    channels_agree,
    clip_tokenizer,
    flow_times,
    is_a,
    pixels_of_latent,
    scheduler,
    shorter,
    sized,
    t5_tokenizer,
    text_model,
    whole_patches,
)
from sidlsg.teacher.families.sd import VAE

if TYPE_CHECKING:
    from torch import Tensor

PACK = 2
"""Latent pixels on each side of a token."""
TOKENS = 512
"""T5's tokens of a prompt, the stock pipeline's default."""
GUIDANCE = 3.5
"""What the transformer of a guidance-distilled model is given, the stock pipeline's default."""
SIZE = 128
"""The latents' sides that the stock pipeline assumes; a transformer's configuration may name others as
`sample_size`."""
CHANNELS, JOINT, POOLED, HEAD_DIM, AXES = 64, 4096, 768, 128, (16, 56, 56)
"""The library's defaults of the transformer."""


def _latent_shape(config: Mapping[str, Any]) -> tuple[int, int, int]:
    size = config.get("sample_size", SIZE)
    return config.get("in_channels", CHANNELS) // PACK**2, size, size


def _agreements(configs: Configs) -> Iterable[Agreement]:
    yield from channels_agree(configs, "transformer", CHANNELS, joined=PACK**2)
    transformer = configs["transformer"]
    yield whole_patches({"sample_size": _latent_shape(transformer)[1]}, PACK)
    yield Agreement("transformer", "patch_size", transformer.get("patch_size", 1), 1, "its tokens are packed before")
    pooled, width = configs["text_encoder"]["hidden_size"], configs["text_encoder_2"]["d_model"]
    found, why = transformer.get("pooled_projection_dim", POOLED), f"the CLIP model's hidden_size is {pooled}"
    yield Agreement("transformer", "pooled_projection_dim", found, pooled, why)
    found, why = transformer.get("joint_attention_dim", JOINT), f"T5's d_model is {width}"
    yield Agreement("transformer", "joint_attention_dim", found, width, why)
    axes = sum(transformer.get("axes_dims_rope", AXES))
    found, why = transformer.get("attention_head_dim", HEAD_DIM), f"its axes_dims_rope add up to {axes}"
    yield Agreement("transformer", "attention_head_dim", found, axes, why)
    yield flow_times(configs)


def _is_distilled(configs: Configs) -> bool:
    return bool(configs["transformer"].get("guidance_embeds", False))


def _remarks(configs: Configs) -> Iterable[str]:
    if not _is_distilled(configs):
        yield "if the teacher is FLUX.1 schnell, it is a model of few steps itself, and no teacher of a better one"
    else:
        yield (
            f"the teacher is guidance-distilled: its transformer takes the guidance, {GUIDANCE}, as an input, and was "
            "not trained for a second pass with the empty prompt, as κ ≠ 1 needs; κ = 1 distils it as it is"
        )


def _shapes(configs: Configs) -> dict[str, tuple[int, ...]]:
    length = min(configs["tokenizer_2"]["model_max_length"], TOKENS)
    shapes: dict[str, tuple[int, ...]] = {
        STATES: (length, configs["text_encoder_2"]["d_model"]),
        "pooled_projections": (configs["text_encoder"]["hidden_size"],),
    }
    return shapes | ({"guidance": ()} if _is_distilled(configs) else {})


def _called(configs: Configs) -> dict[str, Any]:
    return sized(FLUX.image_side(configs), SIZE * pixels_of_latent(configs["vae"])) | shorter(
        configs["tokenizer_2"], TOKENS
    )


def _guided(scale: float) -> dict[str, Any]:
    return {"true_cfg_scale": scale, "negative_prompt": ""} if scale > 1 else {}


def _encode(pipeline: Any, prompts: Sequence[str], device: Any, configs: Configs) -> dict[str, Tensor]:
    states, pooled, _ = pipeline.encode_prompt(
        list(prompts), None, device=device, **shorter(configs["tokenizer_2"], TOKENS)
    )
    encoded = {STATES: states, "pooled_projections": pooled}
    if _is_distilled(configs):
        encoded["guidance"] = states.new_full((len(prompts),), GUIDANCE)
    return encoded


def packed(x: Tensor) -> Tensor:
    """[B, C, H, W] latents to [B, H/2 · W/2, 4 C] tokens, in the stock pipeline's order."""
    b, c, h, w = x.shape
    parts = x.reshape(b, c, h // PACK, PACK, w // PACK, PACK)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * PACK**2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """[B, H/2 · W/2, 4 C] tokens to [B, C, H, W] latents."""
    parts = tokens.reshape(len(tokens), height // PACK, width // PACK, -1, PACK, PACK)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)


def _positions(x: Tensor) -> Tensor:
    """[H/2 · W/2, 3]: the row and the column of each token of latents."""
    import torch

    sides = (torch.arange(side // PACK, dtype=x.dtype, device=x.device) for side in x.shape[2:])
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    return torch.stack((torch.zeros_like(rows), rows, columns), dim=-1).flatten(0, 1)


def _takes(network: Callable[..., Any]) -> Callable[..., Any]:
    def call(x_t: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Any:
        output = network(
            hidden_states=packed(x_t),
            timestep=t / FLOW_TIMES,
            img_ids=_positions(x_t),
            txt_ids=x_t.new_zeros(conditioning[STATES].shape[1], 3),
            **conditioning,
        )
        return type(output)(sample=unpacked(output.sample, *x_t.shape[2:]))

    return call


FLUX = Family(
    name="flux",
    title="FLUX.1",
    pipeline="FluxPipeline",
    network="transformer",
    components={
        "transformer": Component(library="diffusers", classes=("FluxTransformer2DModel",)),
        "vae": VAE,
        "text_encoder": text_model("CLIPTextModel"),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": text_model("T5EncoderModel"),
        "tokenizer_2": t5_tokenizer(),
        "scheduler": scheduler("FlowMatchEulerDiscreteScheduler"),
    },
    off={"feature_extractor": None, "image_encoder": None},
    agreements=_agreements,
    shapes=_shapes,
    encode=_encode,
    half="bfloat16",
    latent_shape=_latent_shape,
    called=_called,
    guided=_guided,
    step_noises=("ddim",),  # the stock pipeline draws later noise for tokens, the first one for latents
    remarks=_remarks,
    has=lambda network: is_a(network, "FluxTransformer2DModel"),
    takes=_takes,
    compiled=("FluxTransformerBlock", "FluxSingleTransformerBlock"),
    sharded=lambda transformer: [*transformer.transformer_blocks, *transformer.single_transformer_blocks],
    features=lambda transformer: transformer.norm_out,
    last=lambda transformer: transformer.proj_out,
)
