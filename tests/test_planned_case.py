"""Cases whose voxels are spaced otherwise than planned: cut, predicted and given back."""

import numpy as np
import pytest
import torch

from pipeline.execute import ExecuteSettings
from pipeline.io.manifest import usable_cases
from pipeline.io.mask_store import MaskStore
from pipeline.io.patch_store import PatchStore
from pipeline.io.volume_store import VolumeStore
from pipeline.native_logits import interpolate_logits
from pipeline.patches import PatchSettings, patch, plan_patches
from pipeline.planned_case import PlannedCase, predict_case
from pipeline.predict import CaseToPredict, PredictSettings, predict_cases
from pipeline.processor import best_processor
from pipeline.space import Window, aligned_windows
from pipeline.tiled import TiledNetwork, Tiling
from tests.trained import random_network, small_plan, write_model

SERIAL = ExecuteSettings(on="serial")
SHAPE = (22, 40, 36)
CPU = best_processor(3, "cpu", "float32")


@pytest.fixture
def plan():
    """A plan whose voxels lie 1.6 by 1.2 by 0.75 mm apart; the scans' 2 by 0.9 by 0.9."""
    return small_plan(3).model_copy(update={"spacing": (1.6, 1.2, 0.75), "resample": True})


@pytest.fixture
def taken(make_msd, take_in, tmp_path):
    """Two ingested scans and the folder they lie in."""
    take_in(make_msd(tmp_path / "data", cases=2, shape=SHAPE[::-1]), tmp_path)
    return tmp_path


def first(taken):
    row = usable_cases(taken / "manifest.jsonl")[0]
    return VolumeStore(taken / "volumes" / row.store)


def one_pass(model, case, plan):
    """Labels of the case's own grid from one pass over the whole resampled scan."""
    voxels = torch.from_numpy(case.read(Window.whole(case.shape)))
    pad = [n for size in reversed(case.shape) for n in (0, -size % 4)]
    with torch.inference_mode():
        logits = model(torch.nn.functional.pad(voxels, pad)[None])[0]
    logits = logits[(slice(None), *Window.whole(case.shape).slices)]
    whole = Window.whole(case.store.grid.shape)
    return interpolate_logits(logits, case.resampling, whole).argmax(dim=0).numpy()


def test_labels_of_a_resampled_case_are_those_of_one_pass_for_any_tile_and_window(taken, plan):
    case = PlannedCase.of(first(taken), plan)
    assert case.shape == (27, 30, 43) and case.store.grid.shape == SHAPE
    model = CPU.place(random_network(plan), 3)
    expected = one_pass(model, case, plan)
    assert len(np.unique(expected)) == 3
    for tile, boxes in (((8, 8, 8), (22, 17, 36)), ((16, 12, 28), (9, 40, 11))):
        tiling = Tiling("exact", (4,) * 3, (20,) * 3, tile)
        for window in aligned_windows(SHAPE, boxes):
            made = predict_case(TiledNetwork(model, tiling, CPU, plan.decision), case, window)
            differ = np.count_nonzero(made != expected[window.slices])
            assert differ <= 1e-5 * expected.size  # rounding ties in channels-last float32


def test_masks_are_on_the_scans_own_grid(taken, plan):
    model = write_model(taken, plan)
    rows = usable_cases(taken / "manifest.jsonl")
    cases = [
        CaseToPredict(r.id, taken / "volumes" / r.store, taken / f"masks/{r.id}.zarr") for r in rows
    ]
    settings = PredictSettings(tile=(12, 12, 12), precision="float32")
    done = predict_cases(
        cases, settings, SERIAL, run_name="test", model=model, ledger=taken / "ledger"
    )
    assert not done.refused
    network = CPU.place(random_network(plan), 3)
    for case, path in zip(cases, done.masks, strict=True):
        store, mask = VolumeStore(case.store), MaskStore(path)
        assert mask.grid == store.grid
        expected = one_pass(network, PlannedCase.of(store, plan), plan)
        differ = np.count_nonzero(mask.read(Window.whole(SHAPE)) != expected)
        assert differ <= 1e-5 * expected.size


def test_patches_are_cut_from_the_resampled_scan(taken, plan):
    rows = usable_cases(taken / "manifest.jsonl", ["train"])
    settings = PatchSettings(per_case=6)
    final = taken / "patches.zarr"
    patch(
        plan,
        settings,
        SERIAL,
        manifest=taken / "manifest.jsonl",
        volumes=taken / "volumes",
        final=final,
        ledger=taken / "patch.jsonl",
    )
    _, tasks = plan_patches(rows, taken / "volumes", plan, settings, final)
    placements = [p for task in tasks for p in task.placements]
    store = PatchStore(final)
    assert len(store) == len(placements) == 6 * len(rows)
    for number, placement in enumerate(placements):
        case = PlannedCase.of(VolumeStore(placement.store), plan)
        whole = Window.whole(case.shape)
        assert whole.contains(placement.window)
        found = store.read(number)
        voxels = case.read(whole)[(slice(None), *placement.window.slices)]
        np.testing.assert_array_equal(found.image, voxels.astype(np.float16))
        truth = case.volume.read_truth(whole)[placement.window.slices]
        np.testing.assert_array_equal(found.label, truth)


def test_the_voxel_a_patch_is_placed_on_lies_in_its_middle_part(taken, plan):
    """Where a class was seen on the scan's own grid, the planned patch shows it."""
    rows = usable_cases(taken / "manifest.jsonl", ["train"])
    settings = PatchSettings(per_case=8, foreground=1.0, margin=1.0)
    _, tasks = plan_patches(rows, taken / "volumes", plan, settings, taken / "p.zarr")
    for number, placement in enumerate(p for task in tasks for p in task.placements):
        truth = PlannedCase.of(VolumeStore(placement.store), plan).volume.read_truth(
            placement.window
        )
        assert 1 + number % 2 in truth


def test_blended_tiles_do_not_depend_on_the_box_asked_for(taken, plan):
    case = PlannedCase.of(first(taken), plan)
    model = CPU.place(random_network(plan), 3)
    tiling = Tiling("gaussian", (4,) * 3, (0,) * 3, (16, 16, 16))
    whole = Window.whole(case.shape)
    logits = TiledNetwork(model, tiling, CPU).fill(case.read, case.shape, whole)
    native = Window.whole(SHAPE)
    expected = interpolate_logits(torch.from_numpy(logits), case.resampling, native).argmax(dim=0)
    for window in (native, Window((3, 11, 5), (9, 20, 30))):
        made = predict_case(TiledNetwork(model, tiling, CPU, plan.decision), case, window)
        differ = np.count_nonzero(made != expected.numpy()[window.slices])
        assert differ <= 1e-5 * made.size
