"""Adam at β = (0, 0.999): without the first moment, which equals the gradient, or in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sidlsg.distil.parallel import local, whole
from sidlsg.distil.recipes import OPTIMIZERS
from sidlsg.runtime.errors import InputError

BETA2 = 0.999
CHUNK_BYTES = 256 * 2**20
"""How much offloaded state is on the device at once."""


class SecondMomentAdam(torch.optim.Optimizer):
    """Adam with β1 = 0, no weight decay, and half of Adam's state.

    At β1 = 0 the first moment is the gradient, so torch's fused kernel gets the gradient in its place: the same kernel
    and the same bits as `torch.optim.Adam(betas=(0, 0.999), fused=True)`, without the tensors.
    """

    # torch.amp.GradScaler then gives `found_inf` instead of asking the device, and waiting, whether to step.
    _step_supports_amp_scaling = True

    def __init__(self, parameters: Any, lr: float, eps: float = 1e-8, offload: bool = False) -> None:
        """Args:
        parameters: what to step; their state exists from the start.
        lr: learning rate.
        eps: of the denominator.
        offload: keep the state in the host's memory, and bring it over in parts when it is needed.
        """
        super().__init__(parameters, {"lr": lr, "eps": eps})
        self._offload = offload
        for group in self.param_groups:
            first = local(group["params"][0])
            group["step"] = torch.zeros((), dtype=torch.float32, device=first.device)
            for parameter in group["params"]:
                self.state[parameter]["exp_avg_sq"] = self._new_state(local(parameter.detach()))

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            group["step"] += 1
            for parameters, gradients, moments in self._chunks(group):
                here = [m.to(p.device, non_blocking=True) for m, p in zip(moments, parameters, strict=True)]
                torch._fused_adam_(
                    parameters,
                    gradients,
                    gradients,  # the first moment at β1 = 0
                    here,
                    [],
                    [group["step"]] * len(parameters),
                    amsgrad=False,
                    lr=group["lr"],
                    beta1=0.0,
                    beta2=BETA2,
                    weight_decay=0.0,
                    eps=group["eps"],
                    maximize=False,
                    grad_scale=None,
                    found_inf=found_inf,
                )
                for moment, new in zip(moments, here, strict=True):
                    if moment is not new:
                        moment.copy_(new, non_blocking=True)
            if found_inf is not None:
                group["step"] -= found_inf

    def _chunks(self, group: dict[str, Any]) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor]]]:
        """Parameters, gradients and second moments: all at once, or in parts where the moments must travel."""
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        size = 0
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            weights, gradient = local(parameter), local(parameter.grad)
            if gradient.stride() != weights.stride():  # the kernel walks memory, not indices
                gradient = torch.empty_like(weights).copy_(gradient)
            rows.append((weights, gradient, self.state[parameter]["exp_avg_sq"]))
            size += weights.nbytes
            if self._offload and size >= CHUNK_BYTES:
                yield tuple(map(list, zip(*rows, strict=True)))  # type: ignore[misc]
                rows, size = [], 0
        if rows:
            yield tuple(map(list, zip(*rows, strict=True)))  # type: ignore[misc]

    def _new_state(self, like: Tensor) -> Tensor:
        if self._offload and like.device.type == "cuda":
            return torch.zeros_like(like, device="cpu").pin_memory()
        return torch.zeros_like(like)


def make_optimizer(
    kind: str, network: nn.Module, lr: float, eps: float, offload: bool = False
) -> torch.optim.Optimizer:
    """An optimizer of `OPTIMIZERS` over a network's parameters, with all of its state in place.

    Raises:
        InputError: the kind is unknown, or the library that it needs is not there.
    """
    parameters = list(network.parameters())
    if kind == "adam":
        return SecondMomentAdam(parameters, lr, eps, offload)
    if kind != "adam8bit":
        raise InputError(f"optimizer {kind!r} is unknown; allowed: {', '.join(OPTIMIZERS)}")
    try:
        from torchao.optim import Adam8bit
    except ImportError as error:
        raise InputError("optimizer 'adam8bit' needs torchao; pip install 'sidlsg[lowbit]', or take 'adam'") from error
    optimizer: torch.optim.Optimizer = Adam8bit(parameters, lr=lr, betas=(0.0, BETA2), eps=eps)
    # The library makes state at the first step; a checkpoint needs a place for it before. This step changes nothing.
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        state["step"].zero_()
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as live tensors, named by parameter; a restored state is copied into them.

    A sharded parameter's state comes as the same kind of shard, so that another number of processes can read it.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        for kind, value in optimizer.state[parameter].items():
            for part, tensor in _plain(value).items():
                found[f"{name}.{kind}{part}"] = _sharded_like(parameter, tensor)
    for number, group in enumerate(optimizer.param_groups):
        if "step" in group:
            found[f"step.{number}"] = group["step"]
    return found


def _plain(value: Tensor) -> dict[str, Tensor]:
    """A quantised tensor's parts, which a file can hold; another tensor is its own only part."""
    if hasattr(value, "__tensor_flatten__") and not isinstance(value, DTensor):
        return {f".{part}": getattr(value, part) for part in value.__tensor_flatten__()[0]}
    return {"": value}


def _sharded_like(parameter: Tensor, state: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor) or state.dim() == 0 or isinstance(state, DTensor):
        return state
    return DTensor.from_local(
        state,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


INFINITE_GRADIENT = 1e5


@torch.no_grad()
def clean_gradients(parameters: Iterable[nn.Parameter], clip: float = 0.0) -> None:
    """In every gradient: NaN becomes 0, ±inf becomes ±1e5, and what is beyond ±clip becomes ±clip.

    Args:
        parameters: whose gradients.
        clip: largest absolute value of an element; 0 for no limit.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            gradient = local(parameter.grad)
            gradient.nan_to_num_(nan=0.0, posinf=INFINITE_GRADIENT, neginf=-INFINITE_GRADIENT)
            if clip:
                gradient.clamp_(-clip, clip)


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm over all gradients, sharded or not: a scalar that stays on the device."""
    return whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


@torch.no_grad()
def finite_samples(*tensors: Tensor) -> Tensor:
    """[B] bool: whether a sample is finite in every one of the [B, …] tensors."""
    finite = torch.stack([torch.isfinite(x).flatten(1).all(1) for x in tensors])
    return finite.all(0)


RAMP_UP = 0.05
"""The half-life is at most this share of the images seen so far, so that early averages forget the start."""


def ema_decay(batch: int, images_before: int, half_life: float) -> float:
    """β = 0.5^(B / max(min(half-life, 0.05 · images before this batch), 1e-8)); the first batch gives 0."""
    exponent = batch / max(min(half_life, RAMP_UP * images_before), 1e-8)
    return float(0.5**exponent) if exponent < 1000 else 0.0


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema ← β ema + (1 - β) model, parameters only, in float32; the EMA may live in another memory."""
    averages, parameters = ([local(p.detach()) for p in network.parameters()] for network in (ema, model))
    if averages[0].device != parameters[0].device:
        # One by one, so that the copy needs the memory of one parameter.
        for average, parameter in zip(averages, parameters, strict=True):
            average.lerp_(parameter.to(average.device), 1 - decay)
    elif decay == 0:
        torch._foreach_copy_(averages, parameters)
    else:
        torch._foreach_lerp_(averages, parameters, 1 - decay)
