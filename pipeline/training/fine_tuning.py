"""Weights to begin with from another run, whose classes may be others."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models import Ensemble, build_model, outline
from pipeline.errors import ModelError
from pipeline.model_file import load_model
from pipeline.plan_file import Plan

LEAST_SHARE = 0.5
"""Share of the weights that must fit: with less it is another network, not another head."""


@torch.no_grad()
def start_from(network: nn.Module, plan: Plan, path: Path) -> tuple[str, ...]:
    """Give a network another run's weights, as far as they fit.

    Tensors of the same name and shape are taken over; of a head's, the entries of the outputs that
    both runs have a name for. The rest stays as it was drawn.

    Args:
        network: The network about to be trained.
        plan: Its plan.
        path: The other run's ``best.pt``, with its sidecar.

    Returns:
        Names of the tensors that were not taken over whole.

    Raises:
        ModelError: There is no usable model, or it is of another network.
    """
    other, card = load_model(path)
    if isinstance(other, Ensemble):
        raise ModelError(
            f"{path} is an ensemble: start from one of its networks, such as "
            f"{path.parent / 'fold-0' / path.name}"
        )
    given, state = other.state_dict(), network.state_dict()
    heads, names = _heads(plan), _output_names(plan)
    shared = {n: i for i, n in enumerate(_output_names(card.plan)) if n in names}
    taken, partly = 0, []
    for name, own in state.items():
        value, axis = given.get(name), heads.get(name)
        if value is None or _beside(value.shape, axis) != _beside(own.shape, axis):
            partly.append(name)
        elif axis is None:
            own.copy_(value)
            taken += own.numel()
        else:
            for output, theirs in shared.items():
                own.select(axis, names.index(output)).copy_(value.select(axis, theirs))
            if len(shared) < len(names):
                partly.append(name)
    total = sum(value.numel() for name, value in state.items() if name not in heads)
    if taken < LEAST_SHARE * total:
        raise ModelError(
            f"the weights {path} are of another network: {taken} of {total} numbers fit. Set "
            "plan.network, plan.base_features, plan.stages and plan.network_options as they were "
            "there, or leave train.start_from out"
        )
    return tuple(partly)


def _heads(plan: Plan) -> dict[str, int]:
    """Tensors with an entry per output, and along which axis: they change with the outputs."""
    settings = plan.network
    wider = settings.model_copy(update={"out_channels": settings.out_channels + 1})
    changed = outline(wider).state_dict()
    heads = {}
    for name, value in build_model(settings).state_dict().items():
        pairs = zip(value.shape, changed[name].shape, strict=True)
        axes = [axis for axis, (n, m) in enumerate(pairs) if n != m]
        if axes:
            heads[name] = axes[0]
    return heads


def _output_names(plan: Plan) -> tuple[str, ...]:
    """What each output is of; outputs of regions have no names to be known by."""
    if plan.target is not None:
        return (plan.target.name,)
    if getattr(plan.loss, "regions", None):
        return ()
    of_classes = tuple(c.name for c in plan.classes)
    without = tuple(c.name for c in plan.classes if not c.background)
    named = {len(of_classes): of_classes, len(without): without}
    return named.get(plan.outputs, ())


def _beside(shape: torch.Size, axis: int | None) -> tuple[int, ...]:
    """A shape but for one axis."""
    return tuple(n for i, n in enumerate(shape) if i != axis)
