"""The DICOM series that a mask was made from, its files in the order of the mask's slices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.io.readers.dicom.header import read_header
from pipeline.io.readers.dicom.series import Series, find_series
from pipeline.io.readers.dicom.volume import Arranged, arrange

NAME_IT = "Name the folder of the series that the mask was made from with --source."


def series_of(export: Export) -> Arranged:
    """The series of a mask: the one of its name, or of its grid, where there are several.

    Raises:
        CaseError: It is not there, there are several, or it is not on the mask's grid.
    """
    if export.source is None:
        raise CaseError("its DICOM series is not known.", NAME_IT)
    found = [s for s in series_below(export.source) if s.problem is None]
    named = [s for s in found if _is_named(s, export)]
    on_grid = [a for a in map(_arranged, named or found) if _far(a, export) is None]
    if len(on_grid) == 1:
        return on_grid[0]
    if not found:
        raise CaseError("the source folder holds no DICOM series of images.", NAME_IT)
    if len(on_grid) > 1:
        raise CaseError(f"{len(on_grid)} series of the source folder lie on its grid.", NAME_IT)
    if len(named or found) > 1:
        raise CaseError(
            f"none of {len(found)} series of the source folder lies on its grid.",
            NAME_IT,
        )
    far = _far(_arranged((named or found)[0]), export)
    raise CaseError(f"the source series is not on its grid: {far}.", NAME_IT)


@lru_cache(maxsize=1)
def series_below(place: Path) -> Sequence[Series]:
    """Series of a folder; kept, because all cases of a dataset ask for the same folder."""
    return find_series(place)


def _is_named(series: Series, export: Export) -> bool:
    """Whether the store calls its source as the series is called."""
    labels = [source["path"] for source in export.mask.attributes.get("sources", ())]
    return series.case == export.case or f"series {series.folder}" in labels


def _arranged(series: Series) -> Arranged:
    return arrange([read_header(path) for path in series.paths])


def _far(arranged: Arranged, export: Export) -> str | None:
    return export.grid.difference(arranged.stack.grid)
