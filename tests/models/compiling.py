"""A network under ``torch.compile``, against itself without."""

import torch
from torch import Tensor, nn

from tests.models.networks import outputs


def compiled_as_eager(model: nn.Module, x: Tensor, backend: str = "inductor") -> str:
    """Say whether a compiled network predicts and learns as it does without, or why not.

    Args:
        model: The network.
        x: A batch that fits and leaves a batch norm more than two values.
        backend: ``inductor``, torch's own, which writes and builds kernels; ``aot_eager`` follows
            both passes and keeps torch's kernels, in seconds.

    Returns:
        ``yes`` or, of ``aot_eager``, ``traces``, where each pass is one graph; otherwise what went
        wrong.
    """
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    try:
        ours, theirs = gradient(compiled, model, x), gradient(model, model, x)
        predicted = [predict(each, model, x) for each in (compiled, model)]
    except Exception as error:
        return f"no: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    finally:
        torch.compiler.reset()
    # Fused kernels round otherwise, and norms enlarge it: in ResNeXt noise of 1e-7 does as much.
    likeness = torch.nn.functional.cosine_similarity(ours.double(), theirs.double(), dim=0)
    if not torch.allclose(*predicted, rtol=1e-3, atol=1e-3) or likeness < 0.99:
        apart = (predicted[0] - predicted[1]).abs().max()
        return f"WRONG: logits differ by {apart:.2g}, gradients are alike to {likeness:.4f}"
    return "yes" if backend == "inductor" else "traces"


def gradient(runs: nn.Module, model: nn.Module, x: Tensor) -> Tensor:
    """Give the gradient of all weights in one step of training, as one vector."""
    model.train().zero_grad()
    torch.manual_seed(1)
    # Dropout must draw the same numbers compiled or not.
    with torch._inductor.config.patch(fallback_random=True):
        sum(y.square().mean() for y in outputs(runs, x)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def predict(runs: nn.Module, model: nn.Module, x: Tensor) -> Tensor:
    """Give logits in evaluation."""
    model.eval()
    with torch.no_grad():
        return runs(x)
