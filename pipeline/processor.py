"""Where a network runs and in which number format, and one pass of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import Network
from pipeline.space import Window

_TURN = threading.Lock()
"""One pass at a time: two would share the cores, and need the memory of both."""


@dataclass(frozen=True)
class Processor:
    """Where and in which number format a network runs."""

    device: str
    """``cpu``, ``cuda`` or ``cuda:1``."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Autocast type; float32 means none."""
    channels_last: bool
    """Whether tensors keep their channels innermost."""

    def place(self, model: Network, ndim: int) -> Network:
        """The network in evaluation mode, on the device, in the memory format."""
        placed: Network = model.to(self.device)
        return placed.to(memory_format=self._format(ndim)).eval()  # type: ignore[call-overload,no-any-return]

    def tensor(self, batch: NDArray[Any] | Tensor) -> Tensor:
        """A batch, (B, C, *S), on the device, in the memory format."""
        tensor = torch.as_tensor(batch)
        if self.device != "cpu" and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()  # else the copy waits for the pass before it
        moved = tensor.to(self.device, non_blocking=True)
        return moved.contiguous(memory_format=self._format(tensor.ndim - 2))

    def autocast(self) -> torch.autocast:
        """The context in which the network runs."""
        kind = getattr(torch, self.precision)
        enabled = self.precision != "float32"
        return torch.autocast(torch.device(self.device).type, kind, enabled=enabled)

    def _format(self, ndim: int) -> torch.memory_format:
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if ndim == 2 else torch.channels_last_3d


def best_processor(ndim: int, device: str = "auto", precision: str = "auto") -> Processor:
    """The processor settings this machine gains from.

    On CPUs with bfloat16 instructions a 3-D step in bfloat16 and channels-last takes a quarter
    of the time; without them autocast only costs, and without channels-last the convolutions
    fall back to a slow path.

    Args:
        ndim: Spatial axes of the network.
        device: ``auto``, or a device.
        precision: ``auto``, or an autocast type.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        gains = torch.cuda.is_bf16_supported() if device != "cpu" else cpu_has_bfloat16()
        precision = "bfloat16" if gains else "float32"
    return Processor(device, precision, channels_last=True)  # type: ignore[arg-type]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX)."""
    capable = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def forward(
    model: Network, batch: NDArray[np.float32], processor: Processor, box: Window | None = None
) -> Tensor:
    """One pass without gradients.

    Args:
        model: Placed by ``processor``.
        batch: (B, C, *S), sizes multiples of the total stride.
        processor: Where it runs.
        box: Of the output, what is wanted, and as far as the network can all that is computed;
            None: all.

    Returns:
        Logits, (B, K, *S) or (B, K, *box), float32, on the device.
    """
    images = processor.tensor(batch)
    with _TURN, torch.inference_mode(), processor.autocast():
        if box is None:
            logits: Tensor = model(images)
        else:
            logits = model.inside(images, tuple(zip(box.start, box.stop, strict=True)))
    return logits.float()
