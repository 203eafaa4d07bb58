"""How fast is scoring, against MONAI's DiceMetric, and is its memory flat?

    .venv/bin/python -m tests.bench.score [--shape 512 2048 2048] [--out FILE]

A truth of four classes, smooth shapes repeated, and a mask that lies some voxels beside it are
written as stores, of the given shape and with sides of a half and a quarter. In processes of their
own:

counts    voxels per second of exact counts from the stores to the Dice, by the workers that the
          stage has, one per core; and of one process with one thread
monai     the same of MONAI: one-hot arrays of a box of 64 x 512 x 512 already in memory, DiceMetric
          with all threads of the machine (the whole, one-hot in float32, would take 69 GB)
surfaces  voxels per second of HD95, mean surface distance and surface Dice of all classes, of the
          quarter, one thread
memory    peak of the process that counts the whole over that of one that counts the half
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import DiceMetric
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipeline.execute import ExecuteSettings, run_tasks
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.score import ScoreSettings
from pipeline.score.measuring import measure
from pipeline.score.tasks import ScoreTask, Wanted, case_tasks
from pipeline.space import Grid, Volume, Window
from tests.bench.sides import ROOT
from tests.bench.training import processor_name
from tests.trained import small_plan

CLASSES = tuple(LabelClass(i, f"class {i}", i == 0) for i in range(4))
GOAL = 10.0
BOX = (64, 512, 512)
"""What MONAI is given."""
UNIT = (64, 256, 256)
"""Shapes that repeat."""


def shapes() -> NDArray[np.uint8]:
    """A unit of four smooth classes, half of it background, that continues at its borders."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=UNIT), 9, mode="wrap")
    cuts = np.quantile(noise, (0.5, 0.75, 0.9))
    return np.digitize(noise, cuts).astype(np.uint8)


def cut(unit: NDArray[np.uint8], window: Window, shift: int) -> NDArray[np.uint8]:
    """A window of the unit repeated for ever, moved by a few voxels."""
    places = [
        np.arange(start + shift, start + shift + size) % side
        for start, size, side in zip(window.start, window.shape, unit.shape, strict=True)
    ]
    return unit[np.ix_(*places)]


def make(folder: Path, shape: tuple[int, ...]) -> None:
    """Write a volume store with truth and the mask store beside it."""
    unit, sources = shapes(), [{"role": "image", "sha256": "0"}]
    grid = Grid(shape, tuple(map(tuple, np.eye(4).tolist())), "millimeter")
    volume = VolumeWriter(folder / "volume.zarr", VolumeSpec(grid, "uint8", ("0",), CLASSES))
    for window in volume.windows():
        voxels = np.zeros((1, *window.shape), np.uint8)
        volume.write(window, Volume(voxels, grid.cropped(window)), cut(unit, window, 0))
    volume.finish({"channels": []}, "volume", sources)
    spec = MaskSpec(grid, CLASSES, "mask", {"sources": sources})
    mask = MaskWriter.create(folder / "mask.zarr", spec)
    for window in mask_windows(shape, "uint8"):
        mask.write(window, cut(unit, window, 2))
    mask.finish()


def tasks_of(folder: Path, kind: str) -> list[ScoreTask]:
    """The tasks of one measure."""
    plan = small_plan(3).model_copy(update={"classes": CLASSES})
    wanted = Wanted.of(ScoreSettings(), plan)
    mask, volume = MaskStore(folder / "mask.zarr"), VolumeStore(folder / "volume.zarr")
    return [t for t in case_tasks("case", "test", mask, volume, wanted) if t.measure == kind]


def by_workers(folder: Path) -> dict[str, Any]:
    """Count a pair of stores as the stage does, its workers started before."""
    execute = ExecuteSettings(on="local")
    tasks = tasks_of(folder, "voxels")
    list(run_tasks(measure, tasks[: execute.cores], execute))
    started = time.perf_counter()
    done = list(run_tasks(measure, tasks, execute))
    seconds = time.perf_counter() - started
    voxels = int(sum(np.sum(d.row["matrix"]) for d in done if d.row is not None))
    return {"workers": execute.cores, "seconds": round(seconds, 2), "voxels": voxels}


def ours(folder: Path, kind: str) -> dict[str, Any]:
    """Measure a pair of stores, and say what it took."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows = [measure(task) for task in tasks_of(folder, kind)]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"seconds": round(seconds, 2), "peak_bytes": peak}
    if kind == "voxels":
        found["voxels"] = int(sum(np.sum(row["matrix"]) for row in rows))
    return found


def monai(folder: Path) -> dict[str, Any]:
    """Seconds of MONAI for a box, from labels in memory to the Dice; the best of three."""
    window = Window((0, 0, 0), BOX)
    pair = [
        torch.from_numpy(labels.astype(np.int64))
        for labels in (
            MaskStore(folder / "mask.zarr").read(window),
            VolumeStore(folder / "volume.zarr").read_truth(window),
        )
    ]

    def once() -> float:
        started = time.perf_counter()
        hot = [torch.nn.functional.one_hot(labels, 4).movedim(-1, 0)[None] for labels in pair]
        DiceMetric(include_background=False)(*hot)
        return time.perf_counter() - started

    seconds = min(once() for _ in range(3))
    return {"seconds": round(seconds, 3), "voxels_per_s": round(prod(BOX) / seconds)}


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do it in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 2048, 2048), metavar="N")
    parser.add_argument("--out", type=Path, help="default: results/score-DATE.json")
    given = parser.parse_args()
    shape = tuple(given.shape)
    with tempfile.TemporaryDirectory() as top:
        whole, half, quarter = (Path(top) / name for name in ("whole", "half", "quarter"))
        for times, folder in enumerate((whole, half, quarter)):
            apart(make, folder, tuple(n >> times for n in shape))
        foreign = apart(monai, whole)
        workers = by_workers(whole)
        counts, smaller = (apart(ours, folder, "voxels") for folder in (whole, half))
        surfaces = apart(ours, quarter, "surfaces")
    per_second, alone = (round(prod(shape) / c["seconds"]) for c in (workers, counts))
    result = {
        "date": str(date.today()),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "shape": shape,
        "counts": {**workers, "voxels_per_s": per_second},
        "counts_one_thread": {**counts, "voxels_per_s": alone},
        "monai": foreign,
        "goal": GOAL,
        "ratio": round(per_second / foreign["voxels_per_s"], 2),
        "ratio_one_thread": round(alone / foreign["voxels_per_s"], 2),
        "half": smaller,
        "memory_ratio": round(counts["peak_bytes"] / smaller["peak_bytes"], 3),
        "surfaces": {
            **surfaces,
            "voxels_per_s": round(prod(shape) / 64 / surfaces["seconds"]),
        },
    }
    print(json.dumps(result, indent=2))
    path = given.out or ROOT / f"tests/bench/results/score-{date.today()}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
