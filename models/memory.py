"""What a pass through a network holds, found by following its tensors without computing."""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from models.base import Shape
from models.network import Network

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def peak_activation_bytes(model: Network, shape: Shape, dtype: torch.dtype) -> int:
    """Give the most bytes of tensors alive at once in a pass without gradients, in evaluation.

    Nothing is computed or allocated: shapes alone go through the network, and storages are counted
    from the call that makes them until nothing refers to them. The weights are not counted, but
    the copies of them are that autocast makes. What a library takes inside one call is not seen.

    Args:
        model: The network, (B, C, *S) -> (B, K, *S); it stays as it is, and may be on any device.
        shape: Spatial shape of the input, which has one batch entry, (Z, Y, X) or (Y, X).
        dtype: Of the arithmetic; other than float32 means autocast.

    Raises:
        ValueError: The network does not take this shape.
    """
    with FakeTensorMode():
        copy = _weightless(model)
        x = torch.empty(1, model.settings.in_channels, *shape)
        x = x.contiguous(memory_format=CHANNELS_LAST[len(shape)])
        low = dtype != torch.float32
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=low), _Followed() as followed:
            followed.add(x)
            copy(x)
    return int(followed.peak)


class _Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that calls make, while they are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.add(made)
        return made

    def add(self, made: Any) -> None:
        """Count the storages of these tensors, if they are new."""
        self._alive = {key: held for key, held in self._alive.items() if not _gone(held[0])}
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._alive.setdefault(reference.cdata, (reference, storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


def _gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]


def _weightless(model: nn.Module) -> nn.Module:
    """Give a copy in evaluation mode whose weights are fakes on the CPU."""
    table: dict[int, Any] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        is_p = isinstance(tensor, nn.Parameter)
        table[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_p else empty
    return deepcopy(model, table).eval()
