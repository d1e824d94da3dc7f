from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from sidlsg.distil.sampler import T_MAX, T_MIN, DrawPlan

PLAN = DrawPlan(seed=3, batch=32, prompt_count=50, latent_shape=(4, 8, 8), prompt_dropout=0.1)


def test_parts_of_a_batch_are_the_batch() -> None:
    whole = PLAN.draw(7, "generator", 0, 32)
    parts = [PLAN.draw(7, "generator", part.start, part.stop) for part in PLAN.parts(range(32), 12)]
    assert [len(part) for part in parts] == [12, 12, 8]
    for field in ("z", "noise", "t"):
        assert torch.equal(getattr(whole, field), torch.cat([getattr(part, field) for part in parts]))
    assert whole.prompts == tuple(p for part in parts for p in part.prompts)


def test_a_sample_depends_on_nothing_but_its_place() -> None:
    again = dataclasses.replace(PLAN, batch=64)
    assert torch.equal(PLAN.draw(7, "generator", 5, 6).z, again.draw(7, "generator", 5, 6).z)


def test_iterations_updates_seeds_and_samples_differ() -> None:
    reference = PLAN.draw(0, "generator", 0, 2)
    others = [
        PLAN.draw(1, "generator", 0, 2),
        PLAN.draw(0, "fake_score", 0, 2),
        dataclasses.replace(PLAN, seed=4).draw(0, "generator", 0, 2),
    ]
    for other in others:
        assert not torch.equal(reference.z, other.z)
        assert not torch.equal(reference.noise, other.noise)
    assert not torch.equal(reference.z[0], reference.z[1])
    assert not torch.equal(reference.z, reference.noise)


def test_prompts_pass_in_shuffled_epochs_over_both_updates() -> None:
    plan = dataclasses.replace(PLAN, batch=5)
    order = [p for i in range(10) for u in ("fake_score", "generator") for p in plan.draw(i, u, 0, 5).prompts]
    assert sorted(order[:50]) == list(range(50))
    assert sorted(order[50:]) == list(range(50))
    assert order[:50] != order[50:]
    assert order[:50] != list(range(50))


def test_large_sets_pass_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the text states of one block are needed at a time; the last block may be shorter, and comes anywhere."""
    monkeypatch.setattr("sidlsg.distil.sampler.BLOCK", 16)
    shorts = set()
    for seed in range(8):
        plan = dataclasses.replace(PLAN, batch=5, seed=seed)
        order = [p for i in range(5) for u in ("fake_score", "generator") for p in plan.draw(i, u, 0, 5).prompts]
        assert sorted(order) == list(range(50))
        visited = [block for block, _ in itertools.groupby(prompt // 16 for prompt in order)]
        assert sorted(visited) == [0, 1, 2, 3]
        shorts.add(visited.index(3))
    assert len(shorts) > 1


def test_distributions() -> None:
    draws = PLAN.draw(0, "fake_score", 0, 4000)
    t = draws.t.numpy()
    assert t.min() >= T_MIN == 20
    assert t.max() <= T_MAX == 979
    assert abs(t.mean() - 499.5) < 4 * 277 / np.sqrt(4000)
    share = np.mean(draws.replaced)
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / 4000)
    z = draws.z.numpy()
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01


def test_both_ends_of_t_are_drawn() -> None:
    t = torch.cat([PLAN.draw(i, "generator", 0, 2000).t for i in range(5)])
    assert {20, 979} <= set(t.tolist())


def test_the_generators_update_replaces_no_prompt() -> None:
    assert not any(PLAN.draw(0, "generator", 0, 2000).replaced)
