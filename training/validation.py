"""Validation whose clips are shared between processes."""

from collections.abc import Iterator

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from training.run import TrainingRun


class ValidationMeans:
    """Weighted means of named values over the batches of all processes."""

    def __init__(self, run: TrainingRun, names: tuple[str, ...]):
        self.run, self.names = run, names
        self.totals = torch.zeros(2, len(names), dtype=torch.float64)  # weighted sums, sums of weights

    def batches(self, loader: DataLoader) -> Iterator[dict]:
        """Yield the batches on the device. A run can stop between two batches."""
        batches = iter(loader)
        # processes with fewer batches than others take part in the exchanges until the last batch
        for _ in range(self.run.processes.maximum(len(loader))):
            for batch in self.run.fetch(batches):
                yield send_to_device(batch, self.run.accelerator.device)

    def add(self, weight: int, values: dict[str, Tensor | float | None]) -> None:
        """Add means over `weight` items. None and names that are left out don't count."""
        for name, value in values.items():
            if value is not None:
                self.totals[:, self.names.index(name)] += torch.tensor([weight * float(value), weight])

    def result(self) -> dict[str, float]:
        """Return the means, NaN if nothing was added. All processes must call this together."""
        accelerator = self.run.accelerator
        sums, weights = accelerator.reduce(self.totals.float().to(accelerator.device), "sum").cpu()
        return dict(zip(self.names, (sums / weights).tolist(), strict=True))
