"""From the files of an image or a mask to one open source of voxels."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.location import fetch, is_remote, refuse_links
from pipeline.io.origin import FOLDERS, Origin
from pipeline.io.readers import Role, Source, open_source
from pipeline.io.readers.dicom import reader as dicom
from pipeline.io.readers.geo import gdal
from pipeline.io.readers.medical import itk
from pipeline.io.readers.objects import ObjectsSource
from pipeline.io.readers.stacked import StackedSource

RASTERS = (".tif", ".tiff", ".vrt", ".jp2")


def open_origin(origin: Origin, role: Role, scratch: Path) -> Source:
    """Open an image or a mask; reads headers only.

    Args:
        origin: Its files, no polygons.
        role: Which of the two it is.
        scratch: Folder for copies of remote files, which lives as long as the source is used.

    Raises:
        CaseError: A file is absent, of no known format or damaged, or several do not fit together.
    """
    paths = [fetch(path, scratch) for path in origin.paths]
    for path in paths:
        if path.name.lower().endswith(FOLDERS):
            refuse_links(path)
    match origin.stack:
        case "file":
            return open_source(paths[0], role, origin.items[0])
        case "channels":
            opened = [open_source(p, role, i) for p, i in zip(paths, origin.items, strict=True)]
            return StackedSource(opened, [path.name for path in origin.paths])
        case "slices":
            return dicom.open_series(paths, role)
        case "objects":
            return ObjectsSource(paths, lambda path: open_source(path, role))


def companions(path: Path) -> tuple[Path, ...]:
    """Files that a file leans on, and which belong to its content: a header's data, sidecars.

    A remote file has none: what leans on others is refused where it is opened alone.
    """
    name = path.name.lower()
    if is_remote(path) or not path.is_file():
        return ()
    try:
        if name.endswith(RASTERS):
            return gdal.companions(path)
        return itk.companions(path)
    except CaseError:
        # What is wrong with the file is told where it is opened.
        return ()
