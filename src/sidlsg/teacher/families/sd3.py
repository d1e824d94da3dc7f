"""Stable Diffusion 3 and 3.5: a transformer over the tokens of image and prompt, trained by flow matching.

The third text encoder, T5, may be missing, as in the stock pipeline, which takes zeros for its embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sidlsg.teacher.families.family import (
    STATES,
    Agreement,
    Component,
    Configs,
    Family,
    channels_agree,
    clip_tokenizer,
    flow_times,
    is_a,
    scheduler,
    shorter,
    square_latents,
    t5_tokenizer,
    takes_by_name,
    text_model,
    whole_patches,
)
from sidlsg.teacher.families.sd import VAE

if TYPE_CHECKING:
    from torch import Tensor

T5_TOKENS = 256
"""T5's tokens of a prompt, the stock pipeline's default."""
CHANNELS, JOINT, POOLED, PROJECTION = 16, 4096, 2048, 512
HEADS, HEAD_DIM, CAPTION, PATCH, POSITIONS = 18, 64, 1152, 2, 96
"""The libraries' defaults: of the transformer, and of the CLIP models' pooled embeddings."""


def _pooled(configs: Configs) -> int:
    return sum(configs[name].get("projection_dim", PROJECTION) for name in ("text_encoder", "text_encoder_2"))


def _agreements(configs: Configs) -> Iterable[Agreement]:
    yield from channels_agree(configs, "transformer", CHANNELS)
    transformer = configs["transformer"]
    joint, pooled = transformer.get("joint_attention_dim", JOINT), _pooled(configs)
    if "text_encoder_3" in configs:
        width = configs["text_encoder_3"]["d_model"]
        yield Agreement("transformer", "joint_attention_dim", joint, width, f"T5's d_model is {width}")
    clip = configs["text_encoder"]["hidden_size"] + configs["text_encoder_2"]["hidden_size"]
    why = f"the CLIP models' embeddings, joined, have {clip}"
    yield Agreement("transformer", "joint_attention_dim", joint, max(joint, clip), why)
    length = configs["tokenizer"]["model_max_length"]
    why = f"the first tokenizer's is {length}"
    yield Agreement("tokenizer_2", "model_max_length", configs["tokenizer_2"]["model_max_length"], length, why)
    inner = transformer.get("num_attention_heads", HEADS) * transformer.get("attention_head_dim", HEAD_DIM)
    found, why = transformer.get("caption_projection_dim", CAPTION), f"its heads have {inner} channels together"
    yield Agreement("transformer", "caption_projection_dim", found, inner, why)
    size, patch = transformer["sample_size"], transformer.get("patch_size", PATCH)
    yield whole_patches(transformer, patch)
    largest = transformer.get("pos_embed_max_size", POSITIONS)
    why = f"its latents have {size // patch} patches on a side"
    yield Agreement("transformer", "pos_embed_max_size", largest, max(largest, size // patch), why)
    yield flow_times(configs)
    found = transformer.get("pooled_projection_dim", POOLED)
    why = f"the CLIP models' pooled embeddings, joined, have {pooled}"
    yield Agreement("transformer", "pooled_projection_dim", found, pooled, why)


def _shapes(configs: Configs) -> dict[str, tuple[int, ...]]:
    t5 = _called(configs).get("max_sequence_length", T5_TOKENS)
    return {
        STATES: (
            configs["tokenizer"]["model_max_length"] + t5,
            configs["transformer"].get("joint_attention_dim", JOINT),
        ),
        "pooled_projections": (_pooled(configs),),
    }


def _called(configs: Configs) -> dict[str, Any]:
    return shorter(configs["tokenizer_3"], T5_TOKENS) if "tokenizer_3" in configs else {}


def _encode(pipeline: Any, prompts: Sequence[str], device: Any, configs: Configs) -> dict[str, Tensor]:
    states, _, pooled, _ = pipeline.encode_prompt(
        list(prompts), None, None, device=device, do_classifier_free_guidance=False, **_called(configs)
    )
    return {STATES: states, "pooled_projections": pooled}


_CLIP = text_model("CLIPTextModelWithProjection")
SD3 = Family(
    name="sd3",
    title="Stable Diffusion 3",
    pipeline="StableDiffusion3Pipeline",
    network="transformer",
    components={
        "transformer": Component(library="diffusers", classes=("SD3Transformer2DModel",)),
        "vae": VAE,
        "text_encoder": _CLIP,
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": _CLIP,
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": text_model("T5EncoderModel", needed=False),
        "tokenizer_3": t5_tokenizer(needed=False),
        "scheduler": scheduler("FlowMatchEulerDiscreteScheduler"),
    },
    off={"feature_extractor": None, "image_encoder": None},
    agreements=_agreements,
    shapes=_shapes,
    encode=_encode,
    latent_shape=lambda config: square_latents(config, CHANNELS),
    called=_called,
    has=lambda network: is_a(network, "SD3Transformer2DModel"),
    takes=takes_by_name,
    compiled=("JointTransformerBlock",),
    sharded=lambda transformer: transformer.transformer_blocks,
    # SiD-DiT's discriminator: the mean over tokens after the final norm (arXiv 2509.25127, its published code).
    features=lambda transformer: transformer.norm_out,
    last=lambda transformer: transformer.proj_out,
)
