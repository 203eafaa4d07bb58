"""An array of a Zarr folder: what may be read of it, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.containers.arrays import MOST_BLOCK_BYTES, Slices, StoredArray

CODECS = (
    *("adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta"),
    *("fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits"),
    *("quantize", "sharding_indexed", "shuffle", "transpose", "zlib", "zstd"),
)
"""Codecs of numbers. Others unpickle, or make objects."""
METADATA = (".zarray", ".zattrs", "zarr.json")


def stored_array(path: Path, folder: Path, array: zarr.Array[Any], axes: str) -> StoredArray:
    """An open array, its codecs and chunks found to be harmless.

    Args:
        path: The Zarr folder, for messages.
        folder: The array's own.
        array: The array.
        axes: One letter per axis.

    Raises:
        CaseError: A codec is none of numbers, or a chunk is too large.
    """
    if strange := sorted(set(_codecs(array.metadata.to_dict())) - set(CODECS)):
        raise CaseError(
            f"{path.name} is packed with {strange[0]}, which is no codec of numbers.",
            "Save it again with blosc, zstd or gzip.",
        )
    size = prod(array.chunks) * array.dtype.itemsize
    # A chunk may be wider than its array; what is decoded is a whole chunk all the same.
    if size > MOST_BLOCK_BYTES:
        raise CaseError(
            f"{path.name} has chunks of {size} bytes: at most {MOST_BLOCK_BYTES} are read at once.",
            "Save it again in smaller chunks.",
        )
    chunks = tuple(min(c, n) for c, n in zip(array.chunks, array.shape, strict=True))
    fetch = partial(_fetch, array, folder)
    return StoredArray(tuple(array.shape), array.dtype, axes, fetch, chunks)


def refuse_empty(path: Path, folder: Path) -> None:
    """Refuse an array of which no chunk was ever written, whatever size it claims.

    Args:
        path: The Zarr folder, for messages.
        folder: The array's own.

    Raises:
        CaseError: Nothing lies beside its metadata.
    """
    if all(file.name in METADATA for file in folder.iterdir()):
        raise CaseError(
            f"{path.name} holds no voxel: none of its chunks is written.",
            "Copy the folder again from its source.",
        )


def _fetch(array: zarr.Array[Any], folder: Path, box: Slices) -> NDArray[Any]:
    # Zarr takes a shard of no bytes, which a crash leaves behind, for one never written.
    for shard in _shards(array, box):
        file = folder / array.metadata.encode_chunk_key(shard)
        if file.is_file() and file.stat().st_size == 0:
            raise EOFError(f"{file.name} is empty")
    return np.asarray(array[box])


def _shards(array: zarr.Array[Any], box: Slices) -> Iterator[tuple[int, ...]]:
    """Numbers of the shards that a box meets; of an array without shards none."""
    spans = [
        range(s.indices(n)[0] // size, -(-s.indices(n)[1] // size))
        for s, n, size in zip(box, array.shape, array.shards or (), strict=False)
    ]
    return product(*spans) if array.shards else iter(())


def _codecs(metadata: Any) -> Iterator[str]:
    """Names of all codecs of an array, those inside of shards included."""
    if not isinstance(metadata, Mapping):
        return
    chain = [
        *(metadata.get("filters") or ()),
        metadata.get("compressor"),
        *(metadata.get("codecs") or ()),
        *(metadata.get("index_codecs") or ()),
    ]
    for codec in chain:
        if isinstance(codec, Mapping):
            name = str(codec.get("name", codec.get("id")))
            yield name.removeprefix("numcodecs.")
            yield from _codecs(codec.get("configuration"))
