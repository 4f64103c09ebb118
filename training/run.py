"""A training run: its folder, progress, main loop and log. `train.py` and `tacotron2/train.py` use it."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from tacotron2.mel import MelConfig
from training import trackers
from training.checkpoints import Checkpoints, Progress, latest_checkpoint
from training.loaders import continue_epoch
from training.metrics_log import append_record, drop_later_records
from training.optimization import SkippedSteps
from training.options import RunOptions
from training.processes import StopSignal
from utils import UserError

# The loss scaler of fp16 starts with a high scale and skips ten to twenty steps until the scale fits.
MAX_NON_FINITE_IN_A_ROW = 50

# Steps between exchanges of stop signals between processes with GPUs. Each exchange waits for the device.
STOP_CHECK_STEPS = 10

SHOWN_LOSSES = ("gen_loss", "disc_loss", "loss", "mel_loss")  # on the progress bar; the log has all


class TrainingRun:
    """Counts steps and epochs, logs them, and saves checkpoints when they are due.

        run = TrainingRun(accelerator, options, config, models)
        run.start("project")
        while not run.finished:
            for batches in run.batches(loader, steps_per_epoch):
                run.finish_step(losses, frames, learning_rate)
            run.finish_epoch(validate)
        run.finish()

    Each of `models` is saved in checkpoints as `<name>.safetensors`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        options: RunOptions,
        config: MelConfig,
        models: dict[str, nn.Module],
    ):
        self.accelerator, self.options, self.config = accelerator, options, config
        self.folder = options.folder
        self.metrics_path = self.folder / "metrics.jsonl"
        self.progress = Progress()
        self.steps_per_epoch = 0
        self.bar: tqdm | None = None
        self._frames_since_log: int | Tensor = 0
        self._last_log = time.perf_counter()
        self.checkpoints = Checkpoints(accelerator, self.folder, config, models)
        existing = latest_checkpoint(self.folder)
        if existing and not options.resume_from_checkpoint:
            raise UserError(
                f"{self.folder} already contains a run ({existing.name}); continue it with "
                "--resume_from_checkpoint latest, or choose another --experiment_name"
            )
        self.stop_signal = StopSignal()
        self._skipped = SkippedSteps(accelerator.device)
        is_waiting_cheap = accelerator.num_processes == 1 or accelerator.device.type == "cpu"
        self._stop_check_steps = 1 if is_waiting_cheap else STOP_CHECK_STEPS

    def start(self, project: str) -> None:
        """Resume from the checkpoint in --resume_from_checkpoint, if any, and start the trackers."""
        wanted = self.options.resume_from_checkpoint
        checkpoint = self.checkpoints.find(wanted) if wanted else None
        if checkpoint:
            self.progress = progress = self.checkpoints.load(checkpoint)
            self._skipped = SkippedSteps(
                self.accelerator.device, progress.skipped_steps, progress.non_finite_in_a_row
            )
            done = f"{self.progress.epoch} epochs and {self.progress.step} steps are done"
            self.accelerator.print(f"Resumed from {checkpoint}: {done}")
        elif wanted:
            self.accelerator.print(f"No checkpoint in {self.folder} yet: starting from the beginning")
        if self.accelerator.is_main_process:
            drop_later_records(self.metrics_path, self.progress, self.finished)
            if checkpoint:
                self.checkpoints.set_aside_later(self.progress.step)
        trackers.start_trackers(self.accelerator, self.options, project)

    def print_sizes(self, name: str, model: nn.Module, train_clips: int, val_clips: int, steps: int) -> None:
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        self.accelerator.print(
            f"{name} of {size:.2f} M parameters; {train_clips} clips to train on, {val_clips} to validate; "
            f"{steps} steps per epoch"
        )

    @property
    def finished(self) -> bool:
        limit = self.options.max_train_steps
        done = self.progress.epoch >= self.options.training_epochs
        return done or (limit is not None and self.progress.step >= limit)

    @property
    def clips_per_step(self) -> int:
        options = self.options
        return options.batch_size * self.accelerator.num_processes * options.gradient_accumulation_steps

    @property
    def epochs_done(self) -> float:
        """Completed epochs, with the completed part of the current one."""
        # not from the number of steps, because a run may be resumed with steps of another size
        steps = self.progress.clips_in_epoch // self.clips_per_step
        return (self.progress.epoch * self.steps_per_epoch + steps) / self.steps_per_epoch

    def batches(self, loader: DataLoader, steps_per_epoch: int) -> Iterator[list]:
        """Yield the rest of the epoch as lists of --gradient_accumulation_steps batches, one list per step.

        Ends early at --max_train_steps. Saves a checkpoint and exits after a stop signal.
        """
        self.steps_per_epoch = steps_per_epoch
        self._show_progress()
        self._frames_since_log, self._last_log = 0, time.perf_counter()  # leaves the time of validation out
        continue_epoch(loader, self.progress.epoch, self.progress.clips_in_epoch)
        group = []
        for batch in loader:
            group.append(batch)
            if len(group) == self.options.gradient_accumulation_steps:
                yield group
                group = []
                if self.progress.step % self._stop_check_steps == 0:
                    self.stop_if_asked()
                if self.finished:
                    break

    def finish_step(self, values: dict[str, Tensor], frames: int | Tensor, learning_rate: float) -> None:
        """Count a step, log it when due, and save last_checkpoint when due.

        `values` are scalars on the device. A step counts as skipped if a value named `…grad_norm` is not
        finite. `frames` is the number of mel frames that this process has used. Waits for the device only
        when logging or saving. Raises UserError when logging after too many skipped steps in a row.
        """
        options, progress, step = self.options, self.progress, self.progress.step
        progress.step += 1
        progress.clips_in_epoch += self.clips_per_step
        self._frames_since_log = self._frames_since_log + frames * self.accelerator.num_processes
        self._skipped.add([value for name, value in values.items() if name.endswith("grad_norm")])
        to_file, to_trackers = step % options.console_out_iters == 0, step % options.wandb_log_iters == 0
        if to_file or to_trackers:
            self._log_step(values, learning_rate, step, to_file, to_trackers)
        if self.bar is not None:
            self.bar.update()
        if options.checkpoint_steps and progress.step % options.checkpoint_steps == 0:
            self.save("last_checkpoint")

    def _read_skipped_steps(self) -> None:
        self.progress.skipped_steps, self.progress.non_finite_in_a_row = self._skipped.read()

    def _check_skipped_steps(self) -> None:
        """Raise UserError after too many skipped steps in a row."""
        in_a_row = self.progress.non_finite_in_a_row
        if in_a_row > MAX_NON_FINITE_IN_A_ROW:
            last = latest_checkpoint(self.folder, before_trouble=True)
            hint = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise UserError(
                f"{in_a_row} steps in a row had losses or gradients that are not finite, up to step "
                f"{self.progress.step - 1}; {hint}. Try a lower --learning_rate, or --mixed_precision no"
            )

    def _log_step(
        self, values: dict[str, Tensor], learning_rate: float, step: int, to_file: bool, to_trackers: bool
    ) -> None:
        means = self.accelerator.reduce(torch.stack([value.float() for value in values.values()]), "mean")
        record = dict(zip(values, means.tolist(), strict=True))
        now = time.perf_counter()
        record["learning_rate"] = learning_rate
        record["frames_per_second"] = round(float(self._frames_since_log) / (now - self._last_log), 1)
        self._read_skipped_steps()
        record["skipped_steps"] = self.progress.skipped_steps
        self._frames_since_log, self._last_log = 0, now
        self.log("train", record, step, to_file, to_trackers)
        if self.bar is not None:
            shown = {name: f"{record[name]:.3g}" for name in record if name in SHOWN_LOSSES}
            shown["frames/s"] = f"{record['frames_per_second']:.0f}"
            self.bar.set_postfix(shown, refresh=False)
        self._check_skipped_steps()

    def finish_epoch(self, validate: Callable[[], dict[str, float]]) -> None:
        """Log the values that `validate` returns, count the epoch, and save a checkpoint when due."""
        self.stop_if_asked()
        self.log("val", validate())
        progress = self.progress
        # the rest may be less than a step after a resume with larger steps; --max_train_steps leaves more
        if progress.clips_in_epoch + self.clips_per_step > self.steps_per_epoch * self.clips_per_step:
            progress.epoch += 1
            progress.clips_in_epoch = 0
            if progress.epoch % self.options.checkpoint_epochs == 0:
                self.save(f"checkpoint_{progress.epoch}")

    def finish(self) -> Path:
        """Save the final checkpoint and close the trackers; return the checkpoint's folder."""
        if self.bar is not None:
            self.bar.close()
        self.save("final_checkpoint")
        self.accelerator.print(f"The model is in {self.folder / 'final_checkpoint'}")
        self.accelerator.end_training()
        return self.folder / "final_checkpoint"

    def save(self, name: str) -> None:
        self._read_skipped_steps()
        self.checkpoints.save(name, self.progress, self.options)

    def stop_if_asked(self) -> None:
        """After SIGINT or SIGTERM in any process, save last_checkpoint and exit with the signal's status."""
        if not self.stop_signal.in_any_process(self.accelerator):
            return
        self.save("last_checkpoint")
        self.accelerator.print(
            f"\nStopped after step {self.progress.step - 1}; continue with --resume_from_checkpoint latest",
            file=sys.stderr,
        )
        self.accelerator.end_training()
        sys.exit(128 + (self.stop_signal.number or 15))

    def log(
        self,
        split: str,
        values: dict[str, float],
        step: int | None = None,
        to_file: bool = True,
        to_trackers: bool = True,
    ) -> None:
        """Log values of the last step, or of `step`, to metrics.jsonl and to the trackers."""
        if not self.accelerator.is_main_process:
            return
        step = self.progress.step - 1 if step is None else step
        if to_file:
            record = {"step": step, "epoch": self.progress.epoch, "split": split} | values
            append_record(self.metrics_path, record)
        if to_trackers:
            self.accelerator.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def log_clips(self, clips: dict[str, tuple], shown: str = "mel") -> None:
        """Send {name: (audio (samples,), picture (height, width, channels))} to the trackers.

        `shown` is what the pictures show.
        """
        step = self.progress.step - 1
        trackers.log_clips(self.accelerator, clips, shown, self.config.sampling_rate, step)

    def _show_progress(self) -> None:
        if self.bar is None and self.accelerator.is_main_process:
            total = self.options.training_epochs * self.steps_per_epoch
            total = min(total, self.options.max_train_steps or total)
            self.bar = tqdm(
                total=total, initial=self.progress.step, unit="step", dynamic_ncols=True, smoothing=0.05
            )
        if self.bar is not None:
            epochs = f"{self.progress.epoch + 1}/{self.options.training_epochs}"
            self.bar.set_description(f"epoch {epochs}", refresh=False)
