from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from sidlsg.distil.networks import compile_blocks
from sidlsg.teacher.architectures import ARCHITECTURES


@pytest.mark.parametrize("trained", [False, True])
def test_every_shape_of_block_is_compiled(trained: bool) -> None:
    # As many shapes as the true network has: the compiler's own limit is 8 forms of a kind of block.
    small = {"block_out_channels": (16, 32, 48, 48), "norm_num_groups": 8, "cross_attention_dim": 16, "sample_size": 8}
    unet = UNet2DConditionModel(**{**ARCHITECTURES["sd15"].unet, **small, "attention_head_dim": 2})
    unet.requires_grad_(trained)
    x, t, states = torch.randn(1, 4, 8, 8), torch.zeros(1, dtype=torch.long), torch.randn(1, 7, 16)
    expected = unet(x, t, states).sample

    torch.compiler.reset()
    try:
        compile_blocks(unet, backend="eager")
        with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
            found = unet(x, t, states).sample
    finally:
        torch.compiler.reset()

    torch.testing.assert_close(found, expected)
