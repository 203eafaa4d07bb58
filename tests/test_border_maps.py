"""Border weights of windows, and the patches that carry them."""

import numpy as np
import pytest

from models import preset
from models.losses import BorderSettings, CrossEntropySettings, border_weights, instances_of
from pipeline.border_maps import voxel_weights
from pipeline.execute import ExecuteSettings
from pipeline.io.ngff import LabelClass
from pipeline.io.patch_store import PatchStore
from pipeline.io.planned_volume import PlannedVolume
from pipeline.io.volume_store import VolumeStore
from pipeline.io.volume_writer import VolumeSpec, VolumeWriter
from pipeline.patches import PatchSettings, patch
from pipeline.plan_file import Plan
from pipeline.space import Volume, Window, voxel_grid
from tests.trained import small_plan

CLASSES = (LabelClass(0, "background", True), LabelClass(1, "cell"), LabelClass(2, "tumour"))
BORDER = CrossEntropySettings(border=BorderSettings(w0=8, sigma=2), class_weights=(0.5, 2, 3))


def planned(**changes) -> Plan:
    fields = small_plan(2).model_dump() | {"loss": BORDER} | changes
    return Plan.model_validate(fields)


def blobs(shape=(90, 80), count=60):
    """Numbered discs that touch and overlap, as cells do."""
    random = np.random.default_rng(0)
    y, x = np.indices(shape)
    numbers = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        cy, cx, r = random.integers(0, shape[0]), random.integers(0, shape[1]), random.uniform(2, 5)
        numbers[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = number
    return numbers


def write_case(path, numbers, truth=None, numbered=True):
    shape = numbers.shape
    image = numbers[None].astype(np.float32)
    truth = (numbers > 0).astype(np.uint8) if truth is None else truth
    dtype = str(numbers.dtype) if numbered else None
    spec = VolumeSpec(voxel_grid(shape), "float32", ("0",), CLASSES, instances=dtype)
    writer = VolumeWriter(path, spec)
    for window in writer.windows():
        part = Volume(image[(slice(None), *window.slices)], spec.grid.cropped(window), None)
        writer.write(window, part, truth[window.slices], numbers[window.slices] if dtype else None)
    writer.finish({"valid_voxels": 1}, "key", [])
    store = VolumeStore(path)
    return PlannedVolume.at_spacing(store, store.grid.spacing)


def test_the_map_of_a_window_is_cut_out_of_that_of_the_whole(tmp_path):
    numbers = blobs()
    truth = np.where(numbers == 0, 0, 1 + numbers % 2).astype(np.uint8)
    truth[40:44] = 255
    case = write_case(tmp_path / "a.zarr", numbers, truth)
    whole = border_weights(numbers, w0=8, sigma=2, class_weights=(0.5, 2, 3), labels=truth)
    assert whole.max() > 5
    for start, shape in [((0, 0), (90, 80)), ((13, 9), (30, 41)), ((60, 70), (30, 10))]:
        window = Window(start, shape)
        # What lies further than the reach changes a weight by a millionth of w0 at most.
        found = voxel_weights(case, window, planned())
        np.testing.assert_allclose(found, whole[window.slices], atol=2e-5)


def test_objects_that_nobody_numbered_are_the_connected_parts(tmp_path):
    numbers = blobs()
    case = write_case(tmp_path / "a.zarr", numbers, numbered=False)
    window = Window((20, 20), (40, 40))
    parts = instances_of(numbers > 0)
    whole = border_weights(parts, w0=8, sigma=2, class_weights=(0.5, 2, 3))
    found = voxel_weights(case, window, planned())
    np.testing.assert_allclose(found, whole[window.slices], atol=2e-5)


@pytest.mark.parametrize("network", [None, "unet-2015"])
def test_patches_carry_the_map_and_what_an_unpadded_network_looks_at(
    make_pairs, take_in, tmp_path, network
):
    take_in(make_pairs(tmp_path / "data", side=64), tmp_path / "run")
    changes = {}
    if network:
        own = preset(network, 2, 3, 3)
        changes = {"network": own, "patch_shape": (188, 188)}
    else:
        changes = {"network": small_plan(2, channels=3).network}
    plan = planned(channels=("0", "1", "2"), **changes)
    patch(
        plan,
        PatchSettings(per_case=4),
        ExecuteSettings(on="serial"),
        manifest=tmp_path / "run/manifest.jsonl",
        volumes=tmp_path / "run/volumes",
        final=tmp_path / "p.zarr",
        ledger=tmp_path / "ledger.jsonl",
    )
    store = PatchStore(tmp_path / "p.zarr")
    for number in range(len(store)):
        found = store.read(number)
        known = found.label != 255
        assert found.weight is not None and (found.weight[known] >= 0.5).all()
        assert not found.weight[~known].any()
        outside = ~known
        if network:  # mirrored: what lies outside is an image like any other
            assert outside.any() and found.image[:, outside].astype("f4").std() > 0.1
        else:
            assert not found.image[:, outside].any()


def test_a_voxel_of_the_border_can_be_the_middle_of_an_unpadded_patch(
    make_pairs, take_in, tmp_path
):
    """Else what lies at the border of images would never be learnt."""
    take_in(make_pairs(tmp_path / "data", side=64), tmp_path / "run")
    plan = planned(
        channels=("0", "1", "2"), network=preset("unet-2015", 2, 3, 3), patch_shape=(204, 204)
    )
    patch(
        plan,
        PatchSettings(per_case=30, margin=1),
        ExecuteSettings(on="serial"),
        manifest=tmp_path / "run/manifest.jsonl",
        volumes=tmp_path / "run/volumes",
        final=tmp_path / "p.zarr",
        ledger=tmp_path / "ledger.jsonl",
    )
    store = PatchStore(tmp_path / "p.zarr")
    middle = (slice(92, -92), slice(92, -92))
    labelled = [store.read(n).label[middle] for n in range(len(store))]
    assert all((part != 255).all() for part in labelled)  # nothing is wasted on what has no label
    starts = [store.read(n).label[92, 92 - 1] == 255 for n in range(len(store))]
    assert any(starts) and not all(starts)
