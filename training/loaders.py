"""Data loaders: sharded between processes, with as many workers as there are cores."""

import os
import sys
from collections.abc import Callable

import numpy as np
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset

from corpus.manifest import Clips, read_manifest
from mel import MelConfig
from training.options import RunOptions
from training.processes import Processes, cores_per_process
from training.samplers import EpochSampler


def read_manifests(processes: Processes, options: RunOptions, config: MelConfig) -> tuple[Clips, Clips]:
    """Return the training and validation clips, which the main process reads for all."""
    clips = None
    with processes.stopping_together():
        if processes.is_main:
            clips = tuple(
                read_manifest(path, config.sampling_rate, options.input_wavs_dir)
                for path in (options.path_to_train_manifest, options.path_to_val_manifest)
            )
    return processes.from_main(clips)


def clips_per_step(accelerator: Accelerator, options: RunOptions) -> int:
    """Return the number of clips that one update is made from, in all processes together."""
    return options.batch_size * accelerator.num_processes * options.gradient_accumulation_steps


def warn_of_other_batch_size(accelerator: Accelerator, options: RunOptions, official: int | None) -> None:
    """Warn if an official configuration states another batch size, which is that of all GPUs together."""
    clips = clips_per_step(accelerator, options)
    if official not in (None, clips):
        parts = clips // options.batch_size
        hint = f"; for the same updates, use --batch_size {official // parts}" if official >= parts else ""
        accelerator.print(
            f"{options.config} has batch_size {official}, which the official code divides between all GPUs; "
            f"this run has {clips} clips per update{hint}",
            file=sys.stderr,
        )


def training_loader(
    accelerator: Accelerator,
    options: RunOptions,
    dataset: Dataset,
    lengths: np.ndarray | None = None,
    collate: Callable | None = None,
) -> tuple[DataLoader, int]:
    """Return a prepared loader over `dataset`, which is indexed by (epoch, index), and its steps per epoch.

    With `lengths`, one per item, each batch contains items of similar lengths. `collate` makes a batch of a
    list of items.
    """
    clips = clips_per_step(accelerator, options)
    sampler = EpochSampler(
        len(dataset),
        clips,
        options.seed,
        lengths,
        accelerator.num_processes,
        options.gradient_accumulation_steps,
    )
    if len(dataset) < clips:
        accelerator.print(f"{len(dataset)} clips are fewer than the {clips} of one step: clips are repeated")
    num_workers = limited_workers(options.num_workers, accelerator.print)
    loader = DataLoader(
        dataset,
        options.batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=leave_process_group,
        collate_fn=collate,
        pin_memory=accelerator.device.type == "cuda",
    )
    return accelerator.prepare(loader), sampler.length // clips


def continue_epoch(loader: DataLoader, epoch: int, clips: int) -> None:
    """Let the next pass over a training loader be the rest of `epoch`, after the first `clips` clips.

    Accelerate's skip_first_batches starts new workers and, before 1.15, resets the sampler to epoch 0.
    """
    loader.set_epoch(epoch)
    batches = loader.batch_sampler
    batches = getattr(batches, "batch_sampler", batches)  # those of all processes
    batches.sampler.start_at(clips)


def validation_loader(
    accelerator: Accelerator,
    options: RunOptions,
    dataset: Dataset,
    batch_size: int = 1,
    lengths: np.ndarray | None = None,
    collate: Callable | None = None,
) -> DataLoader:
    """Return a loader over this process's share of `dataset`, sorted by `lengths` if given."""
    order = range(len(dataset)) if lengths is None else np.argsort(lengths, kind="stable").tolist()
    share = order[accelerator.process_index :: accelerator.num_processes]
    return DataLoader(
        Subset(dataset, share),
        batch_size,
        num_workers=min(1, options.num_workers),
        worker_init_fn=leave_process_group,
        collate_fn=collate,
    )


def limited_workers(wanted: int | None, report: Callable[[str], None] = print) -> int:
    """Return `wanted`, or the number of cores per process if that is smaller; None means all cores.

    Command lines are often written for another machine, so a larger number is reported and reduced.
    """
    cores = cores_per_process()
    if wanted is not None and wanted > cores:
        report(f"--num_workers {wanted} is more than the {cores} cores here: using {cores}")
    return cores if wanted is None else min(wanted, cores)


def leave_process_group(worker: int) -> None:
    """Move a worker to its own process group.

    Signals to the run's group, from Ctrl+C, `timeout` or torchrun, then reach only the training process,
    which still needs its workers to finish the step.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
