import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.components import block_parts, grown_window, merge
from pipeline.components.linking import Linker
from pipeline.errors import GridError
from pipeline.space import Window, aligned_windows
from tests.components.masks import (
    NO_LABEL,
    blobs,
    brick_windows,
    cut,
    diagonal,
    found,
    hollow,
    is_outside,
    numbered,
    painted,
    snake,
)

MASKS = {
    "noise in 2-D": blobs((61, 47), smooth=0.6),
    "noise in 3-D": blobs((17, 22, 19), smooth=0.6),
    "noise with no data": blobs((15, 24, 18), nodata=0.2),
    "scene with no data": blobs((50, 64), nodata=0.2, seed=3),
    "snake in 2-D": snake((31, 29)),
    "snake in 3-D": snake((3, 21, 22)),
    "hollow balls": hollow((17, 18, 19)),
    "diagonals in 2-D": diagonal((16, 16)),
    "diagonals in 3-D": diagonal((12, 12, 12)),
    "thin first axis": blobs((1, 40, 33)),
    "thin last axis": blobs((40, 33, 1)),
    "one row": blobs((1, 70)),
    "one voxel": np.ones((1, 1, 1), np.uint8),
    "background alone": np.zeros((9, 14), np.uint8),
    "no data alone": np.full((9, 14), NO_LABEL, np.uint8),
}


def same(one, other):
    """Everything is equal but the blocks."""
    for name in ("label", "size", "first", "outside", "touching"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.counts is None) == (other.counts is None)
    assert one.counts is None or np.array_equal(one.counts, other.counts)
    assert (one.shape, one.background) == (other.shape, other.background)


def component_of_voxels(mask, components):
    return painted(mask, components, np.arange(len(components.label)), fill=-1)


@pytest.mark.parametrize("background", [0, 2, None])
@pytest.mark.parametrize("name", MASKS)
def test_components_are_those_of_the_whole_array(name, background):
    mask = MASKS[name]
    components = found(mask, (6, 7, 5)[-mask.ndim :], background)
    expected = numbered(mask, background)
    assert np.array_equal(component_of_voxels(mask, components), expected)
    held = expected >= 0
    assert np.array_equal(components.size, np.bincount(expected[held]))
    order = np.unique(expected, return_index=True)[1][int(not held.all()) :]
    assert np.array_equal(components.first, order)
    assert np.array_equal(components.label, mask.flat[order])


@pytest.mark.parametrize("name", MASKS)
def test_outside_components_reach_the_border_or_no_data(name):
    mask = MASKS[name]
    expected = numbered(mask)
    components = found(mask, (4, 5, 7)[-mask.ndim :])
    for number, outside in enumerate(components.outside[:60]):
        assert outside == is_outside(mask, expected == number)


@pytest.mark.parametrize("name", MASKS)
def test_background_and_class_components_that_share_a_face_are_told(name):
    mask = MASKS[name]
    number = numbered(mask)
    pairs = set()
    for axis in range(mask.ndim):
        moved = np.moveaxis(number, axis, 0)
        pairs |= set(zip(moved[:-1].flat, moved[1:].flat, strict=True))
    pairs |= {(b, a) for a, b in pairs}
    components = found(mask, (5, 3, 4)[-mask.ndim :])
    ground = components.label == 0
    expected = {(a, b) for a, b in pairs if a >= 0 and b >= 0 and ground[a] and not ground[b]}
    assert set(map(tuple, components.touching.tolist())) == expected
    assert len(components.touching) == len(expected)


@settings(max_examples=25)
@given(
    name=st.sampled_from(sorted(MASKS)),
    step=st.tuples(*[st.integers(1, 30)] * 3),
    order=st.randoms(use_true_random=False),
)
def test_any_partition_in_any_order_gives_the_same_numbers(name, step, order: random.Random):
    mask = MASKS[name]
    truth = np.roll(mask, 1)
    step = tuple(max(s, n // 5) for s, n in zip(step[-mask.ndim :], mask.shape, strict=True))
    blocks = list(cut(mask, aligned_windows(mask.shape, step), truth=truth))
    order.shuffle(blocks)
    same(merge(mask.shape, blocks), found(mask, truth=truth))


@pytest.mark.parametrize("name", ["noise in 2-D", "diagonals in 2-D", "snake in 2-D"])
def test_blocks_of_one_voxel_give_the_same_numbers(name):
    mask = MASKS[name][:20, :20]
    same(found(mask, (1, 1)), found(mask))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_one_voxel_thick_give_the_same_numbers(axis):
    mask = MASKS["noise with no data"]
    step = tuple(1 if i == axis else n for i, n in enumerate(mask.shape))
    same(found(mask, step), found(mask))


@pytest.mark.parametrize("name", MASKS)
def test_blocks_need_not_lie_on_a_grid(name):
    mask = MASKS[name]
    windows = brick_windows(mask.shape, (4, 6, 6)[-mask.ndim :])
    assert sum(window.size for window in windows) == mask.size
    same(merge(mask.shape, cut(mask, windows)), found(mask))


@pytest.mark.parametrize("turn", [1, -1])
def test_voxels_that_meet_at_a_corner_of_four_blocks_are_one_component(turn):
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 1] = mask[2, 2] = 1
    components = found(mask[:, ::turn], (2, 2))
    assert np.count_nonzero(components.label == 1) == 1


def test_voxels_of_the_grown_layer_alone_change_no_count():
    mask = np.zeros((4, 4), np.uint8)
    mask[:, 2] = 1
    (block, *_) = cut(mask, aligned_windows((4, 4), (2, 2)), truth=mask)
    assert block.size.tolist() == [4, 0]
    assert block.counts.tolist() == [[4, 0, 0, 0], [0, 0, 0, 0]]


def test_counts_are_those_of_truth_with_unknown_voxels_left_out():
    mask, truth = blobs((30, 28), seed=1), blobs((30, 28), seed=2, nodata=0.3)
    components = found(mask, (7, 9), truth=truth)
    number = numbered(mask)
    for i, counts in enumerate(components.counts):
        assert counts.tolist() == [np.count_nonzero(truth[number == i] == k) for k in range(4)]


def test_counting_in_slabs_changes_nothing(monkeypatch):
    mask = blobs((30, 7, 8))
    expected = found(mask, truth=mask)
    monkeypatch.setattr("pipeline.components.blocks.SLAB_VOXELS", 200)
    same(found(mask, truth=mask), expected)


def test_sixteen_bit_masks_have_the_components_of_eight_bit_ones():
    mask = MASKS["noise with no data"]
    wide = np.where(mask == NO_LABEL, 65535, mask * np.uint16(300)).astype(np.uint16)
    blocks = [
        block_parts(
            wide[grown_window(window, wide.shape).slices],
            window,
            wide.shape,
            background=0,
            no_label=65535,
            classes=1000,
        )
        for window in aligned_windows(wide.shape, (8, 8, 8))
    ]
    components, expected = merge(wide.shape, blocks), found(mask)
    assert np.array_equal(components.first, expected.first)
    assert np.array_equal(components.label, expected.label * np.uint16(300))


def test_a_block_is_small_to_send():
    mask = ndimage.zoom(blobs((9, 33, 33)), (1, 8, 8), order=0)
    (block, *_) = cut(mask, aligned_windows(mask.shape, (8, 256, 256)))
    assert len(pickle.dumps(block)) < 50_000


def test_faces_are_dropped_when_all_that_touch_them_have_come():
    mask = blobs((12, 12, 12))
    linker, held = Linker(), []
    for block in cut(mask, aligned_windows(mask.shape, (3, 4, 4))):
        linker.add(block.faces, 0)
        held.append(linker.waiting)
    assert held[-1] == 0
    assert max(held) < 40  # of 174 faces


def test_a_grown_window_ends_where_the_volume_does():
    assert grown_window(Window((0, 4), (2, 4)), (4, 8)) == Window((0, 4), (3, 4))
    for window in (Window((0, 6), (2, 4)), Window((0, 0), (0, 4))):
        with pytest.raises(GridError, match=r"empty or outside the volume of \(4, 8\)"):
            grown_window(window, (4, 8))


def test_blocks_that_do_not_make_up_the_volume_are_refused():
    mask = blobs((8, 8))
    blocks = list(cut(mask, aligned_windows((8, 8), (4, 4))))
    for wrong in (blocks[1:], blocks[:2] * 2, []):
        with pytest.raises(GridError, match=r"voxels of a volume of \(8, 8\): each voxel"):
            merge((8, 8), wrong)
    mixed = [*blocks[:3], *cut(mask, [blocks[3].window], background=None)]
    with pytest.raises(GridError, match="are not of one mask"):
        merge((8, 8), mixed)


def test_blocks_of_masks_with_other_validity_are_refused():
    mask = np.ones((4, 4), np.uint8)
    other = mask.copy()
    other[1:3] = NO_LABEL
    one, two = aligned_windows((4, 4), (2, 4))
    with pytest.raises(GridError, match="disagree on where there is data"):
        merge((4, 4), [*cut(mask, [one]), *cut(other, [two])])


def test_labels_and_truth_of_other_windows_are_refused():
    mask, window = blobs((8, 8)), Window((0, 0), (4, 4))
    known = {"background": 0, "no_label": NO_LABEL, "classes": 4}
    with pytest.raises(GridError, match=r"read its grown_window\(\), \(5, 5\)"):
        block_parts(mask[:4, :4], window, mask.shape, **known)
    with pytest.raises(GridError, match="read the block's own window"):
        block_parts(mask[:5, :5], window, mask.shape, truth=mask[:5, :5], **known)
