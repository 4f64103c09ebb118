"""Options of a training run: fields, defaults, help texts and validation.

`common.parser` turns these dataclasses into command-line flags.
"""

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.options import Options, mixed_precision_option, option, seed_option


def inside_folder(name: str) -> str | None:
    path = Path(name)
    is_inside = name.strip() and not path.is_absolute() and ".." not in path.parts and path.parts
    return None if is_inside else "the name of a folder inside --working_directory"


def check_folder(folder: Path) -> None:
    """Raise UserError if a folder can't be created because it or one of its parents is a file."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"can't write to {folder}: {existing} is a file; choose another folder")


BEST_METRICS = ("val_mel_loss", "val_loss")


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Options that do not depend on what is trained."""

    experiment_name: str = option(
        help="Name of the run and of its folder", check=inside_folder, group="run and data"
    )
    working_directory: Path = option(help="Create the run's folder in this folder")
    path_to_train_manifest: Path = option(
        help="Train on these clips: CSV or Parquet manifest, or official filelist"
    )
    path_to_val_manifest: Path = option(
        help="Validate on these clips: CSV or Parquet manifest, or official filelist"
    )
    input_wavs_dir: Path | None = option(
        None, "Read the clips of official filelists (id|text|text) in this folder"
    )
    path_to_pretrained_weights: Path | None = option(
        None, "Start from this model: a folder, or a file in another supported format"
    )

    training_epochs: int = option(
        3100, "Number of passes over the training clips", minimum=1, group="optimization"
    )
    max_train_steps: int | None = option(
        None, "Stop after this number of steps, whatever --training_epochs is", minimum=1
    )
    batch_size: int = option(16, "Number of clips per batch and process", minimum=1)
    gradient_accumulation_steps: int = option(
        1, "Number of batches per optimizer step and process", minimum=1
    )
    learning_rate: float = option(0.0002, "Initial learning rate", above=0)
    seed: int = seed_option(1234, "the initial weights, the order of clips, the segments and dropout")

    resume_from_checkpoint: str | None = option(
        None, "Resume from this checkpoint: its name in this run, its path, or latest",
        metavar="NAME|PATH|latest", group="checkpoints",
    )  # fmt: skip
    checkpoint_epochs: int = option(50, "Number of epochs between checkpoints", minimum=1)
    checkpoint_steps: int | None = option(
        5000, "Number of steps between updates of last_checkpoint; none: only before validations", minimum=1
    )
    validation_steps: int | None = option(
        None,
        "Number of steps between validations, for corpora with long epochs; default: one epoch",
        minimum=1,
    )
    best_metric: str | None = option(
        None,
        "Keep the checkpoint with the lowest value of this validation loss as best_checkpoint",
        choices=BEST_METRICS,
    )
    patience: int | None = option(
        None, "Stop training after this number of validations without a lower --best_metric", minimum=1
    )
    keep_checkpoints: int | None = option(
        None, "Keep this number of newest checkpoint_<epochs> folders; default: all", minimum=1
    )

    console_out_iters: int = option(
        5, "Number of steps between lines of metrics.jsonl", minimum=1, group="logging"
    )
    wandb_log_iters: int = option(5, "Number of steps between values sent to the trackers", minimum=1)
    log_wandb: bool = option(False, "Log to Weights & Biases, offline without a login")
    log_tensorboard: bool = option(False, "Log to TensorBoard, in the run's folder")

    mixed_precision: str | None = mixed_precision_option(
        None,
        "Precision of the networks' arithmetic; default: as configured by `accelerate config`",
        "hardware",
    )
    no_tf32: bool = option(
        False, "Multiply float32 numbers in full precision on GPUs; default: in TF32, with 10-bit mantissas"
    )
    compile: bool = option(
        False,
        "Compile the networks with torch.compile, which takes minutes and needs a C++ compiler on a CPU",
    )
    num_workers: int = option(16, "Number of processes that read clips, per training process", minimum=0)

    def __post_init__(self):
        super().__post_init__()
        check_folder(self.folder)
        if self.patience and not self.best_metric:
            raise UserError("--patience needs --best_metric: name the loss that has to improve")

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.working_directory / self.experiment_name
