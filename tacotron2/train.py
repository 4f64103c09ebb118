"""Train a Tacotron 2: `accelerate launch -m tacotron2.train …`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, send_to_device
from torch import Tensor

from checkpoint import load_pretrained_tacotron2, read_tacotron2_config
from common import parser
from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import option
from corpus.audio import write_wav
from corpus.manifest import Clips
from mel import griffin_lim
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset
from tacotron2.losses import tacotron2_losses
from tacotron2.measures import MEASURES, aligned_difference, attention_measures
from tacotron2.model import Speech, Tacotron2, TeacherForced
from training.loaders import read_manifests, training_loader, validation_loader
from training.optimization import set_hyperparameters, skip_unless_finite
from training.options import RunOptions, check_folder
from training.processes import Processes, make_accelerator
from training.run import TrainingRun
from training.values import StepMeans, WeightedMeans

MAX_GRAD_NORM = 1.0
NUM_FREE_RUNNING = 4  # validation clips per process that are also generated without teacher forcing
LOUDEST = 8.0  # natural logarithm of an amplitude far above that of speech
VALIDATION_LOSSES = ("val_loss", "val_mel_loss", "val_gate_loss")


@dataclass(frozen=True, kw_only=True)
class Tacotron2Options(RunOptions):
    """Options of `tacotron2.train`."""

    training_epochs: int = option(
        250, "Number of passes over the training clips", minimum=1, group="optimization"
    )
    batch_size: int = option(64, "Number of clips per batch and process", minimum=1)
    learning_rate: float = option(0.001, "Adam's initial learning rate", above=0)
    min_learning_rate: float = option(
        1e-5, "Learning rate at the end of training, with --start_decay_epochs", above=0, group="optimization"
    )
    start_decay_epochs: int | None = option(
        None,
        "Let the learning rate decay exponentially after this number of epochs; default: no decay",
        minimum=0,
    )
    weight_decay: float = option(1e-6, "Adam's weight decay", minimum=0)
    adam_eps: float = option(1e-6, "Adam's epsilon", minimum=0)
    guided_attention_weight: float = option(
        0.0, "Weight of a loss that pulls the attention to the diagonal; 5 suits small corpora", minimum=0
    )
    guided_attention_steps: int = option(
        500, "Number of steps with this loss; guided for too long, the attention ignores the text",
        minimum=0,
    )  # fmt: skip
    guided_attention_width: float = option(
        0.2, "Distance from the diagonal that costs little, as a fraction of the sentence", above=0
    )

    run_name: str | None = option(
        None, "Name of the run in Weights & Biases; default: --experiment_name", group="logging"
    )
    save_audio_gen: Path | None = option(
        None, "Write a plot and the audio of one clip per validation into this folder; default: the run's"
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


class Tacotron2Trainer:
    """The model, its optimizer, a training step and validation."""

    def __init__(self, accelerator: Accelerator, options: Tacotron2Options, config: Tacotron2Config):
        self.accelerator, self.options, self.config = accelerator, options, config
        self.model = Tacotron2(config)
        if options.path_to_pretrained_weights:
            found = load_pretrained_tacotron2(options.path_to_pretrained_weights, self.model)
            accelerator.print(f"Pretrained: {found}")
        if options.compile:  # the step of the loop, which consists of dozens of small operations
            self.model.decoder.attend = torch.compile(self.model.decoder.attend)
        optimizer = torch.optim.Adam(self.model.to(accelerator.device).parameters(), fused=True)
        self.ddp_model, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.set_learning_rate(0.0)

    def set_learning_rate(self, epochs_done: float) -> float:
        """Set the learning rate, a function of the options and of the epochs done, including fractions."""
        options = self.options
        learning_rate = options.learning_rate
        if options.start_decay_epochs is not None and options.training_epochs > options.start_decay_epochs:
            decay_epochs = options.training_epochs - options.start_decay_epochs
            share = min(max((epochs_done - options.start_decay_epochs) / decay_epochs, 0.0), 1.0)
            learning_rate *= (options.min_learning_rate / options.learning_rate) ** share
        set_hyperparameters(
            self.optimizer, lr=learning_rate, eps=options.adam_eps, weight_decay=options.weight_decay
        )
        return learning_rate

    def step(self, batches: list[dict], step: int = 0) -> dict[str, Tensor]:
        """Update the model on the mean gradient of `batches`; return losses and gradient norm as scalars.

        With gradient accumulation there are several batches, as `TextMelDataset.collate` makes them.
        """
        accelerator, options = self.accelerator, self.options
        self.seed_dropout(step)
        guide = options.guided_attention_weight if step < options.guided_attention_steps else 0.0
        statistics = [buffer.clone() for buffer in self.model.buffers()]  # of batch norm, a few kB
        values = StepMeans(len(batches))

        for batch in batches:
            with accelerator.accumulate(self.ddp_model):
                with accelerator.autocast():
                    output = self.ddp_model(*model_inputs(batch))  # Accelerate converts it to float32
                losses = tacotron2_losses(output, batch, self.config, guide, options.guided_attention_width)
                accelerator.backward(losses["loss"])
                values.add(**losses)
        grad_norm = accelerator.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        skip_unless_finite(self.optimizer, grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        values.add_once(grad_norm=grad_norm)

        # a skipped step leaves the weights unchanged, but NaN would stay in batch norm's averages forever
        is_finite = torch.isfinite(grad_norm)
        for buffer, before in zip(self.model.buffers(), statistics, strict=True):
            buffer.copy_(torch.where(is_finite, buffer, before))
        return values.means

    def seed_dropout(self, step: int) -> None:
        """Make dropout a function of seed, step and process, so that a resumed run drops the same units."""
        origin = np.random.SeedSequence((self.options.seed, step, self.accelerator.process_index))
        torch.manual_seed(int(origin.generate_state(1)[0]))

    @torch.inference_mode()
    @torch.compiler.set_stance("force_eager")
    def validate(self, dataset: TextMelDataset, run: TrainingRun) -> dict[str, float]:
        """Return the losses without the guide, and measures of the attention, over all clips.

        The model is teacher-forced, except for `free_mel_difference`: the difference between that mel and one
        that it generates on its own, of a few clips.
        """
        for buffer in self.model.buffers():  # each process has its own batch norm statistics
            broadcast(buffer)
        self.model.eval()
        torch.manual_seed(self.options.seed)  # the prenet's dropout is active
        loader = validation_loader(
            self.accelerator, self.options, dataset, self.options.batch_size, dataset.frames, dataset.collate
        )
        means = WeightedMeans(*VALIDATION_LOSSES, *MEASURES, "free_mel_difference")
        free_running = NUM_FREE_RUNNING
        for batch in run.validation_batches(loader):
            output = self.model(*model_inputs(batch))
            losses = tacotron2_losses(output, batch, self.config)
            clips = len(batch["name"])
            means.add(clips, **{name: losses[name.removeprefix("val_")] for name in VALIDATION_LOSSES})
            for row in range(clips):
                means.add(1, **self.measure_attention(output, batch, row))
            for row in range(min(clips, free_running)):
                means.add(1, free_mel_difference=self.free_mel_difference(output, batch, row))
            free_running -= clips
        if self.accelerator.is_main_process:
            self.show(dataset, run)
        self.model.train()
        return means.of_all_processes(self.accelerator)

    def measure_attention(self, output: TeacherForced, batch: dict, row: int) -> dict[str, float | None]:
        frames, tokens = int(batch["mel_lengths"][row]), int(batch["token_lengths"][row])
        steps = -(-frames // self.config.frames_per_step)
        attention, mel = output.attention[row, :steps, :tokens], batch["mel"][row, :, :frames]
        return attention_measures(attention, mel, self.config, self.config.frames_per_step)

    def free_mel_difference(self, output: TeacherForced, batch: dict, row: int) -> float | None:
        forced = output.mel[row, :, : int(batch["mel_lengths"][row])]
        free = self.speak(batch, slice(row, row + 1)).mel[0]
        is_finite = forced.isfinite().all() and free.isfinite().all()
        return aligned_difference(forced, free) if is_finite else None

    def speak(self, batch: dict, rows: slice) -> Speech:
        """Generate the mels of some of a batch's sentences without teacher forcing."""
        tokens, token_lengths, mel, _, speakers = (values[rows] for values in model_inputs(batch))
        return self.model.infer(tokens, token_lengths, 2 * mel.shape[2], self.options.seed, speakers=speakers)

    def audio_of(self, mel: Tensor) -> np.ndarray:
        """Convert a mel (num_mels, T) to audio (samples,) with Griffin-Lim.

        A model that diverges generates values that are not finite, or whose amplitudes are not; they become
        silence or the loudest value.
        """
        loudest = self.config.from_ln(LOUDEST)
        mel = mel.nan_to_num(self.config.silence, posinf=loudest, neginf=self.config.silence)
        return griffin_lim(mel.clamp(max=loudest), self.config)

    def show(self, dataset: TextMelDataset, run: TrainingRun) -> None:
        """Save a plot of the first clip, teacher-forced, and its audio, generated without teacher forcing."""
        from common.plots import plot_attention, render  # matplotlib is slow to import

        batch = send_to_device(dataset.collate([dataset[0]]), self.accelerator.device)
        output = self.model(*model_inputs(batch))
        frames = batch["mel"].shape[2]
        mels = {"true": batch["mel"][0], "predicted": output.mel[0, :, :frames]}
        figure = plot_attention(mels, output.attention[0], self.config)
        audio = self.audio_of(self.speak(batch, slice(1)).mel[0])
        folder = self.options.save_audio_gen or run.folder / "generated"
        name = f"epoch_{run.progress.epoch + 1:04d}_{batch['name'][0]}"
        try:
            with atomic_write(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png")
            write_wav(folder / f"{name}.wav", audio, self.config.sampling_rate)
        except OSError as error:  # a full disk: the checkpoint before this validation may not be saved either
            print(f"\ncan't write {folder / name}: {error.strerror}; training continues", file=sys.stderr)
        run.log_clips({batch["name"][0]: (audio, render(figure))}, shown="mel_and_attention")


def model_inputs(batch: dict) -> list[Tensor]:
    """Return the arguments of `Tacotron2.forward`."""
    return [batch[name] for name in ("tokens", "token_lengths", "mel", "mel_lengths", "speakers")]


def warn_of_mixed_voices(accelerator: Accelerator, clips: Clips, config: Tacotron2Config) -> None:
    """Warn if a model without speakers is trained on clips of several, whose voices it mixes."""
    names = sorted(set(clips.speakers) - {""})
    if len(names) > 1 and not config.speakers:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        accelerator.print(
            f"{clips.source} has {len(names)} speakers ({shown}), and the model learns one voice from all; "
            "name them with --speakers to give each a voice",
            file=sys.stderr,
        )


def train(options: Tacotron2Options, config: Tacotron2Config) -> Path:
    """Train a Tacotron 2; return the folder of the final checkpoint."""
    # each process computes its own batch norm statistics; broadcasting keeps them equal
    accelerator = make_accelerator(options, broadcast_buffers=True)
    processes = Processes()
    train_clips, val_clips = read_manifests(processes, options, config)
    warn_of_mixed_voices(accelerator, train_clips, config)
    train_set = TextMelDataset(train_clips, config)
    val_set = TextMelDataset(val_clips, config)
    loader, steps_per_epoch = training_loader(
        accelerator, options, train_set, train_set.frames, train_set.collate
    )
    trainer = Tacotron2Trainer(accelerator, options, config)
    models = {"tacotron2": trainer.model}

    with TrainingRun(accelerator, processes, options, config, models, steps_per_epoch) as run:
        run.start("tacotron2", trainer.model, len(train_clips), len(val_clips))
        if run.validation_is_due:  # an earlier process was stopped before it
            run.finish_validation(trainer.validate(val_set, run))
        while not run.is_finished:
            for batches in run.batches(loader):  # --gradient_accumulation_steps of them
                learning_rate = trainer.set_learning_rate(run.epochs_done)
                values = trainer.step(batches, run.progress.step)
                frames = sum(batch["mel_lengths"].sum() for batch in batches)
                run.finish_step(values, frames, learning_rate)
                if run.validation_is_due:
                    run.finish_validation(trainer.validate(val_set, run))
            run.finish_epoch()
        return run.finish()


def build_parser() -> parser.ArgumentParser:
    return parser.build_parser(
        "python -m tacotron2.train", __doc__.splitlines()[0], Tacotron2Options, Tacotron2Config
    )


def parse_arguments(arguments: list[str] | None = None) -> tuple[Tacotron2Options, Tacotron2Config]:
    """Parse flags, which override the pretrained model's configuration."""
    flags = vars(build_parser().parse_args(arguments))
    sizes = {}
    if path := flags.get("path_to_pretrained_weights"):
        sizes = read_tacotron2_config(path).to_dict() | {"postfilter_taps": 0}
    options = Tacotron2Options(**parser.select(Tacotron2Options, flags))
    return options, Tacotron2Config(**sizes | parser.select(Tacotron2Config, flags))


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    train(*parse_arguments(arguments))


if __name__ == "__main__":
    main()
