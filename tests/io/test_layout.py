"""Chunks and shards follow from shape and dtype."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.io.layout import SHARD_BYTES, SHARD_FROM_CHUNKS, choose_layout


@pytest.mark.parametrize(
    ("shape", "dtype", "chunks", "shards"),
    [
        ((40, 60, 40), "uint8", (40, 60, 40), None),
        ((512, 512), "uint8", (512, 512), None),
        ((256, 256, 256), "uint8", (64, 64, 64), None),
        ((1024, 1024, 1024), "uint8", (64, 64, 64), (256, 256, 512)),
        ((1024, 1024, 1024), "float32", (64, 64, 64), (128, 256, 256)),
        ((320, 320, 320), "uint8", (64, 64, 64), (256, 256, 320)),
        ((20_000, 20_000), "uint8", (512, 512), (4096, 8192)),
    ],
)
def test_small_arrays_have_chunks_and_large_ones_shards(shape, dtype, chunks, shards):
    layout = choose_layout(shape, dtype)
    assert (layout.chunks, layout.shards) == (chunks, shards)


@given(
    st.lists(st.integers(1, 3000), min_size=2, max_size=3).map(tuple),
    st.sampled_from(["uint8", "int16", "float32", "float64"]),
    st.sampled_from([None, 1, 3, 13, 200]),
)
def test_shards_are_whole_chunks_and_bounded(shape, dtype, channels):
    full = shape if channels is None else (channels, *shape)
    layout = choose_layout(full, dtype, channels=channels is not None)
    assert all(1 <= c <= n for c, n in zip(layout.chunks, full, strict=True))
    counts = [-(-n // c) for n, c in zip(full, layout.chunks, strict=True)]
    assert (layout.shards is None) == (prod(counts) <= SHARD_FROM_CHUNKS)
    if layout.shards is not None:
        assert all(s % c == 0 for s, c in zip(layout.shards, layout.chunks, strict=True))
        assert prod(layout.shards) * np.dtype(dtype).itemsize <= SHARD_BYTES
