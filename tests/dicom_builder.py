"""DICOM series made of noise, for a patient who does not exist."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

NAME = "DOE^JANE"
PATIENT_ID = "ZZ991234"
BIRTH_DATE = "19700102"
ACCESSION = "ACC55512"
PERSONAL = ("doe", "jane", "zz991234", "19700102", "acc55512")
UID = "1.2.826.0.1.3680043.8.498.1234"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def noise(*shape: int, dtype: Any = np.int16, least: int = -1000, most: int = 1000) -> np.ndarray:
    """Give voxels of a fixed seed."""
    return np.random.default_rng(7).integers(least, most, shape).astype(dtype)


def dataset(pixels: np.ndarray, **elements: Any) -> Dataset:
    """Give a file's dataset from (Y, X), (Y, X, 3) or (F, Y, X); None takes an element out."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    values: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": f"{UID}.{np.random.default_rng().integers(1 << 40)}",
        "Modality": "MR",
        "PatientName": NAME,
        "PatientID": PATIENT_ID,
        "PatientBirthDate": BIRTH_DATE,
        "AccessionNumber": ACCESSION,
        "StudyDescription": f"Head of {NAME}",
        "ProtocolName": PATIENT_ID,
        "SeriesInstanceUID": UID,
        "SeriesNumber": 4,
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 2.0,
        **({"PlanarConfiguration": 0} if colour else {}),
    }
    for keyword, value in (values | elements).items():
        if value is not None:
            setattr(made, keyword, value)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OW"
    return made


def save(path: Path, made: Dataset) -> Path:
    """Write a dataset as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def slices(
    voxels: np.ndarray,
    *,
    origin: Sequence[float] = (-20.0, 10.0, -30.0),
    orientation: Sequence[float] = AXIAL,
    step: Sequence[float] = (0.0, 0.0, 2.0),
    **elements: Any,
) -> list[Dataset]:
    """Give the datasets of a series, (Z, Y, X) or (Z, Y, X, 3), first slice first."""
    places = np.array(origin) + np.arange(len(voxels))[:, None] * np.array(step)
    return [
        dataset(
            pixels,
            **{
                "ImagePositionPatient": [round(float(v), 6) for v in place],
                "ImageOrientationPatient": list(orientation),
                "InstanceNumber": z + 1,
            }
            | elements,
        )
        for z, (pixels, place) in enumerate(zip(voxels, places, strict=True))
    ]


def save_all(folder: Path, made: Sequence[Dataset]) -> list[Path]:
    """Write a series under names whose order is not that of its slices."""
    order = np.random.default_rng(3).permutation(len(made))
    return [save(folder / f"im{rank:03}.dcm", one) for rank, one in zip(order, made, strict=True)]


def write_series(folder: Path, voxels: np.ndarray, **options: Any) -> list[Path]:
    """Write a series of slices; options as of ``slices``. Paths are first slice first."""
    return save_all(folder, slices(voxels, **options))


def item(**elements: Any) -> Dataset:
    """Give an item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def enhanced(
    voxels: np.ndarray,
    places: Sequence[Sequence[float]],
    scales: Sequence[tuple[float, float]] | None = None,
    **elements: Any,
) -> Dataset:
    """Give an enhanced multi-frame dataset: place and calibration by frame, the rest shared."""
    alone = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    made = dataset(
        voxels,
        **dict.fromkeys(alone)
        | {"SOPClassUID": EnhancedMRImageStorage, "NumberOfFrames": len(voxels)}
        | elements,
    )
    made.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
            PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=2.0)],
        )
    ]
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=list(p))]) for p in places]
    for frame, scale in zip(frames, scales or (), strict=False):
        told = item(RescaleSlope=scale[0], RescaleIntercept=scale[1], RescaleType="US")
        frame.PixelValueTransformationSequence = [told]
    made.PerFrameFunctionalGroupsSequence = frames
    return made


def compressed(
    made: Dataset, frames: Sequence[np.ndarray], encode: Callable[[np.ndarray], bytes], syntax: str
) -> Dataset:
    """Give a dataset whose frames an encoder of another library has compressed."""
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([encode(frame) for frame in frames])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def ct(voxels: np.ndarray, **elements: Any) -> list[Dataset]:
    """Give a CT series: 12 bits unsigned, Hounsfield units by an intercept of -1024."""
    scanner = {
        "SOPClassUID": CTImageStorage,
        "Modality": "CT",
        "BitsStored": 12,
        "HighBit": 11,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    return slices(voxels, **scanner | elements)
