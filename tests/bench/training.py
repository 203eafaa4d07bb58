"""How fast does training run, and what would feed it best?

    .venv/bin/python -m tests.bench.training RUN [--part loader|sampler|nnunet|ranks] [--seconds 60]

RUN is the folder or the YAML file of a run whose patches are cut; it is only read. What is
compared takes turns in one run: figures are medians over its rounds. The part ``nnunet`` needs a
python of its own, because nnU-Net is no dependency of ours:

    python3.11 -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2
    .venv/bin/python -m tests.bench.training RUN --part nnunet --nnunet-python NNUNET/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from tests.bench.sides import ROOT
from tests.bench.training_loader import loader
from tests.bench.training_nnunet import nnunet
from tests.bench.training_ranks import ranks
from tests.bench.training_run import open_run
from tests.bench.training_sampler import sampler


def processor_name() -> str:
    """The processor's name, as the system has it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder or YAML file of a run")
    parser.add_argument("--part", choices=("loader", "sampler", "nnunet", "ranks"))
    parser.add_argument("--seconds", type=float, default=60, help="of measuring, for each part")
    parser.add_argument("--steps", type=int, default=20, help="of a block that is timed")
    parser.add_argument(
        "--curve", type=int, default=40, help="steps of the curves that are compared"
    )
    parser.add_argument("--nnunet-python", type=Path, help="a python that has nnunetv2")
    parser.add_argument("--out", type=Path, help="default: results/training-DATE.json")
    given = parser.parse_args()
    if given.part == "nnunet" and given.nnunet_python is None:
        parser.error("--part nnunet needs --nnunet-python: a python that has nnunetv2")
    return given


def main() -> None:
    """Run the parts, print and write the table."""
    given = asked()
    run = open_run(given.run)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "loader": lambda: loader(run, scratch, given.seconds, given.steps),
            "sampler": lambda: sampler(run, given.seconds),
            "ranks": lambda: ranks(run, scratch, given.curve),
        }
        if given.nnunet_python is not None:
            # Its steps are long.
            steps = max(1, given.steps // 4)
            parts["nnunet"] = lambda: nnunet(
                run, scratch, given.nnunet_python, given.seconds, steps
            )
        path = given.out or ROOT / f"tests/bench/results/training-{date.today()}.json"
        # Parts may be measured one by one, when the machine is free.
        result = json.loads(path.read_text()) if path.exists() else {}
        result |= {
            "date": str(date.today()),
            "run": run.settings.name,
            "processor": processor_name(),
            "machine": platform.machine(),
            "cores": os.cpu_count() or 1,
            "torch": torch.__version__,
        }
        for name in [given.part] if given.part else list(parts):
            row = parts[name]()
            print(name, json.dumps(row), flush=True)
            result[name] = {"date": str(date.today()), **row}
            path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
