"""Is this machine fit to run segflow? Each finding carries its remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from flows.inprocess import prepare
from pipeline.network_tiling import machine_bytes

GIB = 2**30
LEAST_MEMORY_GIB = 4
LEAST_DISK_GIB = 10


@dataclass(frozen=True)
class Finding:
    """What was found of one thing."""

    level: Literal["ok", "warn", "fail"]
    """Whether it will do."""
    what: str
    """The thing."""
    met: str
    """What was met."""
    remedy: str = ""
    """What to do about it."""


def examine() -> list[Finding]:
    """Look at everything; a look that raises is itself a finding."""
    return [_looked(what, look) for what, look in LOOKS.items()]


def _looked(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except Exception as error:  # a machine may be broken in ways nobody foresaw
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Finding("fail", what, said, "Install again: make venv")


def python() -> Finding:
    """Version of Python."""
    fit = sys.version_info >= (3, 11)
    return Finding(
        "ok" if fit else "fail",
        "python",
        platform.python_version(),
        "" if fit else "Install Python 3.11 or newer.",
    )


def torch_and_gpu() -> Finding:
    """Torch, and what it runs on."""
    import torch

    from pipeline.processor import cpu_has_bfloat16

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return Finding("ok", "torch", f"{torch.__version__}, {', '.join(sorted(names))}")
    if cpu_has_bfloat16():
        return Finding("ok", "torch", f"{torch.__version__}, CPU with bfloat16")
    return Finding(
        "warn",
        "torch",
        f"{torch.__version__}, CPU without bfloat16",
        "Expect slow training; a GPU, or a CPU with AVX-512 BF16 or AMX, is several times faster.",
    )


def processors() -> Finding:
    """Cores this process may use."""
    cores = len(os.sched_getaffinity(0))
    few = "" if cores > 1 else "Expect one case at a time; two cores or more are better."
    return Finding("warn" if few else "ok", "cores", str(cores), few)


def memory() -> Finding:
    """Memory of this machine, or of its container."""
    gib = machine_bytes() / GIB
    little = "" if gib >= LEAST_MEMORY_GIB else "Set predict.memory_gb and execute.workers low."
    return Finding("warn" if little else "ok", "memory", f"{gib:.1f} GiB", little)


def disk() -> Finding:
    """Room where runs are written."""
    gib = shutil.disk_usage(Path.cwd()).free / GIB
    little = "" if gib >= LEAST_DISK_GIB else "Free some, or set run_dir to a larger disk."
    return Finding("warn" if little else "ok", "free disk", f"{gib:.1f} GiB", little)


def write_access() -> Finding:
    """Whether runs can be written here."""
    try:
        tempfile.TemporaryFile(dir=Path.cwd()).close()
    except OSError as error:
        remedy = "Change to a folder you may write to, or set run_dir."
        return Finding("fail", "write access", f"{Path.cwd()}: {error.strerror}", remedy)
    return Finding("ok", "write access", str(Path.cwd()))


def fastapi() -> Finding:
    """Prefect 3.8 cannot start with a newer fastapi."""
    return _bounded("fastapi", (0, 151))


def sqlalchemy() -> Finding:
    """With a newer SQLAlchemy Prefect starts, but its schedules never fire."""
    return _bounded("sqlalchemy", (2, 1))


def _bounded(package: str, below: tuple[int, int]) -> Finding:
    met = version(package)
    major, minor = (int(part) for part in met.split(".")[:2])
    bound = ".".join(map(str, below))
    remedy = "" if (major, minor) < below else f"pip install '{package}<{bound}'"
    return Finding("fail" if remedy else "ok", package, met, remedy)


def prefect_server() -> Finding:
    """Whether Prefect's server can be imported, which is where wrong versions show."""
    prepare(debug=False)
    import prefect.server.api.server

    where = os.environ.get("PREFECT_API_URL", "no server set: a temporary one is used")
    return Finding("ok", "prefect", f"{prefect.__version__}, {where}")


def dask() -> Finding:
    """Whether local workers start and work."""
    from pipeline.execute import ExecuteSettings, run_tasks

    done = list(run_tasks(abs, [-1, -2], ExecuteSettings(on="local", workers=1)))
    if sorted(d.row or 0 for d in done) == [1, 2]:
        return Finding("ok", "dask workers", version("distributed"))
    remedy = "See that processes may listen on 127.0.0.1, or set execute.on to serial."
    return Finding("fail", "dask workers", str(done[0].error), remedy)


LOOKS: dict[str, Callable[[], Finding]] = {
    "python": python,
    "torch": torch_and_gpu,
    "cores": processors,
    "memory": memory,
    "free disk": disk,
    "write access": write_access,
    "fastapi": fastapi,
    "sqlalchemy": sqlalchemy,
    "prefect": prefect_server,
    "dask workers": dask,
}
