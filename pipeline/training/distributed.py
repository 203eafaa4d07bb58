"""The processes of one training: who they are, how they agree, how they are started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import TrainingError
from pipeline.training.failures import first_error, is_lost_peer, lost_peer, silence
from pipeline.training.tether import TETHER

START_S = 120.0
"""Seconds more than a process's own patience in which a training may be silent: it starts in
them, and a process that waits for another says so before its launcher gives up."""
BLAME_S = 3.0
"""Seconds a process waits when it has lost another, for the one at fault to be heard first."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    """This process, from 0."""
    count: int
    """All processes."""
    device: str
    """The device of this process."""

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all processes."""
        if self.count == 1:
            return model
        if self.device == "cpu":  # torch synchronises batch norm on GPUs only
            return DistributedDataParallel(model)
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(synchronised, device_ids=[torch.device(self.device).index])

    def gathering(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Average gradients over the processes only with the last part of a step."""
        if isinstance(wrapped, DistributedDataParallel) and not last:
            return wrapped.no_sync()
        return nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes, the same in each."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes, the same in each."""
        return self.total(value) / self.count

    def agree(self, value: int) -> int:
        """The first process's value, in all."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.int64, device=self.device)
        dist.broadcast(shared, src=0)
        return int(shared)


@contextmanager
def joined(device: str, timeout_minutes: float) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone where it did not.

    Args:
        device: ``cpu`` or ``cuda``.
        timeout_minutes: How long to wait for a process that hangs before failing.

    Raises:
        TrainingError: Another process has ended, or hangs.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if count > 1:
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
    try:
        yield Ranks(rank, count, device)
    except Exception as error:
        # The group is left as it is: to take it down can mean to wait for those that wait.
        if count > 1 and is_lost_peer(error):
            time.sleep(BLAME_S)
            raise TrainingError(lost_peer(rank, error, timeout_minutes)) from error
        raise
    if count > 1:
        dist.destroy_process_group()


@dataclass(frozen=True)
class Hosts:
    """The machines of a training."""

    count: int = 1
    """All of them."""
    number: int = 0
    """This one, from 0."""
    meet_at: str = ""
    """Host and port of number 0; of a machine alone, nothing."""

    def options(self, timeout_minutes: float) -> list[str]:
        """What tells torchrun of them, and how long to wait for those that are late."""
        if self.count == 1:
            return ["--standalone"]
        name, _, port = self.meet_at.rpartition(":")
        return [
            *(f"--nnodes={self.count}", f"--node-rank={self.number}"),
            *(f"--master-addr={name}", f"--master-port={port}"),
            f"--rdzv-conf=timeout={round(60 * timeout_minutes)}",
        ]


ALONE = Hosts()
"""This machine does it all."""


def launch(
    module: str,
    job: dict[str, Any],
    processes: int,
    on_message: Callable[[dict[str, Any]], None],
    timeout_minutes: float = 10.0,
    hosts: Hosts = ALONE,
) -> None:
    """Run a module under ``torch.distributed.run`` and wait for it.

    The processes are a group of their own, ended with this one: by signal when this process is
    interrupted or cancelled, and by a pipe that closes when it is killed.

    Args:
        module: Importable module; its first argument is the path of the job's file.
        job: JSON values for all processes.
        processes: How many on this machine.
        on_message: Called with every JSON object that a process prints on a line of its own.
        timeout_minutes: How long the processes wait for one that hangs, and a machine for others.
            Where nothing is heard of them for two minutes more, they are ended.
        hosts: The machines that do the same at the same time.

    Raises:
        TrainingError: A process failed, and the message is the first error's; or none gave a sign
            of life.
    """
    with tempfile.TemporaryDirectory(prefix="segflow-") as folder:
        job_file, error_file = Path(folder) / "job.json", Path(folder) / "error.json"
        job_file.write_text(json.dumps(job))
        command = [
            *(sys.executable, "-m", "torch.distributed.run", *hosts.options(timeout_minutes)),
            *(f"--nproc-per-node={processes}", "--max-restarts=0", "-m", module, str(job_file)),
        ]
        last: deque[str] = deque(maxlen=100)
        with subprocess.Popen(
            command,
            env={
                **os.environ,
                **environment(processes, alone=hosts.count == 1),
                "TORCHELASTIC_ERROR_FILE": str(error_file),
                TETHER: "1",
            },
            stdin=subprocess.PIPE,  # held open for as long as this process lives
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                for line in _lines(process.stdout, 60 * timeout_minutes + START_S):
                    _hear(line, last, on_message)
                code = process.wait()
            except BaseException:  # a cancelled flow raises what is no Exception
                _end_group(process)
                raise
        if code != 0:
            raise TrainingError(first_error(error_file, last, code))


KEPT = str(2**40)
"""Bytes: what glibc keeps for the next step instead of giving it back to the system."""


def environment(processes: int, *, alone: bool = True) -> dict[str, str]:
    """Variables with which a training process runs well beside others of its machine.

    Args:
        processes: How many of them there are.
        alone: Whether none is on another machine.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {
        # Explicit: a Dask cluster started earlier may have left 1 behind.
        "OMP_NUM_THREADS": str(threads),
        # The same goes for 64 KiB here. Tensors given back and asked for anew at every step come
        # as empty pages, whose faults took a tenth of a step, and with Dask's value a third.
        "MALLOC_TRIM_THRESHOLD_": KEPT,
        "MALLOC_MMAP_THRESHOLD_": KEPT,
        # Threads that spin while they wait rob the loaders, and stall when cores are shared.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONUNBUFFERED": "1",
        # Processes meet on this machine: names need not resolve.
        **({"GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")} if alone else {}),
    }


def _lines(pipe: IO[bytes], patience_s: float) -> Iterator[str]:
    """Lines as they are printed, until nobody is left who could print.

    Raises:
        TrainingError: Nothing came for so long.
    """
    rest = b""
    while select.select([pipe], [], [], patience_s)[0]:
        part = os.read(pipe.fileno(), 65536)
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if not part:
            yield rest.decode(errors="replace")
            return
    raise TrainingError(silence(patience_s))


def _hear(line: str, last: deque[str], on_message: Callable[[dict[str, Any]], None]) -> None:
    message = _message(line)
    if message is None:
        last.append(line.rstrip())
    else:
        on_message(message)


def _message(line: str) -> dict[str, Any] | None:
    """The JSON object on a line; None where a library printed something else."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # After 30 seconds torchrun kills processes that do not end; without it nobody would.
    for number, patience_s in ((signal.SIGTERM, 45), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
