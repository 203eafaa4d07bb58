"""The processes of one training: who they are, how they agree, how they are started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import TrainingError

TETHER = "SEGFLOW_TETHER"


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
    finally:
        if count > 1:
            dist.destroy_process_group()


def launch(
    module: str, job: dict[str, Any], processes: int, on_message: Callable[[dict[str, Any]], None]
) -> None:
    """Run a module under ``torch.distributed.run`` and wait for it.

    The processes are a group of their own, ended with this one: by signal when this process is
    interrupted or cancelled, and by a pipe that closes when it is killed.

    Args:
        module: Importable module; its first argument is the path of the job's file.
        job: JSON values for all processes.
        processes: How many on this machine.
        on_message: Called with every JSON object that a process prints on a line of its own.

    Raises:
        TrainingError: A process failed; the message is the first error's.
    """
    with tempfile.TemporaryDirectory(prefix="segflow-") as folder:
        job_file, error_file = Path(folder) / "job.json", Path(folder) / "error.json"
        job_file.write_text(json.dumps(job))
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", "--max-restarts=0", "-m", module, str(job_file)),
        ]
        last: deque[str] = deque(maxlen=20)
        with subprocess.Popen(
            command,
            env=_environment(processes, error_file),
            stdin=subprocess.PIPE,  # held open for as long as this process lives
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    _hear(line, last, on_message)
                code = process.wait()
            except BaseException:  # a cancelled flow raises what is no Exception
                _end_group(process)
                raise
        if code != 0:
            raise TrainingError(_first_error(error_file, last, code))


def _environment(processes: int, error_file: Path) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {
        **os.environ,
        # Explicit: a Dask cluster started earlier may have left 1 behind.
        "OMP_NUM_THREADS": str(threads),
        # Threads that spin while they wait rob the loaders, and stall when cores are shared.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONUNBUFFERED": "1",
        "TORCHELASTIC_ERROR_FILE": str(error_file),
        # The rendezvous is on this machine; names need not resolve.
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        TETHER: "1",
    }


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


def _end_group(process: subprocess.Popen[str]) -> None:
    for number, patience_s in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience_s)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _first_error(error_file: Path, last: deque[str], code: int) -> str:
    if error_file.exists():
        message: Any = json.loads(error_file.read_text())["message"]
        said = message["message"] if isinstance(message, dict) else message
        return str(said).removeprefix("TrainingError: ").removeprefix("ModelError: ")
    # torchrun frames its own account in rules; what a process said itself stands before it.
    said = [line for line in takewhile(lambda line: not line.startswith("====="), last) if line]
    heard = f" Its last words: {' | '.join(said)[-400:]}" if said else ""
    return f"a training process ended with code {code}; run the same command again to go on.{heard}"


def die_with_parent() -> None:
    """End this process when the one that launched it is gone, however it went.

    The launcher holds the other end of standard input and writes nothing: its end means that
    the launcher has died, and that nobody wants this process's work.
    """
    if os.environ.get(TETHER) != "1":
        return

    def watch() -> None:
        # The bare descriptor: a lock on sys.stdin would be held for ever in forked loaders.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
