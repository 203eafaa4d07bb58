"""From the values of a mask file to truth: class numbers, or numbers of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.volume_store import label_dtype, no_label


class LabelLookup:
    """Mask values → class numbers.

    Args:
        classes: Classes with their mask values, in label order.
        ignore_values: Values that become no-label.
    """

    def __init__(self, classes: tuple[ClassSettings, ...], ignore_values: tuple[int, ...]) -> None:
        self.dtype = label_dtype(len(classes))
        pairs: list[tuple[int, float]] = [(v, i) for i, c in enumerate(classes) for v in c.values]
        pairs += [(v, no_label(self.dtype)) for v in ignore_values]
        pairs.sort()
        self._values = np.asarray([v for v, _ in pairs], dtype=np.int64)
        self._labels = np.asarray([i for _, i in pairs], dtype=self.dtype)

    def truth(self, values: NDArray[Any], told: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """Class numbers of mask values, same shape; NaN, which is no number, is no label.

        Args:
            values: Mask values.
            told: False where image or mask have no data: what stands there is no label; None:
                all are told.

        Raises:
            CaseError: A value belongs to no class.
        """
        if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
            # Whatever the values are, there are few of them: look each up once.
            limits = np.iinfo(values.dtype)
            every = np.arange(limits.min, limits.max + 1)
            table, known = self._found(every)
            place = values.view(f"u{values.dtype.itemsize}")
            labels: NDArray[Any] = np.roll(table, int(limits.min))[place]
            unknown = None if known.all() else ~np.roll(known, int(limits.min))[place]
        else:
            labels, known = self._found(values)
            unknown = ~known
        silent = _silent(values, told)
        if silent is not None:
            labels[silent] = no_label(self.dtype)
        if unknown is not None:
            self._refuse(values, unknown if silent is None else unknown & ~silent)
        return labels

    def _found(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Labels, and whether each value is one that has a label."""
        place = np.searchsorted(self._values, values).clip(max=len(self._values) - 1)
        known: NDArray[np.bool_] = self._values[place] == values
        labels: NDArray[Any] = self._labels[place]
        return labels, known

    def _refuse(self, values: NDArray[Any], unknown: NDArray[np.bool_]) -> None:
        if not unknown.any():
            return
        met = ", ".join(f"{v:.10g}" for v in np.unique(values[unknown])[:5])
        known = ", ".join(str(v) for v in self._values)
        raise CaseError(
            f"its mask holds the value {met}, which is of no class (known: {known}).",
            "Correct the mask, or add the value to data.classes or data.ignore_values.",
        )


class Numbers:
    """Mask values → numbers of a regression, float32.

    Args:
        ignore_values: Values that mean "not measured".
    """

    def __init__(self, ignore_values: tuple[int, ...]) -> None:
        self._ignored = ignore_values

    def truth(self, values: NDArray[Any], told: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """The numbers, same shape; NaN where nothing is said.

        What is infinite, or too large for float32, comes as infinity: depth maps have it where
        nothing is in sight. It is no truth either, but a person should know of it.

        Args:
            values: Mask values, of any type.
            told: False where image or mask have no data; None: all are told.
        """
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        silent = _silent(values, told)
        if silent is not None:
            numbers[silent] = np.nan
        for value in self._ignored:
            numbers[values == value] = np.nan
        return numbers


def _silent(values: NDArray[Any], told: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Where a mask says nothing; None: nowhere."""
    silent = None if told is None or told.all() else ~told
    if values.dtype.kind == "f":
        nan = np.isnan(values)
        silent = nan if silent is None else silent | nan
    return silent


def lookup_of(data: DataSettings) -> LabelLookup | Numbers:
    """What makes truth of a dataset's masks."""
    if data.task == "regression":
        return Numbers(data.ignore_values)
    return LabelLookup(data.classes, data.ignore_values)
