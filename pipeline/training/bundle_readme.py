"""What a bundle says to people."""

from __future__ import annotations

from pipeline.model_file import ModelCard
from pipeline.plan_file import Plan
from pipeline.training.bundle_configs import IGNITE, Laying, output_names, resamples


def readme(card: ModelCard, laying: Laying) -> str:
    """The bundle's ``docs/README.md``: what the model does, and how to run it.

    Args:
        card: Of the model.
        laying: How it is laid over images.
    """
    plan = card.plan
    return f"""# {card.model_id}

{plan.task.capitalize()} of {plan.ndim}-D images with {len(plan.channels)} channel(s)
({", ".join(plan.channels)}), by a {plan.network.kind} trained with segflow
{card.versions["segflow"]}. {_score(card)}

| channel of the output | is |
|---|---|
{_table(plan)}

## To run it

Needs torch, monai, nibabel and pytorch-ignite {IGNITE} or later; segflow is not needed.

```bash
python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\
  --dataset_dir /folder/of/images --output_dir /folder/for/masks
```

Files are those that match `pattern`, one image with all its channels each; for channels in files
of their own set `datalist`. Files that MONAI cannot read need another `preprocessing`.
The network alone: `torch.jit.load("models/model.ts")`, from normalised images
{_axes(plan)} to logits. `models/model.pt` holds its weights as a state dict.

## What is done to an image

{_steps(plan, laying)}

Where it differs from segflow: {_differences(plan, laying)}
"""


def _score(card: ModelCard) -> str:
    score, steps = card.training.get("val_score"), card.training.get("steps")
    name = "R²" if card.plan.target else "mean Dice"
    found = "No case was held out" if score is None else f"{name} {score:.4f} on validation cases"
    return f"{found}, after {steps} steps."


def _table(plan: Plan) -> str:
    return "\n".join(f"| {number} | {name} |" for number, name in enumerate(output_names(plan)))


def _axes(plan: Plan) -> str:
    return "(B, C, Z, Y, X)" if plan.ndim == 3 else "(B, C, Y, X)"


def _steps(plan: Plan, laying: Laying) -> str:
    if plan.normalisation.kind == "case":
        scaled = "each channel less its mean, divided by its standard deviation, of that image"
        if plan.normalisation.nonzero:
            scaled += "'s voxels that are not 0 in every channel; the others stay 0"
    else:
        scaled = "each channel clipped, less a mean, divided by a deviation, of the training images"
    steps = [f"Intensities: {scaled}."]
    if resamples(plan):
        spacing = " × ".join(f"{v:g}" for v in reversed(plan.spacing))
        steps.append(f"Voxels are resampled to {spacing} mm (X × Y × Z), the logits back.")
    passes = "The network sees an image whole; `inferer#roi_size` sets windows for larger ones."
    if laying.window is not None:
        passes = f"The network sees windows of {laying.window}, half overlapping, blended."
    steps.append(passes)
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))


def _differences(plan: Plan, laying: Laying) -> str:
    notes = ["voxels without data are treated as if they had some"]
    if resamples(plan):
        notes.append("resampling is by cubic splines, without a filter where voxels grow")
    elif plan.resample:
        notes.append(f"images are not brought to the spacing of {plan.spacing}: do so before")
    if laying.window is not None:
        notes.append("windows are blended, which moves labels near their borders")
    return "; ".join(notes) + "."
