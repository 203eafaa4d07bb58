"""A dataset's nights, registered with a Prefect server: ``segflow deploy``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
)
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.schedules import Cron
from prefect.server.schemas.schedules import CronSchedule
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.nightly import nightly
from flows.retrain import retrain
from pipeline.errors import ExecutionError, SettingsError
from pipeline.promotion import serving_card
from pipeline.run import RunSettings

FLOWS: dict[str, Flow[..., Any]] = {"nightly": nightly, "retrain": retrain}
Kind = Literal["nightly", "retrain"]
SHOWN_NIGHTS = 3
CHANGING_HOURS = (1, 2)
"""Hours that are skipped or come twice when clocks change."""


@dataclass(frozen=True)
class Timetable:
    """When a flow runs."""

    cron: str | None
    """Minute, hour, day of the month, month, day of the week; None: only when asked to."""
    timezone: str
    """IANA name of the zone whose clock counts."""

    def times(self, number: int, after: datetime | None = None) -> list[datetime]:
        """The next times.

        Raises:
            SettingsError: It is no cron expression, or the zone is unknown.
        """
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise SettingsError(
                f"--timezone {self.timezone} is no time zone: give one as Europe/Berlin, or UTC"
            ) from error
        if self.cron is None:
            return []
        try:
            schedule = CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            raise SettingsError(
                f'--cron "{self.cron}" is no cron expression: give minute, hour, day, month and '
                'day of the week, as "30 3 * * *" for every night at half past three'
            ) from error
        start = after or datetime.now(UTC)
        dates = asyncio.run(schedule.get_dates(n=number, start=start))
        return [when.astimezone(zone) for when in dates]


def register(kind: Kind, settings: RunSettings, timetable: Timetable, pool: str) -> str:
    """Register a flow for a dataset, or change what is registered of it.

    At most one run at a time: of several nights that were missed while the worker was away, the
    first does the work of all, and the others are cancelled.

    Args:
        kind: Which flow.
        settings: The run's; its paths are made absolute, since a worker starts elsewhere.
        timetable: When it runs.
        pool: Work pool whose worker runs it.

    Returns:
        The deployment's full name.

    Raises:
        ExecutionError: The server has no such pool, or refuses the deployment.
    """
    _refuse_absent(pool)
    flow = FLOWS[kind]
    schedules = [] if timetable.cron is None else [Cron(timetable.cron, timetable.timezone)]
    deployment = flow.to_deployment(
        settings.name,
        schedules=schedules,
        parameters={"settings": settings.anchored().model_dump(mode="json")},
        description=(flow.description or "").strip(),
        tags=["segflow", settings.name],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        work_pool_name=pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # a coroutine only where a loop runs
    try:
        deployment.apply()
    except DeploymentApplyError as error:
        raise ExecutionError(
            f"the Prefect server refuses {kind}/{settings.name}: {error}"
        ) from error
    return f"{kind}/{settings.name}"


def _refuse_absent(pool: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound as error:
            raise ExecutionError(
                f"the Prefect server has no work pool {pool}: make it with `prefect work-pool "
                f"create {pool} --type process`, or start all with deploy/single-machine.sh up"
            ) from error


def advice(settings: RunSettings, timetable: Timetable) -> Iterator[str]:
    """What somebody should know who registers these nights."""
    run = settings.dir
    if serving_card(run.promoted) is None and not run.trained.exists():
        yield f"there is no model in {run.root} yet: nights fail until `segflow run` has made one"
    if settings.data.unlabelled == "quarantine":
        yield (
            "images without a mask are quarantined: set data.unlabelled to predict in run.yaml, "
            "and deploy again, to have them segmented"
        )
    hours = {when.hour for when in timetable.times(SHOWN_NIGHTS)}
    if timetable.timezone != "UTC" and any(hour in CHANGING_HOURS for hour in hours):
        yield "when clocks change, an hour between 1 and 3 is skipped or comes twice: 03:30 is safe"
