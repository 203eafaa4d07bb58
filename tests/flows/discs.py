"""A tiny dataset of pictures with discs, and how a command on it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
SIDE = 64
CASES = 8


def draw_pair(folder: Path, case: str, seed: int) -> None:
    """A noisy picture with a bright disc, and the disc's mask: values 0 and 255."""
    random = np.random.default_rng(seed)
    centre, radius = random.uniform(20, 44, size=2), random.uniform(8, 16)
    y, x = np.ogrid[:SIDE, :SIDE]
    disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    picture = (disc * 120 + random.normal(60, 15, (SIDE, SIDE))).clip(0, 255)
    for kind, pixels in (("images", picture), ("masks", disc * 255)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{case}.png")


def settings_of(root: Path, run: Path) -> dict[str, Any]:
    """Settings of a run on such pictures that takes seconds."""
    return {
        "name": "discs",
        "run_dir": str(run),
        "data": {
            "root": str(root),
            "layout": "pairs",
            "classes": [
                {"name": "ground", "values": [0], "background": True},
                {"name": "disc", "values": [255]},
            ],
        },
        "plan": {"patch_shape": [32, 32], "base_features": 4, "stages": 2, "batch_size": 2},
        "patch": {"per_case": 2},
        "train": {"max_minutes": None, "max_steps": 4, "validations": 1, "loader_workers": 0},
        "execute": {"on": "serial"},
    }


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""

    @property
    def last(self) -> str:
        """The last line printed."""
        return (self.out + self.err).splitlines()[-1]


Segflow = Callable[..., Ended]
