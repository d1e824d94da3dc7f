"""What the machine's settings allow, and what each one does to a real network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sidlsg.distil.networks import (
    autocasting,
    compile_blocks,
    compiles,
    new_loss_scaler,
    prepared,
    set_matmul_precision,
)
from sidlsg.distil.recipes import Settings
from sidlsg.distil.state import TrainingState
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.architectures import ARCHITECTURES
from sidlsg.teacher.families.sd import COMPILED

CPU = torch.device("cpu")
T, TEXT = torch.tensor([20, 900]), torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; allowed: fp32, tf32, bf16, fp16"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; allowed: adam, adam8bit"),
        ({"parallel": "zero"}, "parallel is 'zero'; allowed: ddp, fsdp"),
        ({"gradient_clip": -1.0}, "gradient_clip is -1.0"),
        ({"optimizer": "adam8bit", "optimizer_offload": True}, "take 'adam'"),
        ({"ema_offload": True, "parallel": "fsdp"}, "leave them off"),
        ({"optimizer_offload": True, "parallel": "fsdp"}, "leave them off"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Settings(**values)


def runs_again(unet: Any, x: Tensor) -> set[str]:
    """Which blocks compute their activations again in the backward pass."""
    loss = unet(x, T, TEXT).sample.square().sum()
    again: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: again.add(name))
        for name, module in unet.named_modules()
        if type(module).__name__ in COMPILED
    ]
    loss.backward()
    for hook in hooks:
        hook.remove()
    return again


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_activation_checkpointing_reaches_the_blocks(make_unet: Callable[..., Any], trained: bool) -> None:
    """In the frozen networks too: gradient goes through them to their inputs."""
    x = torch.randn(2, 4, 4, 4, requires_grad=True)
    plain = prepared(make_unet(0, torch.float32, "CrossAttn"), Settings(), CPU, False, trained)
    lean = prepared(
        make_unet(0, torch.float32, "CrossAttn"), Settings(activation_checkpointing=True), CPU, False, trained
    )
    assert runs_again(plain, x) == set()
    first = x.grad.clone()  # type: ignore[union-attr]
    x.grad = None
    blocks = {name for name, module in lean.named_modules() if type(module).__name__ in COMPILED}
    # The library leaves out the first of the middle block.
    assert runs_again(lean, x) == blocks - {"mid_block.resnets.0"}
    assert len(blocks) == 9
    torch.testing.assert_close(first, x.grad)


def test_the_layout_is_channels_last_and_attention_the_fused_one(make_unet: Callable[..., Any]) -> None:
    unet = prepared(make_unet(0, torch.float32), Settings(), CPU, False, True)
    assert unet.down_blocks[0].resnets[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_autocast_computes_in_half_and_leaves_weights_and_gradients_alone(
    make_unet: Callable[..., Any], precision: str, dtype: torch.dtype
) -> None:
    state = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3, settings=Settings(precision=precision))
    teacher = state.frozen(make_unet(0, torch.float32))
    assert {p.dtype for p in teacher.parameters()} == {dtype}
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    exact = make_unet(0, torch.float32)(x, T, TEXT).sample
    for network in (state.generator, teacher):
        out = state.call(network)(x, T, TEXT).sample
        assert out.dtype == dtype
        assert 0 < float((out.float() - exact).detach().norm() / exact.detach().norm()) < 0.05
    for again in (False, True):  # with activation checkpointing, whose second pass must be as the first
        if again:
            state.generator.enable_gradient_checkpointing()
        state.call(state.generator)(x, T, TEXT).sample.float().square().sum().backward()
    assert {p.dtype for p in state.generator.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in state.generator.parameters() if p.grad is not None} == {torch.float32}
    assert {p.dtype for p in state.ema.parameters()} == {torch.float32}


def test_float32_is_not_wrapped(make_unet: Callable[..., Any]) -> None:
    unet = make_unet(0, torch.float32)
    assert autocasting(unet, "fp32", CPU) is unet
    assert autocasting(unet, "tf32", CPU) is unet


def test_tf32_is_allowed_by_its_name_alone() -> None:
    try:
        set_matmul_precision("tf32")
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        set_matmul_precision("bf16")
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    finally:
        set_matmul_precision("fp32")


def test_only_fp16_scales_its_loss() -> None:
    assert [new_loss_scaler(p, CPU).is_enabled() for p in ("fp32", "tf32", "bf16", "fp16")] == [0, 0, 0, 1]


def test_the_ema_is_on_the_device_while_it_samples(make_unet: Callable[..., Any]) -> None:
    state = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3, settings=Settings(ema_offload=True))
    x = torch.randn(2, 4, 4, 4)
    with state.ema_on_device() as unet:
        assert torch.equal(unet(x, T, TEXT).sample, state.ema(x, T, TEXT).sample)


def test_blocks_that_cannot_be_compiled_are_left_with_a_message(
    make_unet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setenv("CXX", "/nowhere/a-compiler")
    unet = make_unet(0, torch.float32)
    with torch._inductor.config.patch("cpp.cxx", ("/nowhere/a-compiler",)):
        assert not compiles(CPU, lines.append)
    assert len(lines) == 1
    assert "training continues without" in lines[0]
    assert all(parameter.grad is None for parameter in unet.parameters())


@pytest.mark.long
def test_compiled_blocks_compute_the_same(make_unet: Callable[..., Any]) -> None:
    unet, plain = make_unet(0, torch.float32), make_unet(0, torch.float32)
    lines: list[str] = []
    if not compiles(CPU, lines.append):
        pytest.skip(f"no compiler here: {lines}")
    names = set(unet.state_dict())
    assert compile_blocks(unet) == 9
    x = torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(unet(x, T, TEXT).sample, plain(x, T, TEXT).sample, rtol=1e-3, atol=1e-4)
    assert set(unet.state_dict()) == names


def test_attention_is_float32_under_a_cpus_autocast(make_unet: Callable[..., Any]) -> None:
    """The rest is bfloat16; outputs and gradients are those of float32 but for that rounding."""
    unet = make_unet(dtype=torch.float32)
    given = torch.randn(2, 4, 4, 4), torch.tensor([5, 900]), torch.randn(2, 3, 8)
    seen: list[torch.dtype] = []
    real = torch.nn.functional.scaled_dot_product_attention

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is real:
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    def outcome(precision: str) -> tuple[torch.Tensor, torch.Tensor]:
        unet.zero_grad()
        out = autocasting(unet, precision, torch.device("cpu"))(*given).sample
        out.float().square().mean().backward()
        gradient = unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.grad
        return out.detach().float(), gradient.clone()

    with Watch():
        exact, exact_gradient = outcome("fp32")
        assert {*seen} == {torch.float32}
        seen.clear()
        rough, rough_gradient = outcome("bf16")
    assert {*seen} == {torch.float32}
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.05)
    assert torch.nn.functional.cosine_similarity(rough_gradient.flatten(), exact_gradient.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("trained", [pytest.param(False, marks=pytest.mark.long), True])
def test_every_shape_of_block_is_compiled(trained: bool) -> None:
    # As many shapes as the true network has: the compiler's own limit is 8 forms of a kind of block.
    small = {"block_out_channels": (16, 32, 48, 48), "norm_num_groups": 8, "cross_attention_dim": 16, "sample_size": 8}
    unet = UNet2DConditionModel(**{**ARCHITECTURES["sd15"].config, **small, "attention_head_dim": 2})
    unet.requires_grad_(trained)
    x, t, states = torch.randn(1, 4, 8, 8), torch.zeros(1, dtype=torch.long), torch.randn(1, 7, 16)
    expected = unet(x, t, states).sample

    torch.compiler.reset()
    try:
        compile_blocks(unet, backend="eager")
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            found = unet(x, t, states).sample
    finally:
        torch.compiler.reset()

    torch.testing.assert_close(found, expected)
