"""A training run: its folder, progress, main loop and log. `train.py` and `tacotron2/train.py` use it."""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.errors import UserError
from mel import MelConfig
from training import trackers
from training.checkpoints import FINAL, LAST, Checkpoints, Progress, latest_checkpoint
from training.loaders import continue_epoch
from training.metrics_log import MetricsLog
from training.optimization import SkippedSteps
from training.options import RunOptions
from training.processes import FAILED, Processes, StopSignal, postpone_errors_of_workers

# The loss scaler of fp16 starts with a high scale and skips ten to twenty steps until the scale fits.
MAX_NON_FINITE_IN_A_ROW = 50

SHOWN_LOSSES = ("gen_loss", "disc_loss", "loss", "mel_loss")  # on the progress bar; the log has all


class TrainingRun:
    """Counts steps and epochs, logs them, validates, and saves checkpoints when they are due.

        run = TrainingRun(accelerator, processes, options, config, models, steps_per_epoch)
        run.start("project", validate)
        while not run.finished:
            for batches in run.batches(loader):
                run.finish_step(losses, frames, learning_rate)
            run.finish_epoch()
        run.finish()

    Each of `models` is saved in checkpoints as `<name>.safetensors`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        processes: Processes,
        options: RunOptions,
        config: MelConfig,
        models: dict[str, nn.Module],
        steps_per_epoch: int,
    ):
        self.accelerator, self.processes = accelerator, processes
        self.options, self.config = options, config
        self.steps_per_epoch = steps_per_epoch
        self.folder = options.folder
        self.progress = Progress()
        self.bar: tqdm | None = None
        self._restart_clock()
        self.stop_signal = StopSignal()
        self._skipped = SkippedSteps(accelerator.device)
        self.metrics = MetricsLog(self.folder / "metrics.jsonl")
        self.checkpoints = Checkpoints(accelerator, processes, self.folder, config, models)
        self.checkpoints.open(resume=options.resume_from_checkpoint is not None)

    def start(self, project: str, validate: Callable[[], dict[str, float]]) -> None:
        """Resume from the checkpoint in --resume_from_checkpoint, if any, and start the trackers.

        `validate` returns the values to log.
        """
        self._validate = validate
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
            self.metrics.drop_later(self.progress.step, self._keeps_last_validation)
            if checkpoint:
                self.checkpoints.set_aside_later(self.progress.step)
        trackers.start_trackers(self.accelerator, self.options, project)

    def print_sizes(self, name: str, model: nn.Module, train_clips: int, val_clips: int) -> None:
        options, count = self.options, self.accelerator.num_processes
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        self.accelerator.print(
            f"{name} of {size:.2f} M parameters; {train_clips} clips to train on, {val_clips} to validate\n"
            f"{self.clips_per_step} clips per update, from {count} process(es) with --batch_size "
            f"{options.batch_size} and --gradient_accumulation_steps {options.gradient_accumulation_steps}\n"
            f"{self.steps_per_epoch} steps per epoch, {self.total_steps} updates in total"
        )

    def warn_of_other_batch_size(self, source: Path, official: int) -> None:
        """Warn if an official configuration states another batch size, which is that of all GPUs together."""
        if official != self.clips_per_step:
            parts = self.clips_per_step // self.options.batch_size
            hint = (
                f"; for the same updates, use --batch_size {official // parts}" if official >= parts else ""
            )
            self.accelerator.print(
                f"{source} has batch_size {official}, which the official code divides between all GPUs; this "
                f"run has {self.clips_per_step} clips per update{hint}",
                file=sys.stderr,
            )

    @property
    def finished(self) -> bool:
        limit = self.options.max_train_steps
        done = self.progress.epoch >= self.options.training_epochs
        return done or (limit is not None and self.progress.step >= limit)

    @property
    def total_steps(self) -> int:
        total = self.options.training_epochs * self.steps_per_epoch
        return min(total, self.options.max_train_steps or total)

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

    def batches(self, loader: DataLoader) -> Iterator[list]:
        """Yield the rest of the epoch as lists of --gradient_accumulation_steps batches, one list per step.

        Ends early at --max_train_steps. Validates in between, with --validation_steps.
        """
        self._show_progress()
        self._restart_clock()
        continue_epoch(loader, self.progress.epoch, self.progress.clips_in_epoch)
        batches, size = iter(loader), self.options.gradient_accumulation_steps
        while not self.finished:
            if self._validates_within_epochs and not self.progress.is_validated:
                self.validate()
            group = self.fetch(batches, size)
            postpone_errors_of_workers()
            if len(group) < size:
                break
            yield group

    def fetch(self, batches: Iterator, count: int = 1) -> list:
        """Return the next `count` batches, or fewer at the end. All processes must call this together.

        If reading fails in any process, or after a signal, saves last_checkpoint and ends the run.
        """
        group, error = [], None
        try:
            group = list(islice(batches, count))
        except Exception as problem:  # of a clip or a worker: the steps that are done must not be lost
            error = problem
        self.stop_if_asked(error)
        return group

    def finish_step(self, values: dict[str, Tensor], frames: int | Tensor, learning_rate: float) -> None:
        """Count a step, log it when due, and save last_checkpoint when due.

        `values` are scalars on the device. A step counts as skipped if a value named `…grad_norm` is not
        finite. `frames` is the number of mel frames that this process has used. Waits for the device only
        when logging or saving. Raises UserError when logging after too many skipped steps in a row.
        """
        options, progress, step = self.options, self.progress, self.progress.step
        progress.step += 1
        progress.is_validated = False
        progress.clips_in_epoch += self.clips_per_step
        self._frames_since_log = self._frames_since_log + frames * self.accelerator.num_processes
        self._skipped.add([value for name, value in values.items() if name.endswith("grad_norm")])
        to_file, to_trackers = step % options.console_out_iters == 0, step % options.wandb_log_iters == 0
        if to_file or to_trackers:
            self._log_step(values, learning_rate, step, to_file, to_trackers)
        if self.bar is not None:
            self.bar.update()
        if options.checkpoint_steps and progress.step % options.checkpoint_steps == 0:
            self.save(LAST)

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

    def finish_epoch(self) -> None:
        """Validate, count the epoch, and save a checkpoint when due."""
        progress = self.progress
        # the rest may be less than a step after a resume with larger steps; --max_train_steps leaves more
        is_complete = (
            progress.clips_in_epoch + self.clips_per_step > self.steps_per_epoch * self.clips_per_step
        )
        is_last = self.finished or (is_complete and progress.epoch + 1 == self.options.training_epochs)
        if not progress.is_validated and (is_last or self.options.validation_steps is None):
            self.validate()
        if is_complete:
            progress.epoch += 1
            progress.clips_in_epoch = 0
            if progress.epoch % self.options.checkpoint_epochs == 0:
                self.save(f"checkpoint_{progress.epoch}")
            elif progress.is_validated:
                self.save(LAST)  # only its progress, as the weights are saved before validation

    def validate(self) -> None:
        """Validate, and log the result. Before, save a checkpoint, because validation may take long."""
        self.stop_if_asked()
        self.save(LAST)
        self.log("val", self._validate())
        self.progress.is_validated = True
        self._restart_clock()

    def _restart_clock(self) -> None:
        """Leave the time of other work than training out of `frames_per_second`."""
        self._frames_since_log, self._last_log = 0, time.perf_counter()

    @property
    def _validates_within_epochs(self) -> bool:
        interval = self.options.validation_steps
        return interval is not None and self.progress.step % interval == 0

    @property
    def _keeps_last_validation(self) -> bool:
        """Whether an uninterrupted run would also have validated here, and will not do so now."""
        ends_epoch = self.options.validation_steps is None and self.progress.clips_in_epoch == 0
        is_regular = ends_epoch or self._validates_within_epochs
        return self.progress.is_validated and (is_regular or self.finished)

    def finish(self) -> Path:
        """Save the final checkpoint and close the trackers; return the checkpoint's folder."""
        if self.bar is not None:
            self.bar.close()
        self.save(FINAL)
        self.accelerator.print(f"The model is in {self.folder / FINAL}")
        self.accelerator.end_training()
        self.checkpoints.close()
        return self.folder / FINAL

    def save(self, name: str) -> None:
        self._read_skipped_steps()
        self.checkpoints.save(name, self.progress, self.options)

    def stop_if_asked(self, error: Exception | None = None) -> None:
        """Save last_checkpoint and end the run after SIGINT or SIGTERM, or an error, in any process.

        The exit status is that of the signal. Raises `error` in the process that has it.
        """
        reason = self.processes.maximum(FAILED if error else self.stop_signal.number or 0)
        if not reason:
            return
        if self.progress.step:
            self.save(LAST)
            why = " because a batch could not be read" if reason == FAILED else ""
            self.accelerator.print(
                f"\nStopped after step {self.progress.step - 1}{why}; continue with "
                "--resume_from_checkpoint latest",
                file=sys.stderr,
            )
        self.accelerator.end_training()
        if error is not None:
            raise explained(error)
        sys.exit(2 if reason == FAILED else 128 + reason)

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
            self.metrics.append(record)
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
            self.bar = tqdm(
                total=self.total_steps,
                initial=self.progress.step,
                unit="step",
                dynamic_ncols=True,
                smoothing=0.05,
            )
        if self.bar is not None:
            epochs = f"{self.progress.epoch + 1}/{self.options.training_epochs}"
            self.bar.set_description(f"epoch {epochs}", refresh=False)


def explained(error: Exception) -> Exception:
    """Return a UserError for the error of a loader whose worker was killed, and other errors unchanged."""
    if isinstance(error, RuntimeError) and "exited unexpectedly" in str(error):
        return UserError(
            "a process that reads clips was killed, possibly for lack of memory; continue with fewer "
            "--num_workers"
        )
    return error
