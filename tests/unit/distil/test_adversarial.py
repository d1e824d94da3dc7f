"""The adversarial term against references written sample by sample from its formulas, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sidlsg.distil import adversarial
from sidlsg.distil.adversarial import (
    Adversarial,
    Adversary,
    RealImages,
    discriminator_diagnostics,
    discriminator_loss,
    feature_block_of,
    generator_adversarial_loss,
    logit_map,
    make_adversarial,
)
from sidlsg.distil.guidance import Guidance, anti_cfg, lsg, none, zero_cfg
from sidlsg.distil.losses import Method
from sidlsg.distil.recipes import Settings
from sidlsg.distil.sampler import DrawPlan, Draws, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate, train_step
from sidlsg.runtime.errors import InputError
from unit.distil.test_step import EMPTY, PROMPTS, encode, gradients, make_state, reference_loss, schedule

__all__ = ["make_state"]

REAL = torch.randn(7, 4, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
TERM = Adversarial(lambda_d=0.7, lambda_g=0.3)
UPDATES: tuple[Update, ...] = ("fake_score", "generator")


def plan(batch: int = 4, dropout: float = 0.5, seed: int = 0) -> DrawPlan:
    return DrawPlan(
        seed=seed, batch=batch, prompt_count=10, latent_shape=(4, 4, 4), prompt_dropout=dropout, real_count=len(REAL)
    )


def method_of(
    state: TrainingState, teacher: Any, guidance: Guidance, prediction: str = "epsilon", **term: Any
) -> Method:
    adversary = Adversary(
        term=replace(TERM, **term),
        feature_block=state.fake_score.mid_block,
        images=RealImages(count=len(REAL), latents=lambda indices: REAL[list(indices)], encode=encode),
    )
    return Method(
        teacher=teacher.requires_grad_(False), schedule=schedule(prediction), guidance=guidance, adversary=adversary
    )


def logits(unet: Any, x_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """D of one sample, [h, w], by the network's parts up to the mid block, one after the other."""
    embedded = unet.time_embedding(unet.time_proj(t).to(x_t.dtype))
    hidden = unet.conv_in(x_t)
    for block in unet.down_blocks:
        hidden, _ = block(hidden, embedded, encoder_hidden_states=text)
    hidden = unet.mid_block(hidden, embedded, encoder_hidden_states=text)
    return hidden[0].sum(0) / hidden.shape[1]


def softplus(values: Tensor) -> Tensor:
    return sum(torch.log1p(torch.exp(each.clamp(-10, 10))) for each in values.flatten()) / values.numel()


def reference(
    state: TrainingState, method: Method, update: Update, draws: Draws, keep: Sequence[int], divisor: int
) -> Tensor:
    """The whole loss with its adversarial part: one sample after the other, each network call on its own."""
    assert method.adversary is not None
    term, dims = method.adversary.term, 4 * 4 * 4
    total = reference_loss(state, replace(method, adversary=None), update, draws, keep, divisor)
    if update == "generator":
        total = total / 2
    epsilon = method.schedule.prediction_type == "epsilon"

    def coefficients(t: int) -> tuple[float, float]:
        alpha_bar = method.schedule.alphas_cumprod[t].item()
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)

    def x0(out: Tensor, x_t: Tensor, t: int) -> Tensor:
        a_t, s_t = coefficients(t)
        return (x_t - s_t * out) / a_t if epsilon else a_t * x_t - s_t * out

    for b in keep:
        text = EMPTY if draws.replaced[b] else PROMPTS[draws.prompts[b]][None]
        init = torch.tensor([625])
        start = coefficients(625)[1] * draws.z[b][None].double()
        with torch.set_grad_enabled(update == "generator"):
            x_g = x0(state.generator(start, init, text).sample, start, 625)
        t, noise = int(draws.t[b]), draws.noise[b][None].double()
        a_t, s_t = coefficients(t)
        x_t = a_t * x_g + s_t * noise
        kappa = method.guidance.kappa1 if update == "fake_score" else method.guidance.kappa2
        d_fake = logits(state.fake_score, x_t, draws.t[b : b + 1], EMPTY if kappa == 0 else text)
        if update == "fake_score":
            x_r = a_t * REAL[draws.real[b]][None] + s_t * noise
            caption = EMPTY if kappa == 0 or draws.replaced[b] else PROMPTS[draws.real[b]][None]
            d_real = logits(state.fake_score, x_r, draws.t[b : b + 1], caption)
            part = term.lambda_d * dims * (softplus(-d_real) + softplus(d_fake)) / 2
        else:
            kappa4 = method.guidance.kappa4
            halves = [x0(method.teacher(x_t, draws.t[b : b + 1], c).sample, x_t, t) for c in (text, EMPTY)]
            y_real = halves[1] + kappa4 * (halves[0] - halves[1])
            omega = max(float((x_g - y_real).detach().abs().mean()), 1e-5)
            part = term.lambda_g * dims * softplus(-d_fake) / omega / 2
        total = total + part / divisor
    return total


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [none(), lsg(1.5), zero_cfg(), anti_cfg(), Guidance(1, 1.5, 2, 3)])
@pytest.mark.parametrize("update", UPDATES)
def test_loss_and_gradient_are_the_formulas(
    make_state: Callable[..., TrainingState],
    make_unet: Callable[..., Any],
    update: Update,
    guidance: Guidance,
    prediction: str,
) -> None:
    state = make_state()
    method = method_of(state, make_unet(0), guidance, prediction)
    two = plan(2, seed=2)
    draws = two.draw(0, update, 0, 2)
    network = state.fake_score if update == "fake_score" else state.generator

    expected = reference(state, method, update, draws, range(2), 2)
    expected_gradient = torch.autograd.grad(expected, list(network.parameters()), allow_unused=True)
    found = accumulate(state, method, two, encode, 2, update)

    assert found.non_finite == 0
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    for parameter, wanted in zip(network.parameters(), expected_gradient, strict=True):
        assert (parameter.grad is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-7 * float(wanted.abs().max() + 1))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("update", UPDATES)
def test_the_gradient_of_the_term_by_finite_differences(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], update: Update, prediction: str
) -> None:
    """Of the term alone: the rest is tested in test_step. ω is held, as it carries no gradient."""
    state = make_state()
    method = method_of(state, make_unet(0), lsg(1.5), prediction)
    network = state.fake_score if update == "fake_score" else state.generator
    network.to(memory_format=torch.contiguous_format)
    draws = plan().draw(0, update, 0, 4)
    cond, uncond = encode(draws.prompts, draws.replaced)
    draws = replace(draws, z=draws.z.double(), noise=draws.noise.double())
    assert method.adversary is not None
    real = method.adversary.batch(draws)

    def part() -> Tensor:
        both = (update, state.generator, state.fake_score, draws, cond, uncond, 4)
        scaled = [
            replace(method, adversary=replace(method.adversary, term=replace(TERM, lambda_d=d, lambda_g=d)))
            for d in (1.0, 2.0)
        ]
        one, two = (each.loss(*both, real=real, joined=True).loss for each in scaled)
        return two - one

    # ω stays what it is at the centre: the term's own weight is divided by it again and multiplied with the centre's.
    if update == "generator":
        x_g, y_real, _, _ = method.generator_forward(state.generator, state.fake_score, draws, cond, uncond)
        fixed = (x_g - y_real).detach().abs().flatten(1).mean(1)

        def part() -> Tensor:  # type: ignore[no-redef]
            with method.adversary.features() as features:  # type: ignore[union-attr]
                method.generator_forward(state.generator, state.fake_score, draws, cond, uncond)
            each = generator_adversarial_loss(logit_map(features[-1][:4]))
            return (each / fixed).sum() * 64 / 2 / 4

    value = part()
    found = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
    parameters = [p for p, g in zip(network.parameters(), found, strict=True) if g is not None]
    gradient = torch.cat([g.flatten() for g in found if g is not None])
    centre = [p.detach().clone() for p in parameters]
    for seed in range(2):
        direction = torch.randn(len(gradient), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        direction /= direction.norm()
        values = []
        for step in (1e-5, -1e-5):
            pieces = (step * direction).split([p.numel() for p in parameters])
            with torch.no_grad():
                for parameter, at, piece in zip(parameters, centre, pieces, strict=True):
                    parameter.copy_(at + piece.view_as(at))
                values.append(float(part()))
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-4, abs=1e-4 * float(gradient.norm()))


@pytest.mark.parametrize("update", UPDATES)
def test_micro_batches_do_not_change_it(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], update: Update
) -> None:
    found = []
    for micro_batch in (32, 8, 5):
        state = make_state()
        method = method_of(state, make_unet(0), lsg(1.5))
        loss = accumulate(state, method, plan(32), encode, micro_batch, update).loss
        found.append((float(loss), gradients(state.fake_score if update == "fake_score" else state.generator)))
    whole, large = found[0]
    for parts, accumulated in found[1:]:
        assert parts == pytest.approx(whole, rel=1e-12)
        assert float((large - accumulated).norm() / large.norm()) < 1e-9


@pytest.mark.parametrize("side", ["fake", "real"])
def test_a_sample_that_is_not_finite_on_either_side_leaves_with_its_partner(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], side: str
) -> None:
    state = make_state()
    method = method_of(state, make_unet(0), lsg(1.5))
    draws = plan(dropout=0).draw(0, "fake_score", 0, 4)
    bad = draws.prompts[2]
    assert len(set(draws.real)) == len(set(draws.prompts)) == 4
    assert method.adversary is not None

    def prompts(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        cond, uncond = encode(indices, replaced)
        if side == "fake":
            cond[[i for i, p in enumerate(indices) if p == bad]] = math.nan
        return cond, uncond

    def latents(indices: Sequence[int]) -> Tensor:
        rows = REAL[list(indices)].clone()
        if side == "real":
            rows[[i for i, p in enumerate(indices) if p == draws.real[2]]] = math.nan
        return rows

    images = RealImages(count=len(REAL), latents=latents, encode=encode)
    spoilt = replace(method, adversary=replace(method.adversary, images=images))
    expected = reference(state, method, "fake_score", draws, [0, 1, 3], 4)
    wanted = torch.autograd.grad(expected, list(state.fake_score.parameters()))
    found = accumulate(state, spoilt, plan(dropout=0), prompts, 2, "fake_score")
    assert found.non_finite == 1
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    whole = torch.cat([each.flatten() for each in wanted])
    assert float((gradients(state.fake_score) - whole).norm() / whole.norm()) < 1e-5


def test_logits_are_clamped_in_both_losses() -> None:
    values = torch.tensor([[[-30.0, -10.5], [0.5, 40.0]]], dtype=torch.float64, requires_grad=True)
    expected = sum(math.log1p(math.exp(-each)) for each in (-10, -10, 0.5, 10)) / 4
    loss = generator_adversarial_loss(values)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    assert gradient.flatten()[[0, 1, 3]].tolist() == [0, 0, 0]
    assert gradient[0, 1, 0] == pytest.approx(-1 / (1 + math.exp(0.5)) / 4, rel=1e-12)
    both = discriminator_loss(values, -values)
    assert both.item() == pytest.approx(expected, rel=1e-12)


def test_diagnostics_count_the_right_sides() -> None:
    real, fake = torch.tensor([[[1.0]], [[-2.0]], [[12.0]]]), torch.tensor([[[-1.0]], [[-2.0]], [[3.0]]])
    found = {name: float(value) for name, value in discriminator_diagnostics(real, fake).items()}
    assert found["real_accuracy"] == pytest.approx(2 / 3)
    assert found["fake_accuracy"] == pytest.approx(2 / 3)
    assert found["logits_saturated"] == pytest.approx(1 / 6)
    assert (found["real_logit"], found["fake_logit"]) == (pytest.approx(11 / 3), 0)


def test_the_generator_waits_and_the_term_joins_later(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    state = make_state()
    method = method_of(state, make_unet(0), lsg(1.5), freeze=8, join=12)
    before, rows = gradients_of_weights(state.generator), []
    for _ in range(4):
        rows.append(train_step(state, method, plan(), encode, 2, 100.0))
        moved = not torch.equal(before, gradients_of_weights(state.generator))
        assert moved == (state.images_seen > 8)
    assert [sorted(row.losses) for row in rows] == [["fake_score"], ["fake_score"], *[["fake_score", "generator"]] * 2]
    assert ["adversarial_loss" in row.diagnostics for row in rows] == [False, False, False, True]
    assert all("discriminator_loss" in row.diagnostics for row in rows)
    assert (state.iteration, state.images_seen, state.fake_score_done) == (4, 16, False)


def gradients_of_weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in network.parameters()])


def test_before_it_joins_the_generators_loss_is_whole(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    state = make_state()
    method = method_of(state, make_unet(0), lsg(1.5), join=100)
    found = accumulate(state, method, plan(), encode, 4, "generator").loss
    state.generator.zero_grad()
    plain = accumulate(state, replace(method, adversary=None), plan(), encode, 4, "generator").loss
    assert torch.equal(found, plain)


def test_a_stop_in_a_frozen_iteration_ends_it_whole(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any]
) -> None:
    state = make_state()
    result = train_step(
        state, method_of(state, make_unet(0), none(), freeze=8, join=8), plan(), encode, 4, 9.0, True, lambda: True
    )
    assert result.stopped
    assert (state.iteration, state.fake_score_done) == (1, False)


def test_real_images_pass_in_shuffled_epochs_by_counters() -> None:
    whole = plan(4)
    drawn = [index for iteration in range(7) for index in whole.draw(iteration, "fake_score", 0, 4).real]
    epochs = [drawn[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # Parts of a batch, as micro-batches and processes draw them.
    assert whole.draw(3, "fake_score", 1, 3).real == whole.draw(3, "fake_score", 0, 4).real[1:3]
    assert whole.draw(3, "generator", 0, 4).real == ()
    # What else is drawn does not change.
    without = replace(whole, real_count=0).draw(3, "fake_score", 0, 4)
    drawn_with = whole.draw(3, "fake_score", 0, 4)
    assert torch.equal(without.z, drawn_with.z)
    assert without.prompts == drawn_with.prompts


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lambda_d": 1.0}, "adversarial needs lambda_d and lambda_g"),
        (
            {"lambda_d": 1.0, "lambda_g": 1.0, "lamda": 2},
            "has no value 'lamda'; it has: lambda_d, lambda_g, freeze, join",
        ),
        ({"lambda_d": 0, "lambda_g": 1.0}, "lambda_d is 0, so that nothing trains the discriminator"),
        ({"lambda_d": -1, "lambda_g": 1.0}, r"adversarial\.lambda_d is -1; give a finite number, 0 or more"),
        ({"lambda_d": 1, "lambda_g": math.inf}, r"adversarial\.lambda_g is inf"),
        ({"lambda_d": 1, "lambda_g": True}, r"adversarial\.lambda_g is True"),
        ({"lambda_d": 1, "lambda_g": 1, "freeze": 9, "join": 5}, "join is 5 images and freeze 9"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_adversarial(values)


def test_no_values_are_no_term() -> None:
    assert make_adversarial({}) is None
    assert make_adversarial({"lambda_d": 1, "lambda_g": 2}) == Adversarial(lambda_d=1, lambda_g=2)


@pytest.mark.parametrize("update", UPDATES)
def test_recomputed_activations_change_nothing(
    make_state: Callable[..., TrainingState], make_unet: Callable[..., Any], update: Update
) -> None:
    found = []
    for recomputed in (False, True):
        state, teacher = make_state(), make_unet(0)
        for network in (state.generator, state.fake_score, teacher) if recomputed else ():
            network.enable_gradient_checkpointing()
            network.train()  # the library recomputes in this mode alone
        method = method_of(state, teacher, lsg(1.5))
        loss = accumulate(state, method, plan(4), encode, 4, update).loss
        found.append((float(loss), gradients(state.fake_score if update == "fake_score" else state.generator)))
    (one, kept), (two, again) = found
    assert two == pytest.approx(one, rel=1e-12)
    assert float((kept - again).norm() / kept.norm()) < 1e-9


def test_under_autocast_logits_and_losses_are_float32(
    make_unet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = TrainingState.start(make_unet(0, torch.float32), 1e-3, 1e-3, settings=Settings(precision="bf16"))
    teacher = state.call(state.frozen(make_unet(0, torch.float32)))
    adversary = Adversary(
        term=TERM,
        feature_block=feature_block_of(state.fake_score),
        images=RealImages(
            count=len(REAL),
            latents=lambda indices: REAL[list(indices)].float(),
            encode=lambda *given: tuple(each.float() for each in encode(*given)),
        ),
    )
    seen: list[torch.dtype] = []
    exact = adversarial.logit_map
    monkeypatch.setattr("sidlsg.distil.losses.logit_map", lambda x: (seen.append(x.dtype), exact(x))[1])
    method = Method(teacher=teacher, schedule=schedule(), guidance=lsg(1.5), adversary=adversary)
    result = train_step(state, method, plan(), adversary.images.encode, 4, 100.0)
    assert seen == [torch.bfloat16] * 2
    assert {loss.dtype for loss in result.losses.values()} == {torch.float32}
    assert all(torch.isfinite(value) for value in (*result.losses.values(), *result.diagnostics.values()))
