"""Stable Diffusion 1 and 2: a UNet that takes one text encoder's embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sidlsg.teacher.families.family import (
    STATES,
    Agreement,
    Component,
    Configs,
    Family,
    channels_agree,
    clip_tokenizer,
    is_a,
    scheduler,
    text_model,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

COMPILED = ("BasicTransformerBlock", "ResnetBlock2D")
SCHEDULERS = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""The stock pipelines' schedulers that have β, ᾱ and a prediction type."""
UNET = Component(library="diffusers", classes=("UNet2DConditionModel",))
VAE = Component(library="diffusers", classes=("AutoencoderKL",))
CROSS_ATTENTION = 1280
"""The library's default width of the text embeddings that a UNet takes."""
UNET_CHANNELS = 4
"""The library's default."""


def _agreements(configs: Configs) -> Iterable[Agreement]:
    yield from channels_agree(configs, "unet", UNET_CHANNELS)
    unet, width = configs["unet"], configs["text_encoder"]["hidden_size"]
    found = unet.get("cross_attention_dim", CROSS_ATTENTION)
    yield Agreement("unet", "cross_attention_dim", found, width, f"the text encoder's hidden_size is {width}")
    why = "a Stable Diffusion's UNet takes latents, a timestep and text embeddings alone"
    yield Agreement("unet", "addition_embed_type", unet.get("addition_embed_type"), None, why)


def _encode(pipeline: Any, prompts: Sequence[str], device: Any, _: Configs) -> Tensor:
    embeddings: Tensor = pipeline.encode_prompt(list(prompts), device, 1, False)[0]
    return embeddings


def unet_blocks(unet: Any) -> Iterator[nn.Module]:
    """A UNet's blocks from the input to the output."""
    yield from unet.down_blocks
    if unet.mid_block is not None:
        yield unet.mid_block
    yield from unet.up_blocks


def is_unet(network: Any, addition: str | None) -> bool:
    """Whether a network is a UNet with such an added embedding."""
    return is_a(network, "UNet2DConditionModel") and network.config.addition_embed_type == addition


SD = Family(
    name="sd",
    title="Stable Diffusion",
    pipeline="StableDiffusionPipeline",
    network="unet",
    components={
        "unet": UNET,
        "vae": VAE,
        "text_encoder": text_model("CLIPTextModel"),
        "tokenizer": clip_tokenizer(),
        "scheduler": scheduler(*SCHEDULERS),
    },
    off={"safety_checker": None, "feature_extractor": None, "image_encoder": None, "requires_safety_checker": False},
    agreements=_agreements,
    shapes=lambda configs: {STATES: (configs["tokenizer"]["model_max_length"], configs["text_encoder"]["hidden_size"])},
    encode=_encode,
    step_noises=("fresh", "fixed", "ddim"),
    has=lambda network: is_unet(network, None),
    takes=lambda unet: unet,
    compiled=COMPILED,
    sharded=unet_blocks,
    features=lambda unet: unet.mid_block,
    last=lambda unet: unet.conv_out,
)
