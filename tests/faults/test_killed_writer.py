"""A writer that dies leaves nothing at the final path, and its successor ends as if alone."""

import signal
import subprocess
import sys

import pytest

from pipeline.io import store
from pipeline.io.mask_store import MaskStore

WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
import pipeline.io.store
from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.space import voxel_grid

path, death = Path(sys.argv[1]), sys.argv[2]

def die(*anything, **options):
    os._exit(9) if death.endswith("exit") else os.kill(os.getpid(), signal.SIGKILL)

shape = (600, 700)
labels = np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8)
classes = (LabelClass(0, "background", True), LabelClass(1, "cell"))
writer = MaskWriter.create(path, MaskSpec(voxel_grid(shape), classes, "key", {}))
for number, window in enumerate(mask_windows(shape, "uint8")):
    if number == 2 and death.startswith("write"):
        die()
    writer.write(window, labels[window.slices])
if death.startswith("pyramid"):
    pipeline.io.pyramid.downsample = die
if death.startswith("publish"):
    pipeline.io.store.os.replace = die
writer.finish()
"""


def write(path, death="never"):
    return subprocess.run([sys.executable, "-c", WRITER, str(path), death], check=False).returncode


@pytest.mark.parametrize("death", ["write-exit", "write-kill", "pyramid-kill", "publish-kill"])
def test_a_killed_writer_leaves_nothing_and_the_next_one_finishes(tmp_path, tree, death):
    path = tmp_path / "a.zarr"
    assert write(path, death) == (9 if death.endswith("exit") else -signal.SIGKILL)
    assert not path.exists() and store.partial_path(path).exists()
    assert store.published_key(path) is None
    assert write(path) == 0
    assert write(tmp_path / "alone" / "a.zarr") == 0
    assert MaskStore(path).attributes["status"] == "complete"
    assert tree(path) == tree(tmp_path / "alone" / "a.zarr")


def test_a_published_store_survives_a_killed_successor(tmp_path, tree):
    path = tmp_path / "a.zarr"
    write(path)
    before = tree(path)
    assert write(path, "pyramid-kill") == -signal.SIGKILL
    assert tree(path) == before
