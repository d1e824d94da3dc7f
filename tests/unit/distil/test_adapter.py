"""The values of a recipe's adapter, and that a recipe without one is what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidlsg.distil.adapter import TARGETS, Adapter
from sidlsg.distil.recipes import RECIPES, recipe_with_changes
from sidlsg.distil.run_identity import run_identity
from sidlsg.runtime.errors import InputError


def changed(name: str, **changes: Any) -> Any:
    return recipe_with_changes(name, json.dumps(changes))


def test_rank_is_enough() -> None:
    adapter = changed("tiny", adapter={"rank": 64}).lora
    assert adapter == Adapter(rank=64, alpha=8.0, targets=TARGETS)
    assert adapter.scale == 0.125


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rank": 0}, r'adapter has rank 0; give a whole number from 1, such as {"rank": 64}'),
        ({"rank": -4}, "adapter has rank -4"),
        ({"rank": 4.5}, "adapter has rank 4.5"),
        ({"rank": True}, "adapter has rank True"),
        ({"alpha": 8}, "adapter has rank None; give a whole number from 1"),
        ({"rank": 4, "alpha": 0}, "adapter has alpha 0; it must be a finite number above 0"),
        ({"rank": 4, "alpha": "8"}, "adapter has alpha '8'"),
        ({"rank": 4, "targets": []}, r"adapter has targets \[\]; give names of layers, each once"),
        ({"rank": 4, "targets": "to_q"}, "adapter has targets 'to_q'"),
        ({"rank": 4, "targets": ["to_q", "to_q"]}, r"adapter has targets \['to_q', 'to_q'\]"),
        ({"rnk": 4}, r"adapter has no value 'rnk' \(did you mean 'rank'\?\); it has: rank, alpha, targets"),
    ],
)
def test_values_that_cannot_be_used_are_refused_with_one_line(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        changed("tiny", adapter=values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel": "fsdp"}, "parallel 'fsdp' shards each network by itself, but adapters share one; take 'ddp'"),
        ({"ema_offload": True}, "ema_offload moves a whole network, but an adapter's EMA is small; leave it off"),
    ],
)
def test_what_needs_whole_networks_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        changed("tiny_lora", **changes)


def test_a_recipe_without_adapter_is_what_it_was() -> None:
    off = changed("tiny", adapter={})
    assert off.lora is None
    assert "adapter" not in off.values()
    assert "adapter" not in off.identity
    assert off.digest == RECIPES["tiny"].digest
    assert off.identity == RECIPES["tiny"].identity


def test_equal_adapters_are_one_run_and_others_another() -> None:
    def key(**adapter: Any) -> str:
        return run_identity(changed("tiny", adapter=adapter), "a" * 64, "b" * 64, 0).key

    assert key(rank=4) == key(rank=4, alpha=8, targets=list(TARGETS)) == key(targets=list(TARGETS), alpha=8.0, rank=4)
    others = [key(rank=4), key(rank=8), key(rank=4, alpha=4), key(rank=4, targets=["to_q"])]
    assert len({*others, run_identity(RECIPES["tiny"], "a" * 64, "b" * 64, 0).key}) == 5


def test_the_record_has_every_value() -> None:
    assert changed("tiny", adapter={"rank": 4}).values()["adapter"] == {
        "rank": 4,
        "alpha": 8.0,
        "targets": list(TARGETS),
    }
