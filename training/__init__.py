"""What the training scripts share: their common flags, and a run with its folder, checkpoints and log.

Nothing here knows what is trained: `train.py` and `tacotron2/train.py` hold models, losses and the loop.
"""

import argparse
import ast
import ctypes
import json
import math
import operator
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, skip_first_batches
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import set_seed
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from checkpoint import PROGRESS_NAME, write_model
from dataset import EpochSampler
from tacotron2.mel import MEL_FILTERS, MEL_SCALES, PADDINGS, MelConfig
from utils import UserError, atomic_write, available_cores, check_seed, recover_replaced

# A loss scaler starts high on purpose and skips until its scale fits: in fp16 ten to twenty steps are normal.
MAX_NON_FINITE_IN_A_ROW = 50

SHOWN_LOSSES = ("gen_loss", "disc_loss", "loss", "mel_loss")  # on the progress bar; the log holds all


# Flags.


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a training run that do not depend on what is trained."""
    group = parser.add_argument_group("the run")
    group.add_argument("--experiment_name", required=True, help="name of the run and of its folder")
    group.add_argument("--working_directory", required=True, type=Path, help="where the run's folder is made")
    group.add_argument(
        "--path_to_train_manifest", required=True, type=Path, help="CSV of prep_splits.py, or filelist"
    )
    group.add_argument("--path_to_val_manifest", required=True, type=Path, help="the same, for validation")
    group.add_argument(
        "--input_wavs_dir", type=Path, help="where the clips of official filelists (id|text|text) lie"
    )
    group.add_argument(
        "--resume_from_checkpoint",
        metavar="NAME|PATH|latest",
        help="go on from a checkpoint: its name in this run, its path, or latest",
    )
    group.add_argument(
        "--seed", type=int, default=1234, help="of the initial weights, the order of clips, the segments"
    )
    group.add_argument(
        "--max_train_steps", type=int, help="stop after so many steps, whatever --training_epochs says"
    )
    group.add_argument(
        "--gradient_accumulation_steps", type=int, default=1, help="batches whose gradients make a step"
    )
    group.add_argument(
        "--mixed_precision",
        choices=("no", "bf16", "fp16"),
        help="of the models' arithmetic; by default what `accelerate launch` was told",
    )
    group.add_argument(
        "--num_workers", type=int, default=16, help="processes that read clips, per training process"
    )
    group.add_argument(
        "--console_out_iters", type=int, default=5, help="steps between lines of metrics.jsonl"
    )
    group.add_argument(
        "--wandb_log_iters", type=int, default=5, help="steps between values sent to the trackers"
    )
    group.add_argument("--checkpoint_epochs", type=int, default=50, help="epochs between checkpoints")
    group.add_argument(
        "--checkpoint_steps",
        type=int,
        help="also overwrite last_checkpoint every so many steps, for corpora with long epochs",
    )
    group.add_argument(
        "--keep_checkpoints", type=int, help="keep only so many of the newest checkpoints; default: all"
    )
    group.add_argument(
        "--log_wandb", action="store_true", help="log to Weights & Biases, offline without a login"
    )
    group.add_argument(
        "--log_tensorboard", action="store_true", help="log to TensorBoard, in the run's folder"
    )


def add_mel_arguments(parser: argparse.ArgumentParser, defaults: MelConfig) -> None:
    """The flags of `MelConfig`, by its field names."""
    group = parser.add_argument_group("the mel")
    texts = {
        "sampling_rate": "Hz",
        "n_fft": "samples of a Fourier transform",
        "window_size": "samples of its Hann window",
        "hop_size": "samples between frames",
        "num_mels": "mel bands",
        "fmin": "lower edge of the lowest band in Hz",
        "fmax": 'upper edge of the highest band in Hz; "none": half the sampling rate',
        "mel_scale": "dB mapped to ±max_scaled_abs, the natural logarithm (official), or log10",
        "min_db": "level that quieter bins are raised to",
        "max_scaled_abs": 'what "db" maps 0 dB to; min_db becomes its negative',
        "mel_filters": "Slaney's filters of equal areas, or HTK's of height 1 as in torchaudio and Vocos",
        "padding": "samples // hop_size frames, or one more, centred on the hops' first samples",
    }
    choices = {"mel_scale": MEL_SCALES, "mel_filters": MEL_FILTERS, "padding": PADDINGS}
    for field in fields(MelConfig):
        default = getattr(defaults, field.name)
        settings: dict = {"type": type(default)}
        if field.name in choices:
            settings = {"choices": choices[field.name]}
        if field.name == "fmax":
            settings = {"type": float_or_none}
        group.add_argument(f"--{field.name}", default=default, help=texts[field.name], **settings)


def mel_settings(source: argparse.Namespace | MelConfig) -> dict:
    """The settings of `MelConfig`, by name, from parsed flags or a larger configuration."""
    return {field.name: getattr(source, field.name) for field in fields(MelConfig)}


def float_or_none(text: str) -> float | None:
    return None if text.lower() in ("none", "null", "") else float(text)


def int_or_none(text: str) -> int | None:
    return None if text.lower() in ("none", "null", "") else int(text)


def nested_tuple(text: str) -> tuple:
    """`((1,3,5),(1,3,5))` or `(1,3,5)` from the command line, parsed as a literal: nothing in it can run."""

    def checked(value):
        return (
            tuple(checked(item) for item in value)
            if isinstance(value, list | tuple)
            else operator.index(value)
        )

    try:
        value = checked(ast.literal_eval(text))
        return value if isinstance(value, tuple) else (value,)
    except (ValueError, SyntaxError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ((1,3,5),(1,3,5))") from error


def check_run_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for numbers that make no run."""
    names = ["batch_size", "training_epochs", "gradient_accumulation_steps", "max_train_steps"]
    names += [
        "console_out_iters",
        "wandb_log_iters",
        "checkpoint_epochs",
        "checkpoint_steps",
        "keep_checkpoints",
    ]
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}; it must be at least 1")
    if args.num_workers < 0:
        raise UserError("--num_workers can't be negative")
    check_seed(args.seed)
    if args.learning_rate <= 0:
        raise UserError(f"--learning_rate is {args.learning_rate}; it must be positive")


# The run.


def make_accelerator(args: argparse.Namespace, broadcast_buffers: bool = False) -> Accelerator:
    """Accelerate's context for a run, with one thread a core where it runs on the CPU.

    `broadcast_buffers` is for models whose buffers depend on what a process has seen, such as batch norm's.
    """
    trackers = ["wandb"] * args.log_wandb + ["tensorboard"] * args.log_tensorboard
    if args.log_tensorboard:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError(
                "--log_tensorboard needs TensorBoard; install it with: pip install tensorboard"
            ) from error
    accelerator = Accelerator(
        # else Accelerate leaves processes that find no GPU unconnected: each would train a model of its own
        cpu="LOCAL_RANK" in os.environ and not torch.accelerator.is_available(),
        mixed_precision=args.mixed_precision,
        log_with=trackers or None,
        project_dir=args.working_directory / args.experiment_name,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=broadcast_buffers)],
    )
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and args.mixed_precision == "fp16":
        raise UserError("--mixed_precision fp16 needs a GPU; on a CPU take bf16 or no")
    # launchers set OMP_NUM_THREADS to 1 unless told otherwise, and a CPU's other cores would idle
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ
    if on_cpu and launched and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    set_seed(args.seed)
    return accelerator


def make_loader(
    accelerator: Accelerator,
    args: argparse.Namespace,
    dataset: Dataset,
    lengths: list[int] | None = None,
    collate: Callable | None = None,
) -> tuple[DataLoader, int]:
    """A prepared loader over `dataset`, which is indexed by (epoch, index), and its steps an epoch.

    With `lengths`, one an item, a batch has items of like lengths; `collate` makes a batch of them.
    """
    clips_per_step = args.batch_size * accelerator.num_processes * args.gradient_accumulation_steps
    sampler = EpochSampler(len(dataset), clips_per_step, args.seed, lengths)
    if len(dataset) < clips_per_step:
        accelerator.print(
            f"{len(dataset)} clips are fewer than the {clips_per_step} of one step: clips are repeated"
        )
    cores = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    if args.num_workers > cores:
        accelerator.print(
            f"--num_workers {args.num_workers} is more than the {cores} cores here: using {cores}"
        )
    args.num_workers = min(args.num_workers, cores)
    loader = DataLoader(
        dataset,
        args.batch_size,
        sampler=sampler,
        num_workers=args.num_workers,
        persistent_workers=args.num_workers > 0,
        worker_init_fn=leave_process_group,
        collate_fn=collate,
        pin_memory=accelerator.device.type == "cuda",
    )
    return accelerator.prepare(loader), sampler.length // clips_per_step


def leave_process_group(worker: int) -> None:
    """For workers: a signal to the group (Ctrl+C, `timeout`, torchrun) is the run's, which needs them yet."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def stop_with_launcher() -> None:
    """Ask Linux for a SIGTERM when `accelerate launch` dies: it passes none on to the run."""
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:  # which only the launcher sets
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class TrainingRun:
    """Where a run stands, and all that it leaves: checkpoints, `metrics.jsonl`, what its trackers hold.

    `models` go into each checkpoint as `<name>.safetensors`, next to `config.json`; Accelerate saves
    optimisers, loss scaler and random state. Prepare models and optimisers first,
    then make the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        args: argparse.Namespace,
        config: MelConfig,
        models: dict[str, nn.Module],
    ):
        self.accelerator, self.args, self.config, self.models = accelerator, args, config, models
        self.folder = args.working_directory / args.experiment_name
        self.metrics_path = self.folder / "metrics.jsonl"
        self.epoch = 0  # completed epochs
        self.clips_in_epoch = 0  # clips of all processes that the epoch under way has used
        self.step = 0  # completed steps
        self.skipped_steps = 0
        self.non_finite_in_a_row = 0
        self.stop_signal: int | None = None
        self.steps_per_epoch = 0
        self.bar: tqdm | None = None
        self._frames_since_log, self._last_log = 0, time.perf_counter()

        accelerator.register_save_state_pre_hook(self._save_models)
        accelerator.register_load_state_pre_hook(self._load_models)
        self._open_folder()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request_stop)
        stop_with_launcher()

    # Starting and resuming.

    def _open_folder(self) -> None:
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            recover_replaced(self.folder)
            for leftover in self.folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self.accelerator.wait_for_everyone()
        existing = latest_checkpoint(self.folder)
        if existing and not self.args.resume_from_checkpoint:
            raise UserError(
                f"{self.folder} holds a run already ({existing.name}); go on with it by "
                "--resume_from_checkpoint latest, or name another --experiment_name"
            )

    def resume(self) -> None:
        """Load what `--resume_from_checkpoint` names. "latest" begins anew if there is no checkpoint yet."""
        wanted = self.args.resume_from_checkpoint
        checkpoint = None
        if wanted == "latest":
            checkpoint = latest_checkpoint(self.folder)
            if checkpoint is None:
                self.accelerator.print(f"No checkpoint in {self.folder} yet: starting from the beginning")
        elif wanted:
            candidates = [folder for folder in (self.folder / wanted, Path(wanted)) if is_checkpoint(folder)]
            if not candidates:
                raise UserError(
                    f"{wanted} is no training checkpoint, neither in {self.folder} nor as a path; it needs "
                    f"a {PROGRESS_NAME}. A model without one goes into --path_to_pretrained_weights"
                )
            checkpoint = candidates[0]
        if checkpoint:
            self._check_config(checkpoint)
            self.accelerator.load_state(str(checkpoint))
            progress = json.loads((checkpoint / PROGRESS_NAME).read_text())
            self.epoch, self.clips_in_epoch = progress["epoch"], progress["clips_in_epoch"]
            self.step, self.skipped_steps = progress["step"], progress["skipped_steps"]
            self.non_finite_in_a_row = progress["non_finite_in_a_row"]
            self.accelerator.print(
                f"Resumed from {checkpoint}: {self.epoch} epochs and {self.step} steps are done"
            )
        if self.accelerator.is_main_process:
            self._truncate_metrics()
            if checkpoint:
                self._set_aside_later_checkpoints()

    def _set_aside_later_checkpoints(self) -> None:
        """Going back to an older checkpoint leaves the later ones behind: they are of another course of the
        run."""
        for folder in [child for child in self.folder.glob("[!.]*") if is_checkpoint(child)]:
            step = json.loads((folder / PROGRESS_NAME).read_text())["step"]
            if step > self.step:
                target = self.folder / "set_aside" / f"{folder.name}_step_{step}"
                while target.exists():
                    target = target.with_name(target.name + "_again")
                target.parent.mkdir(exist_ok=True)
                folder.rename(target)
                self.accelerator.print(f"{folder.name} is ahead of that: moved to {target}")

    def _check_config(self, checkpoint: Path) -> None:
        saved = type(self.config).from_dict(json.loads((checkpoint / "config.json").read_text()))
        differences = [
            f"{field.name} was {getattr(saved, field.name)} and is now {getattr(self.config, field.name)}"
            for field in fields(saved)
            if getattr(saved, field.name) != getattr(self.config, field.name)
        ]
        if differences:
            raise UserError(f"can't resume from {checkpoint} with other settings: {'; '.join(differences)}")

    def _truncate_metrics(self) -> None:
        """Drop lines from beyond the checkpoint: those steps are about to be done again.

        So is the validation of an epoch that the checkpoint has not completed.
        """
        validates_again = self.clips_in_epoch > 0 and not self.finished
        kept = []
        if self.metrics_path.exists():
            for line in self.metrics_path.read_text().splitlines():
                try:
                    record = json.loads(line)
                    is_last_validation = record["split"] == "val" and record["step"] == self.step - 1
                    if record["step"] < self.step and not (validates_again and is_last_validation):
                        kept.append(line)
                except ValueError:  # the last line of a killed process may be cut off
                    continue
        with atomic_write(self.metrics_path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))

    # The loop.

    @property
    def finished(self) -> bool:
        limit = self.args.max_train_steps
        return self.epoch >= self.args.training_epochs or (limit is not None and self.step >= limit)

    @property
    def clips_per_step(self) -> int:
        args = self.args
        return args.batch_size * self.accelerator.num_processes * args.gradient_accumulation_steps

    def batches(self, loader: DataLoader, steps_per_epoch: int) -> Iterator[list]:
        """What is left of the epoch, one list of `--gradient_accumulation_steps` batches a step.

        Ends early at `--max_train_steps`; saves and leaves the process when a signal asks for it.
        """
        self.steps_per_epoch = steps_per_epoch
        self._show_progress()
        self._frames_since_log, self._last_log = 0, time.perf_counter()  # validation's time is not training's
        loader.set_epoch(self.epoch)
        if self.clips_in_epoch:
            loader = skip_first_batches(
                loader, self.clips_in_epoch // (self.args.batch_size * self.accelerator.num_processes)
            )
        group = []
        for batch in loader:
            group.append(batch)
            if len(group) == self.args.gradient_accumulation_steps:
                yield group
                group = []
                self.stop_if_asked()
                if self.finished:
                    break

    def update(self, optimizer: AcceleratedOptimizer, model: nn.Module, max_norm: float = math.inf) -> Tensor:
        """Step the optimiser of `model`, unless a gradient is not finite; gives the norm of the gradients.

        It is the norm of what the processes have averaged, so all of them decide alike. Gradients of a norm
        above `max_norm` are scaled down to it.
        """
        scaler = self.accelerator.scaler
        if scaler is not None:
            self.accelerator.unscale_gradients(optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if max_norm < math.inf:
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), max_norm, norm)
        # with a loss scaler the optimiser does the skipping itself, and the scaler lowers the scale
        if scaler is not None or torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad()
        return norm

    def finish_step(self, values: dict[str, Tensor], frames: int, learning_rate: float) -> None:
        """Count the step and log it when it is due. `frames`: mel frames that this process trained on.

        A step is skipped, wholly or for one side, where a value named `…grad_norm` is not finite. Raises
        UserError when too many in a row were.
        """
        step = self.step
        self.step += 1
        self.clips_in_epoch += self.clips_per_step
        self._frames_since_log += frames * self.accelerator.num_processes
        norms = torch.stack([value for name, value in values.items() if name.endswith("grad_norm")])
        if torch.isfinite(norms).all():
            self.non_finite_in_a_row = 0
        else:
            self.skipped_steps += 1
            self.non_finite_in_a_row += 1

        to_file = step % self.args.console_out_iters == 0
        to_trackers = step % self.args.wandb_log_iters == 0
        if to_file or to_trackers:
            means = self.accelerator.reduce(torch.stack([value.float() for value in values.values()]), "mean")
            record = dict(zip(values, means.tolist(), strict=True))
            now = time.perf_counter()
            record["learning_rate"] = learning_rate
            record["frames_per_second"] = round(self._frames_since_log / (now - self._last_log), 1)
            record["skipped_steps"] = self.skipped_steps
            self._frames_since_log, self._last_log = 0, now
            self.log("train", record, step, to_file, to_trackers)
            if self.bar is not None:
                shown = {name: f"{record[name]:.3g}" for name in record if name in SHOWN_LOSSES}
                self.bar.set_postfix(
                    shown | {"frames/s": f"{record['frames_per_second']:.0f}"}, refresh=False
                )
        if self.bar is not None:
            self.bar.update()

        if self.non_finite_in_a_row > MAX_NON_FINITE_IN_A_ROW:
            last = latest_checkpoint(self.folder, before_trouble=True)
            hint = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
            raise UserError(
                f"{self.non_finite_in_a_row} steps in a row had losses or gradients that are not finite, "
                f"up to step {step}; {hint}. Try a lower --learning_rate, or --mixed_precision no"
            )
        if self.args.checkpoint_steps and self.step % self.args.checkpoint_steps == 0:
            self.save("last_checkpoint")

    @property
    def epoch_is_complete(self) -> bool:
        """False where `--max_train_steps` has cut the epoch short."""
        # what is left may be less than a step, where a resumed run has larger steps
        return self.clips_in_epoch + self.clips_per_step > self.steps_per_epoch * self.clips_per_step

    def finish_epoch(self) -> None:
        """Count the epoch, and save a checkpoint when one is due."""
        self.epoch += 1
        self.clips_in_epoch = 0
        if self.epoch % self.args.checkpoint_epochs == 0:
            self.save(f"checkpoint_{self.epoch}")

    def finish(self) -> Path:
        """Save the final checkpoint, close the trackers; gives the checkpoint's folder."""
        if self.bar is not None:
            self.bar.close()
        self.save("final_checkpoint")
        self.accelerator.print(f"The model is in {self.folder / 'final_checkpoint'}")
        self.accelerator.end_training()
        return self.folder / "final_checkpoint"

    def _show_progress(self) -> None:
        if self.bar is None and self.accelerator.is_main_process:
            total = self.args.training_epochs * self.steps_per_epoch
            total = min(total, self.args.max_train_steps or total)
            self.bar = tqdm(total=total, initial=self.step, unit="step", dynamic_ncols=True, smoothing=0.05)
            self._last_log = time.perf_counter()
        if self.bar is not None:
            self.bar.set_description(f"epoch {self.epoch + 1}/{self.args.training_epochs}", refresh=False)

    # Checkpoints.

    def save(self, name: str) -> None:
        """Write a checkpoint under a temporary name; rename it when every process has written its part."""
        accelerator, target = self.accelerator, self.folder / name
        shared = self.folder / f".{name}.parts.tmp"
        if accelerator.is_main_process:
            shutil.rmtree(shared, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(shared))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            progress = {
                "epoch": self.epoch,
                "clips_in_epoch": self.clips_in_epoch,
                "step": self.step,
                "skipped_steps": self.skipped_steps,
                "non_finite_in_a_row": self.non_finite_in_a_row,
                "arguments": {name: value for name, value in vars(self.args).items() if is_plain(value)},
            }
            (shared / PROGRESS_NAME).write_text(json.dumps(progress, indent=2) + "\n")
            with atomic_write(target) as temporary:
                shared.rename(temporary)
            self._remove_old_checkpoints()
        accelerator.wait_for_everyone()

    def _save_models(self, models: list[nn.Module], weights: list[dict], folder: str) -> None:
        if self.accelerator.is_main_process:
            states = {
                name: self.accelerator.unwrap_model(model).state_dict() for name, model in self.models.items()
            }
            write_model(Path(folder), self.config, states)
        weights.clear()  # or Accelerate would write them again under its own names

    def _load_models(self, models: list[nn.Module], folder: str) -> None:
        for name, model in self.models.items():
            self.accelerator.unwrap_model(model).load_state_dict(
                load_file(Path(folder) / f"{name}.safetensors")
            )
        models.clear()

    def _remove_old_checkpoints(self) -> None:
        # while steps are being skipped, the older ones may be the good ones
        if self.args.keep_checkpoints and not self.non_finite_in_a_row:
            numbers = [re.fullmatch(r"checkpoint_(\d+)", folder.name) for folder in self.folder.iterdir()]
            epochs = sorted(int(match[1]) for match in numbers if match)
            for epoch in epochs[: -self.args.keep_checkpoints]:
                shutil.rmtree(self.folder / f"checkpoint_{epoch}")

    def _request_stop(self, number: int, frame) -> None:
        self.stop_signal = self.stop_signal or number
        if number == signal.SIGINT:  # a second Ctrl+C acts at once; a second SIGTERM is a dying launcher's
            signal.signal(number, signal.default_int_handler)

    def stop_if_asked(self) -> None:
        """Where any process got SIGINT or SIGTERM: save `last_checkpoint`, end as the signal would have."""
        flag = torch.tensor(int(self.stop_signal is not None), device=self.accelerator.device)
        if not self.accelerator.reduce(flag, "sum").item():
            return
        self.save("last_checkpoint")
        self.accelerator.print(
            f"\nStopped after step {self.step - 1}; go on with --resume_from_checkpoint latest",
            file=sys.stderr,
        )
        self.accelerator.end_training()
        sys.exit(128 + (self.stop_signal or signal.SIGTERM))

    # The log.

    def log(
        self,
        split: str,
        values: dict[str, float],
        step: int | None = None,
        to_file: bool = True,
        to_trackers: bool = True,
    ) -> None:
        """Append a line to `metrics.jsonl`, send the values to the trackers; by default of the last step."""
        if not self.accelerator.is_main_process:
            return
        step = self.step - 1 if step is None else step
        if to_file:
            record = {"step": step, "epoch": self.epoch, "split": split} | values
            # JSON has no NaN: a loss that is none must not make the file unreadable
            record = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
            }
            with self.metrics_path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if to_trackers:
            self.accelerator.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def start_trackers(self, project: str) -> None:
        """Start the trackers that were asked for. Neither a missing login nor a dead network ends a run."""
        settings = {name: str(value) for name, value in vars(self.args).items()}
        options: dict = {}
        if self.args.log_wandb and self.accelerator.is_main_process:
            import wandb

            options = {
                "dir": str(self.folder),
                "name": vars(self.args).get("run_name") or self.args.experiment_name,
                "settings": wandb.Settings(init_timeout=30, console="off"),
            }
            try:
                is_logged_in = "WANDB_MODE" in os.environ or wandb.login(prompt=False, verify=False)
            except wandb.Error:  # a key that can't be one
                is_logged_in = False
            if not is_logged_in:
                self.accelerator.print(
                    "No Weights & Biases login: logging offline; `wandb sync` uploads it later"
                )
                options["mode"] = "offline"
        try:
            self.accelerator.init_trackers(project, settings, {"wandb": options})
        except Exception as error:  # whatever the tracker's client raises, the run is worth more than its log
            if not options or options.get("mode") == "offline":
                raise
            self.accelerator.print(f"Weights & Biases can't be reached ({error}): logging offline")
            options["mode"] = "offline"
            self.accelerator.trackers.clear()  # or the one that has failed is started again, and fails again
            self.accelerator.init_trackers(project, settings, {"wandb": options})

    def log_clips(self, clips: dict[str, tuple], sampling_rate: int) -> None:
        """Send {name: (audio (samples,), picture (height, width, channels))} to the trackers."""
        step = self.step - 1
        for tracker in self.accelerator.trackers if self.accelerator.is_main_process else []:
            if tracker.name == "wandb":
                import wandb

                values: dict = {}
                for name, (audio, picture) in clips.items():
                    values[f"audio/{name}"] = wandb.Audio(audio, sample_rate=sampling_rate)
                    values[f"mel/{name}"] = wandb.Image(picture)
                tracker.log(values, step=step)
            elif tracker.name == "tensorboard":
                for name, (audio, picture) in clips.items():
                    tracker.writer.add_audio(f"audio/{name}", audio, step, sampling_rate)
                    tracker.writer.add_image(f"mel/{name}", picture, step, dataformats="HWC")


def is_plain(value) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def is_checkpoint(folder: Path) -> bool:
    return (folder / PROGRESS_NAME).is_file()


def latest_checkpoint(folder: Path, before_trouble: bool = False) -> Path | None:
    """The checkpoint in a run's folder that has done the most steps, whatever it is called.

    `before_trouble` passes over those whose last step was not finite.
    """
    steps = {}
    for checkpoint in filter(is_checkpoint, folder.glob("[!.]*")):
        progress = json.loads((checkpoint / PROGRESS_NAME).read_text())
        if not (before_trouble and progress["non_finite_in_a_row"]):
            steps[checkpoint] = progress["step"]
    return max(steps, key=steps.get, default=None)
