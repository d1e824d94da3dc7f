"""One iteration against a reference written from the formulas, one sample at a time, in float64."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from sidlsg.distil.few_steps import STEP_NOISES, FewSteps
from sidlsg.distil.guidance import Guidance, anti_cfg, lsg, none, short, zero_cfg
from sidlsg.distil.losses import Method
from sidlsg.distil.sampler import DrawPlan, Draws, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate, train_step
from sidlsg.distil.weighting import GENERATOR_WEIGHTS
from sidlsg.teacher.schedule import FlowSchedule, NoiseSchedule, Schedule

PROMPTS = torch.randn(10, 3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EMPTY = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def encode(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
    return torch.stack([EMPTY[0] if r else PROMPTS[i] for i, r in zip(indices, replaced, strict=True)]), EMPTY


KINDS = ["epsilon", pytest.param("v_prediction", marks=pytest.mark.long), "flow"]
"""The kinds of schedules."""
FOUR = Guidance(1.5, 0.0, 4.5, -1.0)


def plan(batch: int = 4, dropout: float = 0.5, seed: int = 0, kind: str = "epsilon") -> DrawPlan:
    return DrawPlan(
        seed=seed,
        batch=batch,
        prompt_count=10,
        latent_shape=(4, 4, 4),
        prompt_dropout=dropout,
        sample_time=schedule(kind).sample_time,
    )


def few_steps(noise: str, k: int, kind: str, count: int = 3) -> tuple[FewSteps, int]:
    """The steps, and an iteration that trains the k-th."""
    steps = FewSteps(t_init=1000 if kind == "flow" else 625, count=count, noise=noise)
    return steps, next(i for i in range(100) if steps.trained(0, i) == k)


def schedule(prediction_type: str = "epsilon") -> Schedule:
    if prediction_type == "flow":
        return FlowSchedule()
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    return NoiseSchedule.from_scheduler(scheduler)


@pytest.fixture
def make_state(make_unet: Callable[..., Any]) -> Callable[..., TrainingState]:
    def make(generator_seed: int = 1, fake_score_seed: int = 2, dtype: torch.dtype = torch.float64) -> TrainingState:
        state = TrainingState.start(make_unet(0, dtype), 1e-3, 1e-3)
        state.generator.load_state_dict(make_unet(generator_seed, dtype).state_dict())
        state.fake_score.load_state_dict(make_unet(fake_score_seed, dtype).state_dict())
        return state

    return make


def gradients(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def reference_loss(
    state: TrainingState,
    method: Method,
    update: Update,
    draws: Draws,
    keep: Sequence[int],
    divisor: int,
    held: Any = None,
) -> Tensor:
    """The update's loss from algorithm's formulas alone: sample by sample, each network call on its own.

    `held` is the generator wherever no gradient flows through it, in ω and in the steps before the last; by default
    the state's own.
    """
    k1, k2, k3, k4 = method.guidance.scales
    flow = not isinstance(method.schedule, NoiseSchedule)
    epsilon = not flow and method.schedule.prediction_type == "epsilon"
    held = held or state.generator

    def coefficients(t: float) -> tuple[float, float]:
        if isinstance(method.schedule, FlowSchedule):
            return 1 - t / 1000, t / 1000
        alpha_bar = method.schedule.alphas_cumprod[int(t)].item()
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)

    def x0(out: Tensor, x_t: Tensor, t: float) -> Tensor:
        a_t, s_t = coefficients(t)
        if flow:
            return x_t - s_t * out
        return (x_t - s_t * out) / a_t if epsilon else a_t * x_t - s_t * out

    def out(unet: Any, x: Tensor, t: float, text: Tensor) -> Tensor:
        result: Tensor = unet(x, torch.tensor([t]), text).sample
        return result

    def guided(unet: Any, x_t: Tensor, t: float, text: Tensor, *kappas: float) -> list[Tensor]:
        unconditional, conditional = out(unet, x_t, t, EMPTY), out(unet, x_t, t, text)
        return [unconditional + kappa * (conditional - unconditional) for kappa in kappas]

    def generated(b: int, text: Tensor, network: Any) -> Tensor:
        z = draws.z[b : b + 1].double()
        x_g, noise = torch.zeros_like(z), z
        for i in range(draws.step):
            t = math.floor(method.steps.t_init * (1 - i / method.steps.count) + 1e-9)
            a_t, s_t = coefficients(t)
            x = a_t * x_g.detach() + s_t * noise
            last = i == draws.step - 1
            x_g = x0(out(network if last else held, x, t, text), x, t)
            if method.steps.noise == "ddim":
                noise = (x - a_t * x_g.detach()) / s_t
            elif method.steps.noise == "fresh" and not last:
                assert draws.step_noises is not None
                noise = draws.step_noises[i, b][None].double()
        return x_g

    total = torch.zeros((), dtype=torch.float64)
    for b in keep:
        text = EMPTY if draws.replaced[b] else PROMPTS[draws.prompts[b]][None]
        noise, t = draws.noise[b : b + 1].double(), draws.t[b].item()
        x_g = generated(b, text, state.generator)
        a_t, s_t = coefficients(t)
        if update == "fake_score":
            x_g = x_g.detach()
            target = noise if epsilon else noise - x_g if flow else a_t * noise - s_t * x_g
            weight = 1.0 if epsilon or flow else a_t**2
            (found,) = guided(state.fake_score, a_t * x_g + s_t * noise, t, text, k1)
            total = total + weight * (found - target).square().sum()
            continue

        def real(x_g: Tensor, text: Tensor = text, noise: Tensor = noise, t: float = t) -> Tensor:
            x_t = coefficients(t)[0] * x_g + coefficients(t)[1] * noise
            return x0(guided(method.teacher, x_t, t, text, k4)[0], x_t, t)

        x_t, y_real = a_t * x_g + s_t * noise, real(x_g)
        y_fake_2, y_fake_3 = (x0(found, x_t, t) for found in guided(state.fake_score, x_t, t, text, k2, k3))
        x_held = generated(b, text, held).detach()
        omega = max(float((x_held - real(x_held)).detach().abs().mean()), 1e-5)
        first, second = y_real - y_fake_2, y_real - x_g - method.alpha * (y_real - y_fake_3)
        weight = {
            "omega": 1 / omega,
            "1-sigma": 1 - s_t,
            "(1-sigma)^2": (1 - s_t) ** 2,
            "1/sigma": 1 / s_t,
            "1/sigma^2": s_t**-2,
            "(1-sigma)/sigma": 1 / s_t - 1,
            "((1-sigma)/sigma)^2": (1 / s_t - 1) ** 2,
        }[method.generator_weight]
        total = total + weight * (first * second).sum()
    return total / divisor


@pytest.mark.parametrize(("update", "alpha"), [("fake_score", 1.0), ("generator", 1.0), ("generator", 1.2)])
@pytest.mark.parametrize(
    ("guidance", "prediction_type"),
    [
        pytest.param(guidance, kind, id=f"{'/'.join(f'{k:g}' for k in guidance.scales)}-{kind}", marks=marks)
        for guidance in (none(), lsg(1.5), lsg(4.5), short(0.5), zero_cfg(), anti_cfg(-1), FOUR)
        for kind in ("epsilon", "v_prediction", "flow")
        for marks in [[pytest.mark.long] if kind != "epsilon" and guidance is not FOUR else []]
    ],
)
def test_loss_and_gradient_are_the_formulas(
    make_state: Callable[..., TrainingState],
    make_unet: Callable[..., Any],
    update: Update,
    prediction_type: str,
    alpha: float,
    guidance: Guidance,
) -> None:
    state = make_state()
    teacher = make_unet(0).requires_grad_(False)
    method = Method(teacher=teacher, schedule=schedule(prediction_type), guidance=guidance, alpha=alpha)
    two = plan(2, seed=2, kind=prediction_type)
    draws = two.draw(0, update, 0, 2)
    # The fake score sees one sample without its prompt, and one with it.
    assert draws.replaced == ((True, False) if update == "fake_score" else (False, False))
    network = state.fake_score if update == "fake_score" else state.generator

    expected = reference_loss(state, method, update, draws, range(2), 2)
    expected_gradient = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
    found = accumulate(state, method, two, encode, 2, update)

    assert found.non_finite == 0
    assert float(found.loss) == pytest.approx(
        expected.item(), rel=1e-6
    )  # timesteps' coefficients come from float32 tables
    for parameter, wanted in zip(network.parameters(), expected_gradient, strict=True):
        assert (parameter.grad is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-7 * float(wanted.abs().max() + 1))


@pytest.mark.parametrize(
    ("prediction_type", "weight"), [("epsilon", "1-sigma"), *(("flow", w) for w in GENERATOR_WEIGHTS)]
)
def test_each_weight_of_the_generators_loss_is_its_formula(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], prediction_type: str, weight: str
) -> None:
    state, drawn = make_state(), plan(kind=prediction_type)
    method = Method(
        teacher=make_unet(0).requires_grad_(False),
        schedule=schedule(prediction_type),
        guidance=lsg(1.5),
        generator_weight=weight,
    )
    expected = reference_loss(state, method, "generator", drawn.draw(0, "generator", 0, 4), range(4), 4)
    wanted = torch.autograd.grad(expected, list(state.generator.parameters()), allow_unused=True)
    found = accumulate(state, method, drawn, encode, 2, "generator")
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    flat = torch.cat([g.flatten() for g in wanted if g is not None])
    assert float((gradients(state.generator) - flat).norm() / flat.norm()) < 1e-6


@pytest.mark.parametrize("update", ["fake_score", "generator"])
@pytest.mark.parametrize("prediction_type", KINDS)
@pytest.mark.parametrize("noise", STEP_NOISES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_loss_and_gradient_of_a_step_are_the_formulas(
    make_state: Callable[..., TrainingState],
    make_unet: Callable[..., Any],
    update: Update,
    prediction_type: str,
    noise: str,
    k: int,
) -> None:
    """Of one of three steps: no gradient reaches the steps before it."""
    steps, iteration = few_steps(noise, k, prediction_type)
    state = make_state()
    state.iteration = iteration
    method = Method(
        teacher=make_unet(0).requires_grad_(False), schedule=schedule(prediction_type), guidance=lsg(1.5), steps=steps
    )
    drawn = dataclasses.replace(plan(kind=prediction_type), steps=steps)
    draws = drawn.draw(iteration, update, 0, 4)
    assert draws.step == k
    network = state.fake_score if update == "fake_score" else state.generator
    expected = reference_loss(state, method, update, draws, range(4), 4)
    wanted = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
    found = accumulate(state, method, drawn, encode, 2, update)
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    flat = torch.cat([g.flatten() for g in wanted if g is not None])
    assert float((gradients(network) - flat).norm() / flat.norm()) < 1e-6


@pytest.mark.parametrize("prediction_type", KINDS)
@pytest.mark.parametrize(("update", "k"), [("fake_score", 1), ("fake_score", 3), ("generator", 1), ("generator", 3)])
def test_the_gradient_reaches_the_weights_by_finite_differences(
    make_state: Callable[..., TrainingState],
    make_unet: Callable[..., Any],
    update: Update,
    k: int,
    prediction_type: str,
) -> None:
    """Along random directions; ω and the steps before the last are held at the centre."""
    steps, iteration = few_steps("fresh", k, prediction_type)
    state = make_state()
    state.iteration = iteration
    method = Method(
        teacher=make_unet(0).requires_grad_(False),
        schedule=schedule(prediction_type),
        guidance=lsg(1.5),
        alpha=1.2,
        steps=steps,
    )
    drawn = dataclasses.replace(plan(kind=prediction_type), steps=steps)
    network = state.fake_score if update == "fake_score" else state.generator
    network.to(memory_format=torch.contiguous_format)  # torch's vectors of parameters know no other
    accumulate(state, method, drawn, encode, 4, update)
    gradient = gradients(network)
    weights = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    # Only parameters that collected a gradient have a place in `gradient`.
    places = torch.cat([torch.full((p.numel(),), p.grad is not None) for p in network.parameters()])
    draws = drawn.draw(iteration, update, 0, 4)

    held = copy.deepcopy(state.generator)

    def loss_at(shift: Tensor) -> float:
        moved = weights.clone()
        moved[places] += shift
        torch.nn.utils.vector_to_parameters(moved, network.parameters())
        with torch.no_grad():
            return float(reference_loss(state, method, update, draws, range(4), 4, held))

    for seed in range(3):
        direction = torch.randn(len(gradient), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        direction /= direction.norm()
        step = 1e-5
        slope = (loss_at(step * direction) - loss_at(-step * direction)) / (2 * step)
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-4, abs=1e-4 * float(gradient.norm()))


@pytest.mark.parametrize("update", ["fake_score", "generator"])
def test_accumulation_equals_the_large_batch(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], update: Update
) -> None:
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    found = []
    for micro_batch in (32, 8):
        state = make_state()
        loss = accumulate(state, method, plan(32), encode, micro_batch, update).loss
        found.append((float(loss), gradients(state.fake_score if update == "fake_score" else state.generator)))
    (whole, large), (parts, accumulated) = found
    assert parts == pytest.approx(whole, rel=1e-12)
    assert float((large - accumulated).norm() / large.norm()) < 1e-9


@pytest.mark.parametrize("update", ["fake_score", "generator"])
@pytest.mark.parametrize("micro_batch", [4, 2])
def test_three_good_samples_and_a_nan_give_the_gradient_of_three_at_divisor_four(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], update: Update, micro_batch: int
) -> None:
    state = make_state()
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    draws = plan(dropout=0).draw(0, update, 0, 4)
    bad = draws.prompts[2]

    def with_nan(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        cond, uncond = encode(indices, replaced)
        cond[[i for i, p in enumerate(indices) if p == bad]] = math.nan
        return cond, uncond

    network = state.fake_score if update == "fake_score" else state.generator
    expected = reference_loss(state, method, update, draws, [0, 1, 3], 4)
    wanted = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
    found = accumulate(state, method, plan(dropout=0), with_nan, micro_batch, update)
    assert found.non_finite == 1
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    flat = torch.cat([g.flatten() for g in wanted if g is not None])
    assert float((gradients(network) - flat).norm() / flat.norm()) < 1e-6


def test_a_batch_of_nothing_but_nan_moves_no_weight(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    state = make_state()
    before = copy.deepcopy(state.generator.state_dict())
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))

    def all_nan(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        cond, uncond = encode(indices, replaced)
        return cond * math.nan, uncond

    result = train_step(state, method, plan(), all_nan, 2, 1000)
    assert result.nan_samples == state.nan_samples == 8
    assert all(torch.equal(before[k], v) for k, v in state.generator.state_dict().items())


def test_the_fake_score_moves_first_and_the_ema_last(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    stepped = make_state()
    result = train_step(stepped, method, plan(), encode, 4, 1000)

    # By hand: the fake score's step, then the generator's loss with the fake score that has moved.
    state = make_state()
    accumulate(state, method, plan(), encode, 4, "fake_score")
    state.optimizers["fake_score"].step()
    after = reference_loss(state, method, "generator", plan().draw(0, "generator", 0, 4), range(4), 4)
    assert float(result.losses["generator"]) == pytest.approx(after.item(), rel=1e-6)
    # The first EMA update copies the generator that has moved.
    for ema, generator in zip(stepped.ema.parameters(), stepped.generator.parameters(), strict=True):
        assert torch.equal(ema, generator)
    assert (stepped.iteration, stepped.images_seen) == (1, 4)


def test_adam_without_momentum_steps_by_the_gradients_own_scale(make_state: Callable[..., TrainingState]) -> None:
    """With β = (0, 0.999) and bias correction the first step is lr · g/|g|, sign by sign."""
    state = make_state()
    parameter = next(state.generator.parameters())
    before = parameter.detach().clone()
    parameter.grad = torch.linspace(-2, 3, parameter.numel(), dtype=torch.float64).view_as(parameter)
    state.optimizers["generator"].step()
    torch.testing.assert_close(parameter.detach() - before, -1e-3 * parameter.grad.sign(), rtol=1e-5, atol=1e-10)


def test_between_the_two_updates_a_stop_is_obeyed_and_the_rest_is_done_later(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    whole, halves = make_state(), make_state()
    train_step(whole, method, plan(), encode, 2, 1000)
    first = train_step(halves, method, plan(), encode, 2, 1000, stop=lambda: True)
    assert first.stopped
    assert (halves.iteration, halves.fake_score_done, set(first.losses)) == (0, True, {"fake_score"})
    second = train_step(halves, method, plan(), encode, 2, 1000)
    assert (halves.iteration, halves.fake_score_done, set(second.losses)) == (1, False, {"generator"})
    tensors, others = whole.tensors(), halves.tensors()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_diagnostics_compare_the_networks(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    equal = TrainingState.start(make_unet(0), 1e-3, 1e-3)
    same = accumulate(equal, method, plan(), encode, 4, "generator").diagnostics
    other = accumulate(make_state(), method, plan(), encode, 4, "generator").diagnostics
    assert float(same["score_difference"]) < 1e-12
    assert float(other["score_difference"]) > 0
    assert float(other["latent_size"]) > 0
    # A network that predicts nothing at all has exactly the error of predicting nothing.
    silent = make_state()
    for parameter in silent.fake_score.conv_out.parameters():
        parameter.data.zero_()
    assert float(
        accumulate(silent, method, plan(), encode, 4, "fake_score").diagnostics["fake_score_error"]
    ) == pytest.approx(1)


def test_no_number_leaves_the_device_within_an_iteration_but_one_copy_an_update(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each such read makes the host wait; `AsyncHostCopy` alone is made so that it does not."""
    from torch.utils._python_dispatch import TorchDispatchMode

    reads: list[str] = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default or func is torch.ops.aten.nonzero.default:
                reads.append(str(func))
            return func(*args, **(kwargs or {}))

    copies: list[int] = []
    monkeypatch.setattr("sidlsg.distil.step.AsyncHostCopy.read", lambda _: copies.append(1) or [0, 0, 0])
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    state, drawn = make_state(), plan()
    with Reads():
        train_step(state, method, drawn, encode, 2, 1000)
    assert reads == []
    assert len(copies) == 2
    assert state.iteration == 1


def test_prompt_dropout_reaches_the_fake_score_alone(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    method = Method(teacher=make_unet(0).requires_grad_(False), schedule=schedule(), guidance=lsg(1.5))
    seen: list[tuple[bool, ...]] = []

    def spy(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        seen.append(tuple(replaced))
        return encode(indices, replaced)

    train_step(make_state(), method, dataclasses.replace(plan(), batch=16), spy, 16, 1000)
    fake_score, generator = seen
    assert any(fake_score)
    assert not all(fake_score)
    assert not any(generator)
