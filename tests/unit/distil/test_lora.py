"""Adapters over one frozen network: one copy of its weights, gradients of explicit merged weights, and the state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from sidlsg.distil.adapter import Adapter
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.guidance import lsg
from sidlsg.distil.lora import NAME, adapted, kept_tensors, lora_layers, trained_parameters
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import compile_blocks
from sidlsg.distil.recipes import Settings
from sidlsg.distil.sampler import UPDATES, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate, train_step
from sidlsg.runtime.errors import InputError
from unit.distil.test_step import encode, plan, reference_loss, schedule

NETWORKS = ("generator", "fake_score", "ema")
RANK, ALPHA = 3, 4.5
SCALE = ALPHA / RANK


class Run:
    """A state with adapters, and all that an iteration needs."""

    def __init__(self, base: Any, *, trained: bool = False, **settings: Any) -> None:
        self.base = base
        self.state = TrainingState.start(
            base, 1e-2, 1e-2, settings=Settings(adapter={"rank": RANK, "alpha": ALPHA}, **settings)
        )
        self.method = Method(
            teacher=self.state.call(self.state.frozen(base)), schedule=schedule(), guidance=lsg(1.5), alpha=1.2
        )
        if trained:  # where B is 0, A has no gradient
            torch.manual_seed(7)
            for name in ("generator", "fake_score"):
                for layer in lora_layers(getattr(self.state, name)):
                    torch.nn.init.normal_(layer.lora_B[NAME].weight, std=0.1)

    def step(self) -> Any:
        return train_step(self.state, self.method, plan(), encode_as(self.base), 2, 1000)


def encode_as(network: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    dtype = torch.promote_types(next(network.parameters()).dtype, torch.float32)
    return lambda *draws: tuple(each.to(dtype) for each in encode(*draws))  # type: ignore[return-value]


def forward(network: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3)).to(dtype)
    output: Tensor = network(x, torch.tensor([20, 900]), encode([1, 2], [False, False])[0].to(dtype)).sample
    return output


def merged(network: Any, like: Any) -> Any:
    """A whole network with W + scale · B A written out."""
    whole = UNet2DConditionModel.from_config(like.config).to(torch.float64).eval()
    whole.load_state_dict(like.state_dict())
    weights = kept_tensors(network)
    for name in sorted({key.partition(".lora_")[0] for key in weights}):
        a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
        with torch.no_grad():
            added = b @ a if a.dim() == 2 else torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
            whole.get_submodule(name).weight += SCALE * added
    return whole


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("update", UPDATES)
def test_gradients_are_those_of_explicit_merged_weights(
    make_unet: Callable[..., Any], update: Update, checkpointing: bool
) -> None:
    """By the chain rule from dL/dW, sample by sample: dL/dB = scale · dL/dW Aᵀ and dL/dA = scale · Bᵀ dL/dW.

    In the generator's update, all three networks run before the backward pass, which computes activations again.
    """
    run = Run(make_unet(0), trained=True, activation_checkpointing=checkpointing)
    wholes = {name: merged(getattr(run.state, name), run.base) for name in ("generator", "fake_score")}
    one = SimpleNamespace(**wholes)
    draws = plan().draw(0, update, 0, 4)
    teacher = Method(teacher=make_unet(0), schedule=run.method.schedule, guidance=run.method.guidance, alpha=1.2)
    expected = reference_loss(one, teacher, update, draws, range(4), 4)  # type: ignore[arg-type]
    expected.backward()  # type: ignore[no-untyped-call]

    found = accumulate(run.state, run.method, plan(), encode, 2, update)
    torch.testing.assert_close(found.loss, expected.detach())
    check_gradients(getattr(run.state, update), wholes[update])
    other = run.state.fake_score if update == "generator" else run.state.generator
    assert all(parameter.grad is None for parameter in (*other.parameters(), *run.base.parameters()))


def check_gradients(network: Any, whole: Any) -> None:
    """An adapter's against those of a whole network with the merged weights."""
    weights = kept_tensors(network)
    gradients = {
        name.replace(f".{NAME}.", "."): parameter.grad for name, parameter in trained_parameters(network).items()
    }
    assert len(gradients) == 2 * len(lora_layers(network)) > 20
    for key, gradient in gradients.items():
        name = key.partition(".lora_")[0]
        a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
        left, right, wide = b.flatten(1), a.flatten(1), whole.get_submodule(name).weight.grad.flatten(1)
        wanted = SCALE * (left.T @ wide if ".lora_A." in key else wide @ right.T)
        assert gradient is not None
        assert wanted.norm() > 0
        torch.testing.assert_close(gradient.flatten(1), wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("update", UPDATES)
def test_students_of_several_steps_have_them_too(make_unet: Callable[..., Any], update: Update) -> None:
    """Against a training of all weights, of the merged ones."""
    run, draws = Run(make_unet(0), trained=True), dataclasses.replace(plan(), steps=FewSteps(count=3))
    assert draws.steps.trained(draws.seed, 1) > 1
    full = TrainingState.start(make_unet(0), 1e-2, 1e-2)
    method = dataclasses.replace(run.method, steps=draws.steps)
    for name in ("generator", "fake_score"):
        getattr(full, name).load_state_dict(merged(getattr(run.state, name), run.base).state_dict())
    run.state.iteration = full.iteration = 1
    found = accumulate(run.state, method, draws, encode, 2, update)
    torch.testing.assert_close(found.loss, accumulate(full, method, draws, encode, 2, update).loss)
    check_gradients(getattr(run.state, update), getattr(full, update))


def test_one_copy_of_the_weights_is_in_memory_and_stays_as_it_was(make_unet: Callable[..., Any]) -> None:
    run = Run(make_unet(0))
    before = {name: tensor.clone() for name, tensor in run.base.state_dict().items()}
    start = {name: tensor.clone() for name, tensor in kept_tensors(run.state.generator).items()}
    for _ in range(2):
        run.step()
    pointers = [parameter.data_ptr() for parameter in run.base.parameters()]
    for each in NETWORKS:
        network = getattr(run.state, each)
        own = set(trained_parameters(network))
        assert [p.data_ptr() for name, p in network.named_parameters() if name not in own] == pointers
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.base.state_dict().items())
    assert any(not torch.equal(tensor, start[name]) for name, tensor in kept_tensors(run.state.generator).items())
    parts = [p for name in NETWORKS for p in trained_parameters(getattr(run.state, name)).values()]
    assert len({p.data_ptr() for p in parts}) == len(parts)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_before_the_first_step_every_network_is_the_teacher(make_unet: Callable[..., Any], precision: str) -> None:
    run = Run(make_unet(0, torch.float32), precision=precision)
    expected = forward(run.method.teacher, torch.float32)
    for each in NETWORKS:
        assert torch.equal(forward(run.state.call(getattr(run.state, each)), torch.float32), expected)


def test_adapters_stay_in_float32_over_a_network_in_bfloat16(make_unet: Callable[..., Any]) -> None:
    run = Run(make_unet(0, torch.float32), precision="bf16")
    for _ in range(2):
        result = run.step()
    assert {parameter.dtype for parameter in run.base.parameters()} == {torch.bfloat16}
    for each in NETWORKS:
        tensors = kept_tensors(getattr(run.state, each)).values()
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
        assert all(torch.isfinite(tensor).all() for tensor in tensors)
    assert all(float(norm) > 0 for norm in result.gradient_norms.values())


def test_adapters_start_by_the_seed_alone(make_unet: Callable[..., Any]) -> None:
    def weights(seed: int, number: int) -> Tensor:
        torch.manual_seed(torch.seed() % 1000)
        network = adapted(make_unet(0), Adapter(rank=2), seed, number)
        return torch.cat([tensor.flatten() for tensor in kept_tensors(network).values()])

    first = weights(1, 0)
    assert torch.equal(first, weights(1, 0))
    assert not torch.equal(first, weights(1, 1))
    assert not torch.equal(first, weights(2, 0))
    state = Run(make_unet(0)).state
    assert all(torch.equal(t, kept_tensors(state.ema)[name]) for name, t in kept_tensors(state.generator).items())


def test_a_checkpoint_holds_adapters_alone_by_the_librarys_names(make_unet: Callable[..., Any]) -> None:
    run = Run(make_unet(0), trained=True)
    run.step()
    library = get_peft_model_state_dict(run.state.generator, adapter_name=NAME)
    kept = kept_tensors(run.state.generator)
    assert kept.keys() == library.keys()
    assert all(torch.equal(kept[name], library[name]) for name in kept)
    names = set(run.state.tensors())
    others = {f"{each}_optimizer.step.0" for each in UPDATES}
    assert {name for name in names if ".lora_" not in name} == others
    assert {f"{each}.{name}" for each in NETWORKS for name in kept} < names
    moments = [name for name in names if name.endswith("exp_avg_sq")]
    assert len(moments) == 2 * len(kept)
    sizes = sum(tensor.numel() for tensor in run.state.tensors().values())
    assert sizes == 5 * sum(tensor.numel() for tensor in kept.values()) + 2


def test_the_step_is_measured_on_an_adapted_layers_whole_weight(make_unet: Callable[..., Any]) -> None:
    """At first B is 0: measured on B alone, a step would be without bounds, and an alarm would go off."""
    run = Run(make_unet(0))
    layer = lora_layers(run.state.generator)[-1]
    result = run.step()
    size = layer.get_delta_weight(NAME).norm() / layer.get_base_layer().weight.norm()
    torch.testing.assert_close(result.diagnostics["generator_step"], size.detach())
    assert 0 < float(result.diagnostics["generator_step"]) < 0.5


def test_a_target_that_matches_nothing_names_the_layers_that_exist(make_unet: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="adapter target 'to_x' matches no linear or convolutional layer") as caught:
        adapted(make_unet(0), Adapter(rank=2, targets=("to_q", "to_x")), 0, 0)
    assert "\n" not in str(caught.value)
    layers = str(caught.value).rpartition("its layers are: ")[2].split(", ")
    assert {"to_q", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv_in", "proj_out"} <= set(layers)
    assert len(layers) < 20
    for name in layers:
        assert len(lora_layers(adapted(make_unet(0), Adapter(rank=1, targets=(name,)), 0, 0))) >= 1


def test_targets_are_ends_of_names_in_whole_parts(make_unet: Callable[..., Any]) -> None:
    network = adapted(make_unet(0), Adapter(rank=2, targets=("attn1.to_q", "conv1")), 0, 0)
    names = [name for name, module in network.named_modules() if module in lora_layers(network)]
    assert names
    assert all(name.endswith((".attn1.to_q", ".conv1")) for name in names)


def test_compiled_blocks_have_the_same_gradients(make_unet: Callable[..., Any]) -> None:
    plain, fast = (Run(make_unet(0), trained=True).state.generator for _ in range(2))
    for network in (plain, fast):
        if network is fast:
            compile_blocks(network, backend="eager")
        forward(network).square().sum().backward()  # type: ignore[no-untyped-call]
    for one, other in zip(trained_parameters(plain).values(), trained_parameters(fast).values(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
