"""A teacher that predicts v is distilled as well as one that predicts noise.

The v teacher is the bundled one, trained on for a while to predict v instead. Takes some ten minutes on two cores.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from sidlsg.bundled.shapes.captions import training_captions
from sidlsg.bundled.shapes.drawing import batch_of
from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.prompts.held_out import read_held_out
from sidlsg.prompts.rules import CurationRules
from sidlsg.runtime.randomness import counted
from sidlsg.stages.curate import curate
from sidlsg.stages.distil import Extras, distil
from sidlsg.storage.files import atomic_write
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.schedule import NoiseSchedule

pytestmark = pytest.mark.long
TEACHING, BATCH = 500, 64
CHANGES = {
    "iterations": 120,
    "batch": 32,
    "micro_batch": 32,
    "evaluate_every": 32 * 120,
    "evaluate_images": 504,
    "grids": 2,
}


def teach_v(source: Path, target: Path) -> Path:
    """The bundled teacher, taught to predict v by gradient descent on drawn shapes."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("teacher_scores.json"))
    teacher = load_teacher(source)
    schedule = NoiseSchedule(teacher.schedule.alphas_cumprod, "v_prediction")
    unet = teacher.network.requires_grad_(True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    captions = training_captions()
    for iteration in range(TEACHING):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (iteration + 1) / 20) * (1 - iteration / TEACHING)
        chosen, pixels = batch_of(captions, 0, "v", iteration, BATCH)
        draws = counted(0, "v/noise", iteration)
        t = torch.from_numpy(draws.integers(0, schedule.last + 1, BATCH))
        noise = torch.from_numpy(draws.standard_normal((BATCH, *teacher.latent_shape), dtype="float32"))
        texts = ["" if draws.random() < 0.1 else caption.text for caption in chosen]
        with torch.no_grad():
            latents = teacher.vae.encode(pixels).latent_dist.mean * teacher.vae.config.scaling_factor
        out = unet(schedule.add_noise(latents, noise, t), t, teacher.encode(texts)).sample
        loss = nn.functional.mse_loss(out, schedule.target(latents, noise, t))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if iteration % 50 == 0:
            print(f"teaching v: {iteration} of {TEACHING}, loss {float(loss.detach()):.4f}", flush=True)
    unet.save_pretrained(target / "unet", safe_serialization=True)
    path = target / "scheduler" / "scheduler_config.json"
    atomic_write(path, json.dumps(json.loads(path.read_text()) | {"prediction_type": "v_prediction"}))
    return target


def distances(teacher: Path, prompts: Path, work: Path, assets: Path) -> tuple[float, float]:
    """The Fréchet distance of one-step samples before and after distillation."""
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    extras = Extras(held_out=held_out, judge=assets / "judge" / "judge.safetensors")
    found = []
    # The first run does not move: its EMA is the teacher in one step.
    for name, more in (("start", {"iterations": 1, "lr": 1e-12, "fake_score_lr": 1e-12}), ("end", {})):
        recipe = recipe_with_changes("tiny", json.dumps(CHANGES | more))
        distil(prompts, teacher, work / name, recipe, 0, work / f"{name}-checkpoints", print, extras)
        rows = (work / name / "evaluations.jsonl").read_text().splitlines()
        found.append(json.loads(rows[-1])["fid_judge"])
    return found[0], found[1]


def test_v_prediction_trains_as_epsilon_does(assets: Path, tmp_path: Path) -> None:
    held_out = read_held_out(assets / "prompts" / "held_out.txt")
    curate(assets / "prompts" / "prompts.parquet", tmp_path / "prompts", CurationRules(), held_out)
    bundled = assets / "tiny-sd"
    v = teach_v(bundled, tmp_path / "teacher-v")
    results = {
        name: distances(teacher, tmp_path / "prompts", tmp_path / name, assets)
        for name, teacher in (("epsilon", bundled), ("v", v))
    }
    shares = {}
    for name, (start, end) in results.items():
        print(f"{name}: fid_judge of one step {start:.1f} before, {end:.1f} after")
        shares[name] = end / start
        assert end < start / 3, results
    assert shares["v"] < 1.5 * shares["epsilon"]
