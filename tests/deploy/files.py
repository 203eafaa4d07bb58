"""Where things of deploy/ are, and how they are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
TOOLS = Path(sys.executable).parent
"""Where pip puts programs that packages ship."""


def read_yaml(name: str) -> Any:
    """A file of deploy/ that holds one YAML document."""
    return yaml.safe_load((DEPLOY / name).read_text())


def read_all_yaml(name: str) -> list[dict[str, Any]]:
    """A file of deploy/ that holds several."""
    return [d for d in yaml.safe_load_all((DEPLOY / name).read_text()) if d is not None]


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program that a package of the extra `test` brought."""
    return subprocess.run(
        [str(TOOLS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
    )
