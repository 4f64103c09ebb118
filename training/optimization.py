"""What optimizer steps need besides the optimizer: steps skipped on the device, and averaged weights.

Nothing here reads a value from the device: the host would wait for all the work that it has queued.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn


def skip_unless_finite(optimizer: AcceleratedOptimizer, grad_norm: Tensor) -> None:
    """Let the next step of a fused optimizer leave the weights unchanged if the norm is not finite.

    The norm is that of the exchanged gradients, so all processes decide alike.
    """
    if optimizer.scaler is None:  # a loss scaler sets it itself, and lowers its scale
        optimizer.optimizer.found_inf = (~torch.isfinite(grad_norm)).float()


def set_hyperparameters(optimizer: torch.optim.Optimizer, **values) -> None:
    """Set values of all parameter groups, such as `lr`: a resumed optimizer has those of the earlier run."""
    for group in optimizer.param_groups:
        group.update(values)


class SkippedSteps:
    """Counts, on the device, of all skipped steps and of those since the last step that was not skipped."""

    def __init__(self, device: torch.device, total: int = 0, in_a_row: int = 0):
        self.counts = torch.tensor([total, in_a_row], device=device)

    def add(self, norms: list[Tensor]) -> None:
        """Count a step, which was skipped if one of its gradient norms is not finite."""
        skipped = ~torch.stack(norms).isfinite().all()
        total, in_a_row = self.counts
        self.counts = torch.stack([total + skipped, (in_a_row + 1) * skipped])

    def read(self) -> tuple[int, int]:
        """Return both counts, waiting for the device."""
        total, in_a_row = self.counts.tolist()
        return total, in_a_row


class WeightAverage:
    """Exponential moving average of a model's weights, in `model`, a copy in eval mode.

    The first updates use a smaller decay, min(decay, (1 + step) / (10 + step)), because the first weights are
    random. The average depends only on weights and step, so it is exact after a resume.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False).eval(), decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights of `model` after `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients for the module's weights; gradients still flow through it."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
