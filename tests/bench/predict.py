"""How fast is prediction, against MONAI's sliding window and against the network alone?

    .venv/bin/python -m tests.bench.predict [--part NAME] [--shape 256 256 128] [--out FILE]

The network is a batch-norm U-Net of 16 to 128 features with three classes and random weights, the
volume noise; both sides run it on the same volume in the same run. Parts:

speed    voxels per second against MONAI's ``sliding_window_inference`` (96³, overlap 0.5,
         Gaussian, float32), where a tile may be the whole volume
tight    the same in tiles of an eighth of the volume, and labels that differ from one pass
overlap  wall time of the whole stage, stores included, over the time of its forward passes
memory   peak memory of the stage for a volume, and for one eight times as large
huge     a volume of 1024 x 2048 x 2048 voxels, most of them of one value, labelled whole in a
         process that may take no more than 4 GiB (RLIMIT_DATA)
workers  one worker of one thread on one core against two on two, a volume sixteen times as large
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import Decision, UNet, UNetSettings, halo, total_stride
from pipeline.execute import ExecuteSettings
from pipeline.ingest.case import ingest_case
from pipeline.ingest.ingest import plan_ingest
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import discover_images
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.model_file import save_model
from pipeline.network_tiling import fitted
from pipeline.plan_file import Plan
from pipeline.predict import CaseToPredict, PredictSettings, predict_cases
from pipeline.processor import best_processor
from pipeline.space import Grid, Volume, Window
from pipeline.tiled import TiledNetwork, Tiling
from tests.bench.sides import ROOT
from tests.bench.training import processor_name
from tests.trained import random_network, small_plan

GOALS = {"speed": 5.0, "tight": 3.0, "overlap": 1.05, "memory": 1.05, "workers": 1.9, "huge": 1.0}
HUGE = (1024, 2048, 2048)
LIMIT = 4 * 2**30


def the_plan() -> Plan:
    """The network of the comparison, on scans of 1 mm."""
    network = UNetSettings(
        ndim=3,
        in_channels=1,
        out_channels=3,
        features=(16, 32, 64, 128),
        strides=((1,) * 3, *((2,) * 3,) * 3),
        kernels=((3,) * 3,) * 4,
    )
    return small_plan(3).model_copy(update={"network": network, "patch_shape": (96,) * 3})


def noise(shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Voxels, (1, *S)."""
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what it gives."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def monai_labels(model: Any, voxels: Any) -> Any:
    """Labels as MONAI's users make them."""
    from monai.inferers.utils import sliding_window_inference

    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(voxels)[None], (96,) * 3, 1, model, overlap=0.5, mode="gaussian"
        )
    return logits[0].argmax(0).numpy()


def in_tiles(voxels: Any, tile: tuple[int, ...] | None) -> TiledNetwork:
    """The network of the comparison over a volume; None: in one tile."""
    model = random_network(the_plan())
    processor = best_processor(3)
    stride = total_stride(model)
    whole = fitted(voxels.shape[1:], stride)
    tiling = Tiling("exact", stride, halo(model), tile or whole)
    placed = processor.place(model, 3)
    return TiledNetwork(placed, tiling, processor, Decision("softmax"), "uint8")


def filled(laid: TiledNetwork, voxels: Any) -> Any:
    """Labels of a volume in memory."""
    shape = voxels.shape[1:]
    return laid.fill(lambda w: voxels[(slice(None), *w.slices)], shape, Window.whole(shape))


def compared(shape: tuple[int, ...], *, eighth: bool) -> dict[str, Any]:
    """Voxels per second of both sides, in turns."""
    voxels = noise(shape)
    tile = tuple(n // 2 for n in shape) if eighth else None
    laid = in_tiles(voxels, tile)
    plain = random_network(the_plan())
    monai_labels(plain, voxels[:, :96, :96, :96])
    filled(laid, voxels[:, :96, :96, :96])
    ours, labels = timed(lambda: filled(laid, voxels))
    theirs, _ = timed(lambda: monai_labels(plain, voxels))
    again, _ = timed(lambda: filled(laid, voxels))
    row: dict[str, Any] = {
        "shape": list(shape),
        "tile": list(laid.tiling.tile),
        "halo": list(laid.tiling.halo),
        "precision": laid.processor.precision,
        "voxels_per_s": round(prod(shape) / min(ours, again)),
        "voxels_per_s_monai": round(prod(shape) / theirs),
        "ratio": round(2 * theirs / (ours + again), 2),
    }
    if eighth:
        shown = sum(
            laid.tiling.shown_voxels(t) for t in laid.tiling.tiles(Window.whole(shape), shape)
        )
        once, whole = timed(lambda: filled(in_tiles(voxels, None), voxels))
        row["redundancy"] = round(shown / prod(shape), 2)
        row["ratio_to_one_pass"] = round(once / min(ours, again), 3)
        row["different_labels"] = int(np.count_nonzero(labels != whole))
        exact = replace(laid, processor=replace(laid.processor, precision="float32"))
        one = replace(exact, tiling=replace(exact.tiling, tile=fitted(shape, laid.tiling.stride)))
        differ = filled(exact, voxels) != filled(one, voxels)
        row["different_labels_float32"] = int(np.count_nonzero(differ))
    return row


def taken(folder: Path, shape: tuple[int, ...]) -> CaseToPredict:
    """A volume store of noise of this shape, and where its mask goes."""
    import nibabel as nib

    source = folder / "scans" / f"{shape[0]}.nii"
    source.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(0).integers(0, 1000, shape[::-1], dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), source)
    names = ("rest", "one", "other")
    classes = tuple(
        ClassSettings(name=n, values=(i,), background=not i) for i, n in enumerate(names)
    )
    data = DataSettings(root=str(source.parent), layout="pairs", masks=None, classes=classes)
    (task,) = plan_ingest(data, discover_images([source], data), folder / "volumes", cores=1)
    ingest_case(task)
    store = next((folder / "volumes").glob(f"{shape[0]}*.zarr"))
    return CaseToPredict(store.stem, store, folder / "masks" / store.name)


def mostly_empty(folder: Path, shape: tuple[int, ...]) -> CaseToPredict:
    """A volume store of this shape whose middle, a 64th, is noise, and where its mask goes."""
    store = folder / "volumes" / "huge.zarr"
    grid = Grid(shape, tuple(map(tuple, np.eye(4).tolist())), "millimeter")
    writer = VolumeWriter(store, VolumeSpec(grid, "int16", ("0",), None))
    middle = Window(tuple(3 * n // 8 for n in shape), tuple(n // 4 for n in shape))
    rng = np.random.default_rng(0)
    for window in writer.windows():
        if window.intersection(middle).size:
            voxels = rng.integers(0, 1000, (1, *window.shape), np.int16)
            writer.write(window, Volume(voxels, grid.cropped(window)))
    moments = {"mean": 500.0, "std": 288.0, "percentiles": {}}
    writer.finish({"channels": [moments]}, "huge", [])
    return CaseToPredict("huge", store, folder / "masks" / store.name)


def stage(folder: Path, shape: tuple[int, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Predict one volume from its store to its mask, in this process, and say what it took."""
    made = mostly_empty if "limit" in options else taken
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:  # its memory is its own
        case = other.submit(made, folder, shape).result()
    if "limit" in options:
        resource.setrlimit(resource.RLIMIT_DATA, (options["limit"],) * 2)
    plan = the_plan()
    model = folder / "best.pt"
    state = random_network(plan).state_dict()
    save_model(model, state, plan, {"steps": 0, "position": 0, "val_score": None})
    passes: list[float] = []

    inside = UNet.inside

    def watched(self: UNet, *arguments: Any) -> Any:
        seconds, logits = timed(lambda: inside(self, *arguments))
        passes.append(seconds)
        return logits

    UNet.inside = watched  # type: ignore[method-assign]
    if "threads" in options:
        cores = options["threads"] * options["workers"]
        os.cpu_count = lambda: cores  # type: ignore[assignment]  # what workers share
        # A core for each: a worker reads and writes beside its network, and would take the other's.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    settings = PredictSettings(tile=options.get("tile"), memory_gb=options.get("memory_gb"))
    execute = ExecuteSettings(on=options.get("on", "serial"), workers=options.get("workers"))
    seconds, _ = timed(
        lambda: predict_cases(
            [case], settings, execute, run_name="bench", model=model, ledger=folder / "ledger"
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "forward_s": sum(passes), "peak_bytes": peak}


def apart(shape: tuple[int, ...], **options: Any) -> dict[str, Any]:
    """``stage`` in a process of its own."""
    job = json.dumps({"shape": shape, "options": options})
    command = [sys.executable, "-m", "tests.bench.predict", "--job", job]
    threads = options.get("threads")
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the parts, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=tuple(GOALS))
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 256, 256), metavar="N")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="default: results/predict-DATE.json")
    given = parser.parse_args()
    if given.job:
        job = json.loads(given.job)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(stage(Path(folder), tuple(job["shape"]), job["options"])))
        return
    shape = tuple(given.shape)

    large = tuple(2 * n for n in shape)

    def overlap() -> dict[str, Any]:
        found = apart(large, tile=[64, 128, 128])
        return {**found, "ratio": round(found["seconds"] / found["forward_s"], 3)}

    def memory() -> dict[str, Any]:
        one, eight = (apart(volume, memory_gb=0.5) for volume in (shape, large))
        times = eight["peak_bytes"] / one["peak_bytes"]
        return {"one": one, "eight": eight, "ratio": round(times, 3)}

    def workers() -> dict[str, Any]:
        options = {"on": "local", "tile": [128, 128, 128], "threads": 1}
        volume = (2 * large[0], *large[1:])
        one, two = (apart(volume, workers=n, **options) for n in (1, 2))
        return {"one": one, "two": two, "ratio": round(one["seconds"] / two["seconds"], 3)}

    def huge() -> dict[str, Any]:
        found = apart(HUGE, memory_gb=1.0, limit=LIMIT)
        ratio = round(found["peak_bytes"] / LIMIT, 3)
        return {**found, "voxels_per_s": round(prod(HUGE) / found["seconds"]), "ratio": ratio}

    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": lambda: compared(shape, eighth=False),
        "tight": lambda: compared(shape, eighth=True),
        "overlap": overlap,
        "memory": memory,
        "workers": workers,
        "huge": huge,
    }
    path = given.out or ROOT / f"tests/bench/results/predict-{date.today()}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    result |= {"processor": processor_name(), "cores": os.cpu_count(), "torch": torch.__version__}
    for name in [given.part] if given.part else list(parts):
        row = {"date": str(date.today()), "goal": GOALS[name], **parts[name]()}
        print(name, json.dumps(row), flush=True)
        result[name] = row
        path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
