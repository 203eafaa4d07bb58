"""What a pass through a network holds, found by following its tensors without computing."""

from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from models.base import Shape
from models.build import build_model
from models.network import Network
from models.settings import EnsembleSettings, ModelSettings, UNetSettings
from models.sizes import fitting_shape, output_shape
from models.way_up import Box, is_local, kept_features, rim

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
SIDES = {2: (64, 4096), 3: (64, 512)}
TRAINED_SIDES = {2: 256, 3: 64}


@dataclass(frozen=True)
class PassMemory:
    """Bytes that the tensors of a pass hold at once, at most, for one image."""

    fixed: int
    """Whatever the size: the weights, where autocast makes copies of them."""
    per_voxel: float
    """For each voxel of the input, where all of the output is wanted."""
    per_shown: float
    """For each voxel of the input, whatever is wanted of the output: on the way down."""
    per_kept: float = 0.0
    """For each voxel of the input, what waits for the way up."""
    rim: Shape = ()
    """Voxels around what is wanted that are worked on besides, where not all is."""

    def bytes(self, voxels: int, wanted: int | None = None) -> int:
        """Bytes for an input of so many voxels.

        Of its output so many are wanted, with their rim; None: all.
        """
        if wanted is None:
            return self.fixed + int(self.per_voxel * voxels)
        up = self.per_kept * voxels + (self.per_voxel - self.per_kept) * wanted
        return self.fixed + int(max(self.per_shown * voxels, up))

    def voxels(self, memory_bytes: float) -> int:
        """Voxels of the largest input that needs no more."""
        return max(0, int((memory_bytes - self.fixed) / self.per_voxel))


@lru_cache(maxsize=64)
def pass_memory(settings: ModelSettings, dtype: torch.dtype) -> PassMemory:
    """Give what a pass through the network of these settings holds, from two sizes.

    An unpadded network's output, and with it much of what it holds, grows faster than its input:
    for inputs that are hardly larger than its margins this is too much.

    Args:
        settings: The network.
        dtype: As of :func:`peak_activation_bytes`.
    """
    model = outline(settings)
    shapes = [fitting_shape(settings, (n,) * settings.ndim) for n in SIDES[settings.ndim]]
    less, more = (peak_activation_bytes(model, shape, dtype) for shape in shapes)
    per_voxel = (more - less) / (prod(shapes[1]) - prod(shapes[0]))
    fixed = max(0, less - int(per_voxel * prod(shapes[0])))
    output = output_shape(settings, shapes[1]) or shapes[1]
    middle = tuple((n // 2, n // 2 + 1) for n in output)
    one = peak_activation_bytes(model, shapes[1], dtype, middle)
    per_shown = min(per_voxel, (one - fixed) / prod(shapes[1]))
    unet = settings.member if isinstance(settings, EnsembleSettings) else settings
    if not isinstance(unet, UNetSettings) or not is_local(unet):
        return PassMemory(fixed, per_voxel, per_shown, 0.0, (0,) * settings.ndim)
    return PassMemory(fixed, per_voxel, per_shown, dtype.itemsize * kept_features(unet), rim(unet))


@lru_cache(maxsize=64)
def training_memory(settings: ModelSettings, dtype: torch.dtype) -> PassMemory:
    """Give what a training step holds: a pass whose tensors are kept, and the pass back.

    Not counted are the weights, and what an optimiser keeps. The most is held where the way back
    begins, when there is no gradient of weights yet. A voxel is one of a patch of the batch.

    Args:
        settings: The network.
        dtype: As of :func:`peak_activation_bytes`.
    """
    model = outline(settings)
    shape = fitting_shape(settings, (TRAINED_SIDES[settings.ndim],) * settings.ndim)
    less, more = (_peak(model, (batch, *shape), dtype, learning=True) for batch in (2, 4))
    per_voxel = (more - less) / (2 * prod(shape))
    return PassMemory(max(0, less - int(per_voxel * 2 * prod(shape))), per_voxel, per_voxel)


def outline(settings: ModelSettings) -> Network:
    """Build the network of these settings for looking at: without numbers, wherever it can be."""
    # Attention reads numbers when it is built.
    with torch.device("cpu" if settings.kind == "swin_unetr" else "meta"):
        return build_model(settings)


def peak_activation_bytes(
    model: Network, shape: Shape, dtype: torch.dtype, box: Box | None = None
) -> int:
    """Give the most bytes of tensors alive at once in a pass without gradients, in evaluation.

    Nothing is computed or allocated: shapes and layouts alone go through the network, as they do
    on a CPU, channels innermost. Storages are counted from the call that makes them until nothing
    refers to them, and a convolution's input twice where it is copied to be computed with.
    Weights are not counted, but the copies of them are that autocast makes. Not seen is what a
    library takes inside a call besides.

    Args:
        model: The network, (B, C, *S) -> (B, K, *S); it stays as it is, and may be on any device.
        shape: Spatial shape of the input, which has one batch entry, (Z, Y, X) or (Y, X).
        dtype: Of the arithmetic; other than float32 means autocast.
        box: Of the output, what is wanted; None: all.

    Raises:
        ValueError: The network does not take this shape.
    """
    return _peak(model, (1, *shape), dtype, learning=False, box=box)


def _peak(
    model: Network,
    batch_shape: Shape,
    dtype: torch.dtype,
    learning: bool,
    box: Box | None = None,
) -> int:
    """Most bytes alive at once for a batch, (B, *S): in evaluation, or in a training step.

    In evaluation maybe of a box of the output alone.
    """
    batch, *shape = batch_shape
    low = dtype != torch.float32
    with FakeTensorMode():
        copy = _weightless(model).train(learning)
        x = torch.empty(batch, model.settings.in_channels, *shape)
        x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
        # In inference mode compound calls would not be seen as their parts.
        with torch.set_grad_enabled(learning), _Followed() as followed:
            followed.add(x)
            with torch.autocast("cpu", dtype, enabled=low):
                made = copy(x) if box is None else copy.inside(x, box)
            if learning:
                logits = [y.float() for y in tree_iter(made)]
                torch.autograd.backward([y.log_softmax(1).square().mean() for y in logits])
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
        copied = func is torch.ops.aten.convolution.default and not _alike(args[0], made)
        self.add(made, args[0].nbytes if copied else 0)
        return made

    def add(self, made: Any, working: int = 0) -> None:
        """Count the storages of these tensors if they are new, and what was held to make them."""
        self._alive = {key: held for key, held in self._alive.items() if not _gone(held[0])}
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._alive.setdefault(reference.cdata, (reference, storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()) + working)


def _gone(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]


def _alike(one: Tensor, other: Tensor) -> bool:
    """Say whether two images are laid out alike; one of a single channel is like any."""
    layouts = (torch.contiguous_format, CHANNELS_LAST[one.ndim])
    return any(
        one.is_contiguous(memory_format=layout) and other.is_contiguous(memory_format=layout)
        for layout in layouts
    )


def _weightless(model: Network) -> Network:
    """Give a copy in evaluation mode whose weights are fakes on the CPU, channels innermost."""
    table: dict[int, Any] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        layout = CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format)
        fake = torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=layout)
        learnt = isinstance(tensor, nn.Parameter)
        table[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if learnt else fake
    return deepcopy(model, table).eval()
