"""What networks there are, and what each one costs and sees."""

from collections.abc import Iterator
from dataclasses import dataclass

from models.base import Shape
from models.geometry import receptive_field, tiles_exactly, total_stride
from models.memory import outline
from models.presets import PRESETS, Axes, preset


@dataclass(frozen=True)
class Entry:
    """One network in two or three dimensions, with one channel in and two classes out."""

    name: str
    """Name of the preset."""
    kind: str
    """Kind of its settings."""
    ndim: Axes
    """Spatial axes."""
    parameters: int
    """Trainable numbers."""
    receptive_field: Shape | None
    """Input voxels that one output voxel sees, per axis; None: all of the window."""
    total_stride: Shape
    """Sizes of inputs and tiles grow in steps of it, per axis."""
    tiles_exactly: bool
    """Whether tiles meet without a seam."""
    source: str
    """Where it was published."""


def catalogue() -> Iterator[Entry]:
    """Give every network in two and in three dimensions, one by one as they are measured."""
    for name in PRESETS:
        yield entry(name, 2)
        yield entry(name, 3)


def entry(name: str, ndim: Axes) -> Entry:
    """Measure one network.

    Raises:
        ValueError: There is no preset of that name.
    """
    settings = preset(name, ndim, in_channels=1, out_channels=2)
    model = outline(settings)  # the largest take gigabytes
    return Entry(
        name=name,
        kind=settings.kind,
        ndim=ndim,
        parameters=sum(p.numel() for p in model.parameters()),
        receptive_field=receptive_field(model),
        total_stride=total_stride(model),
        tiles_exactly=tiles_exactly(model),
        source=PRESETS[name].source,
    )
