"""Means of logged values: over the batches of a training step, and over the clips of a validation."""

import torch
from accelerate import Accelerator
from torch import Tensor


class StepMeans:
    """Means over the batches of one optimizer step, as scalars that stay on the device."""

    def __init__(self, batches: int):
        self.batches = batches
        self.means: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        """Add the values of one batch."""
        for name, value in values.items():
            share = value.detach() / self.batches
            self.means[name] = self.means[name] + share if name in self.means else share

    def add_once(self, **values: Tensor) -> None:
        """Add values of the whole step."""
        self.means |= values


class WeightedMeans:
    """Weighted means of named values over the validation clips of all processes."""

    def __init__(self, *names: str):
        self.names = names
        self.totals = torch.zeros(2, len(names), dtype=torch.float64)  # weighted sums, sums of weights

    def add(self, weight: int, **values: Tensor | float | None) -> None:
        """Add means over `weight` items. None and names that are left out don't count."""
        for name, value in values.items():
            if value is not None:
                self.totals[:, self.names.index(name)] += torch.tensor([weight * float(value), weight])

    def of_all_processes(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means, NaN if nothing was added. All processes must call this together."""
        sums, weights = accelerator.reduce(self.totals.float().to(accelerator.device), "sum").cpu()
        return dict(zip(self.names, (sums / weights).tolist(), strict=True))
