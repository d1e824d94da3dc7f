"""A few numbers that the host wants from the device without making it wait."""

from __future__ import annotations

import torch
from torch import Tensor


class Notice:
    """Numbers on their way from the device to the host, from the moment that this is made.

    Reading waits until what the device had been given by then is done; what it was given since runs on meanwhile.
    """

    def __init__(self, numbers: Tensor) -> None:
        """Args:
        numbers: [N] whole numbers.
        """
        self._event: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._host = numbers

    def read(self) -> list[int]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [int(number) for number in self._host.tolist()]
