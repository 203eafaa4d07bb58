"""Three-dimensional convolutions that also learn where the feature map is thinner than the kernel.

In bfloat16 on CPUs with AVX-512, oneDNN's weight gradient (3.12, in torch 2.13:
``jit_bf16:avx512_core_bf16``, backward_weights) leaves taps of the kernel that reach beyond both
ends of a short axis unwritten: whatever lay in memory becomes gradient, now and then NaN. It does
so where padding is the convolution's own, not where the padding lies in its input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ThinConv3d(nn.Conv3d):
    """A convolution whose weight gradient is right on feature maps thinner than its kernel."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.padding, str) or not self._learns_wrongly(input):
            y: Tensor = super()._conv_forward(input, weight, bias)
            return y
        sides = [side for side in self.padding[::-1] for _ in range(2)]
        padded = F.pad(input, sides)
        return F.conv3d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def _learns_wrongly(self, x: Tensor) -> bool:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return False
        autocast = torch.is_autocast_enabled("cpu")
        if (torch.get_autocast_dtype("cpu") if autocast else x.dtype) != torch.bfloat16:
            return False
        # Looked at last: an export with open sizes must not meet a question about sizes.
        return any(n < side for n, side in zip(x.shape[2:], self.kernel_size, strict=True))


def with_thin_convolutions(model: nn.Module) -> None:
    """Make every three-dimensional convolution of a network a :class:`ThinConv3d`, in place.

    The networks of MONAI build theirs themselves; weights, names and random numbers stay.
    """
    for layer in model.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = ThinConv3d
