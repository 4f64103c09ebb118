"""Optimizer steps: gradient accumulation, gradient exchange, non-finite gradients and averaged weights.

Nothing here reads a value from the device: the host would wait for all the work that it has queued.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn


class Update:
    """One optimizer step on the mean gradient of several batches.

        for batch in update.accumulate(batches):
            update.backward(loss(batch), {"loss": …})
        values = update.step()

    `model` is the module that Accelerate has prepared, so that processes exchange gradients. `optimizer` is
    fused, since only fused optimizers can skip a step on the device.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: AcceleratedOptimizer,
        norm_name: str = "grad_norm",
        max_norm: float = math.inf,
    ):
        self.accelerator, self.model, self.optimizer = accelerator, model, optimizer
        self.norm_name, self.max_norm = norm_name, max_norm
        self.count = 0
        self.means: dict[str, Tensor | float] = {}

    def accumulate(self, batches: list[dict]) -> Iterator[dict]:
        """Yield the batches. Processes exchange gradients only with the last one."""
        self.count, self.means = len(batches), defaultdict(float)
        for batch in batches[:-1]:
            with self.accelerator.no_sync(self.model):
                yield batch
        yield batches[-1]

    def backward(self, loss: Tensor, values: dict[str, Tensor]) -> None:
        """Accumulate the gradient of `loss`, and the mean over batches of `values`."""
        self.accelerator.backward(loss / self.count)
        for name, value in values.items():
            self.means[name] += value.detach() / self.count

    def step(self) -> dict[str, Tensor]:
        """Step the optimizer unless a gradient is not finite; return the means and the gradient norm.

        The norm is that of the exchanged gradients, so all processes decide alike. Gradients with a larger
        norm than `max_norm` are scaled down to it.
        """
        scaler = self.accelerator.scaler
        if scaler is not None:
            self.accelerator.unscale_gradients(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if self.max_norm < math.inf:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        if scaler is None:  # a loss scaler sets it itself, and lowers its scale
            self.optimizer.optimizer.found_inf = (~torch.isfinite(norm)).float()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**self.means, self.norm_name: norm}


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
