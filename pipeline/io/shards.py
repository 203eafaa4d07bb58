"""Boxes of sharded arrays on a local disk, decoded one chunk after the other.

Zarr hands every chunk to a thread and back, which costs several times what labels take to decode.
The arrays that segflow writes are all of one kind, and that one is read here: shards with their
index at the end, chunks packed by Blosc, a CRC-32C behind each. All others are left to Zarr.

Source: Zarr's sharding codec, zarr-specs.readthedocs.io, v3/codecs/sharding-indexed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import decompress
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import LocalStore

PACKED = (BytesCodec, BloscCodec, Crc32cCodec)
INDEX = (BytesCodec, Crc32cCodec)
ABSENT = 2**64 - 1
"""Where the index says a chunk lies that was not stored: it holds the fill value."""
SUM_BYTES = 4
ENTRY_BYTES = 16
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Shards:
    """A sharded array, as its files are."""

    folder: Path
    """Holds the files, ``c/0/1/2``."""
    shard: tuple[int, ...]
    """Shape of a shard."""
    chunk: tuple[int, ...]
    """Shape of a chunk."""
    dtype: np.dtype[Any]
    """Element type, little-endian."""
    fill: Any
    """Value of what is not stored."""

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Shards | None:
        """The files of an array; None where it is of another kind, or not on a local disk."""
        codecs: tuple[Any, ...] = array.metadata.codecs  # type: ignore[union-attr]
        if not isinstance(array.store, LocalStore) or len(codecs) != 1 or array.shards is None:
            return None
        known = (
            isinstance(codecs[0], ShardingCodec)
            and tuple(map(type, codecs[0].codecs)) == PACKED
            and tuple(map(type, codecs[0].index_codecs)) == INDEX
            and codecs[0].index_location.value == "end"
            and array.metadata.encode_chunk_key((0,)) == "c/0"
        )
        if not known:
            return None
        dtype = array.dtype.newbyteorder("<")
        folder = Path(array.store.root) / array.path
        return cls(folder, array.shards, array.chunks, dtype, array.fill_value)

    def read(self, start: tuple[int, ...], stop: tuple[int, ...]) -> NDArray[Any]:
        """Elements of a box inside the array.

        Args:
            start: First index on each axis.
            stop: First index behind it.

        Raises:
            ValueError: A file is cut short, or its checksums say that it is damaged.
            OSError: A file cannot be read.
        """
        values = np.empty([b - a for a, b in zip(start, stop, strict=True)], self.dtype)
        for place, wanted in _pieces(start, stop, self.shard):
            into = values[_moved(wanted, start)]
            try:
                file = self.folder.joinpath("c", *map(str, place)).open("rb")
            except FileNotFoundError:
                into[...] = self.fill
                continue
            with file:
                origin = tuple(p * n for p, n in zip(place, self.shard, strict=True))
                self._read_shard(file, _moved(wanted, origin), into)
        return values

    def _read_shard(self, file: BinaryIO, wanted: Box, into: NDArray[Any]) -> None:
        """Read a box of one shard."""
        counts = tuple(n // c for n, c in zip(self.shard, self.chunk, strict=True))
        index = self._index(file, counts)
        start, stop = tuple(s.start for s in wanted), tuple(s.stop for s in wanted)
        room = np.empty(self.chunk, self.dtype)
        for place, box in _pieces(start, stop, self.chunk):
            target = into[_moved(box, start)]
            offset, length = index[place]
            if offset == ABSENT:
                target[...] = self.fill
                continue
            file.seek(int(offset))
            decompress(_checked(file.read(int(length)), file.name), room)
            origin = tuple(p * n for p, n in zip(place, self.chunk, strict=True))
            target[...] = room[_moved(box, origin)]

    def _index(self, file: BinaryIO, counts: tuple[int, ...]) -> NDArray[np.uint64]:
        """Offset and length of every chunk of a shard, (*counts, 2)."""
        size = ENTRY_BYTES * int(np.prod(counts)) + SUM_BYTES
        if os.fstat(file.fileno()).st_size < size:
            raise ValueError(f"{file.name} is cut short: it has no index")
        file.seek(-size, os.SEEK_END)
        found = np.frombuffer(_checked(file.read(size), file.name), "<u8")
        return found.reshape(*counts, 2)


def _checked(data: bytes, name: str) -> bytes:
    """Data without the checksum behind it, which must be its own."""
    inner = data[:-SUM_BYTES]
    sum_ = int.from_bytes(data[-SUM_BYTES:], "little")
    if not inner or google_crc32c.value(inner) != sum_:
        raise ValueError(f"{name} is damaged: a checksum does not match")
    return inner


def _pieces(
    start: tuple[int, ...], stop: tuple[int, ...], unit: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], Box]]:
    """The units that a box touches: the place of each in their grid, and the box inside it."""
    spans = [
        [(n, slice(max(a, n * u), min(b, (n + 1) * u))) for n in range(a // u, -(-b // u))]
        for a, b, u in zip(start, stop, unit, strict=True)
    ]
    for pieces in product(*spans):
        yield tuple(n for n, _ in pieces), tuple(box for _, box in pieces)


def _moved(box: Box, origin: tuple[int, ...]) -> Box:
    """A box as seen from an origin."""
    return tuple(slice(s.start - o, s.stop - o) for s, o in zip(box, origin, strict=True))
