"""Small synthetic datasets, made to be learnt in a minute and to meet every rule of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.files import write_json
from pipeline.io.readers.geo.geotiff import write_geotiff
from pipeline.io.readers.medical.nifti import write_nifti
from pipeline.io.readers.pictures.picture import write_png
from pipeline.run import RunSettings
from pipeline.space import Grid, Shape
from pipeline.space.grid import as_affine
from pipeline.training import TrainSettings

Kind = Literal["volume", "scene"]
Random = np.random.Generator

VOLUMES, VOLUME_SHAPE = 16, (48, 56, 48)
SCENES, SCENE_SHAPE = 12, (256, 256)
STEPS: dict[Kind, int] = {"volume": 200, "scene": 60}
"""Optimizer updates of a demo. A number of steps, not of minutes: two demos give equal masks."""
BACKGROUND, LIVER, LESION = 0, 1, 2
FIELD, FOREST = 1, 2


def make_demo(kind: Kind, folder: Path) -> RunSettings:
    """Write a dataset under ``folder/data`` and give the settings of a run on it.

    The same kind gives the same bytes. Files that hold them already are left alone, so that a
    second demo in the folder resumes the first.

    Args:
        kind: ``volume``: scans with a liver and lesions, as NIfTI in Decathlon layout.
            ``scene``: fields and forests, as GeoTIFF with PNG masks in two folders.
        folder: Becomes the run's folder.
    """
    root = folder.absolute() / "data"
    match kind:
        case "volume":
            data = _volumes(root)
        case "scene":
            data = _scenes(root)
    return RunSettings(
        name=f"demo-{kind}",
        run_dir=str(folder),
        data=data,
        train=TrainSettings(max_minutes=None, max_steps=STEPS[kind]),
    )


def _volumes(root: Path) -> DataSettings:
    names = [f"scan_{number:02}.nii.gz" for number in range(VOLUMES)]
    for number, name in enumerate(names):
        image, mask = scan(np.random.default_rng([0, number]))
        grid = _scan_grid(number)
        write_nifti(root / "imagesTr" / name, image, grid)
        write_nifti(root / "labelsTr" / name, mask, grid)
    listing = {
        "name": "Demo",
        "modality": {"0": "synthetic"},
        "labels": {str(BACKGROUND): "background", str(LIVER): "liver", str(LESION): "lesion"},
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
    }
    write_json(root / "dataset.json", listing)
    return DataSettings(
        root=str(root),
        layout="msd",
        classes=(
            ClassSettings(name="background", values=(BACKGROUND,), background=True),
            ClassSettings(name="liver", values=(LIVER,)),
            ClassSettings(name="lesion", values=(LESION,)),
        ),
    )


def scan(random: Random) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A scan and its mask, (Z, Y, X): a liver with lesions of other brightness, blurred and noisy.

    Brightness differs from scan to scan, as it does between scanners.
    """
    shape = VOLUME_SHAPE
    bumps = 0.25 * smooth_noise(shape, 6, random)
    centre = np.array(shape) / 2 + random.uniform(-4, 4, 3)
    liver = _distance(shape, centre, np.array(shape) * random.uniform(0.3, 0.4, 3)) + bumps < 1
    mask = np.where(liver, LIVER, BACKGROUND).astype(np.uint8)
    inside = np.argwhere(_distance(shape, centre, np.array(shape) * 0.22) < 1)
    for place in random.choice(inside, 3):
        mask[(_distance(shape, place, random.uniform(4.0, 6.5, 3)) < 1) & liver] = LESION
    brightness = np.array([200.0, 500.0, 800.0])[mask]
    brightness = gaussian_filter(brightness + 60 * smooth_noise(shape, 5, random), 0.6)
    gain, noise = random.uniform(0.7, 1.3), random.normal(0, 40, shape)
    return np.rint(gain * (brightness + noise)).astype(np.int16), mask


def _scan_grid(number: int) -> Grid:
    """1 × 1 × 1.5 mm (x, y, z), each scan somewhere else."""
    x, y, z = -24.0 + number, -31.5, 100.25 - 2 * number
    affine = as_affine(np.array([[0, 0, 1, x], [0, 1, 0, y], [1.5, 0, 0, z], [0, 0, 0, 1]]))
    return Grid(VOLUME_SHAPE, affine, "millimeter")


def _scenes(root: Path) -> DataSettings:
    for number in range(SCENES):
        image, mask = scene(np.random.default_rng([1, number]))
        if number % 3 == 0:  # the edge of the satellite's swath
            image[:, np.add.outer(np.arange(256), np.arange(256)) < 60] = 0
        write_geotiff(root / "images" / f"tile_{number:02}.tif", image, _scene_grid(number), 0)
        write_png(root / "masks" / f"tile_{number:02}.png", mask)
    return DataSettings(
        root=str(root),
        layout="pairs",
        classes=(
            ClassSettings(name="field", values=(FIELD,)),
            ClassSettings(name="forest", values=(FOREST,)),
        ),
    )


def scene(random: Random) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scene, (3, Y, X), and its mask, (Y, X): smooth bright fields and rough dark forests.

    Bands are at least 1, since 0 means no data; the light differs from scene to scene.
    """
    forest = smooth_noise(SCENE_SHAPE, 20, random) > 0
    mask = np.where(forest, FOREST, FIELD).astype(np.uint8)
    colour = np.where(forest[..., None], (45.0, 75.0, 50.0), (120.0, 110.0, 80.0))
    tint = 25 * smooth_noise(SCENE_SHAPE, 12, random) * ~forest
    crowns = 22 * smooth_noise(SCENE_SHAPE, 1.2, random) * forest
    light, noise = random.uniform(0.8, 1.2), random.normal(0, 6, (*SCENE_SHAPE, 3))
    bands = light * (colour + (tint + crowns)[..., None] + noise)  # (Y, X, 3)
    return np.moveaxis(np.rint(bands).clip(1, 255).astype(np.uint8), -1, 0), mask


def _scene_grid(number: int) -> Grid:
    """10 m pixels in UTM zone 33 north, scenes side by side."""
    east, north = 500_000.0 + 2_560 * number, 5_300_000.0
    affine = as_affine(np.array([[0, 10, east], [-10, 0, north], [0, 0, 1]]))
    return Grid(SCENE_SHAPE, affine, "meter", UTM_33N, "corner")


def smooth_noise(shape: Shape, sigma: float, random: Random) -> NDArray[np.float64]:
    """Random values of mean 0 and standard deviation 1 that vary over about ``sigma`` voxels."""
    noise: NDArray[np.float64] = gaussian_filter(random.normal(size=shape), sigma)
    result: NDArray[np.float64] = (noise - noise.mean()) / noise.std()
    return result


def _distance(shape: Shape, centre: NDArray[Any], radii: NDArray[Any]) -> NDArray[np.float64]:
    """Distance from a centre in units of the radii: below 1 inside the ellipsoid."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares: NDArray[np.float64] = np.zeros(shape)
    for axis, c, r in zip(axes, centre, radii, strict=True):
        squares = squares + ((axis - c) / r) ** 2
    return np.sqrt(squares)


UTM_33N = (
    'PROJCS["WGS 84 / UTM zone 33N",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],'
    'PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",15],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH],'
    'AUTHORITY["EPSG","32633"]]'
)
"""EPSG:32633, spelt out as Grid carries it."""
