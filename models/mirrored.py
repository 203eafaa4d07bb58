"""An unpadded network as one that takes any image whole, and gives as many voxels as it is given.

The image goes on as its own mirror image where the network looks past its border, as the
overlap-tile of Ronneberger et al. 2015. For programs that expect an output of the input's size.
"""

from typing import Final

import torch
from torch import Tensor, nn

from models.base import NetworkSettings
from models.sizes import fitting_shape, margins, output_shape


class Mirrored(nn.Module):
    """A network that is shown mirrored surroundings; ``torch.jit.script`` takes it.

    Args:
        network: From (B, C, *S) to (B, K, *S less the margins), in evaluation mode.
        settings: Its settings.
    """

    before: Final[list[int]]
    after: Final[list[int]]
    least: Final[list[int]]
    stride: Final[list[int]]

    def __init__(self, network: nn.Module, settings: NetworkSettings) -> None:
        super().__init__()
        self.network = network
        smallest = fitting_shape(settings, (1,) * settings.ndim)
        self.least = list(output_shape(settings, smallest) or smallest)
        self.before = list(margins(settings))
        lost = [n - m for n, m in zip(smallest, self.least, strict=True)]
        # One voxel more is lost at the end where the loss is odd.
        self.after = [n - m for n, m in zip(lost, self.before, strict=True)]
        self.stride = list(settings.total_stride)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits.

        Args:
            x: Images, (B, C, *S), of any size.

        Returns:
            Logits, (B, K, *S).
        """
        shape = x.shape[2:]
        for axis, (before, after, least, stride) in enumerate(
            zip(self.before, self.after, self.least, self.stride)  # noqa: B905  not in TorchScript
        ):
            size = shape[axis]
            filled = least + max(0, (size - least + stride - 1) // stride) * stride
            places = torch.arange(-before, filled + after, device=x.device)
            period = max(1, 2 * (size - 1))
            folded = places.remainder(period)
            x = x.index_select(axis + 2, torch.minimum(folded, period - folded))
        logits: Tensor = self.network(x)
        for axis, size in enumerate(shape):
            logits = logits.narrow(axis + 2, 0, size)
        return logits
