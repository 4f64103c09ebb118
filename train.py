"""Train a HiFi-GAN vocoder, on true mels or on saved ones: `accelerate launch train.py …`.

Top to bottom: the flags, the training step, validation, and the run that ties them together.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader, Subset

from checkpoint import load_pretrained, read_config
from config import DISCRIMINATORS, FUSIONS, UPSAMPLINGS, HiFiGANConfig
from dataset import SavedMels, SegmentDataset, UtteranceDataset, read_manifest
from losses import adversarial_loss, discriminator_loss, feature_matching_loss, mel_loss
from model import Discriminators, Generator
from plots import plot_mels, render
from tacotron2.mel import MelSpectrogram
from training import (
    TrainingRun,
    add_mel_arguments,
    add_run_arguments,
    check_run_arguments,
    float_or_none,
    int_or_none,
    leave_process_group,
    make_accelerator,
    make_loader,
    nested_tuple,
)
from utils import ArgumentParser, UserError, read_json, report_user_errors

NUM_LOGGED_CLIPS = 4


# Flags.


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="train.py", description=__doc__.splitlines()[0])
    defaults = HiFiGANConfig()
    add_run_arguments(parser)
    parser.add_argument("--config", type=Path, help="JSON with the official key names; flags override it")

    group = parser.add_argument_group("optimisation")
    group.add_argument("--training_epochs", type=int, default=3100, help="passes over the corpus")
    group.add_argument("--batch_size", type=int, default=16, help="segments per process")
    group.add_argument("--segment_size", type=int, default=8192, help="samples of a training segment")
    group.add_argument("--learning_rate", type=float, default=0.0002, help="of AdamW, for both sides")
    group.add_argument("--beta1", type=float, default=0.8, help="of AdamW")
    group.add_argument("--beta2", type=float, default=0.99, help="of AdamW")
    group.add_argument(
        "--lr_decay", type=float, default=0.999, help="factor on the learning rate after each epoch"
    )
    group.add_argument("--lambda_mel", type=float, default=45, help="weight of the mel loss")
    group.add_argument(
        "--lambda_feature_mapping", type=float, default=2, help="weight of the feature-matching loss"
    )

    group = parser.add_argument_group("fine-tuning")
    group.add_argument("--finetune", action="store_true", help="train on the mels of --path_to_saved_mels")
    group.add_argument(
        "--path_to_saved_mels", type=Path, help="folder of <clip>.npy, a mel for each clip of both manifests"
    )
    group.add_argument(
        "--path_to_pretrained_weights", type=Path,
        help="start from this model: a folder of ours, or an official g_… file (with its do_…)",
    )  # fmt: skip

    group = parser.add_argument_group("the models (see HiFiGANConfig)")
    group.add_argument(
        "--resblock", choices=("1", "2"), default=defaults.resblock, help="1: V1 and V2; 2: V3"
    )
    group.add_argument(
        "--upsample_rates", type=int, nargs="+", default=defaults.upsample_rates, help="of each stage"
    )
    group.add_argument(
        "--upsample_kernel_sizes",
        type=int,
        nargs="+",
        default=defaults.upsample_kernel_sizes,
        help="likewise",
    )
    group.add_argument(
        "--upsample_initial_channel", type=int, default=defaults.upsample_initial_channel,
        help="channels before the first stage; each stage halves them",
    )  # fmt: skip
    group.add_argument(
        "--resblock_kernel_sizes", type=int, nargs="+", default=defaults.resblock_kernel_sizes,
        help="of the residual blocks side by side in each stage",
    )  # fmt: skip
    group.add_argument(
        "--resblock_dilation_sizes", type=nested_tuple, default=defaults.resblock_dilation_sizes,
        help='of each such block\'s convolutions; for --fusion misr one list, "(1,3,5)"',
    )  # fmt: skip
    group.add_argument(
        "--upsampling", choices=UPSAMPLINGS, default=defaults.upsampling,
        help="transposed convolution, or resizing and an ordinary one",
    )  # fmt: skip
    group.add_argument(
        "--fusion", choices=FUSIONS, default=defaults.fusion,
        help="residual blocks side by side, or one that several signals share (MISRNet)",
    )  # fmt: skip
    group.add_argument(
        "--resblock_num", type=int, default=defaults.resblock_num, help="of misr: those signals"
    )
    group.add_argument(
        "--resblock_kernel_size", type=int, default=defaults.resblock_kernel_size, help="of misr's block"
    )
    group.add_argument(
        "--gen_istft_n_fft", type=int_or_none, default=defaults.gen_istft_n_fft,
        help="iSTFTNet: let an inverse Fourier transform of this size make the samples",
    )  # fmt: skip
    group.add_argument(
        "--gen_istft_hop_size", type=int_or_none, default=defaults.gen_istft_hop_size,
        help="samples between its frames: a factor of hop_size, like the upsample rates",
    )  # fmt: skip
    group.add_argument(
        "--discriminators", nargs="+", choices=DISCRIMINATORS, default=defaults.discriminators,
        help="periods, scales, and the resolutions of UnivNet",
    )  # fmt: skip
    group.add_argument(
        "--mrd_resolutions", type=nested_tuple, default=defaults.mrd_resolutions,
        help="(n_fft, hop, window) of each of these, in samples",
    )  # fmt: skip
    group.add_argument("--mpd_periods", type=int, nargs="+", default=defaults.mpd_periods, help="in samples")
    group.add_argument(
        "--msd_num_downsamples", type=int, default=defaults.msd_num_downsamples, help="halvings of audio"
    )
    group.add_argument(
        "--discriminator_channels", type=int, default=defaults.discriminator_channels, help="widest layer"
    )
    add_mel_arguments(parser, defaults)
    parser.add_argument(
        "--fmax_loss", type=float_or_none, default=defaults.fmax_loss,
        help='upper edge in Hz of the mel that the loss compares; "none": half the sampling rate',
    )  # fmt: skip
    return parser


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, HiFiGANConfig]:
    """The flags and the configuration. A flag beats `--config`, which beats the pretrained model's."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.path_to_pretrained_weights:
        parser.set_defaults(**read_config(args.path_to_pretrained_weights).to_dict())
    if args.config:
        official = {"adam_b1": "beta1", "adam_b2": "beta2"}
        settings = {official.get(name, name): value for name, value in read_json(args.config).items()}
        known = vars(args).keys()
        given = {n: v for n, v in settings.items() if n in known and v is not None}
        # argparse checks a default that is a string as it checks a flag
        parser.set_defaults(**{n: v if isinstance(v, bool) else str(v) for n, v in given.items()})
        parser.set_defaults(**HiFiGANConfig.from_dict(settings).to_dict())
    args = parser.parse_args(arguments)

    check_run_arguments(args)
    if not (0 <= args.beta1 < 1 and 0 <= args.beta2 < 1):
        raise UserError(f"--beta1 is {args.beta1} and --beta2 {args.beta2}; both must lie in [0, 1)")
    if args.finetune != (args.path_to_saved_mels is not None):
        raise UserError("--finetune and --path_to_saved_mels go together: fine-tuning trains on saved mels")
    values = {field.name: getattr(args, field.name) for field in fields(HiFiGANConfig)}
    config = HiFiGANConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    return args, config


# Training.


class VocoderTraining:
    """The networks, their optimisers and the two turns of a training step."""

    def __init__(self, accelerator: Accelerator, args: argparse.Namespace, config: HiFiGANConfig):
        self.accelerator, self.args, self.config = accelerator, args, config
        self.generator = Generator(config)
        self.discriminators = Discriminators(config)
        if args.path_to_pretrained_weights:
            found = load_pretrained(args.path_to_pretrained_weights, self.generator, self.discriminators)
            accelerator.print(f"Pretrained: {found}")
        self.input_mel = MelSpectrogram(config).to(accelerator.device)
        self.loss_mel = MelSpectrogram(replace(config, fmax=config.fmax_loss)).to(accelerator.device)

        self.optimizers = []
        for model in (self.generator, self.discriminators):
            model.to(accelerator.device)  # first, for a fused optimiser is fused for the device it finds
            optimizer = torch.optim.AdamW(
                model.parameters(), args.learning_rate, betas=(args.beta1, args.beta2), fused=True
            )
            self.optimizers.append(optimizer)

        # What Accelerate prepares exchanges gradients between processes: calls that train go through it.
        self.parallel_generator, self.parallel_discriminators = accelerator.prepare(
            self.generator, self.discriminators
        )
        self.optimizers = list(accelerator.prepare(*self.optimizers))
        # Accelerate would turn all outputs into float32: `step` sets the precision itself, and spares the
        # discriminators' turn what that costs for feature maps it does not look at
        for model in (self.parallel_generator, self.parallel_discriminators):
            accelerator.unwrap_model(model, keep_fp32_wrapper=False)

    def set_learning_rate(self, epoch: int) -> float:
        """Decay once an epoch: a function of the flags and the epoch, so it is right after any resume."""
        learning_rate = self.args.learning_rate * self.args.lr_decay**epoch
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = learning_rate, (self.args.beta1, self.args.beta2)
        return learning_rate

    def step(self, batches: list[dict[str, Tensor]], run: TrainingRun) -> dict[str, Tensor]:
        """One update of the discriminators, then one of the generator, on the mean gradient of `batches`.

        Several batches come only with gradient accumulation. Gives the losses and gradient norms as scalars.
        """
        optimizer_g, optimizer_d = self.optimizers
        count = len(batches)
        for batch in batches:
            if "mel" not in batch:  # pretraining: the true mel, (B, num_mels, frames)
                batch["mel"] = self.input_mel(batch["audio"])
            batch["audio"] = batch["audio"].unsqueeze(1)  # (B, 1, segment_size)
        # several graphs at once would cost the memory that accumulation is meant to save: then generate twice
        keep_graph = count == 1
        losses = defaultdict(float)

        generated = []
        for batch, is_last in with_last(batches):
            with torch.set_grad_enabled(keep_graph), self.accelerator.autocast():
                generated.append(self.parallel_generator(batch["mel"]).float())  # (B, 1, segment_size)
            with self.exchange_gradients(self.parallel_discriminators, is_last):
                loss = self.discriminators_turn(batch["audio"], generated[-1].detach())
                self.accelerator.backward(loss / count)
            losses["disc_loss"] += loss.detach() / count
        losses["disc_grad_norm"] = run.update(optimizer_d, self.discriminators)

        for (batch, is_last), audio in zip(with_last(batches), generated, strict=True):
            with self.exchange_gradients(self.parallel_generator, is_last), frozen(self.discriminators):
                if not keep_graph:
                    with self.accelerator.autocast():
                        audio = self.parallel_generator(batch["mel"]).float()
                parts = self.generators_turn(batch["audio"], audio)
                self.accelerator.backward(parts["gen_loss"] / count)
            for name, value in parts.items():
                losses[name] += value.detach() / count
        losses["gen_grad_norm"] = run.update(optimizer_g, self.generator)
        return dict(losses)

    def discriminators_turn(self, real: Tensor, generated: Tensor) -> Tensor:
        """Loss of the discriminators on two batches of audio (B, 1, segment_size)."""
        with self.accelerator.autocast():
            scores, _ = self.parallel_discriminators(torch.cat([real, generated]))  # both halves in one pass
        real_scores, generated_scores = zip(*(score.chunk(2) for score in scores), strict=True)
        return discriminator_loss(real_scores, generated_scores)

    def generators_turn(self, real: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """Losses of the generator, and their weighted sum `gen_loss`; the discriminators are frozen.

        The official loop computes every gradient here too. But this turn needs none for the discriminators'
        weights, and none at all for the real half: a quarter of a step's arithmetic that changes nothing. Nor
        have processes anything to exchange for frozen weights, so these calls go to the plain module.
        """
        with (
            self.accelerator.autocast(),
            parametrize.cached(),
        ):  # normed weights are worked out once for both halves
            with torch.no_grad():
                _, real_maps = self.discriminators(real)
            scores, generated_maps = self.discriminators(generated)
        parts = {
            "adversarial_loss": adversarial_loss(scores),
            "feature_matching_loss": feature_matching_loss(real_maps, generated_maps),
            "mel_loss": mel_loss(self.loss_mel(real), self.loss_mel(generated)),
        }
        parts["gen_loss"] = (
            parts["adversarial_loss"]
            + self.args.lambda_feature_mapping * parts["feature_matching_loss"]
            + self.args.lambda_mel * parts["mel_loss"]
        )
        return parts

    def exchange_gradients(self, model: nn.Module, is_last: bool):
        """Processes exchange gradients with the last of the accumulated batches, not with each."""
        return nullcontext() if is_last else self.accelerator.no_sync(model)

    @torch.inference_mode()
    def validate(self, dataset: UtteranceDataset, run: TrainingRun) -> dict[str, float]:
        """Mel L1 over whole utterances: the mean over mel bins, whatever the number of processes.

        A few clips go to the trackers with their mels.
        """
        accelerator = self.accelerator
        self.generator.eval()
        mine = range(accelerator.process_index, len(dataset), accelerator.num_processes)
        loader = DataLoader(
            Subset(dataset, mine),
            num_workers=min(1, self.args.num_workers),
            worker_init_fn=leave_process_group,
        )
        totals = torch.zeros(2, dtype=torch.float64)  # the sum of absolute differences, the number of bins
        clips = {}
        for item in loader:
            if accelerator.num_processes == 1:  # several must stop at one place, which the loop's is
                run.stop_if_asked()
            audio = item["audio"].to(accelerator.device)  # (1, samples)
            mel = item["mel"].to(accelerator.device) if "mel" in item else self.input_mel(audio)
            with accelerator.autocast():
                generated = self.generator(mel).squeeze(1).float()  # (1, samples)
            real_mel, generated_mel = self.loss_mel(audio), self.loss_mel(generated)
            totals += torch.tensor([(real_mel - generated_mel).abs().sum().item(), real_mel.numel()])
            if accelerator.is_main_process and accelerator.trackers and len(clips) < NUM_LOGGED_CLIPS:
                mels = {"real": real_mel[0], "generated": generated_mel[0]}
                picture = render(plot_mels(mels, self.loss_mel.config))
                clips[item["name"][0]] = generated[0].cpu().numpy(), picture
        self.generator.train()
        run.log_clips(clips, self.config.sampling_rate)
        difference, bins = accelerator.reduce(totals.float().to(accelerator.device), "sum").tolist()
        return {"val_mel_loss": difference / bins}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module, and none is computed for its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def with_last(items: list) -> Iterator[tuple]:
    """Each item, with whether it is the last."""
    return ((item, number == len(items)) for number, item in enumerate(items, 1))


def train(args: argparse.Namespace, config: HiFiGANConfig) -> Path:
    """Train as `args` say; gives the folder of the final checkpoint."""
    train_clips = read_manifest(args.path_to_train_manifest, config.sampling_rate, args.input_wavs_dir)
    val_clips = read_manifest(args.path_to_val_manifest, config.sampling_rate, args.input_wavs_dir)
    saved_mels = None
    if args.finetune:
        saved_mels = SavedMels(args.path_to_saved_mels, train_clips + val_clips, config)
    segments = SegmentDataset(train_clips, config, args.segment_size, args.seed, saved_mels)
    utterances = UtteranceDataset(val_clips, config, saved_mels)

    accelerator = make_accelerator(args)
    loader, steps_per_epoch = make_loader(accelerator, args, segments)
    training = VocoderTraining(accelerator, args, config)
    models = {"generator": training.generator, **dict(training.discriminators.named_children())}
    run = TrainingRun(accelerator, args, config, models)
    run.resume()
    run.start_trackers("hifigan")
    size = sum(parameter.numel() for parameter in training.generator.parameters()) / 1e6
    accelerator.print(
        f"Generator of {size:.2f} M parameters; {len(train_clips)} clips to train on, {len(val_clips)} to "
        f"validate; {steps_per_epoch} steps an epoch"
    )

    while not run.finished:
        learning_rate = training.set_learning_rate(run.epoch)
        for batches in run.batches(loader, steps_per_epoch):
            losses = training.step(batches, run)
            frames = sum(batch["mel"].shape[0] * batch["mel"].shape[-1] for batch in batches)
            run.finish_step(losses, frames, learning_rate)
        run.stop_if_asked()
        run.log("val", training.validate(utterances, run))
        if run.epoch_is_complete:
            run.finish_epoch()
    return run.finish()


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    train(*parse_arguments(arguments))


if __name__ == "__main__":
    main()
