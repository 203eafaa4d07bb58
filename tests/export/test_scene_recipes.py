"""The README's recipes of masks in other tools, run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pystac
import pytest
import rasterio

from flows.cli import app
from pipeline.space import Grid
from pipeline.space.grid import as_affine
from tests.export.scenes import blobs, scene_grid, write_mask
from tests.test_publish_stac import Masks

SECTION = "## Masks in other tools"
README = Path(__file__).parents[2] / "README.md"


def snippets() -> list[tuple[str, str]]:
    """Language and text of each block of the section."""
    section = README.read_text().split(SECTION)[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


# Of the libraries, about each other's ways.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_recipes_work_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Workers that other tests have left would look for relative paths elsewhere.
    monkeypatch.setitem(dask.config.config, "scheduler", "synchronous")
    labels = blobs((700, 600), coarse=40)
    write_mask(tmp_path / "masks" / "scene.zarr", labels, scene_grid(labels.shape))
    scan = blobs((30, 40, 35))
    affine = np.diag([2.0, 0.9, 0.8, 1.0])[:, [2, 1, 0, 3]]
    grid = Grid(scan.shape, as_affine(affine), "millimeter")
    write_mask(tmp_path / "masks" / "scan.zarr", scan, grid)
    masks = Masks(tmp_path)
    masks.predict("tile", scene_grid((30, 40)))
    masks.publish()

    told: dict[str, Any] = {}
    languages = []
    for language, text in snippets():
        languages.append(language)
        if language == "bash":
            for line in text.splitlines():
                command, *arguments = shlex.split(line)
                assert command == "segflow"
                with pytest.raises(SystemExit) as end:
                    app(arguments, prog_name="segflow", standalone_mode=False)
                    raise SystemExit(0)
                assert end.value.code == 0, capsys.readouterr()
        else:
            exec(compile(text, str(README), "exec"), told)
    assert languages.count("python") == 5 and languages.count("bash") == 2

    assert told["share"] == (labels == 1).mean()
    assert told["there"].rio.crs.to_epsg() == 3857
    assert (np.asarray(told["pyramid"][0]) == scan).all()
    assert told["names"][1]["class"] == "forest"
    assert told["small"].shape == (64, 64)
    assert told["raster"].crs == rasterio.crs.CRS.from_epsg(32633)
    assert len(told["polygons"][2]) > 3
    assert told["mask"].GetSize() == (35, 40, 30)
    assert isinstance(told["item"], pystac.Item)
