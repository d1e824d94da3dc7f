"""The training loop: it counts, schedules the learning rate, logs, draws grids, saves, and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sidlsg.distil.checkpoint import Checkpoints
from sidlsg.distil.draws import DrawPlan
from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import Method, train_step
from sidlsg.progress import Meter
from sidlsg.randomness import counted
from sidlsg.recipes.recipe import Recipe
from sidlsg.teacher.images import decode, grid, save_png
from sidlsg.teacher.load import Teacher

GRID_IMAGES = 36
GRID_COLUMNS = 6


def learning_rate_factor(recipe: Recipe, iteration: int) -> float:
    """What the learning rates are multiplied with: linear warm-up, then constant or a cosine to the floor."""
    if iteration < recipe.warmup:
        return (iteration + 1) / recipe.warmup
    if recipe.lr_schedule == "constant":
        return 1.0
    done = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
    return recipe.lr_floor + (1 - recipe.lr_floor) * 0.5 * (1 + math.cos(math.pi * done))


def grid_marks(recipe: Recipe) -> set[int]:
    """After which iterations a grid is drawn: 0 and the last among them, closer together at the start."""
    return (
        {round(recipe.iterations * (k / recipe.grids) ** 2) for k in range(recipe.grids + 1)} if recipe.grids else set()
    )


def train(
    recipe: Recipe,
    teacher: Teacher,
    prompts: Sequence[str],
    seed: int,
    work: Path,
    checkpoints: Checkpoints,
    report: Callable[[str], None],
) -> TrainingState:
    """Distil, from the newest checkpoint where there is one.

    Args:
        recipe: all values.
        teacher: the frozen teacher.
        prompts: the prompt set, in its order.
        seed: of every draw.
        work: receives `grids/<images seen>.png`.
        checkpoints: where the state is kept.
        report: receives a line about resuming.

    Returns:
        The final state; its EMA is the student.
    """
    state = TrainingState.start(teacher.unet, recipe.lr, recipe.fake_score_lr, recipe.adam_eps)
    found = checkpoints.load_latest(state)
    if found is not None:
        report(
            f"continues from {found}: iteration {state.iteration} of {recipe.iterations}, "
            f"{state.images_seen:,} images seen"
        )
    method = Method(
        teacher=teacher.unet,
        schedule=teacher.schedule,
        guidance=recipe.guidance,
        alpha=recipe.alpha,
        t_init=recipe.t_init,
    )
    plan = DrawPlan(
        seed=seed,
        batch=recipe.batch,
        prompt_count=len(prompts),
        latent_shape=teacher.latent_shape,
        prompt_dropout=recipe.prompt_dropout if recipe.guidance.drops_prompts else 0.0,
    )

    def encode(indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        texts = ["" if r else prompts[i] for i, r in zip(indices, replaced, strict=True)]
        return teacher.encode(texts), teacher.encode.uncond

    marks = grid_marks(recipe)
    if state.iteration == 0 and 0 in marks:
        draw_grid(state, teacher, prompts, recipe.t_init, seed, work)
    total = recipe.iterations * recipe.batch
    clock = time.monotonic()
    with Meter("distil", total, "images", done=state.images_seen) as meter:
        while state.iteration < recipe.iterations:
            factor = learning_rate_factor(recipe, state.iteration)
            state.set_learning_rates(factor * recipe.lr, factor * recipe.fake_score_lr)
            result = train_step(state, method, plan, encode, recipe.micro_batch, recipe.ema_half_life)
            now = time.monotonic()
            seconds, clock = now - clock, now
            state.seconds += seconds
            if state.iteration % recipe.log_every == 0 or state.iteration == recipe.iterations:
                state.log.append(
                    {
                        "iteration": state.iteration,
                        "images_seen": state.images_seen,
                        "fake_score_loss": result.fake_score_loss,
                        "generator_loss": result.generator_loss,
                        "fake_score_gradient_norm": result.gradient_norms["fake_score"],
                        "generator_gradient_norm": result.gradient_norms["generator"],
                        "learning_rate": factor * recipe.lr,
                        "nan_samples": state.nan_samples,
                        "images_per_second": recipe.batch / seconds,
                        "seconds": state.seconds,
                    }
                )
            meter.update(
                state.images_seen,
                f"losses: fake score {result.fake_score_loss:.2f}, generator {result.generator_loss:.2f}",
            )
            if state.iteration in marks:
                draw_grid(state, teacher, prompts, recipe.t_init, seed, work)
            if state.iteration % recipe.checkpoint_every == 0 or state.iteration == recipe.iterations:
                checkpoints.save(state)
    return state


@torch.no_grad()
def draw_grid(
    state: TrainingState, teacher: Teacher, prompts: Sequence[str], t_init: int, seed: int, work: Path
) -> None:
    """Draw the EMA's samples of the same prompts and noises each time."""
    places = counted(seed, "distil/grid/prompts").choice(len(prompts), GRID_IMAGES, replace=len(prompts) < GRID_IMAGES)
    z = counted(seed, "distil/grid/z").standard_normal((GRID_IMAGES, *teacher.latent_shape), dtype="float32")
    cond = teacher.encode([prompts[i] for i in places])
    latents = generate_latents(state.ema, teacher.schedule, torch.from_numpy(z).to(state.device), cond, t_init)
    save_png(grid(decode(teacher.vae, latents), GRID_COLUMNS), work / "grids" / f"{state.images_seen:09d}.png")
