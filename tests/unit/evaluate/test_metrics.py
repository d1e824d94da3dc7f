"""What was read off each image, and shards of it merged by torchmetrics' own code."""

from __future__ import annotations

import pytest
import torch

from sidlsg.evaluate.metrics import FeatureMemory
from sidlsg.runtime.errors import InputError


def test_features_are_refused_that_are_not_one_an_image() -> None:
    with pytest.raises(InputError, match="no features were added"), pytest.warns(UserWarning, match="before"):
        FeatureMemory(2).compute()
    memory = FeatureMemory(2)
    with pytest.raises(InputError, match=r"shape \[3, 1\] given for 3 × 2"):
        memory.update(torch.zeros(3, 1), range(3))
    memory.update(torch.zeros(3, 2), range(3))
    memory.update(torch.zeros(3, 2), range(2, 5))
    with pytest.raises(InputError, match="6 images do not have the indices from 0 on, each once"):
        memory.compute()


def test_two_shards_of_images_merge_to_one_pass() -> None:
    features = torch.rand(30, 3, generator=torch.Generator().manual_seed(2))
    parts = ((features[11:], range(11, 30)), (features[:11], range(11)))
    # In the images' order, whichever shard came first.
    for order in (parts, parts[::-1]):
        first, second = FeatureMemory(3), FeatureMemory(3)
        first.update(*order[0])
        second.update(*order[1])
        first.merge_state(second)
        assert torch.equal(first.compute(), features)
