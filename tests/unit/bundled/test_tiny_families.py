"""Tiny teachers of every family: what makes them true, and their training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.bundled import training
from sidlsg.bundled.assets import family_named
from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.tiny_families import NEW
from sidlsg.bundled.tiny_sd import new_sd, train_diffusion
from sidlsg.bundled.training import TINY
from sidlsg.storage.tensors import load_tensors, save_tensors
from sidlsg.teacher.conditioning import mapped
from sidlsg.teacher.pipeline import load_pipeline, load_teacher

PROMPTS = ["a small red circle on a blue background", "a large white ring on a black background"]


@pytest.mark.parametrize("name", NEW)
def test_the_network_listens_to_the_text(untrained: Callable[[str], Path], name: str) -> None:
    teacher = load_teacher(untrained(name))
    assert teacher.family.name == name
    call, cond = teacher.family.takes(teacher.network), teacher.encode(PROMPTS)
    torch.manual_seed(0)
    x, t = torch.randn(2, *teacher.latent_shape), torch.tensor([3, 900])
    with torch.no_grad():
        output = call(x, t, cond).sample
        assert output.shape == x.shape
        assert not torch.allclose(output, call(x, t, mapped(lambda each: each.flip(0), cond)).sample, atol=1e-6)


@pytest.mark.parametrize("name", ["sd", *(pytest.param(name, marks=pytest.mark.long) for name in NEW)])
def test_a_training_goes_on_where_it_was_killed(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    vae = load_pipeline(assets / "tiny-sd").vae
    short = replace(TINY, diffusion=replace(TINY.diffusion, iterations=2, batch=4, checkpoint_every=1))

    def trained(work: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        pipeline = new_sd(SHAPES, vae, TINY) if name == "sd" else NEW[name](vae)
        train_diffusion(SHAPES, short, family_named(name), pipeline, tmp_path / work, print)
        network: torch.nn.Module = getattr(pipeline, family_named(name).network)
        return network.state_dict()

    def saved_and_killed(*state: Any) -> None:
        save_tensors(*state)
        raise KeyboardInterrupt

    whole = trained("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_tensors", saved_and_killed)
        trained("killed")
    assert load_tensors(tmp_path / "killed" / "diffusion.safetensors")[1]["iteration"] == 1
    resumed = trained("killed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
