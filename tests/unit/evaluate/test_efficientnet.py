"""The second network: what it is fed, and that its projection is fixed."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from sidlsg.bundled.protocols import DomainProtocols
from sidlsg.bundled.shapes.captions import Caption
from sidlsg.bundled.shapes.drawing import draw
from sidlsg.evaluate.networks import EfficientNetFeatures


def test_features_are_64_wide_and_do_not_depend_on_the_batch(protocols: DomainProtocols) -> None:
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = protocols.efficientnet(pixels)
    assert together.shape == (3, 64)
    assert torch.isfinite(together).all()
    assert torch.allclose(protocols.efficientnet(pixels[1:2]), together[1:2], atol=1e-4)


def test_the_projection_is_orthonormal_and_the_same_each_time(protocols: DomainProtocols) -> None:
    projection = protocols.efficientnet.projection
    assert torch.allclose(projection.T @ projection, torch.eye(64), atol=1e-5)
    assert torch.equal(projection, EfficientNetFeatures().projection)


def test_the_network_is_fed_as_its_package_says(protocols: DomainProtocols) -> None:
    # (x - 127) / 128 of 0..255, at 96 pixels, bicubic: here by Pillow, whose bicubic rounds to whole numbers.
    image = draw([Caption("large", "red", "circle", "white")], 0, [0])[0]
    large = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    fed = torch.from_numpy((large.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None]
    with torch.no_grad():
        network = protocols.efficientnet.network
        expected = network.extract_features(fed).mean((2, 3)) @ protocols.efficientnet.projection
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    found = protocols.efficientnet(pixels)
    assert torch.nn.functional.cosine_similarity(found, expected).item() > 0.98
