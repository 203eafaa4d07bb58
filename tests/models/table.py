"""What each network does with each loss, in two and three dimensions, as a table.

``python -m tests.models.table [--compile inductor] [--axes 2 3] [NETWORK ...]`` prints it in
Markdown.
"""

import argparse
import re
from dataclasses import dataclass
from io import BytesIO

import torch

from models import build_model, fitting_shape, output_shape, preset
from models.losses import (
    BCESettings,
    BorderSettings,
    ClDiceSettings,
    CrossEntropySettings,
    DeepSupervision,
    DiceCESettings,
    DiceFocalSettings,
    DiceSettings,
    LossSettings,
    MAESettings,
    MSESettings,
    SmoothL1Settings,
    TverskySettings,
    activation,
    build_loss,
    output_channels,
)
from models.losses.deep_supervision import nearest
from tests.models.compiling import compiled_as_eager
from tests.models.networks import SMALL, outputs, small

CLASSES, IGNORED, ODD = 3, 255, 33
LOSSES: dict[str, LossSettings] = {
    "ce": CrossEntropySettings(),
    "ce by class": CrossEntropySettings(class_weights=(0.5, 1, 3)),
    "ce with border": CrossEntropySettings(border=BorderSettings()),
    "dice": DiceSettings(),
    "dice_ce": DiceCESettings(),
    "dice_focal": DiceFocalSettings(),
    "tversky": TverskySettings(),
    "bce": BCESettings(),
    "bce of regions": BCESettings(regions=((1, 2), (2,), (0, 1)), dice=True),
    "cldice": ClDiceSettings(),
    "mse": MSESettings(),
    "mae": MAESettings(),
    "smooth_l1": SmoothL1Settings(),
}
PUBLISHED = ("unet-2015", "unet-small")
CASES = [*((name, ndim) for ndim in (2, 3) for name in SMALL), *((name, 2) for name in PUBLISHED)]


@dataclass(frozen=True)
class Row:
    """What one network did."""

    network: str
    """Its name among the small networks, or of a preset."""
    ndim: int
    """Spatial axes."""
    steps: dict[tuple[str, bool], str]
    """By loss, and whether under autocast: what was wrong with the step; empty where nothing."""
    odd: str
    """Whether an odd size fits, or which sizes do."""
    reloaded: bool
    """Whether weights saved and loaded gave the same bits."""
    compiled: str
    """Whether ``torch.compile`` works, or why not."""

    def cells(self) -> list[str]:
        """The row as text."""
        float32, low = (
            [fault for (_, autocast), fault in self.steps.items() if autocast is kind]
            for kind in (False, True)
        )
        same = "bit-equal" if self.reloaded else "DIFFERS"
        took = [f"{steps.count('')} of {len(steps)}" for steps in (float32, low)]
        return [self.network, f"{self.ndim}-D", took[0], self.odd, took[1], self.compiled, same]


def row(name: str, ndim: int, backend: str | None = None) -> Row:
    """Try one network."""
    odd = odd_size(name, ndim)
    compiled = compiles(name, ndim, backend) if backend else "not tried"
    return Row(name, ndim, steps(name, ndim), odd, reloads(name, ndim), compiled)


def settings_of(name: str, ndim: int, channels: int = CLASSES):
    """Give the settings of one network, two channels in."""
    if name in SMALL:
        return small(name, ndim).model_copy(update={"out_channels": channels})
    return preset(name, ndim, 2, channels)


def image(settings) -> torch.Tensor:
    """Give a random batch of images that leave four values to a norm at the coarsest stage.

    Batch norm of two values gives 1 and -1 whatever they are: its gradient is rounding, enlarged
    at every layer above, to 1e7 in ResNeXt.
    """
    *others, last = settings.total_stride
    shape = fitting_shape(settings, [max(8, n) for n in (*others, 2 * last)])
    return torch.randn(2, settings.in_channels, *shape)


def steps(name: str, ndim: int, losses=tuple(LOSSES)) -> dict[tuple[str, bool], str]:
    """Take a step with each loss, in float32 and under autocast; give what went wrong."""
    found = {}
    channels = {title: channels_of(LOSSES[title]) for title in losses}
    for head in sorted(set(channels.values())):
        torch.manual_seed(0)
        settings = settings_of(name, ndim, head)
        model, x = build_model(settings), image(settings)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
        for title in (title for title, count in channels.items() if count == head):
            for low in (False, True):
                found[title, low] = step(model, optimizer, x, LOSSES[title], low)
    return found


def channels_of(loss: LossSettings) -> int:
    """Give the channels of the head: one for a regression."""
    targets = 1 if activation(loss) == "linear" else CLASSES
    return output_channels(loss, classes=targets, background=True)


def step(model, optimizer, x: torch.Tensor, chosen: LossSettings, low: bool) -> str:
    """Take one step on random truth, a third of it missing; say what is wrong, or nothing."""
    loss_of = DeepSupervision(
        build_loss(chosen, classes=CLASSES, background=True, ignore_index=IGNORED)
    )
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        heads = outputs(model, x)
    for logits in heads:
        logits.retain_grad()
    missing = torch.rand(x.shape[0], *heads[0].shape[2:]) < 1 / 3  # (B, *S)
    loss = loss_of(heads, *truth(chosen, missing))
    loss.backward()
    optimizer.step()
    learnt = [leaks(logits, missing) for logits in heads]
    named = model.named_parameters()
    wrong = [n for n, p in named if p.grad is None or not (p.grad.isfinite() & p.isfinite()).all()]
    faults = {
        f"the loss is {loss.item()}": loss.isfinite() and loss > 0,
        "voxels without truth have a gradient": not any(learnt),
        "no voxel has a gradient": heads[0].grad.any(),
        f"no finite gradient of {', '.join(wrong)}": not wrong,
    }
    return "; ".join(fault for fault, fine in faults.items() if not fine)


def truth(chosen: LossSettings, missing: torch.Tensor) -> list[torch.Tensor]:
    """Give random labels or targets, and voxel weights where the loss takes them."""
    if activation(chosen) == "linear":
        return [torch.randn(missing.shape).masked_fill(missing, float("nan")).unsqueeze(1)]
    labels = torch.randint(CLASSES, missing.shape).masked_fill(missing, IGNORED)
    bordered = isinstance(chosen, CrossEntropySettings) and chosen.border is not None
    return [labels, 1 + 10 * torch.rand(missing.shape)] if bordered else [labels]


def leaks(logits: torch.Tensor, missing: torch.Tensor) -> bool:
    """Say whether voxels without truth have a gradient, at this head's resolution."""
    where = nearest(missing, tuple(logits.shape[2:]))
    return bool(logits.grad.movedim(1, -1)[where].any())


def odd_size(name: str, ndim: int) -> str:
    """Say whether an odd size fits; if not, run the nearest that the error names."""
    settings = settings_of(name, ndim)
    model = build_model(settings).eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 2, *(ODD,) * ndim))
    except ValueError as error:
        named = re.findall(r"\([\d, ]+\)", str(error).split("pad or crop to")[1])
        sizes = [tuple(map(int, re.findall(r"\d+", one))) for one in named]
    else:
        return "fits"
    with torch.inference_mode():
        logits = model(torch.zeros(1, 2, *sizes[0]))
    fine = logits.shape[2:] == output_shape(settings, sizes[0])
    asked, *fitting = (" x ".join(map(str, size)) for size in [(ODD,) * ndim, *sizes])
    return f"{asked} refused: {' or '.join(fitting)}" if fine else "DOES NOT FIT"


def reloads(name: str, ndim: int) -> bool:
    """Say whether trained weights, saved and loaded without pickle, give the same bits."""
    torch.manual_seed(0)
    settings = settings_of(name, ndim)
    model, x = build_model(settings), image(settings)
    step(model, torch.optim.SGD(model.parameters(), lr=1e-2), x, DiceCESettings(), low=False)
    file = BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build_model(settings)
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.inference_mode():
        return torch.equal(other.eval()(x), model.eval()(x))


def compiles(name: str, ndim: int, backend: str = "inductor") -> str:
    """Say whether the compiled network predicts and learns as it does without, or why not."""
    torch.manual_seed(0)
    settings = settings_of(name, ndim)
    return compiled_as_eager(build_model(settings), image(settings), backend)


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--axes", type=int, nargs="+", default=(2, 3))
    parser.add_argument("--compile", choices=("inductor", "aot_eager"))
    asked = parser.parse_args()
    print(f"Losses: {', '.join(LOSSES)}.\n")
    print("| network | axes | steps | odd size | steps in bfloat16 | compile | save and load |")
    print("|---|---|---|---|---|---|---|")
    for name, ndim in CASES:
        if ndim in asked.axes and name in (asked.networks or [name]):
            found = row(name, ndim, asked.compile)
            print("|", " | ".join(found.cells()), "|", flush=True)
            for (loss, low), fault in found.steps.items():
                if fault:
                    print(f"<!-- {loss}{', bfloat16' * low}: {fault} -->")


if __name__ == "__main__":
    main()
