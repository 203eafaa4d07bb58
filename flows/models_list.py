"""What ``segflow models`` lists: networks measured, and losses, optimisers and schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, get_args

from models.catalogue import Entry, entry
from models.losses import LossSettings
from models.optimisers import OptimiserSettings, ScheduleSettings
from models.presets import PRESETS, Axes
from pipeline.errors import SettingsError

COLUMNS = ("name", "axes", "parameters", "receptive field", "stride", "tiles", "source")


def measured(names: Sequence[str], axes: Sequence[Axes]) -> Iterator[Entry]:
    """Give networks one by one, as they are measured.

    Args:
        names: Which; none: all.
        axes: In how many spatial axes.

    Raises:
        SettingsError: There is no network of a name.
    """
    for name in names:
        if name not in PRESETS:
            raise SettingsError(f"there is no network {name!r}: use one of {', '.join(PRESETS)}")
    for name in names or PRESETS:
        for ndim in axes:
            yield entry(name, ndim)


def row(found: Entry) -> list[str]:
    """An entry as a line of the table."""
    field = found.receptive_field
    return [
        found.name,
        f"{found.ndim}-D",
        f"{found.parameters / 1e6:.1f} M",
        "all" if field is None else _sizes(field),
        _sizes(found.total_stride),
        "exactly" if found.tiles_exactly else "blended",
        found.source,
    ]


def as_json(found: Entry) -> dict[str, Any]:
    """An entry as JSON values."""
    return asdict(found)


def choices() -> dict[str, dict[str, str]]:
    """Losses, optimisers and schedules: kind, and what it is in a line."""
    unions = {"loss": LossSettings, "optimiser": OptimiserSettings, "schedule": ScheduleSettings}
    return {name: _kinds(union) for name, union in unions.items()}


def _kinds(union: Any) -> dict[str, str]:
    members = get_args(get_args(union)[0])
    return {m.model_fields["kind"].default: (m.__doc__ or "").splitlines()[0] for m in members}


def _sizes(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else " x ".join(map(str, sizes))
