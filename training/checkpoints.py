"""Checkpoints of a run: saving, finding, resuming from and removing them."""

import json
import os
import re
import shutil
import socket
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import SCALER_NAME
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from checkpoint import CONFIG_NAME, PROGRESS_NAME, write_model
from common.errors import UserError, one_line
from common.files import atomic_write, read_json, recover_replaced, replace_folder
from mel import MelConfig
from training.options import RunOptions
from training.processes import Processes

LAST, FINAL, BEST = "last_checkpoint", "final_checkpoint", "best_checkpoint"


@dataclass
class Progress:
    """How far a run has trained, as saved in `progress.json`."""

    epoch: int = 0  # completed epochs
    clips_in_epoch: int = 0  # clips of the current epoch that all processes together have used
    step: int = 0  # completed steps
    skipped_steps: int = 0
    non_finite_in_a_row: int = 0
    best_value: float | None = None  # lowest value of --best_metric
    best_metric: str | None = None  # its name
    best_stage: str = ""  # the part of the run that it belongs to, see `TrainingRun.finish_validation`
    validations_since_best: int = 0
    is_validated: bool = True  # False if the run has to validate these weights, in case that it is due

    @classmethod
    def of(cls, checkpoint: Path) -> "Progress":
        """Read the progress of a checkpoint. Raises UserError if its file is damaged."""
        values = read_json(checkpoint / PROGRESS_NAME)
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})


class Checkpoints:
    """The checkpoints in a run's folder, which is locked from `open` to `close`.

    A checkpoint contains `config.json`, each of `models` as `<name>.safetensors`, `progress.json`, and
    Accelerate's files with optimizers, loss scaler and random state, all written by the main process. Prepare
    models and optimizers before making this object.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        processes: Processes,
        folder: Path,
        config: MelConfig,
        models: dict[str, nn.Module],
    ):
        self.accelerator, self.processes, self.folder = accelerator, processes, folder
        self.config, self.models = config, models
        self._step_of_last: int | None = None  # of last_checkpoint, if it belongs to this run
        accelerator.register_save_state_pre_hook(self._save_models)
        accelerator.register_load_state_pre_hook(self._load_models)

    def open(self, resume: bool) -> None:
        """Create, lock and tidy the folder. Raises UserError if it has a run, unless `resume`."""
        with self.processes.stopping_together():
            if self.processes.is_main:
                try:
                    self._open(resume)
                except OSError as error:
                    raise UserError(
                        f"can't write to {self.folder}: {error}; choose another --working_directory"
                    ) from error

    def _open(self, resume: bool) -> None:
        existing = latest_checkpoint(self.folder)
        if existing and not resume:
            raise UserError(
                f"{self.folder} already contains a run ({existing.name}); continue it with "
                "--resume_from_checkpoint latest, or choose another --experiment_name"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = lock_folder(self.folder)
        recover_replaced(self.folder)
        # of a process that was killed while writing
        for pattern in (".*.tmp", "*checkpoint*/.*.tmp"):  # the second may match inside the first's folders
            for leftover in list(self.folder.glob(pattern)):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def close(self) -> None:
        if self.processes.is_main:
            self.lock.release()

    def save(self, name: str, progress: Progress, options: RunOptions) -> None:
        """Write a checkpoint, or rename last_checkpoint if it has the same weights.

        A checkpoint that can't be written, for example because the disk is full, does not end the training:
        a warning is printed. Raises UserError if it is the final one.
        """
        problem = None
        if self.processes.is_main:
            try:
                self._write(name, progress, options)
            except (OSError, RuntimeError, SafetensorError) as error:
                free = shutil.disk_usage(self.folder).free / 2**20
                reason = " ".join(str(error).split())
                problem = f"can't write {self.folder / name} ({free:.0f} MB are free): {reason}"
        problem = self.processes.from_main(problem)
        if problem and name == FINAL:
            with self.processes.stopping_together():
                if self.processes.is_main:
                    raise UserError(
                        f"{problem}; make room, then continue with --resume_from_checkpoint latest"
                    )
        if problem:
            newest = latest_checkpoint(self.folder) or "missing"
            self.accelerator.print(f"\n{problem}; the newest checkpoint is {newest}", file=sys.stderr)

    def _write(self, name: str, progress: Progress, options: RunOptions) -> None:
        target, last = self.folder / name, self.folder / LAST
        step_of_last, self._step_of_last = self._step_of_last, None  # unknown if writing fails
        is_saved = step_of_last == progress.step
        if is_saved and name == BEST:  # last_checkpoint stays, for a run that is killed later
            with atomic_write(target) as temporary:
                shutil.copytree(last, temporary)
                write_progress(temporary, progress, options)
        elif is_saved:
            if name != LAST:
                replace_folder(last, target)
            write_progress(target, progress, options)
        else:
            with atomic_write(target) as temporary:
                self.accelerator.save_state(str(temporary))
                write_progress(temporary, progress, options)
        if name == LAST:
            self._step_of_last = progress.step
        elif last.exists():
            self._step_of_last = step_of_last
        # while steps are being skipped, the older checkpoints may be the good ones
        if options.keep_checkpoints and not progress.non_finite_in_a_row:
            self._remove_all_but_newest(options.keep_checkpoints)

    def find(self, wanted: str) -> Path | None:
        """Return the checkpoint of that name or path, or the latest; None if "latest" finds none.

        The main process decides. Raises UserError for a name or path that is not a training checkpoint, and
        in processes that do not find the same checkpoint there.
        """
        name = progress = None
        with self.processes.stopping_together():
            if self.processes.is_main and (found := self._find(wanted)):
                name = found.name if found.parent == self.folder else str(found.absolute())
                progress = Progress.of(found)
        name, progress = self.processes.from_main((name, progress))
        if name is None:
            return None
        found = self.folder / name
        with self.processes.stopping_together():
            if not is_checkpoint(found) or Progress.of(found) != progress:
                raise UserError(
                    f"process 0 resumes from step {progress.step} in {found}, which this process lacks; put "
                    "--working_directory on a file system that all machines share, or copy the folder to each"
                )
        return found

    def _find(self, wanted: str) -> Path | None:
        if wanted == "latest":
            return latest_checkpoint(self.folder)
        found = next(filter(is_checkpoint, (self.folder / wanted, Path(wanted))), None)
        if found is None:
            raise UserError(
                f"{wanted} is not a training checkpoint, neither in {self.folder} nor as a path: it has no "
                f"{PROGRESS_NAME}. To start from a model, use --path_to_pretrained_weights"
            )
        return found

    def load(self, checkpoint: Path) -> Progress:
        """Load models, optimizers and random state; return the checkpoint's progress.

        Raises UserError if the checkpoint's configuration is not this run's, or if a file is damaged.
        """
        saved = type(self.config).from_dict(read_json(checkpoint / CONFIG_NAME))
        differences = [
            f"{field.name} was {getattr(saved, field.name)} and is now {getattr(self.config, field.name)}"
            for field in fields(saved)
            if getattr(saved, field.name) != getattr(self.config, field.name)
        ]
        if differences:
            raise UserError(f"can't resume from {checkpoint} with other settings: {'; '.join(differences)}")
        scaler = self.accelerator.scaler
        if not (checkpoint / SCALER_NAME).is_file():
            self.accelerator.scaler = None  # a run that continues with fp16 starts with a new scale
        try:
            self.accelerator.load_state(str(checkpoint))
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of a damaged file: of many types
            raise UserError(
                f"can't read {checkpoint}: {one_line(error)}; delete it, or name an older checkpoint with "
                "--resume_from_checkpoint"
            ) from error
        self.accelerator.scaler = scaler
        self.accelerator.step = 0  # of batches; the checkpoint's may be no multiple of those of one update
        progress = Progress.of(checkpoint)
        if checkpoint == self.folder / LAST:
            self._step_of_last = progress.step
        return progress

    def has(self, checkpoint: Path) -> bool:
        """Return whether a checkpoint is one of this run's, rather than of another run."""
        return self.folder.resolve() in checkpoint.resolve().parents

    def set_aside_later(self, step: int) -> None:
        """Move checkpoints with more than `step` steps to `set_aside`: they belong to another course."""
        for folder, progress in readable_checkpoints(self.folder):
            if progress.step > step:
                target = self._set_aside(folder, f"{folder.name}_step_{progress.step}")
                reason = "has more steps than that" if step >= 0 else "is of another course"
                self.accelerator.print(f"{folder.name} {reason}: moved to {target}")

    def set_aside_log(self, log: Path) -> None:
        """Move the records of another course to `set_aside`."""
        if log.is_file() and log.stat().st_size:
            self.accelerator.print(
                f"{log.name} is of another course: moved to {self._set_aside(log, log.name)}"
            )

    def _set_aside(self, path: Path, name: str) -> Path:
        target = self.folder / "set_aside" / name
        while target.exists():
            target = target.with_name(target.name + "_again")
        target.parent.mkdir(exist_ok=True)
        return path.rename(target)

    def _remove_all_but_newest(self, count: int) -> None:
        numbers = [re.fullmatch(r"checkpoint_(\d+)", folder.name) for folder in self.folder.iterdir()]
        epochs = sorted(int(match[1]) for match in numbers if match)
        for epoch in epochs[:-count]:
            shutil.rmtree(self.folder / f"checkpoint_{epoch}")

    def _save_models(self, models: list[nn.Module], weights: list[dict], folder: str) -> None:
        if self.processes.is_main:
            states = {
                name: self.accelerator.unwrap_model(model).state_dict() for name, model in self.models.items()
            }
            write_model(Path(folder), self.config, states)
        weights.clear()  # otherwise Accelerate writes them again under its own names

    def _load_models(self, models: list[nn.Module], folder: str) -> None:
        files = {name: Path(folder) / f"{name}.safetensors" for name in self.models}
        if unused := set(Path(folder).glob("*_raw.safetensors")) - set(files.values()):
            raise UserError(f"can't resume from {folder} without --ema_decay: it has {unused.pop().name}")
        for name, model in self.models.items():
            # a run that starts to average has the same weights for both models
            file = files[name] if files[name].is_file() else files[name.removesuffix("_raw")]
            self.accelerator.unwrap_model(model).load_state_dict(load_file(file))
        models.clear()


def write_progress(checkpoint: Path, progress: Progress, options: RunOptions) -> None:
    arguments = {name: value for name, value in vars(options).items() if is_plain(value)}
    with atomic_write(checkpoint / PROGRESS_NAME) as temporary:
        temporary.write_text(json.dumps(asdict(progress) | {"arguments": arguments}, indent=2) + "\n")


def is_plain(value) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def is_checkpoint(folder: Path) -> bool:
    return (folder / PROGRESS_NAME).is_file()


def latest_checkpoint(folder: Path, before_trouble: bool = False) -> Path | None:
    """Return the checkpoint with the most steps in a run's folder, or None.

    With `before_trouble`, checkpoints whose last step was not finite don't count.
    """
    done = {
        checkpoint: (progress.step, progress.epoch)
        for checkpoint, progress in readable_checkpoints(folder)
        if not (before_trouble and progress.non_finite_in_a_row)
    }
    return max(done, key=done.get, default=None)


def readable_checkpoints(folder: Path) -> list[tuple[Path, Progress]]:
    """Return the checkpoints in a run's folder with their progress. Names damaged ones on stderr."""
    found = []
    for checkpoint in filter(is_checkpoint, sorted(folder.glob("[!.]*"))):
        try:
            found.append((checkpoint, Progress.of(checkpoint)))
        except UserError as error:
            print(f"{error}; {checkpoint.name} is left out", file=sys.stderr)
    return found


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder until the lock is released or the process ends. Raises UserError if it is locked.

    The lock also holds between machines, where the shared file system supports locks.
    """
    path = folder / ".lock"
    path.touch()  # raises OSError if the folder can't be written to
    lock = FileLock(path, fallback_to_soft=False, on_acquired=write_holder)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        holder = path.read_text().strip() or "another process"
        raise UserError(
            f"{folder} is in use by {holder}; stop that run, or choose another --experiment_name"
        ) from error
    except OSError:  # a file system without locks
        pass
    return lock


def write_holder(descriptor: int) -> None:
    """Write to an open lock file who holds the lock, for the message to others."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
