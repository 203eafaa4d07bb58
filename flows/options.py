"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

StageName = Literal["ingest", "plan", "patch", "train", "predict", "score", "report"]
"""``pipeline.run.Stage``, without the price of importing torch for ``--help``."""
ExportTo = Literal[
    "nifti", "mha", "nrrd", "dicomseg", "cog", "ometiff", "geojson", "gpkg", "png", "csv"
]
"""``pipeline.export.FormatName``, for the same reason."""

Settings = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run's settings.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        default_factory=list,
        show_default=False,
        help="Change a setting; may be repeated.",
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="PATH...",
        default_factory=list,
        show_default=False,
        help="New images, or folders of them; paths or URLs.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; lines on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's own log.")]
First = Annotated[StageName, typer.Option("--from", help="Stage to begin with.")]
Last = Annotated[StageName, typer.Option("--until", help="Stage to end with.")]
