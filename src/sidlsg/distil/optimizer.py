"""Adam at β = (0, 0.999): without the first moment, which equals the gradient, or in 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sidlsg.distil.lora import trained_parameters
from sidlsg.distil.networks import local
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
        """With `offload`, the state stays in the host's memory, and is brought over in parts when it is needed."""
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
    """`adam` or `adam8bit` over a network's trained parameters, with all of its state in place.

    Raises:
        InputError: the library that it needs is not installed.
    """
    parameters = list(trained_parameters(network).values())
    if kind == "adam":
        return SecondMomentAdam(parameters, lr, eps, offload)
    try:
        from torchao.optim import Adam8bit
    except ImportError as error:
        raise InputError("optimizer 'adam8bit' needs torchao; pip install 'sidlsg[lowbit]', or take 'adam'") from error
    optimizer: torch.optim.Optimizer = Adam8bit(parameters, lr=lr, betas=(0.0, BETA2), eps=eps)
    # The library makes state at the first step; a checkpoint needs it earlier. This step changes nothing.
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
    for name, parameter in trained_parameters(network).items():
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
