"""Options of a training run: fields, defaults, help texts and validation.

`common.parser` turns these dataclasses into command-line flags.
"""

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.options import SEED, check_options, option


def inside_folder(name: str) -> str | None:
    path = Path(name)
    is_inside = name.strip() and not path.is_absolute() and ".." not in path.parts and path.parts
    return None if is_inside else "the name of a folder inside --working_directory"


def check_folder(folder: Path) -> None:
    """Raise UserError if a folder can't be created because it or one of its parents is a file."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"can't write to {folder}: {existing} is a file; choose another folder")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that do not depend on what is trained."""

    experiment_name: str = option(
        help="name of the run and of its folder", check=inside_folder, group="run and data"
    )
    working_directory: Path = option(help="folder that contains the run's folder")
    path_to_train_manifest: Path = option(
        help="training clips: CSV or Parquet manifest, or official filelist"
    )
    path_to_val_manifest: Path = option(
        help="validation clips: CSV or Parquet manifest, or official filelist"
    )
    input_wavs_dir: Path | None = option(
        None, "folder of the clips named in official filelists (id|text|text)"
    )
    path_to_pretrained_weights: Path | None = option(
        None, "model to start from: a folder, or a file in another supported format"
    )

    training_epochs: int = option(3100, "passes over the training clips", minimum=1, group="optimization")
    max_train_steps: int | None = option(
        None, "number of steps after which training stops, whatever --training_epochs is", minimum=1
    )
    batch_size: int = option(16, "clips per batch and process", minimum=1)
    gradient_accumulation_steps: int = option(1, "batches per optimizer step and process", minimum=1)
    learning_rate: float = option(0.0002, "initial learning rate", above=0)
    seed: int = option(1234, "seed of the initial weights, the order of clips and the segments", **SEED)

    resume_from_checkpoint: str | None = option(
        None, "checkpoint to resume from: its name in this run, its path, or latest",
        metavar="NAME|PATH|latest", group="checkpoints",
    )  # fmt: skip
    checkpoint_epochs: int = option(50, "epochs between checkpoints", minimum=1)
    checkpoint_steps: int | None = option(
        5000, "steps between updates of last_checkpoint; none: only before validations", minimum=1
    )
    validation_steps: int | None = option(
        None, "steps between validations, for corpora with long epochs; default: one epoch", minimum=1
    )
    keep_checkpoints: int | None = option(
        None, "number of newest checkpoint_<epochs> folders to keep; default: all", minimum=1
    )

    console_out_iters: int = option(5, "steps between lines of metrics.jsonl", minimum=1, group="logging")
    wandb_log_iters: int = option(5, "steps between values sent to the trackers", minimum=1)
    log_wandb: bool = option(False, "log to Weights & Biases, offline without a login")
    log_tensorboard: bool = option(False, "log to TensorBoard, in the run's folder")

    mixed_precision: str | None = option(
        None, "precision of the networks' arithmetic; default: as configured in `accelerate launch`",
        choices=("no", "bf16", "fp16"), group="hardware",
    )  # fmt: skip
    no_tf32: bool = option(
        False, "multiply float32 numbers in full precision on GPUs; default: in TF32, with 10-bit mantissas"
    )
    compile: bool = option(
        False, "compile the networks with torch.compile, which takes minutes and needs a C compiler on a CPU"
    )
    num_workers: int = option(16, "processes that read clips, per training process", minimum=0)

    def __post_init__(self):
        check_options(self, "--")
        check_folder(self.folder)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.working_directory / self.experiment_name


@dataclass(frozen=True, kw_only=True)
class VocoderOptions(RunOptions):
    """Options of `train.py`."""

    config: Path | None = option(
        None, "JSON file with the official key names; flags override its values", group="run and data"
    )
    segment_size: int = option(
        8192, "samples per training segment", minimum=1, maximum=2**22, group="optimization"
    )
    beta1: float = option(0.8, "AdamW's decay rate of the gradient average", minimum=0, below=1)
    beta2: float = option(0.99, "AdamW's decay rate of the squared gradient average", minimum=0, below=1)
    lr_decay: float = option(0.999, "factor on the learning rate after each epoch", above=0, maximum=1)
    lambda_mel: float = option(45.0, "weight of the mel loss", minimum=0)
    lambda_feature_mapping: float = option(2.0, "weight of the feature-matching loss", minimum=0)
    lambda_stft: float = option(
        0.0, "weight of the multi-resolution STFT loss in adversarial training; 0: off", minimum=0
    )
    adversarial_start_steps: int = option(
        0, "steps that train only the generator, on mel and STFT losses, before the discriminators", minimum=0
    )
    discriminator_warmup_steps: int = option(
        0, "steps that train only the discriminators, for a pretrained generator without its discriminators",
        minimum=0,
    )  # fmt: skip
    ema_decay: float = option(
        0.0, "decay of the generator's weight average, which is validated and saved; 0: off",
        minimum=0, below=1,
    )  # fmt: skip

    finetune: bool = option(False, "train on the mels in --path_to_saved_mels", group="fine-tuning")
    path_to_saved_mels: Path | None = option(
        None, "folder with a mel <clip>.npy for each clip of both manifests"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.finetune != (self.path_to_saved_mels is not None):
            raise UserError(
                "--finetune and --path_to_saved_mels go together: fine-tuning trains on saved mels"
            )


@dataclass(frozen=True, kw_only=True)
class Tacotron2Options(RunOptions):
    """Options of `tacotron2.train`."""

    training_epochs: int = option(250, "passes over the training clips", minimum=1, group="optimization")
    batch_size: int = option(64, "clips per batch and process", minimum=1)
    learning_rate: float = option(0.001, "Adam's initial learning rate", above=0)
    min_learning_rate: float = option(
        1e-5, "learning rate at the end of training, with --start_decay_epochs", above=0, group="optimization"
    )
    start_decay_epochs: int | None = option(
        None, "epochs before the learning rate starts to decay exponentially; default: no decay", minimum=0
    )
    weight_decay: float = option(1e-6, "Adam's weight decay", minimum=0)
    adam_eps: float = option(1e-6, "Adam's epsilon", minimum=0)
    guided_attention_weight: float = option(
        0.0, "weight of a loss that pulls the attention to the diagonal; 5 suits small corpora", minimum=0
    )
    guided_attention_steps: int = option(
        500, "steps with the guided attention loss; guided for too long, the attention ignores the text",
        minimum=0,
    )  # fmt: skip
    guided_attention_width: float = option(
        0.2, "distance from the diagonal that costs little, as a fraction of the sentence", above=0
    )

    run_name: str | None = option(
        None, "name of the run in Weights & Biases; default: --experiment_name", group="logging"
    )
    save_audio_gen: Path | None = option(
        None, "folder for a plot and the audio of one clip per validation; default: in the run's folder"
    )
    val_wer_clips: int = option(
        0, "number of validation sentences that are spoken and recognized by Whisper, for val_wer; 0: off",
        minimum=0,
    )  # fmt: skip
    recognizer: str = option(
        "base.en", "Whisper model for val_wer: a name or a folder; tiny.en is used without a network"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.save_audio_gen:
            check_folder(self.save_audio_gen)
        if self.min_learning_rate > self.learning_rate:
            raise UserError(
                f"--min_learning_rate is {self.min_learning_rate}; it must be at most the --learning_rate "
                f"{self.learning_rate}"
            )
