"""A case is read once, in pieces that fill whole boxes."""

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.reading import READ_BYTES, plan_reads, whole_planes
from pipeline.io.layout import volume_boxes

shapes = st.lists(st.integers(1, 700), min_size=2, max_size=3).map(tuple)


@given(shapes, st.integers(1, 40), st.data())
def test_boxes_of_all_reads_cover_every_voxel_once(shape, voxel_bytes, data):
    block = tuple(data.draw(st.integers(1, n)) for n in shape)
    boxes = volume_boxes(shape, voxel_bytes)
    reads = plan_reads(shape, boxes.box, block, voxel_bytes)
    assert sum(box.size for read in reads for box in read.boxes) == prod(shape)
    assert sum(read.window.size for read in reads) == prod(shape)
    for read in reads:
        assert all(read.window.contains(box) for box in read.boxes)
        assert all(
            a % b == 0 for box in read.boxes for a, b in zip(box.start, boxes.box, strict=True)
        )


def test_slices_are_read_whole_though_boxes_are_narrower():
    boxes = volume_boxes((640, 1024, 1024), 2)
    reads = plan_reads((640, 1024, 1024), boxes.box, (1, 1024, 1024), 2)
    assert {read.window.shape for read in reads} == {(64, 1024, 1024)}
    assert [read.window.start[0] for read in reads] == list(range(0, 640, 64))


def test_a_stream_is_read_in_whole_planes():
    boxes = volume_boxes((100, 700, 700), 4)
    block = whole_planes((100, 700, 700), boxes.box)
    reads = plan_reads((100, 700, 700), boxes.box, block, 4)
    assert {read.window.shape[1:] for read in reads} == {(700, 700)}


def test_what_is_held_does_not_grow_with_the_file():
    shape = (50_000, 80_000)
    boxes = volume_boxes(shape, 8)
    reads = plan_reads(shape, boxes.box, (1, 80_000), 8)
    assert max(read.window.size * 8 for read in reads) <= READ_BYTES


@given(shapes, st.sampled_from(["uint8", "int16", "float32"]), st.sampled_from([1, 3, 13, 300]))
def test_a_box_is_whole_chunks_and_so_is_its_half(shape, dtype, channels):
    size = np.dtype(dtype).itemsize
    boxes = volume_boxes(shape, size * channels)
    for factors in ((1,) * len(shape), (2,) * len(shape), (1,) + (2,) * (len(shape) - 1)):
        level = boxes.coarser(factors)
        assert all(b % c == 0 for b, c in zip(level.box, level.chunk, strict=True))
        layout = level.layout(channels, dtype)
        if layout.shards is not None:
            assert layout.shards[0] >= channels
            assert all(s % c == 0 for s, c in zip(layout.shards, layout.chunks, strict=True))
    assert prod(boxes.box) * size * channels <= 64 * 2**20
