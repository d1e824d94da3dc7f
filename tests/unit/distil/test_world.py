"""One process alone; several are tested with torchrun in tests/distributed."""

from __future__ import annotations

import pytest
import torch

from sidlsg.distil.world import World, joined
from sidlsg.errors import InputError


def test_alone_is_the_default() -> None:
    with joined() as world:
        assert (world.rank, world.size, world.leads) == (0, 1, True)
        assert world.share(7) == range(7)
        assert world.gather("a") == ["a"]
        assert torch.equal(world.total(torch.tensor([2.0])), torch.tensor([2.0]))
        world.barrier()


def test_shares_are_equal_parts_in_order() -> None:
    assert [World(rank=rank, size=4).share(8) for rank in range(4)] == [range(2), range(2, 4), range(4, 6), range(6, 8)]
    assert not World(rank=1, size=2).leads


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers_that_do() -> None:
    with pytest.raises(InputError, match="batch 64 does not divide among 3 processes; start 1, 2, 4 processes"):
        World(rank=0, size=3).share(64)
