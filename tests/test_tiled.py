from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import (
    Decision,
    UNetSettings,
    build_model,
    fitting_shape,
    halo,
    margins,
    output_shape,
    total_stride,
)
from pipeline.network_tiling import pass_bytes, plan_tiling
from pipeline.space import Window, aligned_windows
from pipeline.tiled import (
    Processor,
    Tiling,
    best_processor,
    choose_tile,
    cpu_has_bfloat16,
    forward,
    predict_window,
    read_voxels,
    seam_mismatch,
)
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
    labels = predict_window(
        model, read, shape, Window.whole(shape), exact(model, tile), CPU, SOFTMAX
    )
    assert np.array_equal(labels, whole_pass(model, voxels, CPU))


@pytest.mark.parametrize("shape", [(37, 50, 41), (64, 20, 33), (5, 70, 6)])
@pytest.mark.parametrize("tile", [(16, 16, 16), (32, 8, 24)])
def test_tiles_of_any_size_give_the_labels_of_one_pass_in_3d(shape, tile):
    model = random_network(small_plan(3))
    voxels, read = noise(shape)
    labels = predict_window(
        model, read, shape, Window.whole(shape), exact(model, tile), CPU, SOFTMAX
    )
    assert np.array_equal(labels, whole_pass(model, voxels, CPU))


def test_a_halo_one_stride_too_narrow_does_change_labels():
    """The proof above could otherwise pass with a network that hardly looks around."""
    model = random_network(small_plan(2))
    voxels, read = noise((200, 200))
    narrow = Tiling("exact", (4, 4), (4, 4), (16, 16))
    box = Window.whole((200, 200))
    labels = predict_window(model, read, (200, 200), box, narrow, CPU, SOFTMAX)
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
    labels = predict_window(placed, read, shape, Window.whole(shape), tiling, processor, SOFTMAX)
    different = np.count_nonzero(labels != whole_pass(placed, voxels, processor))
    assert different <= prod(shape) * 1e-6  # DESIGN's promise 1: rounding ties only


def test_a_volume_labelled_in_parts_is_the_volume_labelled_at_once():
    model = random_network(small_plan(3))
    shape = (30, 41, 26)
    _, read = noise(shape)
    tiling = exact(model, (12, 12, 12))
    whole = predict_window(model, read, shape, Window.whole(shape), tiling, CPU, SOFTMAX)
    for box in aligned_windows(shape, (11, 17, 13)):
        part = predict_window(model, read, shape, box, tiling, CPU, SOFTMAX)
        assert np.array_equal(part, whole[box.slices])


def test_blended_tiles_do_not_depend_on_how_the_volume_is_cut():
    model = random_network(small_plan(2, norm="instance"))
    shape = (50, 61)
    _, read = noise(shape)
    tiling = Tiling("gaussian", (4, 4), (0, 0), (16, 16))
    whole = predict_window(model, read, shape, Window.whole(shape), tiling, CPU, SOFTMAX)
    for box in aligned_windows(shape, (23, 19)):
        assert np.array_equal(
            predict_window(model, read, shape, box, tiling, CPU, SOFTMAX), whole[box.slices]
        )


def test_the_self_test_counts_no_seam_for_exact_tiles_and_some_for_blended_ones():
    shape = (120, 120)
    _, read = noise(shape)
    model = random_network(small_plan(2))
    assert seam_mismatch(model, read, shape, exact(model, (64, 64)), CPU, SOFTMAX) == {
        "voxels": 14400,
        "different": 0,
    }
    blurred = random_network(small_plan(2, norm="instance"))
    blended = Tiling("gaussian", (4, 4), (0, 0), (32, 32))
    assert seam_mismatch(blurred, read, shape, blended, CPU, SOFTMAX)["different"] > 0


@given(
    largest=st.tuples(*[st.integers(1, 300)] * 3),
    voxels=st.integers(8**3, 200**3),
)
def test_a_chosen_tile_keeps_to_its_budget_and_to_the_stride(largest, voxels):
    stride, reach = (8, 8, 4), (8, 16, 8)
    tile = choose_tile(stride, reach, largest, voxels)
    limit = [-(-n // s) * s for n, s in zip(largest, stride, strict=True)]
    assert all(t % s == 0 for t, s in zip(tile, stride, strict=True))
    assert read_voxels(tile, reach, limit) <= voxels or tile == stride
    assert all(t <= n for t, n in zip(tile, limit, strict=True)) or tile == stride


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
    found = predict_window(model, read, shape, Window.whole(shape), tiling, CPU, SOFTMAX)
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
    whole = predict_window(model, read, shape, Window.whole(shape), tiling, CPU, SOFTMAX)
    for box in aligned_windows(shape, (32, 32)):
        part = predict_window(model, read, shape, box, tiling, CPU, SOFTMAX)
        assert np.array_equal(part, whole[box.slices])


@pytest.mark.parametrize("blend", ["exact", "gaussian"])
def test_values_and_regions_are_decided_voxel_by_voxel(blend):
    model = random_network(small_plan(2))
    shape = (50, 41)
    _, read = noise(shape)
    tiling = replace(exact(model, (16, 16)), blend=blend)
    box = Window.whole(shape)
    logits = forward(model, np.pad(read(box), ((0, 0), (0, 2), (0, 3)))[None], CPU)[0][:, :50, :41]
    values = predict_window(model, read, shape, box, tiling, CPU, Decision("linear", (), 5.0, 2.0))
    assert values.dtype == np.float32
    regions = Decision("sigmoid", ((False,) * 3, (True, False, True), (True, True, True)))
    labels = predict_window(model, read, shape, box, tiling, CPU, regions)
    if blend == "exact":
        np.testing.assert_allclose(values, logits[0].numpy() * 2 + 5, rtol=1e-5)
        scores = torch.stack([logits[0] * 0, logits[0] + logits[2], logits.sum(dim=0)])
        assert np.array_equal(labels, scores.argmax(dim=0).numpy())
    part = Window((8, 4), (30, 30))
    again = predict_window(model, read, shape, part, tiling, CPU, Decision("linear", (), 5.0, 2.0))
    np.testing.assert_array_equal(again, values[part.slices])


def test_where_an_exact_tile_does_not_fit_in_memory_tiles_are_blended_and_it_says_why():
    plan = small_plan(3)
    reach = halo(random_network(plan))
    roomy = plan_tiling(plan, "float32", memory_gb=1, largest=(256,) * 3)
    assert roomy.blend == "exact" and roomy.reason == ""
    voxels = prod(4 + 2 * h for h in reach)
    short = 0.9 * pass_bytes(plan, voxels, "float32") / 2**30
    tight = plan_tiling(plan, "float32", memory_gb=short, largest=(256,) * 3)
    assert (tight.blend, tight.tile) == ("gaussian", plan.patch_shape)
    assert "memory holds" in tight.reason and "reason" not in tight.to_json()
    # A volume smaller than the halo is passed whole, and needs no more.
    assert plan_tiling(plan, "float32", memory_gb=short, largest=(16,) * 3).blend == "exact"
