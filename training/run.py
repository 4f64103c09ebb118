"""A training run: its folder, progress and checkpoints. `train.py` and `tacotron2/train.py` use it."""

import math
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.errors import UserError
from mel import MelConfig
from training import trackers
from training.checkpoints import BEST, FINAL, LAST, Checkpoints, Progress, latest_checkpoint
from training.loaders import clips_per_step, continue_epoch
from training.optimization import SkippedSteps
from training.options import RunOptions
from training.processes import FAILED, Processes, StopSignal, postpone_errors_of_workers
from training.run_log import RunLog

# The loss scaler of fp16 starts with a high scale and skips ten to twenty steps until the scale fits.
MAX_NON_FINITE_IN_A_ROW = 50


class TrainingRun:
    """Counts steps and epochs, logs them, answers what is due, and saves checkpoints.

        with TrainingRun(accelerator, processes, options, config, models, steps_per_epoch) as run:
            run.start(…)
            while not run.is_finished:
                for batches in run.batches(loader):
                    run.finish_step(values, frames, learning_rate)
                    if run.validation_is_due:
                        run.finish_validation(values)
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
        self.accelerator, self.processes, self.options = accelerator, processes, options
        self.steps_per_epoch, self.clips_per_step = steps_per_epoch, clips_per_step(accelerator, options)
        self.folder = options.folder
        self.progress = Progress()
        self._skipped = SkippedSteps(accelerator.device)
        self.log = RunLog(accelerator, options, config)
        self.checkpoints = Checkpoints(accelerator, processes, self.folder, config, models)
        self.stop_signal = StopSignal()

    def __enter__(self) -> "TrainingRun":
        self.checkpoints.open(resume=self.options.resume_from_checkpoint is not None)
        self.stop_signal.listen()
        return self

    def __exit__(self, *error) -> None:
        self.checkpoints.close()
        self.stop_signal.ignore()

    def start(self, project: str, model: nn.Module, train_clips: int, val_clips: int) -> None:
        """Resume from --resume_from_checkpoint, if given, start the trackers, and print the run's size."""
        wanted = self.options.resume_from_checkpoint
        checkpoint = self.checkpoints.find(wanted) if wanted else None
        if checkpoint:
            self.progress = progress = self.checkpoints.load(checkpoint)
            if self._is_other_course(checkpoint):
                progress.best_value, progress.validations_since_best = None, 0
            self._skipped = SkippedSteps(
                self.accelerator.device, progress.skipped_steps, progress.non_finite_in_a_row
            )
            done = f"{progress.epoch} epochs and {progress.step} steps are done"
            self.accelerator.print(f"Resumed from {checkpoint}: {done}")
        elif wanted:
            self.accelerator.print(f"No checkpoint in {self.folder} yet: starting from the beginning")
        if self.accelerator.is_main_process:
            is_own = checkpoint and self.checkpoints.has(checkpoint)
            if not is_own:
                self.checkpoints.set_aside_log(self.log.metrics.path)
            self.log.metrics.drop_later(self.progress.step, self._keeps_last_validation)
            if checkpoint:
                self.checkpoints.set_aside_later(self.progress.step if is_own else -1)
        trackers.start_trackers(self.accelerator, self.options, project)

        options, count = self.options, self.accelerator.num_processes
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        self.accelerator.print(
            f"{size:.2f} M parameters; {train_clips} clips to train on, {val_clips} to validate\n"
            f"{self.clips_per_step} clips per update, from {count} process(es) with --batch_size "
            f"{options.batch_size} and --gradient_accumulation_steps {options.gradient_accumulation_steps}\n"
            f"{self.steps_per_epoch} steps per epoch, {self.total_steps} updates in total"
        )

    def _is_other_course(self, checkpoint: Path) -> bool:
        """Whether the best value of a checkpoint is one of another run or of another --best_metric."""
        metrics = (self.progress.best_metric, self.options.best_metric)
        return not self.checkpoints.has(checkpoint) or (None not in metrics and len(set(metrics)) > 1)

    @property
    def is_finished(self) -> bool:
        limit = self.options.max_train_steps
        done = self.progress.epoch >= self.options.training_epochs
        return done or self._is_stale or (limit is not None and self.progress.step >= limit)

    @property
    def _is_stale(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.progress.validations_since_best >= patience

    @property
    def total_steps(self) -> int:
        # not the product, because a run may be resumed with steps of another size
        unread = self.steps_per_epoch * self.clips_per_step - self.progress.clips_in_epoch
        whole_epochs = self.options.training_epochs - self.progress.epoch - 1
        remaining = whole_epochs * self.steps_per_epoch + unread // self.clips_per_step
        total = self.progress.step + max(0, remaining)
        return min(total, self.options.max_train_steps or total)

    @property
    def epochs_done(self) -> float:
        """Completed epochs, with the completed part of the current one."""
        # not from the number of steps, because a run may be resumed with steps of another size
        steps = self.progress.clips_in_epoch // self.clips_per_step
        return (self.progress.epoch * self.steps_per_epoch + steps) / self.steps_per_epoch

    @property
    def validation_is_due(self) -> bool:
        """Whether to validate now: after each epoch or every --validation_steps, and at the end."""
        if self.progress.is_validated:
            return False
        if self._validates_within_epochs or self.is_finished:
            return True
        is_last = self.progress.epoch + 1 == self.options.training_epochs
        return self._epoch_is_complete and (is_last or self.options.validation_steps is None)

    @property
    def _epoch_is_complete(self) -> bool:
        # the rest may be less than a step after a resume with larger steps
        done = self.progress.clips_in_epoch + self.clips_per_step
        return done > self.steps_per_epoch * self.clips_per_step

    @property
    def _validates_within_epochs(self) -> bool:
        interval = self.options.validation_steps
        return interval is not None and self.progress.step % interval == 0

    @property
    def _keeps_last_validation(self) -> bool:
        """Whether an uninterrupted run would also have validated here, and will not do so now."""
        ends_epoch = self.options.validation_steps is None and (
            self.progress.clips_in_epoch == 0 or self._epoch_is_complete
        )
        is_regular = ends_epoch or self._validates_within_epochs
        return self.progress.is_validated and (is_regular or self.is_finished)

    def batches(self, loader: DataLoader) -> Iterator[list]:
        """Yield the rest of the epoch as lists of --gradient_accumulation_steps batches, one list per step.

        Ends early at --max_train_steps.
        """
        self.log.show_epoch(self.progress, self.total_steps)
        self.log.restart_clock()
        continue_epoch(loader, self.progress.epoch, self.progress.clips_in_epoch)
        batches, size = iter(loader), self.options.gradient_accumulation_steps
        while not self.is_finished:
            group = self._fetch(batches, size)
            postpone_errors_of_workers()
            if len(group) < size:
                break
            yield group

    def validation_batches(self, loader: DataLoader) -> Iterator[dict]:
        """Yield this process's share of the validation clips on the device. A run can stop in between."""
        self.log.show_validation()
        batches = iter(loader)
        # processes with fewer batches than others take part in the exchanges until the last batch
        for _ in range(self.processes.maximum(len(loader))):
            for batch in self._fetch(batches):
                yield send_to_device(batch, self.accelerator.device)

    def _fetch(self, batches: Iterator, count: int = 1) -> list:
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
        """Count a step; log it when due; save last_checkpoint when due and before a validation.

        `values` are scalars on the device. A step counts as skipped if a value named `…grad_norm` is not
        finite. `frames` is the number of mel frames that this process has used. Waits for the device only
        when logging or saving. Raises UserError when logging after too many skipped steps in a row.
        """
        progress = self.progress
        progress.step += 1
        progress.is_validated = False
        progress.clips_in_epoch += self.clips_per_step
        self.log.add_frames(frames)
        self._skipped.add([value for name, value in values.items() if name.endswith("grad_norm")])
        if self.log.is_due(progress.step - 1):
            self._read_skipped_steps()
            self.log.log_step(values, learning_rate, progress)
            self._check_skipped_steps()
        self.log.show_step()
        interval = self.options.checkpoint_steps
        if self.validation_is_due:  # which may take long
            self.stop_if_asked()
            self.save(LAST)
        elif interval and progress.step % interval == 0:
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

    def finish_validation(self, values: dict[str, float], stage: str = "") -> None:
        """Log the values of a validation, and save best_checkpoint if --best_metric is lower than before.

        When another stage of the run begins, so does the search for the best checkpoint.
        """
        progress, metric = self.progress, self.options.best_metric
        self.log.write("val", values, progress)
        progress.is_validated = True
        if metric:
            if stage != progress.best_stage:
                progress.best_value, progress.validations_since_best = None, 0
            progress.best_metric, progress.best_stage = metric, stage
            progress.validations_since_best += 1
            best = math.inf if progress.best_value is None else progress.best_value
            if values[metric] < best:
                progress.best_value, progress.validations_since_best = values[metric], 0
                self.save(BEST)
        self.log.show_epoch(progress, self.total_steps)
        self.log.restart_clock()

    def log_clips(self, clips: dict[str, tuple], shown: str = "mel") -> None:
        """Send {name: (audio (samples,), picture (height, width, channels))} to the trackers.

        `shown` is what the pictures show.
        """
        self.log.write_clips(clips, shown, self.progress)

    def finish_epoch(self) -> None:
        """Count an epoch that is complete, and save a checkpoint when due."""
        progress = self.progress
        if not self._epoch_is_complete:  # --max_train_steps
            return
        progress.epoch += 1
        progress.clips_in_epoch = 0
        if progress.epoch % self.options.checkpoint_epochs == 0:
            self.save(f"checkpoint_{progress.epoch}")
        elif progress.is_validated:
            self.save(LAST)  # only its progress, as the weights are saved before validation

    def finish(self) -> Path:
        """Save the final checkpoint and close the trackers; return the checkpoint's folder."""
        self.save(FINAL)
        self.log.close()
        if self._is_stale:
            self.accelerator.print(
                f"Stopped early: {self.progress.validations_since_best} validations without a lower "
                f"{self.options.best_metric} than {self.progress.best_value}, that of {BEST}"
            )
        self.accelerator.print(f"The model is in {self.folder / FINAL}")
        return self.folder / FINAL

    def save(self, name: str) -> None:
        """Save a checkpoint of this name in the run's folder."""
        self._read_skipped_steps()
        self.checkpoints.save(name, self.progress, self.options)

    def stop_if_asked(self, error: Exception | None = None) -> None:
        """Save last_checkpoint and end the run after SIGINT or SIGTERM, or an error, in any process.

        The exit status is that of the signal. Raises `error` in the process that has it.
        """
        # over Gloo: Accelerate's check_trigger exchanges on the device and waits for it
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
        self.log.close()
        if error is not None:
            raise explained(error)
        sys.exit(2 if reason == FAILED else 128 + reason)


def explained(error: Exception) -> Exception:
    """Return a UserError for the error of a loader whose worker was killed, and other errors unchanged."""
    if isinstance(error, RuntimeError) and "exited unexpectedly" in str(error):
        return UserError(
            "a process that reads clips was killed, possibly for lack of memory; continue with fewer "
            "--num_workers"
        )
    return error
