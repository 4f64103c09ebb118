"""Weights & Biases and TensorBoard."""

import os
import sys
from collections.abc import Callable

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from common.errors import UserError, one_line
from training.options import RunOptions


def tracker_names(options: RunOptions) -> list[str]:
    """Return Accelerate's names of the trackers in use. Raises UserError if TensorBoard is not installed."""
    if options.log_tensorboard:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError(
                "--log_tensorboard needs TensorBoard; install it with: pip install tensorboard"
            ) from error
    return ["wandb"] * options.log_wandb + ["tensorboard"] * options.log_tensorboard


def start_trackers(accelerator: Accelerator, options: RunOptions, project: str) -> None:
    """Start the trackers. Weights & Biases logs offline without a login or a network."""
    settings = {name: str(value) for name, value in vars(options).items()}
    wandb_options = wandb_settings(accelerator, options) if options.log_wandb else {}
    try:
        accelerator.init_trackers(project, settings, {"wandb": wandb_options})
    except Exception as error:  # the client raises errors of many types, none of which may end the run
        if not wandb_options or wandb_options.get("mode") == "offline":
            raise
        accelerator.print(f"Weights & Biases can't be reached ({error}): logging offline")
        wandb_options["mode"] = "offline"
        accelerator.trackers.clear()  # otherwise the failed tracker is started again
        accelerator.init_trackers(project, settings, {"wandb": wandb_options})


def wandb_settings(accelerator: Accelerator, options: RunOptions) -> dict:
    """Return the arguments of `wandb.init`, which only the main process calls."""
    if not accelerator.is_main_process:
        return {}
    import wandb

    settings = {
        "dir": str(options.folder),
        "name": getattr(options, "run_name", None) or options.experiment_name,
        "settings": wandb.Settings(init_timeout=30, console="off"),
    }
    try:
        is_logged_in = "WANDB_MODE" in os.environ or wandb.login(prompt=False, verify=False)
    except wandb.Error:  # an invalid key
        is_logged_in = False
    if not is_logged_in:
        accelerator.print("No Weights & Biases login: logging offline; `wandb sync` uploads it later")
        settings["mode"] = "offline"
    return settings


def use_trackers(accelerator: Accelerator, action: Callable[[GeneralTracker], None]) -> None:
    """Call `action` with each tracker in the main process, and use those that fail no more."""
    for tracker in list(accelerator.trackers) if accelerator.is_main_process else []:
        try:
            action(tracker)
        except Exception as error:  # clients raise errors of many types, none of which may end the run
            accelerator.trackers.remove(tracker)
            accelerator.print(
                f"\n{tracker.name} failed ({one_line(error)}): the run goes on without it, and metrics.jsonl "
                "has all values",
                file=sys.stderr,
            )


def log_clips(
    accelerator: Accelerator, clips: dict[str, tuple], shown: str, sampling_rate: int, step: int
) -> None:
    """Send {name: (audio (samples,), picture (height, width, channels))} to the trackers.

    `shown` is what the pictures show, and the title of their section.
    """

    def log(tracker: GeneralTracker) -> None:
        if tracker.name == "wandb":
            import wandb

            values: dict = {}
            for name, (audio, picture) in clips.items():
                values[f"audio/{name}"] = wandb.Audio(audio, sample_rate=sampling_rate)
                values[f"{shown}/{name}"] = wandb.Image(picture)
            tracker.log(values, step=step)
        elif tracker.name == "tensorboard":
            for name, (audio, picture) in clips.items():
                tracker.writer.add_audio(f"audio/{name}", audio, step, sampling_rate)
                tracker.writer.add_image(f"{shown}/{name}", picture, step, dataformats="HWC")

    use_trackers(accelerator, log)
