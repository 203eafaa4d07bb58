"""The command ``segflow``.

Exit codes: 0 complete, 3 complete with quarantined cases, 2 wrong usage or settings, 1 failed; the
last line printed says which and where to look.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import pipeline
from flows import commands
from flows.console import STOPPED, WRONG, say_json, session
from flows.options import Debug, ExportTo, First, Inputs, Json, Last, Overrides, Settings, StageName

# Typer has moved its classes between modules; what BadParameter derives from has stayed.
UsageError: Any = typer.BadParameter.__base__
# Help and errors are plain text: they read the same in a log as on a terminal.
app = typer.Typer(
    name="segflow",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


START = """\b
Start:
  segflow demo
  segflow init DATASET -o run.yaml
  segflow run run.yaml

\b
Exit codes:
  0 complete   3 complete, with quarantined cases   2 wrong usage or settings   1 failed
"""


def examples(*lines: str) -> str:
    """Examples as they stand below a command's help; the mark keeps the lines apart."""
    return "\n  ".join(["\b\nExamples:", *lines])


def _version(asked: bool) -> None:
    if asked:
        print(f"segflow {pipeline.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=START)
def segflow(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Folders of large medical and satellite images in, trustworthy Zarr masks out."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise UsageError("give a command", ctx=context)


@app.command(epilog=examples("segflow demo", "segflow demo --kind scene --dir /tmp/scene"))
def demo(
    kind: Annotated[
        Literal["volume", "scene"], typer.Option(help="3-D scans or 2-D geo-referenced scenes.")
    ] = "volume",
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Run folder; default runs/demo-KIND.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a small synthetic dataset and run every stage on it."""
    with session(json, debug) as console:
        commands.demo(kind, folder or Path(f"runs/demo-{kind}"), console)


@app.command(epilog=examples("segflow init data/hippocampus -o runs/hippo.yaml"))
def init(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The dataset's folder, or URL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "run.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at a dataset and write a commented run.yaml for it."""
    with session(json, debug) as console:
        commands.init(source, output, force, console)


@app.command(
    epilog=examples(
        "segflow check run.yaml", "segflow check run.yaml --set data.unlabelled=predict"
    )
)
def check(
    path: Settings,
    overrides: Overrides,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read every case, write no store, and say what is wrong."""
    with session(json, debug) as console:
        commands.check(path, overrides, console)


@app.command(
    epilog=examples(
        "segflow run run.yaml",
        "segflow run run.yaml --set train.max_minutes=10 --set execute.workers=4",
        "segflow run run.yaml --from predict",
        "segflow run run.yaml --until patch",
    )
)
def run(
    path: Settings,
    overrides: Overrides,
    first: First = "ingest",
    until: Last = "report",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run all stages in order; the same command again resumes.

    It is a Prefect flow: it shows in the UI of the server that PREFECT_API_URL names, and needs no
    server where that is not set.
    """
    with session(json, debug) as console:
        commands.run(path, overrides, first, until, console)


def _stage_command(stage: StageName, purpose: str) -> None:
    """Add the command of one stage; it does not start Prefect."""

    def command(
        path: Settings,
        overrides: Overrides,
        json: Json = False,
        debug: Debug = False,
    ) -> None:
        with session(json, debug) as console:
            commands.stage(stage, path, overrides, console)

    app.command(stage, help=purpose, epilog=examples(f"segflow {stage} run.yaml"))(command)


_stage_command("ingest", "Take in the dataset: one volume store per case.")
_stage_command("plan", "Decide on patches and network: plan.json, yours to edit.")
_stage_command("patch", "Cut training patches from the volume stores.")
_stage_command("train", "Train the network, or go on where training was stopped.")


@app.command(
    context_settings={"allow_extra_args": True},
    epilog=examples(
        "segflow predict run.yaml",
        "segflow predict run.yaml --dry-run",
        "segflow predict run.yaml --input scan.nii.gz --output masks",
        "segflow predict run.yaml --input tonight/*.tif",
    ),
)
def predict(
    context: typer.Context,
    path: Settings,
    inputs: Inputs,
    overrides: Overrides,
    output: Annotated[Path | None, typer.Option(help="Folder of the masks of --input.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell tiles, memory and time; write nothing.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Predict the run's cases, or new images: one mask store each."""
    # A shell turns `--input *.tif` into one option and many arguments.
    inputs = [*inputs, *context.args] if inputs else inputs
    if not inputs and context.args:
        raise UsageError(f"{context.args[0]}: name new images with --input", ctx=context)
    if not inputs and output is not None:
        raise UsageError("--output goes with --input", ctx=context)
    if inputs and dry_run:
        raise UsageError("--dry-run is of the run's cases: leave out --input", ctx=context)
    with session(json, debug) as console:
        if inputs:
            commands.predict_inputs(path, overrides, inputs, output, console)
        elif dry_run:
            commands.foresee(path, overrides, console)
        else:
            commands.stage("predict", path, overrides, console)


_stage_command("score", "Compare masks with truth: exact counts, Dice or R², and the rest.")
_stage_command("report", "Make the report: one self-contained HTML page.")


@app.command(
    epilog=examples(
        "segflow export masks/scan.zarr scan.nii.gz --to nifti",
        "segflow export runs/x/published/current out --to dicomseg --source data/dicom",
        "segflow export run.yaml out --to cog",
    )
)
def export(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="A mask store, a folder of them, or the run.yaml of a run."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File, or folder, to write.")],
    to: Annotated[ExportTo, typer.Option(help="The format.")],
    source: Annotated[
        Path | None,
        typer.Option(help="Where the original files are: a file, a series, or the dataset."),
    ] = None,
    volumes: Annotated[
        Path | None, typer.Option(help="Folder of the volume stores; none: beside the run.")
    ] = None,
    codes: Annotated[
        Path | None, typer.Option(help="JSON file of what classes are in DICOM's terms.")
    ] = None,
    nodata: Annotated[
        Literal["background", "keep"],
        typer.Option(help="What voxels without data become: background, or 255 as they are."),
    ] = "background",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write masks in the formats of the field, exactly where their source lies.

    A STORE of one case gives a file, others a folder of files. A file of that name is replaced.
    """
    with session(json, debug) as console:
        places = (source, volumes, codes)
        commands.export(store, out, to, places, nodata, console)


@app.command(epilog=examples("segflow nightly run.yaml"))
def nightly(
    path: Settings,
    overrides: Overrides,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring the published masks up to date: what came, changed or went since the last night.

    The promoted model predicts. Masks are published as a new version, and `published/current`
    names it; where nothing is new, nothing is done. `segflow deploy` has Prefect do it each night.
    """
    with session(json, debug) as console:
        commands.nightly(path, overrides, console)


@app.command(
    epilog=examples("segflow publish run.yaml", "segflow publish run.yaml --set publish.keep=3")
)
def publish(
    path: Settings,
    overrides: Overrides,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Publish the masks that are there as a version, as a night does.

    Nothing is ingested or predicted: the masks are those that the promoted model has, or the run's
    trained one before the first promotion. Masks with a place on Earth get STAC items beside them.
    """
    with session(json, debug) as console:
        commands.publish(path, overrides, console)


@app.command(
    epilog=examples(
        "segflow retrain run.yaml", "segflow retrain run.yaml --set promote.margin=0.01"
    )
)
def retrain(
    path: Settings,
    overrides: Overrides,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train on what the dataset holds by now; promote the new model if it is not worse.

    Both models predict the held-out cases. The new one serves the nights from then on, unless its
    score lies more than promote.margin below.
    """
    with session(json, debug) as console:
        commands.retrain(path, overrides, console)


@app.command(epilog=examples("segflow promote run.yaml", "segflow promote run.yaml --anyway"))
def promote(
    path: Settings,
    overrides: Overrides,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Promote it even where it scores worse.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge the model that was trained last beside the one that serves; promote the better."""
    with session(json, debug) as console:
        commands.promote(path, overrides, anyway, console)


@app.command(
    epilog=examples(
        'segflow deploy run.yaml --cron "30 3 * * *" --timezone Europe/Berlin',
        'segflow deploy run.yaml --cron "30 3 * * *" --retrain-cron "0 12 * * 6"',
    )
)
def deploy(
    path: Settings,
    overrides: Overrides,
    cron: Annotated[
        str | None, typer.Option(help="When nightly runs; none: only when asked to.")
    ] = None,
    retrain_cron: Annotated[
        str | None, typer.Option(help="When retrain runs; none: it is not registered.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Whose clock counts.")] = "UTC",
    pool: Annotated[str, typer.Option(help="Work pool of the worker that runs it.")] = "segflow",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Register the nights of a dataset with the Prefect server that PREFECT_API_URL names.

    The settings are stored as they are now: deploy again after changing run.yaml.
    """
    with session(json, debug) as console:
        commands.deploy(path, overrides, (cron, retrain_cron), timezone, pool, console)


@app.command(epilog=examples("segflow status run.yaml", "segflow status run.yaml --json"))
def status(
    path: Settings,
    overrides: Overrides,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is done and what is not; reads no voxel."""
    with session(json, debug) as console:
        commands.status(path, overrides, console)


@app.command(
    epilog=examples(
        "segflow view runs/liver/published/current/liver_07.zarr",
        "segflow view mask.zarr --image volume.zarr --port 8765 --no-open",
    )
)
def view(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A mask or volume store.")],
    image: Annotated[
        Path | None, typer.Option(help="The mask's volume store; none: its run's own.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the browser at Neuroglancer.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at a mask over its image: serve both on this machine until Ctrl-C.

    Prints links for Neuroglancer and Vizarr, and commands for napari, QGIS and ITK-SNAP. Nobody
    but programs on this machine can reach the server, and none without the secret in its address.
    """
    with session(json, debug) as console:
        from flows.view import view as work

        work(store, image, port, open_browser, console)


@app.command(
    epilog=examples(
        "segflow verify run.yaml",
        "segflow verify runs/liver/predictions/unet-0123456789/liver_07.zarr",
        "segflow verify published/current --quick --json",
    )
)
def verify(
    place: Annotated[
        str,
        typer.Argument(
            metavar="STORE_OR_RUN", help="A store, a folder of stores, a run folder or run.yaml."
        ),
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare metadata and lists of files; read no voxel.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers that read; none: as the run says.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether a store, or all of a run, is whole; changes nothing.

    Every stored chunk is decoded and its checksum compared; files that are lost are missed. Exit
    code 1: something is damaged; 3: all is whole, and cases of the run are quarantined.
    """
    with session(json, debug) as console:
        from flows.verify import verify as work

        work(place, workers, quick, console)


@app.command(
    epilog=examples(
        "segflow compare runs/unet runs/resnet",
        "segflow compare run.yaml other.yaml --figure hd95 --most 20",
        "segflow compare published/v0006 published/v0007 --json",
    )
)
def compare(
    run_a: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_A", help="A run.yaml, run folder, published version or scores.json."
        ),
    ],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The one to judge, likewise.")],
    figure: Annotated[
        str | None,
        typer.Option(help="What to compare: dice, iou, hd95, nsd, mae, …; none: Dice, or MAE."),
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="Cases to list that changed most.")] = 5,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say whether run B is better than run A, how surely, and which cases changed most.

    The held-out cases that both have are paired: a Wilcoxon signed-rank test, and a bootstrap
    interval of the difference.
    """
    with session(json, debug) as console:
        from flows.compare import compare_runs

        compare_runs(run_a, run_b, figure, most, console)


@app.command(epilog=examples("segflow doctor"))
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Find out whether this machine is fit to run segflow."""
    with session(json, debug) as console:
        commands.doctor(console)


@app.command(
    epilog=examples(
        "segflow models unet-2015 resnet34-unet --ndim 2",
        "segflow models --json",
        "segflow run run.yaml --set plan.network=resnet34-unet",
    )
)
def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Networks to measure; none: all.", metavar="[NAME...]"),
    ] = None,
    ndim: Annotated[int | None, typer.Option(min=2, max=3, help="2-D or 3-D alone.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List networks with their size, view and tiling, and losses, optimisers and schedules."""
    with session(json, debug) as console:
        commands.models(names or [], None if ndim is None else 2 if ndim == 2 else 3, console)


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(app(prog_name="segflow", standalone_mode=False))
    except UsageError as error:
        if error.ctx is not None:
            print(error.ctx.get_usage(), file=sys.stderr)
        message = error.format_message().replace("Value error, ", "")
        code, last = WRONG, f"wrong usage: {message}"
    except (typer.Abort, KeyboardInterrupt):
        code, last = STOPPED, "stopped"
    if "--json" in sys.argv:
        say_json(code, last, {})
    print(last, file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
