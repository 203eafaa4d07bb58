"""A trained network for programs that do not have this code: TorchScript.

It is made by watching the network compute, and is compared with it on two sizes before it is
handed out. Most networks give a module that takes any size that fits; one whose steps depend on
the size it was watched at (windows of attention) gives one for that size alone.
"""

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.base import NetworkSettings, Shape
from models.network import Network
from models.sizes import fitting_shape, misfit, output_shape

TOLERANCE = 1e-5
"""Largest difference of logits, as a share of the largest logit, that is rounding."""


class ExportError(ValueError):
    """The network has no such form; the message says why."""


@dataclass(frozen=True)
class Exported:
    """A network as TorchScript."""

    form: torch.jit.ScriptModule
    """The module."""
    any_size: bool
    """Whether it takes every size that fits the network, or only the one asked for."""
    difference: float
    """Largest difference from the network's own logits, as a share of the largest one."""


def to_torchscript(network: Network, shape: Sequence[int]) -> Exported:
    """Give a network as TorchScript: ``torch.jit.load`` needs torch and nothing else.

    Its state dict has the network's own names, so that other weights can be loaded into it.

    Args:
        network: In evaluation mode, on the CPU.
        shape: Spatial size that it must take, (Z, Y, X) or (Y, X).

    Raises:
        ExportError: It cannot be traced, or what was traced computes something else.
    """
    settings, wanted = network.settings, tuple(shape)
    if network.training:
        raise ExportError("the network is in training mode: call eval() first")
    if output_shape(settings, wanted) is None:
        raise ExportError(misfit(settings, wanted))
    small, uneven = _two_shapes(settings)
    # Batches differ from the example's too: their size must not have become part of the form.
    attempts = (
        (small, True, ((1, *small), (3, *uneven))),
        (wanted, False, ((1, *wanted), (2, *wanted))),
    )
    failures = []
    for example, any_size, sizes in attempts:
        try:
            form = _traced(network, example)
            difference = _difference(network, form, sizes)
        except Exception as error:  # tracers and converters raise errors of every kind
            failures.append(_first_line(error))
            continue
        if difference <= TOLERANCE:
            return Exported(form, any_size, difference)
        failures.append(f"its logits differ by {difference:.1e} of the largest")
    raise ExportError(
        f"a {type(network).__name__} has no such form: for any size, {failures[0]}; "
        f"for {wanted} alone, {failures[1]}"
    )


def torchscript_bytes(
    module: torch.jit.ScriptModule, files: Mapping[str, str] | None = None
) -> bytes:
    """Give what ``torch.jit.load`` reads.

    Without the records of which line of which file each step came from: they are half of a small
    network's bytes, and name folders of this machine. Of the first network that a process
    exports the bytes are the same each time; torch numbers the classes of later ones.

    Args:
        module: The TorchScript module.
        files: Texts by name that are to travel inside it, as MONAI's ``load_net_with_metadata``
            looks for them.
    """
    made, kept = io.BytesIO(), io.BytesIO()
    torch.jit.save(module, made, _extra_files=dict(files or {}))
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(kept, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                # A fresh ZipInfo has a fixed date.
                target.writestr(zipfile.ZipInfo(entry.filename), source.read(entry))
    return kept.getvalue()


def _two_shapes(settings: NetworkSettings) -> tuple[Shape, Shape]:
    """A small size that fits, and a larger one with other proportions."""
    # Beyond the smallest of all: an axis of one voxel computes by rules of its own.
    least = fitting_shape(settings, (2,) * settings.ndim)
    small = fitting_shape(settings, [n + 1 for n in least])
    uneven = fitting_shape(settings, [n + 1 + n * (axis == 0) for axis, n in enumerate(small)])
    return small, uneven


def _difference(
    network: Network, form: Callable[[Tensor], Tensor], sizes: Sequence[Shape]
) -> float:
    """Largest difference of logits over inputs (B, *S), as a share of the largest logit."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, *shape in sizes:
        x = torch.randn((batch, network.settings.in_channels, *shape), generator=generator)
        with torch.no_grad():
            own: Any = network(x)
            other = form(x)
        if own.shape != other.shape:
            raise ExportError(f"it gives {tuple(other.shape)} instead of {tuple(own.shape)}")
        apart = (own - other).abs().max() / own.abs().max().clamp_min(1e-12)
        # NaN would compare as no difference.
        worst = max(worst, float(apart.nan_to_num(torch.inf)))
    return worst


def _example(settings: NetworkSettings, shape: Shape) -> Tensor:
    return torch.zeros((2, settings.in_channels, *shape))


def _traced(network: Network, shape: Shape) -> torch.jit.ScriptModule:
    with _quiet(), torch.no_grad():
        example = _example(network.settings, shape)
        # Its own check would be a third pass on the same size; ours is on others.
        traced: Any = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
    module: torch.jit.ScriptModule = traced
    return module


def _first_line(error: Exception) -> str:
    """What an error says first; tracers add pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's own warnings: of every branch taken, and of its deprecation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
