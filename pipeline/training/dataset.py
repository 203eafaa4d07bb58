"""Patches in the order of training: position → augmented patch → batch.

The position, patches seen since the start, is the one clock. Which patch comes at a position and
how it is augmented follow from position and seed alone, so that neither the number of processes
nor an interruption changes what the network sees.

Patches are read one by one from the patch store, in an order over all of them. Measured on
hippocampus, one process (tests/bench/results/training-2026-11-22.json): 59 augmented patches/s so,
55 as windows of the volumes, 83 as whole shards that are mixed in memory, and 8 are learnt from on
two cores. Windows cost most, and those of resampled cases would be resampled every time. Whole
shards save what need not be paid at all from the second pass on, since patches stay in memory, and
they would tie the order to the shards.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pipeline.io.patch_store import Patch, PatchStore
from pipeline.training.transforms import Augment

MOST_WORKERS = 12
"""That prepare the patches of one training process, unless a number is set."""
HELD_BYTES = 2**30
"""Of stored patches in memory, over all processes that prepare those of one training process."""


class HeldPatches:
    """A patch store whose first patches to be read stay in memory, as far as there is room.

    Every pass reads each patch once, in an order of its own: which ones stay does not matter. To
    read one takes half as long as to augment it.

    Args:
        path: The patch store.
        room_bytes: What patches may take in memory.
    """

    def __init__(self, path: Path, room_bytes: int) -> None:
        self._store = PatchStore(path)
        self._room = room_bytes
        self._held: dict[int, Patch] = {}

    def read(self, number: int) -> Patch:
        """A patch; nobody may write into it."""
        if number in self._held:
            return self._held[number]
        patch = self._store.read(number)
        size = sum(values.nbytes for values in vars(patch).values() if values is not None)
        if size <= self._room:
            self._room -= size
            self._held[number] = patch
        return patch


class PatchDataset(Dataset[dict[str, Tensor | int]]):
    """Patches by position, augmented or as they are stored.

    Args:
        path: The patch store.
        augment: Makes the network's patch; None: that is somebody else's work.
        seed: Of order and augmentation.
        left_out: Cases whose patches are not among them.
    """

    def __init__(
        self, path: Path, augment: Augment | None, seed: int, left_out: Collection[str] = ()
    ) -> None:
        self._path = path
        self._augment = augment
        self._seed = seed
        self._store: HeldPatches | None = None
        self._numbers = PatchStore(path).numbers(left_out)
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, position: int) -> dict[str, Tensor | int]:
        """``image`` (C, *S), ``label`` (*S), maybe ``weight`` (*S), and patch ``number``.

        Not augmented: the same of the stored patch, P instead of S, and the ``seed`` that decides
        its augmentation.
        """
        if self._store is None:  # opened in the worker: no handle crosses a process border
            helpers = get_worker_info()
            readers = 1 if helpers is None else helpers.num_workers
            self._store = HeldPatches(self._path, HELD_BYTES // readers)
        number = self._number(position)
        seed = int(np.random.SeedSequence([self._seed, position]).generate_state(1)[0])
        patch = self._store.read(number)
        if self._augment is not None:
            return {**self._augment(patch, seed), "number": number}
        return {**_tensors(patch), "seed": seed, "number": number}

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


def _tensors(patch: Patch) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(values) for name, values in vars(patch).items() if values is not None
    }


def _patches(batch: dict[str, Tensor]) -> list[Patch]:
    """The stored patches that a batch was put together from."""
    arrays = {name: batch[name].numpy() for name in ("image", "label", "weight") if name in batch}
    count = len(arrays["image"])
    return [Patch(**{name: values[i] for name, values in arrays.items()}) for i in range(count)]


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


def augmented(stored: Batches, augment: Augment, device: torch.device | str) -> Batches:
    """Give batches of stored patches augmented on a device: the same batches as ``batches`` gives.

    Args:
        stored: Of a dataset that does not augment; closed with what is returned.
        augment: Makes the network's patches.
        device: Where that is done.
    """
    with closing(stored):
        for batch in stored:
            made = augment.batch(_patches(batch), batch["seed"].tolist(), device)
            yield {**made, "number": batch["number"]}


def loader_workers(asked: int | None, device: str, cores: int) -> int:
    """How many processes prepare the patches of one training process.

    Args:
        asked: By the settings; None: one for a network that learns on the cores itself, else what
            the cores allow, for they have nothing else to do.
        device: Where the network learns.
        cores: Of this training process.
    """
    if asked is not None:
        return asked
    return 1 if device == "cpu" else max(1, min(MOST_WORKERS, cores - 1))


def _as_helper(worker: int) -> None:
    # The training process has the cores: a helper runs where that leaves one idle.
    torch.set_num_threads(1)
    os.nice(10)
    # Told to stop, the training process ends its step and saves; it needs its workers until then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
