"""Run one kernel over many tasks: here, on local Dask workers, or on a Dask scheduler.

The kernel and the tasks are the same everywhere, so that a test can run them serially and a
night on a cluster, with equal results.
"""

from __future__ import annotations

import atexit
import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from functools import cache
from itertools import islice
from queue import Empty, Queue, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import CaseError, ExecutionError

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

logger = logging.getLogger(__name__)
Task = TypeVar("Task")
Row = TypeVar("Row")
GPU = "GPU"
"""Dask's resource of workers that have one."""
Progress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, note)``; total 0: unknown."""


def silent(stage: str, done: int, total: int, note: str) -> None:
    """A Progress that says nothing."""


class ExecuteSettings(BaseModel):
    """Where tasks run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    on: Annotated[str, Field(pattern=r"^(serial|local|[a-z]+://.+)$")] = "local"
    """``serial`` (this process), ``local`` (Dask workers on this machine), or the address of a
    Dask scheduler, ``tcp://host:port``. Where some of its workers offer the resource ``GPU``
    (``dask worker --resources GPU=1``), networks run on those alone."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Local Dask workers; null: one per core."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory limit of each local worker; null: the machine's memory, divided."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 120.0
    """How long workers may all be busy without one task that ends, before those left are given up:
    nothing waits for ever on a worker that hangs."""

    @property
    def cores(self) -> int:
        """Local workers, or the machine's cores."""
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True)
class Done(Generic[Task, Row]):
    """A task's end: a row, or what went wrong."""

    task: Task
    """The task."""
    row: Row | None
    """What the kernel returned; None where it raised."""
    error: CaseError | None = None
    """Why the case is refused; the other tasks go on."""
    trace: str = ""
    """The traceback behind the error, for ``--debug``."""


def run_tasks(
    kernel: Callable[[Task], Row],
    tasks: Sequence[Task],
    settings: ExecuteSettings,
    in_hand: int = 1,
    *,
    on_gpu: bool = False,
) -> Iterator[Done[Task, Row]]:
    """Run a kernel over tasks and yield each as it ends, in any order.

    A task that raises does not stop the others. A CaseError is the input's fault and is never
    retried; any other exception becomes a CaseError that names it, so that one bad case cannot
    stop a night.

    Args:
        kernel: A function importable on the workers; idempotent, since a worker may die after
            finishing a task and before saying so.
        tasks: Frozen, picklable values.
        settings: Where to run.
        in_hand: How many tasks are at work at a time, where they run in this process: threads, for
            kernels that mostly wait for something that they share.
        on_gpu: Whether a task is for a GPU, where a scheduler has workers that offer one.

    Raises:
        ExecutionError: The Dask scheduler cannot be reached.
    """
    if settings.on != "serial" and len(tasks) > 1:
        yield from _run_on_dask(kernel, tasks, settings, on_gpu)
    elif in_hand > 1:
        yield from _run_in_threads(kernel, tasks, in_hand, settings)
    else:
        yield from (_told(_attempt(kernel, task)) for task in tasks)


def _run_in_threads(
    kernel: Callable[[Task], Row], tasks: Sequence[Task], in_hand: int, settings: ExecuteSettings
) -> Iterator[Done[Task, Row]]:
    """Run tasks in threads that no exit waits for: one may hang on a file system for ever."""
    orders: SimpleQueue[tuple[Task, Future[Done[Task, Row]]] | None] = SimpleQueue()
    threads = [Thread(target=_serve, args=(kernel, orders), daemon=True) for _ in range(in_hand)]
    for thread in threads:
        thread.start()
    begun: deque[Future[Done[Task, Row]]] = deque()
    left, hanging = deque(tasks), False
    waiting = iter(tasks)
    try:
        while left and not hanging:
            for task in islice(waiting, in_hand - len(begun)):
                begun.append(Future())
                orders.put((task, begun[-1]))
            try:
                done = begun[0].result(settings.timeout_minutes * 60)
            except TimeoutError:
                hanging = True
            else:
                begun.popleft()
                left.popleft()
                yield _told(done)
        for task in left:
            yield Done(task, None, _hanging(settings))
    finally:
        for future in begun:
            future.cancel()
        for _ in threads:
            orders.put(None)
        if not hanging:
            for thread in threads:
                thread.join()


def _serve(
    kernel: Callable[[Task], Row],
    orders: SimpleQueue[tuple[Task, Future[Done[Task, Row]]] | None],
) -> None:
    while (order := orders.get()) is not None:
        task, future = order
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(_attempt(kernel, task))
        except BaseException as error:  # not a case's: raised where the result is awaited
            future.set_exception(error)


def _attempt(kernel: Callable[[Task], Row], task: Task) -> Done[Task, Row]:
    try:
        return Done(task, kernel(task))
    except CaseError as error:
        # Without its cause: a library's exception may not survive the way from a worker.
        plain = CaseError(error.reason, error.remedy)
        return Done(task, None, plain, traceback.format_exc())
    except Exception as error:  # one bad case never stops the night
        return Done(task, None, unexpected(error), traceback.format_exc())


def _told(done: Done[Task, Row]) -> Done[Task, Row]:
    """Keep the traceback behind a refusal for ``--debug``."""
    if done.trace:
        logger.debug("%s", done.trace)
    return done


def unexpected(error: BaseException) -> CaseError:
    """An error that is not the input's, as the refusal of the case it struck."""
    if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return CaseError(
            f"the disk is full{where}.",
            "Make room, then run the same command again: what is finished stays finished.",
        )
    if type(error).__name__ == "KilledWorker":  # Dask is imported where it is used
        return CaseError(
            "every worker that took this task died of it: killed by the system, most likely for "
            "want of memory.",
            "Lower predict.memory_gb, or execute.workers so that each has more, and run the same "
            "command again.",
        )
    said = " ".join(str(error).split())[:300]
    return CaseError(
        f"an unexpected error struck: {type(error).__name__}: {said}.",
        "Run the stage again with --debug and report what it prints.",
    )


def _run_on_dask(
    kernel: Callable[[Task], Row], tasks: Sequence[Task], settings: ExecuteSettings, on_gpu: bool
) -> Iterator[Done[Task, Row]]:
    from distributed import as_completed

    local = settings.on == "local"
    place = settings.on, settings.cores if local else 0, settings.memory_gb
    client = _client(*place)
    if client.status == "closed":  # its scheduler went; there may be another by now
        _client.cache_clear()
        client = _client(*place)
    # pure=False: two equal tasks are two tasks. Dask tries a task again when its worker dies
    # (distributed.scheduler.allowed-failures); what the kernel raises, _attempt returns, so
    # bad input is never tried again.
    wanted = {GPU: 1} if on_gpu and _offers_gpu(client) else None
    submitted = [
        (client.submit(_attempt, kernel, task, pure=False, resources=wanted), task)
        for task in tasks
    ]
    left = {future.key: (future, task) for future, task in submitted}
    ended: Queue[DaskFuture] = Queue()
    # On its own client's loop: left to itself, it waits on that of the client made last, which may
    # have lost its scheduler meanwhile, and would wait for ever.
    waiting = as_completed([future for future, _ in submitted], loop=client.loop)
    del submitted
    Thread(target=_collect, args=(waiting, ended), daemon=True).start()
    try:
        while left:
            try:
                future = ended.get(timeout=settings.timeout_minutes * 60)
            except Empty:
                _give_up(client, [future for future, _ in left.values()], settings)
                tasks_left = [task for _, task in left.values()]
                left.clear()
                for task in tasks_left:
                    yield Done(task, None, _hanging(settings))
                return
            if future.cancelled():
                raise ExecutionError(
                    f"the Dask scheduler at {settings.on} has gone, and with it {len(left)} tasks: "
                    "look after it, then run the same command again"
                )
            _, task = left.pop(future.key)
            error = future.exception()
            done = future.result() if error is None else Done(task, None, unexpected(error))
            # Held, it would be computed again when the worker dies that has its result.
            future.release()
            del future
            yield _told(done)
    finally:
        client.cancel([future for future, _ in left.values()])


def _offers_gpu(client: Client) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["resources"].get(GPU, 0) >= 1 for worker in workers)


def _give_up(client: Client, futures: Sequence[DaskFuture], settings: ExecuteSettings) -> None:
    """Leave tasks that do not end; a local worker goes with its process, if that can be killed."""
    client.cancel(futures)
    if settings.on == "local":
        with suppress(TimeoutError, OSError):
            client.restart()


def _collect(waiting: Iterable[DaskFuture], ended: Queue[DaskFuture]) -> None:
    """Hand on tasks as they end, and keep none."""
    for future in waiting:
        ended.put(future)
        del future


def _hanging(settings: ExecuteSettings) -> CaseError:
    return CaseError(
        f"no task ended in {settings.timeout_minutes:g} minutes: a worker hangs, perhaps on a file "
        "system that does not answer.",
        "Look at the disks and the workers, then run the same command again: what is finished "
        "stays finished. Where tasks do take so long, set execute.timeout_minutes.",
    )


@cache
def _client(on: str, workers: int, memory_gb: float | None) -> Client:
    """One client per process and place, kept for all stages and closed at exit."""
    import dask
    from distributed import Client, LocalCluster

    if on != "local":
        try:
            client = Client(on, timeout="30s")
            client.wait_for_workers(1, timeout=120)
        except (OSError, TimeoutError, ValueError) as error:
            raise ExecutionError(
                f"no Dask scheduler with workers answers at {on}: start one, or set execute.on "
                "to local"
            ) from error
        return client
    threads = os.environ.get("OMP_NUM_THREADS")
    # For good, since Dask looks when a worker dies: it would close the keeper of a worker that is
    # slow to come back, and a task whose worker died would blame those that only wait behind it.
    dask.config.set(
        {
            "distributed.deploy.lost-worker-timeout": "1000 days",
            "distributed.scheduler.worker-saturation": 1.0,
        }
    )
    _quieten()
    with dask.config.set({"logging.distributed": "critical"}):
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit="auto" if memory_gb is None else int(memory_gb * 2**30),
            host="127.0.0.1",
            # Dask's page would otherwise listen on every interface of the machine.
            dashboard_address="127.0.0.1:0",
        )
    # LocalCluster leaves OMP_NUM_THREADS=1 behind in our own environment.
    if threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    client = Client(cluster)
    atexit.register(cluster.close, timeout=10)
    atexit.register(client.close, timeout=10)
    return client


def _quieten() -> None:
    """Keep Dask's own words on a dying worker off the terminal, but for ``--debug``."""
    if logging.getLogger("pipeline").isEnabledFor(logging.DEBUG):
        return
    theirs = ("distribut", "tornado")  # tornado tells of connections that a dead worker had
    for name in [name for name in logging.root.manager.loggerDict if name.startswith(theirs)]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
