"""The log of a run: metrics.jsonl, trackers and the progress bar."""

import time

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from mel import MelConfig
from training import trackers
from training.checkpoints import Progress
from training.metrics_log import MetricsLog
from training.options import RunOptions

SHOWN_LOSSES = ("gen_loss", "disc_loss", "loss", "mel_loss")  # on the progress bar; the log has all


class RunLog:
    """Writes the values of steps and validations. Only the main process writes."""

    def __init__(self, accelerator: Accelerator, options: RunOptions, config: MelConfig):
        self.accelerator, self.options, self.config = accelerator, options, config
        self.metrics = MetricsLog(options.folder / "metrics.jsonl")
        self.bar: tqdm | None = None
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave the time of other work than training out of `frames_per_second` and the progress bar."""
        if self.bar is not None:
            self.bar.unpause()
        self._frames, self._since = 0, time.perf_counter()

    def add_frames(self, frames: int | Tensor) -> None:
        """Count the mel frames that this process has used."""
        self._frames = self._frames + frames * self.accelerator.num_processes

    def is_due(self, step: int) -> bool:
        """Return whether a step is logged, counted from 0."""
        options = self.options
        has_trackers = options.log_wandb or options.log_tensorboard
        return step % options.console_out_iters == 0 or (has_trackers and step % options.wandb_log_iters == 0)

    def log_step(self, values: dict[str, Tensor], learning_rate: float, progress: Progress) -> None:
        """Log the means over all processes of the last step's values. Waits for the device."""
        means = self.accelerator.reduce(torch.stack([value.float() for value in values.values()]), "mean")
        record = dict(zip(values, means.tolist(), strict=True))
        seconds = time.perf_counter() - self._since
        record["learning_rate"] = learning_rate
        record["frames_per_second"] = round(float(self._frames) / seconds, 1)
        record["skipped_steps"] = progress.skipped_steps
        self.restart_clock()
        step = progress.step - 1
        to_file = step % self.options.console_out_iters == 0
        self.write("train", record, progress, to_file, step % self.options.wandb_log_iters == 0)
        if self.bar is not None:
            shown = {name: f"{record[name]:.3g}" for name in SHOWN_LOSSES if name in record}
            shown["frames/s"] = f"{record['frames_per_second']:.0f}"
            self.bar.set_postfix(shown, refresh=False)

    def write(
        self,
        split: str,
        values: dict[str, float],
        progress: Progress,
        to_file: bool = True,
        to_trackers: bool = True,
    ) -> None:
        """Write values of the last step to metrics.jsonl and to the trackers."""
        if not self.accelerator.is_main_process:
            return
        step = progress.step - 1
        if to_file:
            self.metrics.append({"step": step, "epoch": progress.epoch, "split": split} | values)
        if to_trackers:
            named = {f"{split}/{name}": value for name, value in values.items()}
            trackers.use_trackers(self.accelerator, lambda tracker: tracker.log(named, step=step))

    def write_clips(self, clips: dict[str, tuple], shown: str, progress: Progress) -> None:
        """Send {name: (audio (samples,), picture (height, width, channels))} to the trackers."""
        trackers.log_clips(self.accelerator, clips, shown, self.config.sampling_rate, progress.step - 1)

    def show_epoch(self, progress: Progress, total_steps: int) -> None:
        """Show the current epoch on the progress bar, which the first call creates."""
        if self.bar is None and self.accelerator.is_main_process:
            self.bar = tqdm(
                total=total_steps, initial=progress.step, unit="step", dynamic_ncols=True, smoothing=0.05
            )
        if self.bar is not None:
            epochs = f"{progress.epoch + 1}/{self.options.training_epochs}"
            self.bar.set_description(f"epoch {epochs}", refresh=False)

    def show_validation(self) -> None:
        """Say on the progress bar that it waits for a validation."""
        if self.bar is not None:
            self.bar.set_description("validating")

    def show_step(self) -> None:
        """Count a step on the progress bar."""
        if self.bar is not None:
            self.bar.update()

    def close(self) -> None:
        """Close the progress bar and the trackers."""
        if self.bar is not None:
            self.bar.close()
        trackers.use_trackers(self.accelerator, lambda tracker: tracker.finish())
        self.accelerator.trackers.clear()
        self.accelerator.end_training()
