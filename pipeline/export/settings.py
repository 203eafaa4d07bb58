"""What can be said of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.export.case import NoData
from pipeline.export.formats import FormatName


@dataclass(frozen=True)
class ExportSettings:
    """How masks are exported."""

    to: FormatName
    """The format."""
    nodata: NoData = "background"
    """What becomes of voxels without data: the background's label, or their own, 255 or 65535."""
    source: Path | None = None
    """Where the original files are: the image, a series' folder, or the dataset's root."""
    volumes: Path | None = None
    """Folder of the volume stores; None: looked for beside the run of the masks."""
    codes: Path | None = None
    """JSON file of what classes are in DICOM's terms; None: all are tissue."""
