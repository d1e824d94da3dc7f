"""The Inception features of the published Fréchet distances: two ways of using one network's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sidlsg.evaluate.resize import clean_299, to_256
from sidlsg.evaluate.suite import Pictures
from sidlsg.runtime.errors import InputError

WIDTH = 2048
Resize = Literal["clean", "inside"]
"""`clean`: antialiased, before the network. `inside`: the network's own, bilinear as TensorFlow 1 did it."""


class InceptionFeatures:
    """RGB pictures to [N, 2048] features."""

    def __init__(self, file: Path, resize: Resize, device: torch.device | str = "cpu") -> None:
        """Args:
        file: the TorchScript file; its digest was checked by whoever gives it.
        resize: how pictures come to 299 pixels.
        device: where the network runs.

        Raises:
            InputError: the file is no TorchScript network of this kind.
        """
        try:
            network: Any = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{file} is no TorchScript network ({reason}); give the Inception file of 2015-12-05"
            ) from error
        if not hasattr(network, "layers"):
            raise InputError(f"{file} is another network than the Inception of 2015-12-05: it has no `layers`")
        self._network, self._resize, self._device = network.eval(), resize, torch.device(device)

    @torch.inference_mode()
    def __call__(self, pictures: Pictures, prompts: Sequence[str]) -> Tensor:
        """N pictures, which may be of unlike sizes, to [N, 2048] float32 on the CPU; the prompts are not read.

        Raises:
            InputError: the network gives features of another width.
        """
        del prompts
        small = [to_256(Image.fromarray(picture)) for picture in pictures]
        features: Tensor
        if self._resize == "clean":
            pixels = torch.from_numpy(np.stack([clean_299(image) for image in small])).to(self._device)
            # Without the resize that the whole network begins with.
            features = self._network.layers((pixels - 128) / 128)
        else:
            pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small])).to(self._device)
            features = self._network(pixels.permute(0, 3, 1, 2), return_features=True)
        features = features.reshape(len(small), -1)
        if features.shape[1] != WIDTH:
            raise InputError(f"the network gives {features.shape[1]} features, not {WIDTH:,}; give the right file")
        return features.float().cpu()
