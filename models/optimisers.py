"""How weights follow gradients, and how fast at each moment of a training."""

from collections.abc import Iterable
from math import cos, pi
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from torch import optim
from torch.nn import Parameter

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SGDSettings(_Settings):
    """Stochastic gradient descent with momentum, as U-Net 2015 and nnU-Net train."""

    kind: Literal["sgd"] = "sgd"
    """Which optimiser this is."""

    learning_rate: Positive = 1e-2
    """At its highest."""

    momentum: Share = 0.99
    """Share of the last step that is kept."""

    nesterov: bool = True
    """Whether the gradient is taken as if the step were already made; needs momentum."""

    weight_decay: NotNegative = 3e-5
    """Pull of weights towards zero, part of the gradient."""


class AdamWSettings(_Settings):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019): the default."""

    kind: Literal["adamw"] = "adamw"
    """Which optimiser this is."""

    learning_rate: Positive = 2e-3
    """At its highest."""

    weight_decay: NotNegative = 1e-4
    """Pull of weights towards zero, apart from the gradient."""


class AdamSettings(_Settings):
    """Adam (Kingma and Ba 2015)."""

    kind: Literal["adam"] = "adam"
    """Which optimiser this is."""

    learning_rate: Positive = 1e-3
    """At its highest."""

    weight_decay: NotNegative = 0.0
    """Pull of weights towards zero, part of the gradient."""


class RMSpropSettings(_Settings):
    """RMSprop (Hinton 2012)."""

    kind: Literal["rmsprop"] = "rmsprop"
    """Which optimiser this is."""

    learning_rate: Positive = 1e-4
    """At its highest."""

    momentum: Share = 0.0
    """Share of the last step that is kept."""

    decay: Share = 0.99
    """Share that the running mean of squared gradients keeps at each step."""

    weight_decay: NotNegative = 0.0
    """Pull of weights towards zero, part of the gradient."""


OptimiserSettings: TypeAlias = Annotated[
    SGDSettings | AdamWSettings | AdamSettings | RMSpropSettings, Field(discriminator="kind")
]


def build_optimiser(
    settings: OptimiserSettings, parameters: Iterable[Parameter]
) -> optim.Optimizer:
    """Build the optimiser that the settings describe, for these parameters.

    Where torch has one, it is the fused form: all tensors in one pass, on CPUs and GPUs.
    Its learning rate is the highest; multiply it by :func:`learning_rate_factor` at each step.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings:
        case SGDSettings(momentum=momentum, nesterov=nesterov):
            return optim.SGD(
                parameters,
                lr=rate,
                momentum=momentum,
                nesterov=nesterov and momentum > 0,  # torch refuses one without the other
                weight_decay=decay,
                fused=True,
            )
        case AdamWSettings():
            return optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case AdamSettings():
            return optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
        case RMSpropSettings(momentum=momentum, decay=alpha):
            return optim.RMSprop(
                parameters, lr=rate, alpha=alpha, momentum=momentum, weight_decay=decay
            )


class PolySchedule(_Settings):
    """Falls as a power of the share that is left, nearly a straight line, as nnU-Net."""

    kind: Literal["poly"] = "poly"
    """Which schedule this is."""

    power: Positive = 0.9
    """Of the share that is left."""


class CosineSchedule(_Settings):
    """Falls along half a cosine (Loshchilov and Hutter 2017): the default."""

    kind: Literal["cosine"] = "cosine"
    """Which schedule this is."""


class OneCycleSchedule(_Settings):
    """Rises, then falls far below its start, both along half a cosine (Smith 2018)."""

    kind: Literal["one_cycle"] = "one_cycle"
    """Which schedule this is."""

    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the training in which it rises."""

    start: Annotated[float, Field(gt=0, le=1)] = 1 / 25
    """Of the highest rate, at the beginning."""

    end: Annotated[float, Field(ge=0, le=1)] = 1 / 25e4
    """Of the highest rate, at the end."""


class ConstantSchedule(_Settings):
    """Stays at its highest."""

    kind: Literal["constant"] = "constant"
    """Which schedule this is."""


ScheduleSettings: TypeAlias = Annotated[
    PolySchedule | CosineSchedule | OneCycleSchedule | ConstantSchedule,
    Field(discriminator="kind"),
]


def learning_rate_factor(settings: ScheduleSettings, share: float) -> float:
    """Give the learning rate as a share of its highest.

    It follows from the position alone, so that a resumed training goes on where it was.

    Args:
        settings: The schedule.
        share: Of the training that is done, 0 to 1.

    Raises:
        ValueError: ``share`` is outside.

    Example:
        >>> [round(learning_rate_factor(PolySchedule(), done), 3) for done in (0, 0.5, 1)]
        [1.0, 0.536, 0.0]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: give the part of the training that is done, 0 to 1")
    match settings:
        case PolySchedule(power=power):
            return float((1 - share) ** power)
        case CosineSchedule():
            return 0.5 * (1 + cos(pi * share))
        case OneCycleSchedule(rise=rise, start=start, end=end):
            if share < rise:
                return _between(start, 1.0, share / rise)
            return _between(1.0, end, (share - rise) / (1 - rise))
        case ConstantSchedule():
            return 1.0


def _between(first: float, last: float, share: float) -> float:
    """Go from the first to the last along half a cosine."""
    return last + (first - last) * 0.5 * (1 + cos(pi * share))
