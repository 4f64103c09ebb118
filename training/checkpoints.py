"""Checkpoints of a run: saving, finding, resuming from and removing them."""

import json
import re
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from checkpoint import PROGRESS_NAME, write_model
from tacotron2.mel import MelConfig
from training.options import RunOptions
from utils import UserError, atomic_write, recover_replaced


@dataclass
class Progress:
    """How far a run has trained, as saved in `progress.json`."""

    epoch: int = 0  # completed epochs
    clips_in_epoch: int = 0  # clips of the current epoch that all processes together have used
    step: int = 0  # completed steps
    skipped_steps: int = 0
    non_finite_in_a_row: int = 0

    @classmethod
    def of(cls, checkpoint: Path) -> "Progress":
        """Read the progress of a checkpoint."""
        values = json.loads((checkpoint / PROGRESS_NAME).read_text())
        return cls(**{field.name: values[field.name] for field in fields(cls)})


class Checkpoints:
    """The checkpoints in a run's folder.

    A checkpoint contains `config.json`, each of `models` as `<name>.safetensors`, `progress.json`, and
    Accelerate's files with optimizers, loss scaler and random state. Prepare models and optimizers before
    making this object.
    """

    def __init__(
        self, accelerator: Accelerator, folder: Path, config: MelConfig, models: dict[str, nn.Module]
    ):
        self.accelerator, self.folder = accelerator, folder
        self.config, self.models = config, models
        accelerator.register_save_state_pre_hook(self._save_models)
        accelerator.register_load_state_pre_hook(self._load_models)
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            recover_replaced(folder)
            for leftover in folder.glob(".*.tmp"):  # of a process that was killed while writing
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        accelerator.wait_for_everyone()

    def save(self, name: str, progress: Progress, options: RunOptions) -> None:
        """Write a checkpoint under a temporary name; rename it when every process has written its part."""
        accelerator, target = self.accelerator, self.folder / name
        shared = self.folder / f".{name}.parts.tmp"
        if accelerator.is_main_process:
            shutil.rmtree(shared, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(shared))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            arguments = {name: value for name, value in vars(options).items() if is_plain(value)}
            record = asdict(progress) | {"arguments": arguments}
            (shared / PROGRESS_NAME).write_text(json.dumps(record, indent=2) + "\n")
            with atomic_write(target) as temporary:
                shared.rename(temporary)
            # while steps are being skipped, the older checkpoints may be the good ones
            if options.keep_checkpoints and not progress.non_finite_in_a_row:
                self._remove_all_but_newest(options.keep_checkpoints)
        accelerator.wait_for_everyone()

    def find(self, wanted: str) -> Path | None:
        """Return the checkpoint of that name or path, or the latest; None if "latest" finds none.

        Raises UserError for a name or path that is not a training checkpoint.
        """
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

        Raises UserError if the checkpoint's configuration is not this run's.
        """
        saved = type(self.config).from_dict(json.loads((checkpoint / "config.json").read_text()))
        differences = [
            f"{field.name} was {getattr(saved, field.name)} and is now {getattr(self.config, field.name)}"
            for field in fields(saved)
            if getattr(saved, field.name) != getattr(self.config, field.name)
        ]
        if differences:
            raise UserError(f"can't resume from {checkpoint} with other settings: {'; '.join(differences)}")
        self.accelerator.load_state(str(checkpoint))
        return Progress.of(checkpoint)

    def set_aside_later(self, step: int) -> None:
        """Move checkpoints with more than `step` steps to `set_aside`: they belong to another course."""
        for folder in [child for child in self.folder.glob("[!.]*") if is_checkpoint(child)]:
            later = Progress.of(folder).step
            if later > step:
                target = self.folder / "set_aside" / f"{folder.name}_step_{later}"
                while target.exists():
                    target = target.with_name(target.name + "_again")
                target.parent.mkdir(exist_ok=True)
                folder.rename(target)
                self.accelerator.print(f"{folder.name} has more steps than that: moved to {target}")

    def _remove_all_but_newest(self, count: int) -> None:
        numbers = [re.fullmatch(r"checkpoint_(\d+)", folder.name) for folder in self.folder.iterdir()]
        epochs = sorted(int(match[1]) for match in numbers if match)
        for epoch in epochs[:-count]:
            shutil.rmtree(self.folder / f"checkpoint_{epoch}")

    def _save_models(self, models: list[nn.Module], weights: list[dict], folder: str) -> None:
        if self.accelerator.is_main_process:
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


def is_plain(value) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def is_checkpoint(folder: Path) -> bool:
    return (folder / PROGRESS_NAME).is_file()


def latest_checkpoint(folder: Path, before_trouble: bool = False) -> Path | None:
    """Return the checkpoint with the most steps in a run's folder, or None.

    With `before_trouble`, checkpoints whose last step was not finite don't count.
    """
    steps = {}
    for checkpoint in filter(is_checkpoint, folder.glob("[!.]*")):
        progress = Progress.of(checkpoint)
        if not (before_trouble and progress.non_finite_in_a_row):
            steps[checkpoint] = progress.step
    return max(steps, key=steps.get, default=None)
