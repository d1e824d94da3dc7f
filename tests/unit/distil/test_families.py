"""Networks of other families in both updates, against references written sample by sample in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    FluxTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from sidlsg.distil.adversarial import feature_block_of, logit_map
from sidlsg.distil.few_steps import ONE_STEP, FewSteps
from sidlsg.distil.guidance import lsg
from sidlsg.distil.losses import Method
from sidlsg.distil.sampler import DrawPlan, Draws, Update
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import accumulate, train_step
from sidlsg.runtime.errors import InputError
from sidlsg.teacher.conditioning import Conditioning
from sidlsg.teacher.families import family_of
from sidlsg.teacher.schedule import FlowSchedule, NoiseSchedule, Schedule

KAPPA = 1.5
B = 4


def sdxl() -> nn.Module:
    """Two levels, with added embeddings of pooled text and six sizes."""
    return UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 5,
    )


def sd3() -> nn.Module:
    """Two joint blocks over four tokens of an image."""
    return SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=8,
        pooled_projection_dim=5,
        pos_embed_max_size=4,
    )


def sana() -> nn.Module:
    """Two blocks over sixteen tokens of an image, and a prompt's of which some are masked."""
    return SanaTransformer2DModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
    )


def flux() -> nn.Module:
    """A block of each kind over four tokens of an image."""
    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=5,
        guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )


def _ddpm() -> NoiseSchedule:
    return NoiseSchedule.from_scheduler(
        DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    )


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Schedule], dict[str, tuple[int, ...]], int]] = {
    "sdxl": (sdxl, _ddpm, {"encoder_hidden_states": (3, 8), "text_embeds": (5,), "time_ids": (6,)}, 625),
    "sd3": (sd3, FlowSchedule, {"encoder_hidden_states": (3, 8), "pooled_projections": (5,)}, 1000),
    "sana": (sana, FlowSchedule, {"encoder_hidden_states": (3, 8), "encoder_attention_mask": (3,)}, 1000),
    "flux": (
        flux,
        FlowSchedule,
        {"encoder_hidden_states": (3, 8), "pooled_projections": (5,), "guidance": ()},
        1000,
    ),
}
FLOWS = ("sd3", "sana", "flux")


def network(family: str, seed: int) -> Any:
    torch.manual_seed(seed)
    made = CASES[family][0]().double().eval()
    with torch.no_grad():
        for parameter in made.parameters():  # some layers of transformers start at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


class Prompts:
    """Conditioning of ten prompts and the empty one."""

    def __init__(self, family: str) -> None:
        generator = torch.Generator().manual_seed(7)
        self.rows = {
            name: torch.randn(11, *shape, generator=generator, dtype=torch.float64)
            for name, shape in CASES[family][2].items()
        }
        if family == "sana":
            mask = self.rows["encoder_attention_mask"]
            mask.copy_(mask > 0)
            mask[:, 0] = 1

    def __call__(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Conditioning, Conditioning]:
        chosen = [10 if empty else index for index, empty in zip(indices, replaced, strict=True)]
        return self.of(chosen), self.of([10])

    def of(self, chosen: list[int]) -> dict[str, Tensor]:
        return {name: rows[chosen] for name, rows in self.rows.items()}


def drawn(schedule: Schedule, dropout: float, steps: FewSteps = ONE_STEP) -> DrawPlan:
    return DrawPlan(
        seed=0,
        batch=B,
        prompt_count=10,
        latent_shape=(4, 4, 4),
        prompt_dropout=dropout,
        steps=steps,
        sample_time=schedule.sample_time,
    )


def called(family: str, net: Any, x: Tensor, t: float, given: dict[str, Tensor]) -> Tensor:
    """One sample through the network by its own signature."""
    states = given["encoder_hidden_states"]
    if family == "sana":
        masked: Tensor = net(
            x, states, torch.tensor([t]), encoder_attention_mask=given["encoder_attention_mask"]
        ).sample
        return masked
    if family == "flux":
        # Two by two pixels of each channel are a token, at the place of its row and column.
        squares = [(i, j) for i in range(0, 4, 2) for j in range(0, 4, 2)]
        tokens = torch.stack([x[0, :, i : i + 2, j : j + 2].flatten() for i, j in squares])[None]
        out = net(
            tokens,
            states,
            given["pooled_projections"],
            torch.tensor([t]) / 1000,
            img_ids=torch.tensor([[0.0, i // 2, j // 2] for i, j in squares], dtype=x.dtype),
            txt_ids=torch.zeros(3, 3, dtype=x.dtype),
            guidance=given["guidance"],
        ).sample
        image = torch.empty_like(x)
        for token, (i, j) in zip(out[0], squares, strict=True):
            image[0, :, i : i + 2, j : j + 2] = token.reshape(4, 2, 2)
        return image
    if family == "sd3":
        plain: Tensor = net(x, states, given["pooled_projections"], torch.tensor([t])).sample
        return plain
    added = {name: given[name] for name in ("time_ids", "text_embeds")}
    found: Tensor = net(x, torch.tensor([int(t)]), states, added_cond_kwargs=added).sample
    return found


def reference(
    family: str, state: TrainingState, method: Method, update: Update, draws: Draws, prompts: Prompts
) -> Tensor:
    """The update's loss at α = 1 and one κ, by the formulas."""

    def levels(t: float) -> tuple[float, float]:
        if isinstance(method.schedule, NoiseSchedule):
            alpha_bar = float(method.schedule.alphas_cumprod[int(t)])
            return alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        return 1 - t / 1000, t / 1000

    def x0(out: Tensor, x_t: Tensor, t: float) -> Tensor:
        a_t, s_t = levels(t)
        return x_t - s_t * out if family in FLOWS else (x_t - s_t * out) / a_t

    def guided(net: Any, x_t: Tensor, t: float, given: dict[str, Tensor]) -> Tensor:
        without, found = (called(family, net, x_t, t, each) for each in (prompts.of([10]), given))
        return without + KAPPA * (found - without)

    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        given = prompts.of([10 if draws.replaced[b] else draws.prompts[b]])
        noise, t = draws.noise[b : b + 1].double(), draws.t[b].item()
        x_g, eps = torch.zeros_like(noise), draws.z[b : b + 1].double()
        for i in range(draws.step):
            time = method.steps.t_init * (method.steps.count - i) // method.steps.count
            x = levels(time)[0] * x_g.detach() + levels(time)[1] * eps
            x_g = x0(called(family, state.generator, x, time, given), x, time)
            if i < draws.step - 1:
                assert draws.step_noises is not None
                eps = draws.step_noises[i, b : b + 1].double()
        a_t, s_t = levels(t)
        if update == "fake_score":
            x_g = x_g.detach()
            target = noise - x_g if family in FLOWS else noise
            total = total + (guided(state.fake_score, a_t * x_g + s_t * noise, t, given) - target).square().sum()
            continue
        x_t = a_t * x_g + s_t * noise
        y_real, y_fake = (x0(guided(net, x_t, t, given), x_t, t) for net in (method.teacher, state.fake_score))
        weight = 1 - s_t if family in FLOWS else 1 / (x_g - y_real).detach().abs().mean()
        total = total + weight * ((y_real - y_fake) * (y_fake - x_g)).sum()
    return total / B


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("update", ["fake_score", "generator"])
@pytest.mark.parametrize("k", [1, 2])
def test_loss_and_gradient_are_the_formulas(family: str, update: Update, k: int) -> None:
    teacher, prompts, schedule = network(family, 0), Prompts(family), CASES[family][1]()
    steps = FewSteps(t_init=CASES[family][3], count=2)
    state = TrainingState.start(teacher, 1e-3, 1e-3)
    for name, seed in (("generator", 1), ("fake_score", 2)):
        getattr(state, name).load_state_dict(network(family, seed).state_dict())
    state.iteration = next(i for i in range(100) if steps.trained(0, i) == k)
    frozen = copy.deepcopy(teacher).requires_grad_(False)
    shared: dict[str, Any] = {"schedule": schedule, "guidance": lsg(KAPPA), "steps": steps}
    method = Method(teacher=state.call(frozen), generator_weight="1-sigma" if family in FLOWS else "omega", **shared)
    plan = drawn(schedule, 0.5, steps)
    draws = plan.draw(state.iteration, update, 0, B)
    assert draws.step == k
    expected = reference(family, state, Method(teacher=frozen, **shared), update, draws, prompts)
    trained = getattr(state, update)
    wanted = torch.autograd.grad(expected, list(trained.parameters()), allow_unused=True)
    found = accumulate(state, method, plan, prompts, 2, update)
    assert found.non_finite == 0
    assert float(found.loss) == pytest.approx(expected.item(), rel=1e-6)
    for parameter, each in zip(trained.parameters(), wanted, strict=True):
        if each is not None:
            torch.testing.assert_close(parameter.grad, each, rtol=1e-5, atol=1e-7 * float(each.abs().max() + 1))


@pytest.mark.parametrize("family", CASES)
def test_an_iteration_moves_both_networks(family: str) -> None:
    teacher, schedule = network(family, 0), CASES[family][1]()
    state = TrainingState.start(teacher, 1e-3, 1e-3)
    method = Method(teacher=state.call(state.frozen(teacher)), schedule=schedule, guidance=lsg(KAPPA))
    plan = drawn(schedule, 0.1)
    before = {name: each.clone() for name, each in state.tensors().items()}
    result = train_step(state, method, plan, Prompts(family), 2, 1000)
    assert result.diagnostics["generator_step"] > 0
    assert result.diagnostics["fake_score_step"] > 0
    for name in ("generator", "fake_score"):
        assert any(not torch.equal(each, before[key]) for key, each in state.tensors().items() if key.startswith(name))


@pytest.mark.parametrize(
    ("family", "shape"), [("sdxl", (2, 2, 2)), ("sd3", (2, 8)), ("sana", (2, 8)), ("flux", (2, 16))]
)
def test_the_discriminators_logits_have_a_mean_over_channels_or_tokens(family: str, shape: tuple[int, ...]) -> None:
    net, prompts = network(family, 0), Prompts(family)
    found: list[Tensor] = []
    feature_block_of(net).register_forward_hook(lambda *given: found.append(given[-1]))
    t = torch.full((2,), 500, dtype=CASES[family][1]().time_dtype)
    family_of(net).takes(net)(torch.zeros(2, 4, 4, 4, dtype=torch.float64), t, prompts.of([0, 1]))
    assert logit_map(found[0]).shape == shape


def test_a_network_of_no_family_is_refused() -> None:
    with pytest.raises(InputError, match="a Linear is of no family that is known; the families are: sd, sdxl, sd3"):
        family_of(nn.Linear(1, 1))
