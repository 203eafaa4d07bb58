"""Patches in the order of training: position → augmented patch.

The position, patches seen since the start, is the one clock. Which patch comes at a position and
how it is augmented follow from position and seed alone, so that neither the number of processes
nor an interruption changes what the network sees.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.io.patch_store import PatchStore
from pipeline.training.transforms import Augment


class PatchDataset(Dataset[dict[str, Tensor | int]]):
    """Augmented patches by position.

    Args:
        path: The patch store.
        augment: Makes the network's patch.
        seed: Of order and augmentation.
        left_out: Cases whose patches are not among them.
    """

    def __init__(
        self, path: Path, augment: Augment, seed: int, left_out: Collection[str] = ()
    ) -> None:
        self._path = path
        self._augment = augment
        self._seed = seed
        self._store: PatchStore | None = None
        self._numbers = PatchStore(path).numbers(left_out)
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, position: int) -> dict[str, Tensor | int]:
        """``image`` (C, *S), ``label`` (*S), maybe ``weight`` (*S), and patch ``number``."""
        if self._store is None:  # opened in the worker: no handle crosses a process border
            self._store = PatchStore(self._path)
        number = self._number(position)
        seed = int(np.random.SeedSequence([self._seed, position]).generate_state(1)[0])
        return {**self._augment(self._store.read(number), seed), "number": number}

    def __len__(self) -> int:
        """Patches of a pass; positions go on beyond it, pass after pass."""
        return len(self._numbers)

    def _number(self, position: int) -> int:
        """The patch at a position: every pass over the store has its own order."""
        turn, place = divmod(position, len(self))
        if self._order is None or self._order[0] != turn:
            order = np.random.default_rng([self._seed, turn]).permutation(len(self))
            self._order = (turn, order)
        return int(self._numbers[self._order[1][place]])


class PositionSampler(Sampler[list[int]]):
    """Batches of positions for one process, from a position on, without end.

    A step's batch is dealt into ``ranks * parts`` parts that each take every so many-th position:
    two processes, and one process that takes two parts, see the same parts.

    Args:
        start: First position, a multiple of the batch.
        batch: Patches per step, over all processes and parts.
        rank: This process.
        ranks: Processes.
        parts: Batches that a process goes through in a step.
    """

    def __init__(self, start: int, batch: int, rank: int, ranks: int, parts: int = 1) -> None:
        self._start, self._batch = start, batch
        self._firsts = range(rank, ranks * parts, ranks)
        self._step = ranks * parts

    def __iter__(self) -> Iterator[list[int]]:
        position = self._start
        while True:
            for first in self._firsts:
                yield list(range(position + first, position + self._batch, self._step))
            position += self._batch


Batches = Generator[dict[str, Tensor], None, None]
"""Batches of patches; closed, its processes end."""


def batches(
    dataset: PatchDataset,
    sampler: PositionSampler,
    *,
    workers: int = 0,
    timeout_minutes: float = 0.0,
    pin: bool = False,
) -> Batches:
    """Give batches that are prepared ahead of the training loop.

    Close it: its processes take no SIGTERM, and an interpreter that ends waits for them.

    Args:
        dataset: The patches.
        sampler: Which come when.
        workers: Processes that prepare them; 0: the caller's own.
        timeout_minutes: How long one of these may take over a batch; 0: as long as it takes.
        pin: Whether batches lie in memory from which a GPU reads directly.

    Raises:
        RuntimeError: A process took too long.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        timeout=60 * timeout_minutes if workers else 0,
        pin_memory=pin,
        worker_init_fn=_as_helper,
    )
    yield from loader


def _as_helper(worker: int) -> None:
    # The training process has the cores: a helper runs where that leaves one idle.
    torch.set_num_threads(1)
    os.nice(19)
    # Told to stop, the training process ends its step and saves; it needs its workers until then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
