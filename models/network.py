"""What every network does before it computes: it looks at its input."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from models.base import NetworkSettings
from models.sizes import bottom_voxels, misfit, output_shape
from models.way_up import Box

BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Network(nn.Module, ABC):
    """A network from images (B, C, *S) to logits (B, K, *S), built from its settings.

    With deep supervision, and in training mode only, it gives a list of logits, finest first.
    """

    settings: NetworkSettings
    attends: ClassVar[bool] = False
    """Whether voxels attend to each other, in windows that are laid from the input's own edge."""

    def __init__(self, settings: NetworkSettings) -> None:
        """Keep the settings; a network builds its layers from them."""
        super().__init__()
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Give logits.

        Args:
            x: Images, (B, C, Z, Y, X) or (B, C, Y, X).

        Returns:
            Logits, (B, K, *S); S as the input's, or smaller where the network is unpadded. With
            deep supervision in training mode a list of them, finest first.

        Raises:
            ValueError: The input's axes, channels or size do not fit; the message says what fits.
        """
        self._check(x)
        return self.compute(x)

    def inside(self, x: Tensor, box: Box) -> Tensor:
        """Give a box of the logits that ``forward`` gives in evaluation.

        Where a network knows what a box needs, it computes no more.

        Args:
            x: Images, as in ``forward``.
            box: Of the output, per axis the first voxel and the one after the last.

        Returns:
            Logits, (B, K, *box).

        Raises:
            ValueError: As ``forward``.
        """
        logits = self(x)
        assert isinstance(logits, Tensor)
        return cut(logits, box)

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor | list[Tensor]:
        """Give logits for an input that is known to fit."""

    def _check(self, x: Tensor) -> None:
        settings = self.settings
        if x.ndim != settings.ndim + 2 or x.shape[1] != settings.in_channels:
            axes = "Z, Y, X" if settings.ndim == 3 else "Y, X"
            raise ValueError(
                f"input has shape {tuple(x.shape)}, expected (B, {settings.in_channels}, {axes}): "
                f"give one batch axis, then channels, then {settings.ndim} spatial axes"
            )
        if output_shape(settings, x.shape[2:]) is None:
            raise ValueError(misfit(settings, x.shape[2:]))
        if self._learns_from_one_voxel(x):
            raise ValueError(
                f"one image of {tuple(x.shape[2:])} voxels leaves one voxel at the coarsest "
                f"stage, and batch norm cannot learn from one value: train on a batch of at least "
                f"2, or on larger patches"
            )

    def _learns_from_one_voxel(self, x: Tensor) -> bool:
        one = x.shape[0] == 1 and bottom_voxels(self.settings, x.shape[2:]) == 1
        return self.training and one and any(isinstance(m, BATCH_NORMS) for m in self.modules())


def cut(x: Tensor, box: Box, of: Box | None = None) -> Tensor:
    """Give a box of features, (B, C, *S), whose own place, where it is not 0, is ``of``."""
    for axis, (first, stop) in enumerate(box):
        begin = first - (0 if of is None else of[axis][0])
        x = x.narrow(axis + 2, begin, stop - first)
    return x
