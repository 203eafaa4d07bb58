from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import (
    Decision,
    FlipMean,
    UNetSettings,
    build_model,
    fitting_shape,
    halo,
    margins,
    output_shape,
    total_stride,
)
from pipeline.errors import SettingsError
from pipeline.flat_windows import FlatResults
from pipeline.network_tiling import Need, choose_tile, fitted, pass_bytes, plan_tiling
from pipeline.processor import Processor, best_processor, cpu_has_bfloat16, forward
from pipeline.space import Window, aligned_windows, gaussian_weights, tile_windows
from pipeline.tiled import TiledNetwork, Tiling, seam_mismatch
from tests.trained import random_network, small_plan

CPU = Processor("cpu", "float32", channels_last=False)
SOFTMAX = Decision("softmax")


def noise(shape, seed=0):
    """Voxels of one channel, and the function that reads a window of them."""
    voxels = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return voxels, lambda window: voxels[(slice(None), *window.slices)]


def whole_pass(model, voxels, processor):
    """Labels of one pass over a volume padded with zeros to the stride of 4."""
    shape = voxels.shape[1:]
    padding = [(0, 0), *((0, -n % 4) for n in shape)]
    logits = forward(model, np.pad(voxels, padding)[None], processor)[0]
    labels = logits.argmax(dim=0).numpy()
    return labels[tuple(slice(n) for n in shape)]


def exact(model, tile):
    return Tiling("exact", total_stride(model), halo(model), tile)


@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 90)] * 2),
    tile=st.tuples(*[st.sampled_from([4, 12, 20, 32])] * 2),
)
def test_tiles_of_any_size_give_the_labels_of_one_pass_in_2d(shape, tile):
    model = random_network(small_plan(2))
    voxels, read = noise(shape)
    labels = TiledNetwork(model, exact(model, tile), CPU, SOFTMAX).fill(
        read, shape, Window.whole(shape)
    )
    assert np.array_equal(labels, whole_pass(model, voxels, CPU))


@pytest.mark.parametrize("shape", [(37, 50, 41), (64, 20, 33), (5, 70, 6)])
@pytest.mark.parametrize("tile", [(16, 16, 16), (32, 8, 24)])
def test_tiles_of_any_size_give_the_labels_of_one_pass_in_3d(shape, tile):
    model = random_network(small_plan(3))
    voxels, read = noise(shape)
    labels = TiledNetwork(model, exact(model, tile), CPU, SOFTMAX).fill(
        read, shape, Window.whole(shape)
    )
    assert np.array_equal(labels, whole_pass(model, voxels, CPU))


@pytest.mark.parametrize("shape", [(37, 51), (17, 30, 23)])
def test_tiles_of_an_image_and_its_mirror_images_are_exact_too(shape):
    network = random_network(small_plan(len(shape)))
    model = FlipMean(network, "softmax").eval()
    voxels, read = noise(shape)
    laid = TiledNetwork(model, exact(model, (8,) * len(shape)), CPU, SOFTMAX)
    labels = laid.fill(read, shape, Window.whole(shape))
    assert np.array_equal(labels, whole_pass(model, voxels, CPU))
    assert not np.array_equal(labels, whole_pass(network, voxels, CPU))


def test_a_halo_one_stride_too_narrow_does_change_labels():
    """The proof above could otherwise pass with a network that hardly looks around."""
    model = random_network(small_plan(2))
    voxels, read = noise((200, 200))
    narrow = Tiling("exact", (4, 4), (4, 4), (16, 16))
    box = Window.whole((200, 200))
    labels = TiledNetwork(model, narrow, CPU, SOFTMAX).fill(read, (200, 200), box)
    assert (labels != whole_pass(model, voxels, CPU)).any()


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this CPU has no bfloat16 instructions")
@pytest.mark.parametrize("ndim", [2, 3])
def test_tiles_are_exact_in_bfloat16_and_channels_last_too(ndim):
    model = random_network(small_plan(ndim))
    processor = best_processor(ndim, "cpu")
    assert processor.precision == "bfloat16"
    shape = (150, 131) if ndim == 2 else (60, 45, 52)
    voxels, read = noise(shape)
    placed = processor.place(model, ndim)
    tiling = exact(model, (16,) * ndim)
    labels = TiledNetwork(placed, tiling, processor, SOFTMAX).fill(read, shape, Window.whole(shape))
    different = np.count_nonzero(labels != whole_pass(placed, voxels, processor))
    assert different <= prod(shape) * 1e-6  # DESIGN's promise 1: rounding ties only


def test_a_volume_labelled_in_parts_is_the_volume_labelled_at_once():
    model = random_network(small_plan(3))
    shape = (30, 41, 26)
    _, read = noise(shape)
    tiling = exact(model, (12, 12, 12))
    whole = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, Window.whole(shape))
    for box in aligned_windows(shape, (11, 17, 13)):
        part = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, box)
        assert np.array_equal(part, whole[box.slices])


def test_blended_tiles_do_not_depend_on_how_the_volume_is_cut():
    model = random_network(small_plan(2, norm="instance"))
    shape = (50, 61)
    _, read = noise(shape)
    tiling = Tiling("gaussian", (4, 4), (0, 0), (16, 16))
    whole = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, Window.whole(shape))
    for box in aligned_windows(shape, (23, 19)):
        assert np.array_equal(
            TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, box), whole[box.slices]
        )


@pytest.mark.parametrize("shape", [(50, 61), (21, 40, 30)])
def test_blending_is_the_weighted_mean_of_all_tiles(shape):
    ndim = len(shape)
    model = random_network(small_plan(ndim, norm="instance"))
    voxels, read = noise(shape)
    tiling = Tiling("gaussian", (4,) * ndim, (0,) * ndim, (16,) * ndim)
    weights = gaussian_weights((16,) * ndim)
    total, divisor = np.zeros((3, *shape)), np.zeros(shape)
    for window in tile_windows(shape, (16,) * ndim, (8,) * ndim):
        part = (slice(None), *window.slices)
        logits = forward(model, voxels[part][None], CPU)[0].numpy()
        total[part] += logits * weights
        divisor[window.slices] += weights
    laid = TiledNetwork(model, tiling, CPU)
    logits = laid.fill(read, shape, Window.whole(shape))
    np.testing.assert_allclose(logits, total / divisor, rtol=1e-4, atol=1e-4)

    wanted = np.zeros(shape, bool)
    wanted[-10:, :9] = True
    some = laid.fill(read, shape, Window.whole(shape), wanted)
    assert np.array_equal(some[:, wanted], logits[:, wanted])
    assert not np.array_equal(some, logits)


def test_the_self_test_counts_no_seam_for_exact_tiles_and_some_for_blended_ones():
    shape = (120, 120)
    _, read = noise(shape)
    model = random_network(small_plan(2))
    assert seam_mismatch(
        TiledNetwork(model, exact(model, (64, 64)), CPU, SOFTMAX), read, shape
    ) == {
        "voxels": 14400,
        "different": 0,
    }
    blurred = random_network(small_plan(2, norm="instance"))
    blended = Tiling("gaussian", (4, 4), (0, 0), (32, 32))
    assert seam_mismatch(TiledNetwork(blurred, blended, CPU, SOFTMAX), read, shape)["different"] > 0


@given(
    largest=st.tuples(*[st.integers(1, 300)] * 3),
    unit=st.tuples(*[st.sampled_from([24, 64, 128])] * 3),
    budget=st.integers(8**3, 200**3),
)
def test_a_chosen_tile_keeps_to_its_budget_and_no_other_labels_with_less_work(
    largest, unit, budget
):
    stride, reach = (8, 8, 4), (8, 16, 8)
    limit = fitted(largest, stride)

    def needs(tile):
        shown = prod(min(t + 2 * r, n) for t, r, n in zip(tile, reach, limit, strict=True))
        return Need(shown, shown)

    tile = choose_tile(limit, unit, stride, needs, budget)
    if tile is None:
        assert needs(stride).bytes > budget
        return
    assert all(t % s == 0 and t <= n for t, s, n in zip(tile, stride, limit, strict=True))
    assert needs(tile).bytes <= budget
    if needs(limit).bytes <= budget:
        assert prod(limit) / needs(limit).work <= prod(tile) / needs(tile).work


def test_evaluation_leaves_no_gradient_behind():
    model = random_network(small_plan(2))
    logits = forward(model, np.zeros((1, 1, 8, 8), np.float32), CPU)
    assert not logits.requires_grad
    assert logits.dtype == torch.float32


def unpadded(tile, norm="none"):
    """A network that loses voxels at every convolution, and how it is laid over volumes."""
    network = UNetSettings(
        ndim=2,
        in_channels=1,
        out_channels=3,
        features=(4, 8, 8),
        strides=((1, 1), (2, 2), (2, 2)),
        kernels=((3, 3),) * 3,
        norm=norm,
        downsampling="max_pool",
        padding="valid",
    )
    torch.manual_seed(0)
    lost = margins(network)
    smallest = output_shape(network, fitting_shape(network, (1, 1)))
    return build_model(network).eval(), Tiling("exact", (4, 4), (0, 0), tile, lost, smallest)


@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 90)] * 2),
    tile=st.tuples(*[st.sampled_from([4, 12, 20, 32])] * 2),
)
def test_an_unpadded_network_sees_the_volume_mirrored_whatever_the_tile(shape, tile):
    model, tiling = unpadded(tile)
    voxels, read = noise(shape)
    found = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, Window.whole(shape))
    lost, filled = tiling.margin[0], tiling.fitting(shape)
    sides = [(lost, m - n + lost) for n, m in zip(shape, filled, strict=True)]
    logits = forward(model, np.pad(voxels, [(0, 0), *sides], mode="reflect")[None], CPU)[0]
    whole = logits.argmax(dim=0).numpy()[tuple(slice(n) for n in shape)]
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("blend", ["exact", "gaussian"])
def test_boxes_of_an_unpadded_network_are_those_of_the_whole(blend):
    model, tiling = unpadded((20, 20), norm="none" if blend == "exact" else "instance")
    tiling = replace(tiling, blend=blend, tile=tiling.fitting((20, 20)))
    shape = (70, 61)
    _, read = noise(shape)
    whole = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, Window.whole(shape))
    for box in aligned_windows(shape, (32, 32)):
        part = TiledNetwork(model, tiling, CPU, SOFTMAX).fill(read, shape, box)
        assert np.array_equal(part, whole[box.slices])


@pytest.mark.parametrize("blend", ["exact", "gaussian"])
def test_values_and_regions_are_decided_voxel_by_voxel(blend):
    model = random_network(small_plan(2))
    shape = (50, 41)
    _, read = noise(shape)
    tiling = replace(exact(model, (16, 16)), blend=blend)
    box = Window.whole(shape)
    logits = forward(model, np.pad(read(box), ((0, 0), (0, 2), (0, 3)))[None], CPU)[0][:, :50, :41]
    values = TiledNetwork(model, tiling, CPU, Decision("linear", (), 5.0, 2.0)).fill(
        read, shape, box
    )
    assert values.dtype == np.float32
    regions = Decision("sigmoid", ((False,) * 3, (True, False, True), (True, True, True)))
    labels = TiledNetwork(model, tiling, CPU, regions).fill(read, shape, box)
    if blend == "exact":
        np.testing.assert_allclose(values, logits[0].numpy() * 2 + 5, rtol=1e-5)
        scores = torch.stack([logits[0] * 0, logits[0] + logits[2], logits.sum(dim=0)])
        assert np.array_equal(labels, scores.argmax(dim=0).numpy())
    part = Window((8, 4), (30, 30))
    again = TiledNetwork(model, tiling, CPU, Decision("linear", (), 5.0, 2.0)).fill(
        read, shape, part
    )
    np.testing.assert_array_equal(again, values[part.slices])


def test_where_an_exact_tile_does_not_fit_in_memory_tiles_are_blended_and_it_says_why():
    plan = small_plan(3)
    reach = halo(random_network(plan))
    roomy = plan_tiling(plan, "float32", memory_gb=1, largest=(256,) * 3)
    assert roomy.blend == "exact" and roomy.reason == ""
    one = Tiling("exact", (4,) * 3, reach, (4,) * 3)
    short = 0.9 * pass_bytes(plan, one, (256,) * 3, "float32") / 2**30
    plan = plan.model_copy(update={"patch_shape": (8,) * 3})  # which needs less
    tight = plan_tiling(plan, "float32", memory_gb=short, largest=(256,) * 3)
    assert (tight.blend, tight.tile) == ("gaussian", plan.patch_shape)
    assert "memory holds" in tight.reason and "reason" not in tight.to_json()
    # A volume smaller than the halo is passed whole, and needs no more.
    assert plan_tiling(plan, "float32", memory_gb=short, largest=(16,) * 3).blend == "exact"


def counted(monkeypatch):
    """Windows that the network is shown from now on."""
    shown = []

    def counting(model, batch, *rest):
        shown.append(batch.shape[2:])
        return forward(model, batch, *rest)

    monkeypatch.setattr("pipeline.tiled.forward", counting)
    return shown


def test_tiles_without_a_voxel_that_matters_are_not_computed(monkeypatch):
    model = random_network(small_plan(2))
    _, read = noise((64, 64))
    shown, box = counted(monkeypatch), Window.whole((64, 64))
    laid = TiledNetwork(model, exact(model, (32, 32)), CPU, SOFTMAX)
    whole = laid.fill(read, box.shape, box)
    assert len(shown) == 4
    wanted = np.zeros(box.shape, np.bool_)
    wanted[40, 3] = True
    made = laid.fill(read, box.shape, box, wanted)
    assert len(shown) == 5
    assert np.array_equal(made[32:, :32], whole[32:, :32]) and not made[:32].any()
    assert not laid.fill(read, box.shape, box, wanted & False).any() and len(shown) == 5


def test_flat_surroundings_are_computed_once_and_right(monkeypatch):
    model = random_network(small_plan(2))
    shape = (400, 36)
    voxels = np.full((1, *shape), 0.7, np.float32)
    voxels[:, :9, 3:20] = np.random.default_rng(0).normal(size=(9, 17))
    laid = TiledNetwork(model, exact(model, (20, 20)), CPU, SOFTMAX, "uint8")
    shown = counted(monkeypatch)
    made = laid.fill(lambda w: voxels[(slice(None), *w.slices)], shape, Window.whole(shape))
    assert made.dtype == np.uint8
    assert np.array_equal(made, whole_pass(model, voxels, CPU))
    # Tiles that see the noise, and of the others one for each way they meet the borders.
    assert len(shown) < 20 < 2 * 400 // 20


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_tile_of_other_axes_than_the_plan_is_refused(padding):
    plan = small_plan(2)
    network = plan.network.model_copy(update={"padding": padding, "downsampling": "max_pool"})
    with pytest.raises(SettingsError, match="has 3 axes, the plan 2"):
        plan_tiling(plan.model_copy(update={"network": network}), "float32", tile=(8, 8, 8))


def test_of_flat_windows_the_latest_are_kept_and_one_value_takes_no_room():
    kept = FlatResults()
    for number in range(200):
        kept.keep(number, np.full((256, 256, 64), number, np.uint8), 3)
    assert all((kept.find(number) == number).all() for number in range(200))
    rough = np.zeros((256, 256, 64), np.uint8)  # 4 MiB
    rough[0] = 1
    for number in range(40):
        kept.keep(-number, rough, 3)
        assert kept.find(199) is not None
    assert kept.find(0) is None and kept.find(-5) is None
    assert kept.find(-39) is rough
    channels = np.broadcast_to(np.arange(9).reshape(9, 1, 1), (9, 4096, 4096))
    kept.keep("channels", channels.copy(), 2)
    assert (kept.find("channels") == channels).all() and kept.find(-39) is rough


def test_exact_tiles_that_do_not_fit_are_refused_where_they_are_asked_for():
    with pytest.raises(SettingsError, match="the smallest exact tile needs .* a pass may hold"):
        plan_tiling(small_plan(3), "float32", 1e-6, largest=(200,) * 3, blend="exact")


def test_a_tile_that_is_asked_for_keeps_to_the_limit_too():
    with pytest.raises(SettingsError, match="holds no tile: the smallest pass that is left"):
        plan_tiling(small_plan(3), "float32", 1e-3, (512,) * 3, largest=(600,) * 3)
