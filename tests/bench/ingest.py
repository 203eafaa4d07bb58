"""How fast is ingest, against decoding and writing alone, and how much memory does it take?

    .venv/bin/python -m tests.bench.ingest [--gib 2] [--pictures 10000] [--out FILE]

Each figure is measured in a process of its own; ratios compare processes of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.execute import ExecuteSettings
from pipeline.ingest import IngestSettings, ingest
from pipeline.ingest.case import boxes_of, ingest_case
from pipeline.ingest.ingest import plan_ingest
from pipeline.ingest.reading import cut, reads_of
from pipeline.io.cases import open_case
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import discover_images
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from tests.bench import made

CORES = os.cpu_count() or 1
CLASSES = (
    ClassSettings(name="rest", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)


def data_of(root: Path) -> DataSettings:
    """Settings of a folder of images."""
    return DataSettings(root=str(root), layout="pairs", masks=None, classes=CLASSES)


def _task(path: Path, folder: Path) -> Any:
    data = data_of(path.parent)
    (task,) = plan_ingest(data, discover_images([path], data), folder, cores=CORES)
    return task


def whole(path: Path, folder: Path) -> None:
    """Ingest one file."""
    ingest_case(_task(path, folder))


def decode(path: Path, folder: Path) -> None:
    """Read one file as ingest reads it, and do nothing with it."""
    task = _task(path, folder)
    case = open_case(task.files, task.data, folder)
    for read in reads_of(case, boxes_of(case).box):
        # A copy, since a mapped file is not read before it is looked at.
        case.image.read(read.window).array.copy()


def write(path: Path, folder: Path) -> Callable[[], None]:
    """Prepare a volume in memory; the call that is timed writes the store that ingest makes."""
    from concurrent.futures import ThreadPoolExecutor

    task = _task(path, folder)
    case = open_case(task.files, task.data, folder)
    boxes = boxes_of(case)
    held = [
        (box, cut(voxels, read.window, box))
        for read in reads_of(case, boxes.box)
        for voxels in [case.read(read.window)]
        for box in read.boxes
    ]

    def timed() -> None:
        spec = VolumeSpec(
            case.image.grid,
            str(case.image.dtype),
            tuple(map(str, range(case.image.channels))),
            None,
        )
        writer = VolumeWriter(task.store, spec)
        with ThreadPoolExecutor(task.threads) as pool:
            list(pool.map(lambda item: writer.write(item[0], item[1].volume), held))
        writer.finish({}, "", [])

    return timed


def naive(path: Path, folder: Path) -> None:
    """What a script would do."""
    import nibabel as nib
    import rasterio
    import zarr

    if path.name.endswith(".tif"):
        with rasterio.open(path) as raster:
            voxels = raster.read().astype(np.float64)
    else:
        voxels = nib.load(path).get_fdata()
    zarr.save(str(folder / "naive.zarr"), voxels)


def pictures(root: Path, folder: Path) -> None:
    """Ingest a folder of small pairs."""
    data = data_of(root).model_copy(update={"masks": "masks"})
    ingest(
        data,
        IngestSettings(),
        ExecuteSettings(),
        manifest=folder / "manifest.jsonl",
        quarantine=folder / "quarantine.jsonl",
        volumes=folder / "volumes",
    )


WORK: dict[str, Callable[[Path, Path], Any]] = {
    "ingest": whole,
    "decode": decode,
    "write": write,
    "naive": naive,
    "pictures": pictures,
}


def child(work: str, path: Path, folder: Path) -> None:
    """Do one piece of work and print its seconds and its peak of memory."""
    begun = time.perf_counter()
    timed = WORK[work](path, folder)
    if timed is not None:
        begun = time.perf_counter()
        timed()
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": round(seconds, 2), "peak_mib": round(peak / 2**20)}))


def measured(work: str, path: Path, folder: Path, *, keep: bool = False) -> dict[str, Any]:
    """Run a piece of work in a process of its own, on files that the system has read before."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.bench.ingest", "--child", work, str(path), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if not keep:
        shutil.rmtree(folder)
    return json.loads(done.stdout.strip().splitlines()[-1])


def large(scratch: Path, gib: float) -> dict[str, Any]:
    """Times of one large file of each kind."""
    files = {
        "nifti": lambda: made.write_nifti(scratch / "plain.nii", gib, zipped=False),
        "nifti_gz": lambda: made.write_nifti(scratch / "zipped.nii.gz", gib, zipped=True),
        "geotiff": lambda: made.write_scene(scratch / "scene.tif", gib),
    }
    table = {}
    for kind, make in files.items():
        path = make()
        row = {
            w: measured(w, path, scratch / "out") for w in ("decode", "write", "ingest", "naive")
        }
        alone = row["decode"]["seconds"] + row["write"]["seconds"]
        row["against_decode_and_write"] = round(row["ingest"]["seconds"] / alone, 2)
        row["times_faster_than_naive"] = round(
            row["naive"]["seconds"] / row["ingest"]["seconds"], 2
        )
        table[kind] = row
        print(kind, json.dumps(row), flush=True)
        path.unlink()
    return table


def memory(scratch: Path) -> dict[str, Any]:
    """Peaks of memory for inputs of 1 and 4 GiB."""
    table: dict[str, Any] = {}
    for kind, suffix in (("nifti", ".nii"), ("nifti_gz", ".nii.gz"), ("geotiff", ".tif")):
        peaks = {}
        for gib in (1, 4):
            path = scratch / f"big{suffix}"
            if kind == "geotiff":
                made.write_scene(path, gib)
            else:
                made.write_nifti(path, gib, zipped=kind == "nifti_gz")
            peaks[f"{gib}_gib"] = measured("ingest", path, scratch / "out")["peak_mib"]
            path.unlink()
        table[kind] = peaks | {"ratio": round(peaks["4_gib"] / peaks["1_gib"], 3)}
        print(kind, json.dumps(table[kind]), flush=True)
    return table


def many(scratch: Path, count: int) -> dict[str, Any]:
    """Seconds per thousand small pairs, afresh and again, and the files their stores make."""
    root = made.write_pictures(scratch / "pictures", count)
    first = measured("pictures", root, scratch / "stores", keep=True)
    again = measured("pictures", root, scratch / "stores", keep=True)
    files = sum(len(names) for _, _, names in os.walk(scratch / "stores" / "volumes"))
    row = {
        "pairs": count,
        "seconds_per_1000": round(first["seconds"] / count * 1000, 2),
        "again_seconds_per_1000": round(again["seconds"] / count * 1000, 2),
        "files_per_case": round(files / count, 1),
    }
    print("pictures", json.dumps(row), flush=True)
    return row


def main() -> None:
    """Run all, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("WORK", "PATH", "FOLDER"))
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--only", choices=("large", "memory", "many"))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.child:
        work, path, folder = asked.child
        child(work, Path(path), Path(folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        parts = {
            "large": lambda: large(scratch, asked.gib),
            "memory": lambda: memory(scratch),
            "many": lambda: many(scratch, asked.pictures),
        }
        wanted = [asked.only] if asked.only else list(parts)
        result = {
            "date": str(date.today()),
            "cores": CORES,
            "machine": platform.machine(),
            "gib": asked.gib,
            **{name: parts[name]() for name in wanted},
        }
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
