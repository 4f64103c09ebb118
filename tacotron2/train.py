"""Train a Tacotron 2: `accelerate launch -m tacotron2.train …`.

Top to bottom: the flags, the training step, validation, and the run that ties them together.
"""

import argparse
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from audio import write_wav
from checkpoint import load_pretrained_tacotron2, read_tacotron2_config
from dataset import read_manifest
from plots import plot_attention, render
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset
from tacotron2.losses import diagonality, tacotron2_losses
from tacotron2.mel import griffin_lim
from tacotron2.model import Tacotron2, TeacherForced
from training import (
    TrainingRun,
    add_mel_arguments,
    add_run_arguments,
    check_run_arguments,
    leave_process_group,
    make_accelerator,
    make_loader,
    mel_settings,
)
from utils import ArgumentParser, UserError, atomic_write, report_user_errors

MAX_GRAD_NORM = 1.0


# Flags.


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="tacotron2.train", description=__doc__.splitlines()[0])
    defaults = Tacotron2Config()
    add_run_arguments(parser)
    parser.add_argument("--run_name", help="of the trackers' run; default: --experiment_name")
    parser.add_argument(
        "--save_audio_gen", type=Path,
        help="folder for a fixed clip's picture and sound after each epoch; default: in the run's folder",
    )  # fmt: skip
    parser.add_argument(
        "--path_to_pretrained_weights", type=Path, help="start from this model, and take its sizes"
    )

    group = parser.add_argument_group("optimisation")
    group.add_argument("--training_epochs", type=int, default=250, help="passes over the corpus")
    group.add_argument("--batch_size", type=int, default=64, help="clips per process")
    group.add_argument("--learning_rate", type=float, default=0.001, help="of Adam, at first")
    group.add_argument("--min_learning_rate", type=float, default=1e-5, help="at the end")
    group.add_argument(
        "--start_decay_epochs", type=int,
        help="epochs before the learning rate begins to fall, evenly in its logarithm; default: it does not",
    )  # fmt: skip
    group.add_argument("--weight_decay", type=float, default=1e-6, help="of Adam")
    group.add_argument("--adam_eps", type=float, default=1e-6, help="of Adam")
    group.add_argument(
        "--guided_attention_weight", type=float, default=0.0,
        help="of a loss that pulls the attention to the diagonal, for small corpora; 5 is a good start",
    )  # fmt: skip
    group.add_argument(
        "--guided_attention_width", type=float, default=0.2,
        help="how far from the diagonal attention costs little, as a fraction of the sentence",
    )  # fmt: skip

    group = parser.add_argument_group("the model (see Tacotron2Config)")
    texts = {
        "character_embed_dim": "channels of a character",
        "encoder_embed_dim": "channels of the encoder",
        "encoder_n_convolutions": "of the encoder",
        "encoder_kernel_size": "of these, in characters",
        "encoder_dropout_p": "after each of these",
        "attention_rnn_dim": "units of the LSTM that moves the attention",
        "attention_dim": "channels in which the attention compares",
        "attention_location_n_filters": "of the convolution over where the attention has been",
        "attention_location_kernel_size": "of that, in characters",
        "attention_dropout_p": "on the state of the attention's LSTM",
        "decoder_rnn_dim": "units of the LSTM that makes the mel",
        "decoder_dropout_p": "on what that LSTM gives",
        "decoder_prenet_dim": "units of a layer of the prenet",
        "decoder_prenet_depth": "layers of the prenet",
        "decoder_prenet_dropout_p": "in the prenet, when training and when speaking",
        "decoder_postnet_num_convs": "convolutions of the postnet",
        "decoder_postnet_n_filters": "channels of these",
        "decoder_postnet_kernel_size": "of these, in frames",
        "decoder_postnet_dropout_p": "after each of these",
        "frames_per_step": "frames that a decoder step makes; 2 or 3 make training faster",
    }
    for name in model_settings():
        default = getattr(defaults, name)
        group.add_argument(f"--{name}", type=type(default), default=default, help=texts[name])
    add_mel_arguments(parser, defaults)
    return parser


def model_settings() -> list[str]:
    """The fields of Tacotron2Config that are flags of their own."""
    not_flags = {
        "num_symbols",
        "end_symbol",
        "inner_mel_scale",
        "text_input",
        "language",
        "speakers",
        *(field.name for field in fields(Tacotron2Config.__base__)),
    }
    return [field.name for field in fields(Tacotron2Config) if field.name not in not_flags]


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, Tacotron2Config]:
    """The flags and the configuration. A flag beats the pretrained model's configuration."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    kept = {}  # what belongs to the weights and is no flag
    if args.path_to_pretrained_weights:
        pretrained = read_tacotron2_config(args.path_to_pretrained_weights).to_dict()
        kept = {name: pretrained.pop(name) for name in ("num_symbols", "end_symbol", "inner_mel_scale")}
        parser.set_defaults(**pretrained)
        args = parser.parse_args(arguments)
    check_run_arguments(args)
    if not 0 < args.min_learning_rate <= args.learning_rate:
        raise UserError(
            f"--min_learning_rate is {args.min_learning_rate}; it must be positive, and at most the "
            f"--learning_rate {args.learning_rate}"
        )
    for name in ("weight_decay", "adam_eps", "guided_attention_weight", "start_decay_epochs"):
        if (getattr(args, name) or 0) < 0:
            raise UserError(f"--{name} is {getattr(args, name)}; it can't be negative")
    if args.guided_attention_width <= 0:
        raise UserError(f"--guided_attention_width is {args.guided_attention_width}; it must be positive")
    sizes = {name: getattr(args, name) for name in model_settings()}
    return args, Tacotron2Config(**mel_settings(args), **sizes, **kept)


# Training.


class Tacotron2Training:
    """The model, its optimiser, a training step and validation."""

    def __init__(self, accelerator: Accelerator, args: argparse.Namespace, config: Tacotron2Config):
        self.accelerator, self.args, self.config = accelerator, args, config
        self.model = Tacotron2(config)
        if args.path_to_pretrained_weights:
            found = load_pretrained_tacotron2(args.path_to_pretrained_weights, self.model)
            accelerator.print(f"Pretrained: {found}")
        self.model.to(accelerator.device)
        optimizer = torch.optim.Adam(
            self.model.parameters(),
            args.learning_rate,
            eps=args.adam_eps,
            weight_decay=args.weight_decay,
            fused=True,
        )
        self.parallel_model, self.optimizer = accelerator.prepare(self.model, optimizer)

    def set_learning_rate(self, epochs: float) -> float:
        """A function of the flags and of the epochs done, in fractions, so it is right after any resume."""
        args = self.args
        learning_rate = args.learning_rate
        if args.start_decay_epochs is not None and args.training_epochs > args.start_decay_epochs:
            way = (epochs - args.start_decay_epochs) / (args.training_epochs - args.start_decay_epochs)
            learning_rate *= (args.min_learning_rate / args.learning_rate) ** min(max(way, 0.0), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def step(self, batches: list[dict], run: TrainingRun) -> dict[str, Tensor]:
        """One update on the mean gradient of `batches`; gives the losses and the gradient norm as scalars."""
        # dropout depends on seed, step and process alone: a resumed run drops what it would have dropped
        origin = np.random.SeedSequence((self.args.seed, run.step, self.accelerator.process_index))
        torch.manual_seed(int(origin.generate_state(1)[0]))
        statistics = [buffer.clone() for buffer in self.model.buffers()]  # batch norm's: of a few kB
        losses = defaultdict(float)
        for number, batch in enumerate(batches, 1):
            # processes exchange gradients with the last of the accumulated batches, not with each
            exchange = (
                nullcontext() if number == len(batches) else self.accelerator.no_sync(self.parallel_model)
            )
            with exchange:
                with self.accelerator.autocast():
                    output = self.parallel_model(
                        batch["tokens"], batch["token_lengths"], batch["mel"], batch["mel_lengths"]
                    )
                parts = self.losses(TeacherForced(*(part.float() for part in output)), batch)
                self.accelerator.backward(parts["loss"] / len(batches))
            for name, value in parts.items():
                losses[name] += value.detach() / len(batches)
        losses["grad_norm"] = run.update(self.optimizer, self.model, MAX_GRAD_NORM)
        if not torch.isfinite(losses["grad_norm"]):
            # the weights were left as they are; averages that have taken in a NaN would keep it for ever
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return dict(losses)

    def losses(self, output: TeacherForced, batch: dict) -> dict[str, Tensor]:
        args = self.args
        return tacotron2_losses(
            output, batch, self.config, args.guided_attention_weight, args.guided_attention_width
        )

    @torch.inference_mode()
    def validate(self, dataset: TextMelDataset, run: TrainingRun) -> dict[str, float]:
        """Losses and diagonality of the attention over all clips, teacher-forced; shows the first clip."""
        accelerator = self.accelerator
        for buffer in self.model.buffers():  # each process has added its own last batch to batch norm's
            broadcast(buffer)
        self.model.eval()
        torch.manual_seed(self.args.seed)  # of the prenet's dropout, which stays on
        by_length = sorted(range(len(dataset)), key=lambda index: dataset.frames[index])
        mine = by_length[accelerator.process_index :: accelerator.num_processes]
        loader = DataLoader(
            Subset(dataset, mine),
            self.args.batch_size,
            num_workers=min(1, self.args.num_workers),
            worker_init_fn=leave_process_group,
            collate_fn=dataset.collate,
        )
        names = ("val_loss", "val_mel_loss", "val_gate_loss", "attention_diagonality")
        totals = torch.zeros(len(names) + 1)
        for batch in loader:
            if accelerator.num_processes == 1:  # several must stop at one place, which the loop's is
                run.stop_if_asked()
            batch = self.to_device(batch)
            output = self.model(batch["tokens"], batch["token_lengths"], batch["mel"], batch["mel_lengths"])
            parts = self.losses(output, batch)
            steps = -(-batch["mel_lengths"] // self.config.frames_per_step)
            diagonal = diagonality(output.attention, batch["token_lengths"], steps).mean()
            count = len(steps)
            values = [parts["loss"], parts["mel_loss"], parts["gate_loss"], diagonal, torch.ones(())]
            totals += count * torch.stack([value.cpu() for value in values])
        if accelerator.is_main_process:
            self.show(dataset, run)
        self.model.train()
        *sums, count = accelerator.reduce(totals.to(accelerator.device), "sum").tolist()
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    def show(self, dataset: TextMelDataset, run: TrainingRun) -> None:
        """Save how the first clip looks, teacher-forced, and how it sounds when the model is on its own."""
        batch = self.to_device(dataset.collate([dataset[0]]))
        output = self.model(batch["tokens"], batch["token_lengths"], batch["mel"], batch["mel_lengths"])
        frames = batch["mel"].shape[2]
        mels = {"true": batch["mel"][0], "predicted": output.mel[0, :, :frames]}
        figure = plot_attention(mels, output.attention[0], self.config)
        speech = self.model.infer(batch["tokens"], batch["token_lengths"], 2 * frames, self.args.seed)
        audio = griffin_lim(speech.mel[0], self.config)
        folder = self.args.save_audio_gen or run.folder / "generated"
        name = f"epoch_{run.epoch + 1:04d}_{batch['name'][0]}"
        with atomic_write(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png")
        write_wav(folder / f"{name}.wav", audio, self.config.sampling_rate)
        run.log_clips({batch["name"][0]: (audio, render(figure))}, self.config.sampling_rate)

    def to_device(self, batch: dict) -> dict:
        device = self.accelerator.device
        return {name: v.to(device) if isinstance(v, Tensor) else v for name, v in batch.items()}


def train(args: argparse.Namespace, config: Tacotron2Config) -> Path:
    """Train as `args` say; gives the folder of the final checkpoint."""
    train_clips = read_manifest(args.path_to_train_manifest, config.sampling_rate, args.input_wavs_dir)
    val_clips = read_manifest(args.path_to_val_manifest, config.sampling_rate, args.input_wavs_dir)
    train_set = TextMelDataset(train_clips, config)
    val_set = TextMelDataset(val_clips, config)

    # batch norm's running statistics are each process's own, and must not drift apart
    accelerator = make_accelerator(args, broadcast_buffers=True)
    loader, steps_per_epoch = make_loader(accelerator, args, train_set, train_set.frames, train_set.collate)
    training = Tacotron2Training(accelerator, args, config)
    run = TrainingRun(accelerator, args, config, {"tacotron2": training.model})
    run.resume()
    run.start_trackers("tacotron2")
    size = sum(parameter.numel() for parameter in training.model.parameters()) / 1e6
    accelerator.print(
        f"Tacotron 2 of {size:.2f} M parameters; {len(train_clips)} clips to train on, {len(val_clips)} to "
        f"validate; {steps_per_epoch} steps an epoch"
    )

    while not run.finished:
        for batches in run.batches(loader, steps_per_epoch):
            # not run.step, which counts steps of other sizes too where the run was resumed with another batch
            steps_done = run.epoch * steps_per_epoch + run.clips_in_epoch // run.clips_per_step
            learning_rate = training.set_learning_rate(steps_done / steps_per_epoch)
            losses = training.step(batches, run)
            frames = sum(int(batch["mel_lengths"].sum()) for batch in batches)
            run.finish_step(losses, frames, learning_rate)
        run.stop_if_asked()
        run.log("val", training.validate(val_set, run))
        if run.epoch_is_complete:
            run.finish_epoch()
    return run.finish()


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    train(*parse_arguments(arguments))


if __name__ == "__main__":
    main()
