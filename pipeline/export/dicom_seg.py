"""DICOM Segmentation (PS3.3 A.51): one segment per class, referring to the images it was made from.

Written by highdicom as BINARY, the type that viewers read, without empty frames. Patient and study
are those of the source series: a SEG that named another would be filed with the wrong patient, so
there is none without the series.

What a class is stands in two codes, its property's category and type. Both are Tissue (SCT
85756007) unless ``--codes`` says more: a name alone does not tell an organ from a lesion.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import highdicom
import numpy as np
import pydicom
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.export.codes import Meaning
from pipeline.export.scan import needs_scan
from pipeline.export.series import series_of
from pipeline.io.location import scratch
from pipeline.io.ngff import LabelClass
from pipeline.io.readers.dicom.quiet import quiet
from pipeline.io.readers.dicom.volume import Arranged

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
PLACED = (*NEEDED, "FrameOfReferenceUID")
OF_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
OF_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
MAY_BE_EMPTY = (*OF_PATIENT, *OF_STUDY, "Modality")
UNPRINTABLE = re.compile(r"[\\\x00-\x1f\x7f]+")
MOST_BYTES = 64
"""Of a text of type LO; checkers count bytes, not letters."""
SERIES_NUMBER = 1000
"""Added to the source's, so that segmentations stand behind the images in a study."""

# Of every empty mask it says that its empty frames are kept.
logging.getLogger("highdicom").setLevel(logging.ERROR)


def write(export: Export) -> None:
    """Write a mask as DICOM SEG; voxels without data belong to no segment.

    The mask lies in a scratch file meanwhile; memory is an eighth of a byte per voxel and class.

    Raises:
        CaseError: The mask is a scene or a regression, has no class, or its source series is not
            there, not on its grid, or without what a SEG takes from it.
    """
    needs_scan(export, "DICOM SEG")
    export.needs_labels("DICOM SEG")
    if not export.foreground:
        raise CaseError("it has no class but the background.", "There is no segment.")
    series = series_of(export)
    with scratch() as folder, quiet:
        numbers = _segment_numbers(export, series, folder / "numbers")
        _segmentation(export, series, numbers).save_as(export.target)


def _segment_numbers(export: Export, series: Arranged, path: Path) -> NDArray[Any]:
    """Segment numbers, 1 and up, of each source frame in the order of the source: a mapped file."""
    # A file of many frames lists them as it likes; single files are listed in order.
    many = len(series.headers) == 1
    order = np.array([part.index if many else z for z, part in enumerate(series.parts)])
    numbers = np.memmap(path, export.dtype, "w+", shape=(len(order), *export.grid.shape[-2:]))
    segment = np.zeros(np.iinfo(export.dtype).max + 1, export.dtype)
    for number, found in enumerate(export.foreground, start=1):
        segment[found.label] = number
    for window in export.slabs():
        where: Any = order[window.slices[0]] if len(export.grid.shape) == 3 else (0, *window.slices)
        numbers[where] = segment[export.mask.read(window)]
    return numbers


def _header(path: Path, needed: Sequence[str]) -> Dataset:
    """A source image without its pixels; what it lacks and may lack is empty.

    Raises:
        CaseError: It lacks an id that the SEG must refer to.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if lacking := [name for name in needed if not header.get(name)]:
        raise CaseError(
            f"its source images have no {', '.join(lacking)}, to which a DICOM SEG refers.",
            "Export the series anew with whole headers, or export as nifti or nrrd.",
        )
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")
    return header


def _segments(export: Export, model: str, version: str) -> list[SegmentDescription]:
    """What each segment is, and that the model found it."""

    def meaning(found: LabelClass) -> Meaning:
        return export.codes.get(found.name, Meaning())

    by = highdicom.AlgorithmIdentificationSequence(model, ARTIFICIAL_INTELLIGENCE, version)
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=_plain(found.name),
            segmented_property_category=Code(*meaning(found).category),
            segmented_property_type=Code(*meaning(found).type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=by,
            display_color=CIELabColor.from_rgb(*found.color),
        )
        for number, found in enumerate(export.foreground, start=1)
    ]


def _segmentation(export: Export, series: Arranged, numbers: NDArray[Any]) -> Segmentation:
    files = [series.headers[part.file].path for part in series.parts]
    needed = PLACED if len(series.parts) > 1 else NEEDED
    source = [_header(path, needed) for path in dict.fromkeys(files)]
    model = export.mask.attributes.get("model", {})
    version = str(export.mask.attributes.get("versions", {}).get("segflow", "unknown"))
    name = _plain(model.get("id", "unknown"))
    made_of = (export.mask.key, str(source[0].SeriesInstanceUID))
    number = int(source[0].get("SeriesNumber") or 0)
    try:
        return Segmentation(
            source_images=source,
            pixel_array=numbers,
            segmentation_type="BINARY",
            segment_descriptions=_segments(export, name, version),
            series_instance_uid=_uid("series", *made_of),
            series_number=SERIES_NUMBER + max(0, number),
            sop_instance_uid=_uid("instance", *made_of),
            instance_number=1,
            manufacturer="segflow",
            manufacturer_model_name=name,
            software_versions=version,
            device_serial_number=_plain(model.get("weights_sha256", "unknown")),
            content_label="SEGFLOW",
            series_description=_plain(f"segflow {name}"),
            specific_character_set="ISO_IR 192",
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # What highdicom says may quote the header, and so the patient.
        raise CaseError(
            f"its source series is no ground for a DICOM SEG ({type(error).__name__}).",
            "Look at its headers with dciodvfy, or export as nifti or nrrd.",
        ) from None


def _uid(*parts: str) -> UID:
    """A unique id that is the same for the same mask of the same series, however often exported."""
    return UID(f"2.25.{uuid5(NAMESPACE_OID, '/'.join(('segflow', *parts))).int}")


def _plain(text: Any) -> str:
    """A text as LO takes it; a backslash would part it in two."""
    short = UNPRINTABLE.sub(" ", str(text)).strip().encode()[:MOST_BYTES]
    return short.decode(errors="ignore").strip() or "unnamed"
