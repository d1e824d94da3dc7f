"""The interface of a family of teachers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sidlsg.teacher.conditioning import Conditioning

Configs = Mapping[str, Mapping[str, Any]]
"""The components' configurations by the components' names; a missing key raises InputError."""
NETWORKS = ("unet", "transformer")
"""Names of the network that is distilled."""
STATES = "encoder_hidden_states"
"""The text embeddings' name in a conditioning of several tensors, and in `Family.shapes`."""
FLOW_TIMES = 1000
"""A flow-matching network's t is 1000 σ."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """A part of a pipeline's folder."""

    library: str
    """Library that the index must name."""
    classes: tuple[str, ...]
    """Classes that the index may name."""
    config: str = "config.json"
    weights: bool = True
    needed: bool = True
    """Whether the pipeline needs it; another one may be `[null, null]` in the index."""


class Agreement(NamedTuple):
    """A value that must be as other components want it."""

    component: str
    key: str
    found: Any
    wanted: Any
    why: str
    """Such as `the VAE's latents have 4 channels`."""


def tokenizer(*classes: str, needed: bool = True) -> Component:
    """A tokenizer of transformers."""
    config = "tokenizer_config.json"
    return Component(library="transformers", classes=classes, config=config, weights=False, needed=needed)


def clip_tokenizer() -> Component:
    """CLIP's tokenizer."""
    return tokenizer("CLIPTokenizer", "CLIPTokenizerFast")


def t5_tokenizer(*, needed: bool = True) -> Component:
    """T5's tokenizer."""
    return tokenizer("T5Tokenizer", "T5TokenizerFast", needed=needed)


def shorter(tokenizer: Mapping[str, Any], usual: int) -> dict[str, int]:
    """The stock pipelines' argument for a tokenizer that takes fewer tokens than they call for, which is `usual`."""
    longest = int(tokenizer["model_max_length"])
    return {"max_sequence_length": longest} if longest < usual else {}


def text_model(name: str, *, needed: bool = True) -> Component:
    """A text encoder of transformers."""
    return Component(library="transformers", classes=(name,), needed=needed)


def scheduler(*classes: str) -> Component:
    """A scheduler."""
    return Component(library="diffusers", classes=classes, config="scheduler_config.json", weights=False)


def channels_agree(
    configs: Configs, network: str, default: int, latent: int = 4, joined: int = 1
) -> Iterable[Agreement]:
    """Yield the agreements of the network's and the VAE's latents, and of the images' channels.

    Args:
        configs: of all components.
        network: its name.
        default: number of channels where its configuration names none.
        latent: the latents' channels where the VAE's configuration names none.
        joined: number of latent pixels that are one token.
    """
    vae, config = configs["vae"], configs[network]
    latent = vae.get("latent_channels", latent)
    why = f"the VAE's latents have {latent} channels" + (f", of {joined} pixels together" if joined > 1 else "")
    found = config.get("in_channels", default)
    yield Agreement(network, "in_channels", found, latent * joined, why)
    yield Agreement(network, "out_channels", config.get("out_channels", default) or found, latent * joined, why)
    yield Agreement("vae", "out_channels", vae.get("out_channels", 3), 3, "an image has 3 channels")


def whole_patches(config: Mapping[str, Any], patch: int) -> Agreement:
    """The agreement of a transformer's latents with its patches."""
    size = config["sample_size"]
    return Agreement("transformer", "sample_size", size, size // patch * patch, f"its patches are of {patch}")


def flow_times(configs: Configs) -> Agreement:
    """The agreement of a flow's scheduler with what its network takes for t."""
    times = configs["scheduler"].get("num_train_timesteps", FLOW_TIMES)
    return Agreement("scheduler", "num_train_timesteps", times, FLOW_TIMES, f"a flow's t is {FLOW_TIMES} σ")


def sized(side: int, usual: int) -> dict[str, int]:
    """The stock pipelines' arguments for square images whose side is not the `usual` one."""
    return {} if side == usual else {"height": side, "width": side}


def takes_by_name(network: Callable[..., Any]) -> Callable[..., Any]:
    """f(x_t, t, conditioning) of a transformer whose arguments have the conditioning's names."""

    def call(x_t: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Any:
        return network(hidden_states=x_t, timestep=t, **conditioning)

    return call


def is_a(network: Any, name: str) -> bool:
    """Whether a network is of the class of that name, or of one that is made from it."""
    return any(kind.__name__ == name for kind in type(network).__mro__)


def pixels_of_latent(vae: Mapping[str, Any]) -> int:
    """Pixels on each side of an image that are one of the latents', by the VAE's configuration."""
    levels = vae["encoder_block_out_channels" if "encoder_block_out_channels" in vae else "block_out_channels"]
    return int(2 ** (len(levels) - 1))


def square_latents(config: Mapping[str, Any], default: int = 4) -> tuple[int, int, int]:
    """(C, H, W) of the latents of a network with `sample_size`, and `default` channels where it names none."""
    return config.get("in_channels", default), config["sample_size"], config["sample_size"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the product has to know of a family."""

    name: str
    title: str
    """As users call it, such as `Stable Diffusion XL`."""
    pipeline: str
    """The stock pipeline's class."""
    network: str
    """The name of the component that is distilled, one of `NETWORKS`."""
    components: Mapping[str, Component]
    off: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that load the stock pipeline without the parts that training does not need."""
    agreements: Callable[[Configs], Iterable[Agreement]]
    """How the components must fit each other."""
    shapes: Callable[[Configs], dict[str, tuple[int, ...]]]
    """Shapes of a prompt's conditioning by the tensors' names, that of the hidden states, (L, D), first."""
    encode: Callable[[Any, Sequence[str], Any, Configs], Conditioning]
    """Encodes prompts, given the stock pipeline, the prompts, the text encoders' device and the configurations.

    The pipeline needs no more than text encoders and tokenizers. The empty prompt's is the unconditional one, as the
    stock pipeline guides with it."""
    latent_shape: Callable[[Mapping[str, Any]], tuple[int, int, int]] = square_latents
    """(C, H, W), of the network's configuration."""
    called: Callable[[Configs], dict[str, Any]] = lambda _: {}
    """What a call of the stock pipeline must be given besides the prompt, to sample as in training."""
    guided: Callable[[float], dict[str, Any]] = lambda scale: {"guidance_scale": scale}
    """What a call of the stock pipeline is given for a scale of classifier-free guidance; 0 or 1 for none."""
    step_noises: tuple[str, ...] = ("fresh", "ddim")
    """The noises of later steps with which the stock pipeline can sample a student."""
    half: str = "float16"
    """The stock pipeline's half precision: in `bfloat16` where some part overflows in the other."""
    remarks: Callable[[Configs], Iterable[str]] = lambda _: ()
    """What users are told before training."""
    has: Callable[[Any], bool]
    """Whether a network is of the family."""
    takes: Callable[[Callable[..., Any]], Callable[..., Any]]
    """Makes f(x_t, t, conditioning) of a network, or of what runs it; the result's `sample` is the output."""
    compiled: tuple[str, ...]
    """Classes of the repeated parts, each small enough for a short compilation that all its copies share."""
    sharded: Callable[[Any], Iterable[nn.Module]]
    """The blocks that FSDP shards, of which one is whole at a time."""
    features: Callable[[Any], nn.Module | None]
    """The part whose output has the discriminator's logits as its mean over dimension 1; None where it is missing."""
    last: Callable[[Any], nn.Linear | nn.Conv2d]
    """The last layer with weights."""

    def image_side(self, configs: Configs) -> int:
        """Pixels on each side of its images."""
        return self.latent_shape(configs[self.network])[1] * pixels_of_latent(configs["vae"])

    @property
    def flows(self) -> bool:
        """Whether it is trained by flow matching."""
        return self.components["scheduler"].classes[0].startswith("FlowMatch")

    @property
    def text_encoders(self) -> dict[str, str]:
        """The names of the text encoders, each with its tokenizer's."""
        names = (name for name in self.components if name.startswith("text_encoder"))
        return {name: name.replace("text_encoder", "tokenizer") for name in names}

    @property
    def with_weights(self) -> tuple[str, ...]:
        """The names of the components that have weights."""
        return tuple(name for name, component in self.components.items() if component.weights)
