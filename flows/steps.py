"""What flows and their steps have in common under Prefect: names, log, progress, slots, retries."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from errno import EAGAIN, EBUSY, EHOSTUNREACH, EIO, ENETDOWN, ENETUNREACH, ESTALE, ETIMEDOUT
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, flow
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from flows.progress import REFUSED, Thinned, as_line
from pipeline.errors import BusyError, ExecutionError
from pipeline.execute import Progress, silent

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

    from pipeline.run import RunSettings

P = ParamSpec("P")
Made = TypeVar("Made")
GPU_LIMIT = "segflow-gpu"
"""Name of Prefect's global concurrency limit: steps that compute on a GPU at a time."""
ON_GPU = ("train", "predict", "judge")
PASSING = (EAGAIN, EBUSY, EHOSTUNREACH, EIO, ENETDOWN, ENETUNREACH, ESTALE, ETIMEDOUT)
"""Errors of disks and networks that may be gone in a minute."""
RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [30, 180],
    "retry_jitter_factor": 0.5,
}


def dataset_flow(function: Callable[P, Made]) -> Flow[P, Made]:
    """Make a flow whose runs bear the dataset's name, and whose docstring reads well on a page."""
    make = flow(flow_run_name="{settings.name}", description=prose(function.__doc__ or ""))
    return make(function)


def prose(docstring: str) -> str:
    r"""A docstring's text without its sections, and without the breaks that a page would keep.

    Example:
        >>> prose("Predict.\n\n    One mask\n    per case.\n\n    Args:\n        a: B.")
        'Predict.\n\nOne mask per case.'
    """
    paragraphs = inspect.cleandoc(docstring).partition("\n\nArgs:")[0].split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def alone(settings: RunSettings, work: Callable[[RunSettings], State[str]]) -> State[str]:
    """Work on a run while nobody else does; step aside where somebody does."""
    with ExitStack() as held:
        try:
            held.enter_context(settings.dir.locked())
        except BusyError as error:
            return Cancelled(message=f"stepped aside: {error}")
        return work(settings)


@dataclass(frozen=True)
class Listener:
    """Somebody in this process who follows the steps: the command line."""

    progress: Progress = silent
    """Told of every finished task."""
    ended: Callable[[str, str], None] = lambda step, line: None
    """Told what a step has made."""


LISTENER: ContextVar[Listener] = ContextVar("listener", default=Listener())  # noqa: B039 (frozen)


@contextmanager
def step(name: str, run_name: str) -> Iterator[Progress]:
    """A step of a flow run: inside, tell the Progress that is given; it waits for a GPU first.

    The run's log and the listener hear of the step's progress, and an artifact of Prefect shows it;
    a refused case is a warning in the log, which its page can be asked to show alone.

    Args:
        name: Of the step.
        run_name: Of the run; stands in the artifact's key.
    """
    log, listener = get_run_logger(), LISTENER.get()
    shown = _Shown(name, run_name)

    def thinned(stage: str, done: int, total: int, note: str) -> None:
        log.log(WARNING if REFUSED in note else INFO, "%s", as_line(stage, done, total, note))
        shown.at(done / total if total else 0.0)

    logged = Thinned(thinned)

    def progress(stage: str, done: int, total: int, note: str) -> None:
        logged(stage, done, total, note)
        listener.progress(stage, done, total, note)

    with _slot(name):
        yield progress
    shown.at(1.0)


def ended(name: str, line: str) -> str:
    """Tell log and listener what a step has made; give the line."""
    get_run_logger().info("%s: %s", name, line)
    LISTENER.get().ended(name, line)
    return line


@dataclass
class _Shown:
    """A progress artifact, made when there is progress to show."""

    name: str
    run_name: str
    made: UUID | None = None
    share: float = -1.0

    def at(self, share: float) -> None:
        percent = round(100 * share, 1)
        if percent == self.share:
            return
        self.share = percent
        if self.made is None:
            made = create_progress_artifact(
                percent,
                key=artifact_key(f"{self.run_name}-{self.name}-progress"),
                description=f"Step {self.name} of {self.run_name}",
            )
            self.made = made  # type: ignore[assignment]
        else:
            update_progress_artifact(self.made, percent)


def _slot(name: str) -> Any:
    """One of the GPUs, for steps that compute on one; where no limit is set, none is waited for."""
    from pipeline.processor import best_processor

    if name not in ON_GPU or best_processor(2).device == "cpu":
        return nullcontext()
    # A server that is away for a moment does not cost a training of hours.
    return concurrency(GPU_LIMIT, occupy=1, raise_on_lease_renewal_failure=False)


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether what failed may succeed in a minute; bad input and wrong settings never do."""
    return is_passing(state.result(raise_on_failure=False))


def is_passing(error: object) -> bool:
    """Whether an error is of a disk, a network or a scheduler rather than of the input.

    Example:
        >>> is_passing(ConnectionResetError()), is_passing(FileNotFoundError())
        (True, False)
    """
    if isinstance(error, ConnectionError | TimeoutError | ExecutionError | BusyError):
        return True
    return isinstance(error, OSError) and error.errno in PASSING


def artifact_key(name: str) -> str:
    """A run's key among Prefect's artifacts: lower case, digits and dashes.

    Example:
        >>> artifact_key("Hippo_2.1")
        'segflow-hippo-2-1'
    """
    return "segflow-" + re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
