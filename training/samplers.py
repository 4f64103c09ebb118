"""The order of clips in training, a function of seed and epoch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

POOLED_BATCHES = 20  # batches whose clips are sorted by length together


class EpochSampler(Sampler):
    """Yields (epoch, index) over a shuffled corpus, in an order that depends only on (seed, epoch).

    An epoch consists of whole batches of `global_batch_size` clips. The few remaining clips, different ones
    in each epoch, are left out. A corpus smaller than one batch is repeated, with different segments.

    With `lengths`, one per clip, each batch has clips of similar lengths and therefore little padding. The
    order then also depends on the batch size, so an epoch that is resumed with another batch size may repeat
    clips. A batch that is divided between `processes` and accumulated in `parts` has short and long clips
    for each process.

    `start_at` lets an interrupted epoch continue.
    """

    def __init__(
        self,
        num_clips: int,
        global_batch_size: int,
        seed: int,
        lengths: np.ndarray | None = None,
        processes: int = 1,
        parts: int = 1,
    ):
        self.num_clips, self.seed, self.epoch, self.start = num_clips, seed, 0, 0
        self.length = max(1, num_clips // global_batch_size) * global_batch_size
        self.global_batch_size, self.lengths = global_batch_size, lengths
        self.processes, self.parts = processes, parts

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, clips: int) -> None:
        """Leave out the first `clips` clips of each epoch, until this method is called again."""
        self.start = clips

    def __len__(self) -> int:
        # whole batches also after a resume with another batch size
        return max(0, self.length - self.start) // self.global_batch_size * self.global_batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        rounds = [
            first + random.permutation(self.num_clips) for first in range(0, self.length, self.num_clips)
        ]
        order = np.concatenate(rounds)[: self.length]
        if self.lengths is not None:
            order = self._batches_of_similar_lengths(order, random)
        for index in order[self.start :][: len(self)]:
            yield self.epoch, int(index)

    def _batches_of_similar_lengths(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        # Sorted within pools, because sorting the whole corpus would yield the same batches in every epoch.
        pool = POOLED_BATCHES * self.global_batch_size
        lengths = np.asarray(self.lengths)
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        pools = [part[np.argsort(lengths[part % self.num_clips], kind="stable")] for part in pools]
        batches = np.concatenate(pools).reshape(-1, self.global_batch_size)
        # a process takes consecutive clips of each part; sorted, the first would always get the shortest ones
        divided = batches.reshape(len(batches), self.parts, -1, self.processes).swapaxes(2, 3)
        return random.permutation(divided.reshape(batches.shape)).reshape(-1)
