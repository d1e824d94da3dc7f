"""How training uses the machine: precision, memory, and several processes."""

from __future__ import annotations

from dataclasses import dataclass

from sidlsg.runtime.errors import InputError

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("adam", "adam8bit")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The engine's choices, out of a recipe's values of the same names."""

    precision: str = "fp32"
    """What the networks compute in: `fp32`, `tf32`, or under autocast `bf16` or `fp16`."""
    optimizer: str = "adam"
    """`adam` without first moments, or `adam8bit` from torchao."""
    gradient_clip: float = 0.0
    """Largest absolute value of a gradient's element; 0 for no limit."""
    parallel: str = "ddp"
    """How several processes share: `ddp` with a copy each, `fsdp` with a part each."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """Compile the networks' blocks, where a compiler is there."""
    ema_offload: bool = False
    """Keep the EMA in the host's memory."""
    optimizer_offload: bool = False
    """Keep the optimizers' state in the host's memory while they do not step."""

    def __post_init__(self) -> None:
        for name, allowed in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("parallel", PARALLEL)):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if not 0 <= self.gradient_clip < float("inf"):
            raise InputError(f"gradient_clip is {self.gradient_clip}; allowed: 0 (no limit) or a finite number above")
        if self.optimizer == "adam8bit" and (self.optimizer_offload or self.parallel == "fsdp"):
            raise InputError(
                "optimizer 'adam8bit' keeps its state whole and on the GPU; take 'adam' with offload or fsdp"
            )
        if (self.ema_offload or self.optimizer_offload) and self.parallel == "fsdp":
            raise InputError(
                "ema_offload and optimizer_offload move what is whole, but with 'fsdp' each process has a part: "
                "leave them off"
            )
