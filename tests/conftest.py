"""Builders of datasets and stores, and the way to the real data."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import nibabel as nib
import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, ingest
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.manifest import ManifestRow, QuarantineRow, read_quarantine

# The same examples every time: a red test is red for everyone.
hypothesis.settings.register_profile("segflow", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("segflow")

if "PYTEST_XDIST_WORKER" in os.environ:  # tests beside this one have the other cores
    torch.set_num_threads(1)

OBLIQUE = np.array(
    [[-0.9, 0.1, 0.02, 12.5], [0.1, 0.88, 0.1, -30.25], [-0.01, -0.11, 1.95, 7.75], [0, 0, 0, 1]]
)
UTM = rasterio.Affine(10.0, 0.0, 499_980.0, 0.0, -10.0, 5_300_040.0)
SERIAL = ExecuteSettings(on="serial")


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start: a shell has jobs in its background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tree(folder: Path) -> dict[str, bytes]:
    """Give every file of a folder with its bytes, by relative path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def times(folder: Path) -> dict[str, int]:
    """Give the time of last change of everything in a folder, by relative path."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.fixture(name="tree")
def _tree() -> Callable[[Path], dict[str, bytes]]:
    return tree


@pytest.fixture(name="times")
def _times() -> Callable[[Path], dict[str, int]]:
    return times


@pytest.fixture
def write_scan() -> Callable[..., Path]:
    """Give a function that writes voxels, in nibabel's own order (X, Y, Z), as NIfTI."""

    def write(path: Path, voxels: np.ndarray, affine: np.ndarray = OBLIQUE) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), path)
        return path

    return write


@pytest.fixture
def write_scene() -> Callable[..., Path]:
    """Give a function that writes bands, (C, Y, X), as GeoTIFF."""

    def write(
        path: Path, bands: np.ndarray, crs: str | None = "EPSG:32633", transform=UTM, **options: Any
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        count, height, width = bands.shape
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype=bands.dtype,
            crs=crs,
            transform=transform,
            **options,
        ) as raster:
            raster.write(bands)
        return path

    return write


@pytest.fixture
def write_picture() -> Callable[..., Path]:
    """Give a function that writes pixels, (Y, X) or (Y, X, C), as PNG."""

    def write(path: Path, pixels: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def make_msd(write_scan) -> Callable[..., DataSettings]:
    """Give a function that makes a Decathlon dataset of small noise volumes."""

    def make(root: Path, cases: int = 4, shape: tuple[int, ...] = (9, 11, 7)) -> DataSettings:
        random = np.random.default_rng(0)
        names = [f"liver_{number}.nii.gz" for number in range(cases)]
        for name in names:
            image = random.normal(100, 20, shape).astype(np.float32)
            write_scan(root / "imagesTr" / name, image)
            write_scan(root / "labelsTr" / name, random.integers(0, 3, shape, dtype=np.uint8))
        listing = {
            "name": "Liver",
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "liver", "2": "tumour"},
            "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        }
        (root / "dataset.json").write_text(json.dumps(listing))
        return DataSettings(
            root=str(root),
            layout="msd",
            classes=(
                ClassSettings(name="background", values=(0,), background=True),
                ClassSettings(name="liver", values=(1,)),
                ClassSettings(name="tumour", values=(2,)),
            ),
        )

    return make


@pytest.fixture
def make_pairs(write_scene, write_picture) -> Callable[..., DataSettings]:
    """Give a function that makes scenes with PNG masks of the values 1 and 2."""

    def make(root: Path, cases: int = 4, side: int = 20, **changes: Any) -> DataSettings:
        random = np.random.default_rng(1)
        for number in range(cases):
            bands = random.integers(1, 255, (3, side, side + 4), dtype=np.uint8)
            mask = random.integers(1, 3, bands.shape[1:], dtype=np.uint8)
            write_scene(root / "images" / f"tile_{number}.tif", bands, nodata=0)
            write_picture(root / "masks" / f"tile_{number}.png", mask)
        fields: dict[str, Any] = {
            "root": str(root),
            "layout": "pairs",
            "classes": (
                ClassSettings(name="field", values=(1,)),
                ClassSettings(name="forest", values=(2,)),
            ),
        }
        return DataSettings(**(fields | changes))

    return make


@dataclass(frozen=True)
class Taken:
    """What an ingest left behind."""

    rows: dict[str, ManifestRow]
    """Rows of the manifest by case id."""
    refused: dict[str, QuarantineRow]
    """Refused cases by case id."""
    volumes: Path
    """Folder of the stores."""

    @property
    def complete(self) -> set[str]:
        """Case ids whose stores stand."""
        return {row.id for row in self.rows.values() if row.status == "complete"}


@pytest.fixture
def take_in() -> Callable[..., Taken]:
    """Give a function that ingests a dataset into a folder."""

    def run(
        data: DataSettings,
        folder: Path,
        settings: IngestSettings | None = None,
        execute: ExecuteSettings = SERIAL,
    ) -> Taken:
        rows = ingest(
            data,
            settings or IngestSettings(),
            execute,
            manifest=folder / "manifest.jsonl",
            quarantine=folder / "quarantine.jsonl",
            volumes=folder / "volumes",
        )
        refused = read_quarantine(folder / "quarantine.jsonl")
        return Taken({r.id: r for r in rows}, {r.case: r for r in refused}, folder / "volumes")

    return run


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Give a function that finds a folder of the real data, or skips the test."""
    here = Path(__file__).parent.parent
    root = Path(os.environ.get("SEGFLOW_DATA", here.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"no real data at {root / name}: set SEGFLOW_DATA to its folder")
        return root / name

    return find
