"""``segflow view``: what it finds, prints and refuses; and that Ctrl-C ends it quietly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from flows.console import Console
from flows.view import gather
from pipeline.errors import SettingsError
from pipeline.io.companion_store import Companion, CompanionWriter
from pipeline.io.mask_store import MaskSpec, MaskWriter
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.space import Volume, crop, voxel_grid
from tests.flows.discs import REPOSITORY, Segflow

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "field"))
SHAPE = (30, 40)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a labelled volume, its mask, and the mask's objects."""
    grid = voxel_grid(SHAPE)
    image = Volume(np.arange(1200, dtype=np.int16).reshape(1, *SHAPE), grid, None)
    spec = VolumeSpec(grid, "int16", ("0",), CLASSES)
    volume = VolumeWriter(tmp_path / "run/volumes/case.zarr", spec)
    for window in volume.windows():
        volume.write(window, crop(image, window), np.ones(window.shape, np.uint8))
    statistics = {"channels": [{"percentiles": {"1": 10.0, "99": 1000.0}}]}
    volume.finish(statistics, "volume-key", [])
    made = MaskSpec(grid, CLASSES, "mask-key", {"volume": "volume-key"})
    mask = tmp_path / "run/predictions/model/case.zarr"
    beside = Companion.objects()
    CompanionWriter.create(beside, beside.path(mask), made).finish()
    MaskWriter.create(mask, made).finish()
    return tmp_path / "run"


def mask_of(run: Path) -> Path:
    return run / "predictions/model/case.zarr"


def test_a_mask_is_shown_over_its_run_s_image_with_what_stands_beside_it(run: Path) -> None:
    shown = gather(mask_of(run), None, Console())

    assert [layer.name for layer in shown.layers] == ["image", "truth", "mask", "objects"]
    assert [layer.name for layer in shown.layers if layer.visible] == ["image", "mask"]
    assert shown.stores["image.zarr"] == run / "volumes/case.zarr"
    assert shown.layers[0].limits == ((10.0, 1000.0),)


def test_a_volume_is_shown_with_its_truth(run: Path) -> None:
    shown = gather(run / "volumes/case.zarr", None, Console())

    assert [(layer.name, layer.visible) for layer in shown.layers] == [
        ("image", True),
        ("truth", True),
    ]


def test_another_version_of_the_image_is_not_taken_for_the_mask_s(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = run / "volumes/case.zarr/zarr.json"
    root.write_text(root.read_text().replace("volume-key", "later-key"))

    assert [x.name for x in gather(mask_of(run), None, Console()).layers] == ["mask", "objects"]
    assert "image was not found, name its volume store with --image" in capsys.readouterr().out


def test_an_image_of_another_shape_is_refused(run: Path, tmp_path: Path) -> None:
    grid = voxel_grid((31, 40))
    writer = VolumeWriter(tmp_path / "b.zarr", VolumeSpec(grid, "uint8", ("0",), None))
    writer.finish({"channels": [{"percentiles": {"1": 0, "99": 1}}]}, "key", [])

    with pytest.raises(SettingsError, match=r"--image .*b.zarr is not the mask's: .*31"):
        gather(mask_of(run), tmp_path / "b.zarr", Console())


def test_what_cannot_be_shown_is_wrong_usage(segflow: Segflow, run: Path) -> None:
    unfinished = run / "new.zarr"
    MaskWriter.create(unfinished, MaskSpec(voxel_grid(SHAPE), CLASSES, "key", {}))
    for place, met in (
        (unfinished, "new.zarr is no finished store of segflow"),
        (run / "predictions/model/objects/case.zarr", "is a store of objects"),
    ):
        found = segflow("view", place)
        assert found.code == 2
        assert met in found.last and found.last.endswith("give a mask store or a volume store")


def test_the_command_serves_until_ctrl_c_and_ends_quietly(run: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "view", str(mask_of(run)), "--no-open"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        printed = ""
        while "until Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        address = re.search(r"^mask: (\S+)$", printed, re.MULTILINE)
        assert address is not None
        assert httpx.get(f"{address[1]}/0/mask/zarr.json").json()["shape"] == list(SHAPE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "complete: the server has stopped"
    assert "neuroglancer" in printed and "vizarr" in printed and "napari --plugin" in printed


def test_a_machine_is_told_the_links_as_soon_as_they_can_be_followed(run: Path) -> None:
    command = [sys.executable, "-m", "flows.cli", "view", str(mask_of(run)), "--no-open", "--json"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        address = told["layers"]["mask"]
        assert httpx.get(f"{address}/0/mask/zarr.json").json()["shape"] == list(SHAPE)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "" and process.returncode == 0


def test_a_port_that_is_taken_is_told(segflow: Segflow, run: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = segflow("view", mask_of(run), "--port", str(port))

    assert found.code == 2
    assert found.last.startswith(f"wrong settings: --port {port} cannot be used")
