"""Train a vocoder on true or saved mels: `accelerate launch train.py …`."""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from checkpoint import load_pretrained, read_config
from common import parser
from common.errors import UserError, report_user_errors
from common.options import option
from config import HiFiGANConfig
from corpus.saved_mels import SavedMels
from dataset import SegmentDataset, UtteranceDataset
from generators.build import Discriminators, build_generator
from losses import (
    STFT_SIZES,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    mel_loss,
    multi_resolution_stft_loss,
)
from mel import MelSpectrogram
from training.loaders import read_manifests, training_loader, validation_loader, warn_of_other_batch_size
from training.official import from_official
from training.optimization import WeightAverage, frozen, set_hyperparameters, skip_unless_finite
from training.options import RunOptions
from training.processes import Processes, make_accelerator
from training.run import TrainingRun
from training.values import StepMeans, WeightedMeans

NUM_LOGGED_CLIPS = 4
STFT_LOSS_WEIGHT = 0.1  # relative to the mel loss, in the steps before the discriminators


@dataclass(frozen=True, kw_only=True)
class VocoderOptions(RunOptions):
    """Options of `train.py`."""

    config: Path | None = option(
        None, "Read a JSON file with the official key names; flags override its values", group="run and data"
    )
    segment_size: int = option(
        8192, "Number of samples per training segment", minimum=1, maximum=2**22, group="optimization"
    )
    beta1: float = option(0.8, "AdamW's decay rate of the gradient average", minimum=0, below=1)
    beta2: float = option(0.99, "AdamW's decay rate of the squared gradient average", minimum=0, below=1)
    lr_decay: float = option(0.999, "Factor on the learning rate after each epoch", above=0, maximum=1)
    lambda_mel: float = option(
        45.0, "Weight of the mel loss, in units of --mel_scale: 45 with ln is 65 with db", minimum=0
    )
    lambda_feature_mapping: float = option(2.0, "Weight of the feature-matching loss", minimum=0)
    adversarial_start_steps: int = option(
        0, "Number of initial steps that train only the generator, on mel and STFT losses", minimum=0
    )
    ema_decay: float = option(
        0.0, "Decay of the generator's weight average, which is validated and saved; 0: off",
        minimum=0, below=1,
    )  # fmt: skip

    finetune: bool = option(False, "Train on the mels in --path_to_saved_mels", group="fine-tuning")
    path_to_saved_mels: Path | None = option(
        None, "Read the mel of each clip of both manifests, <clip>.npy, from this folder"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.adversarial_start_steps and self.segment_size <= max(STFT_SIZES) // 2:
            raise UserError(
                f"--segment_size is {self.segment_size}; --adversarial_start_steps needs more than "
                f"{max(STFT_SIZES) // 2} for the STFT loss"
            )
        if self.best_metric == "val_loss":
            raise UserError("--best_metric val_loss is Tacotron 2's; a vocoder has val_mel_loss")
        if self.finetune != (self.path_to_saved_mels is not None):
            raise UserError("--finetune and --path_to_saved_mels need each other")


class VocoderTrainer:
    """The networks, their optimizers, a training step and validation."""

    def __init__(self, accelerator: Accelerator, options: VocoderOptions, config: HiFiGANConfig):
        self.accelerator, self.options, self.config = accelerator, options, config
        self.generator, self.discriminators = build_generator(config), Discriminators(config)
        if options.path_to_pretrained_weights:
            found = load_pretrained(options.path_to_pretrained_weights, self.generator, self.discriminators)
            accelerator.print(f"Pretrained: {found}")
        self.input_mel = MelSpectrogram(config).to(accelerator.device)
        # The input ends at --fmax, but the loss reaches half the sampling rate, so that the generator learns
        # to infer the bands above from those below.
        self.loss_mel = MelSpectrogram(replace(config, fmax=config.fmax_loss)).to(accelerator.device)

        networks = [self.generator.to(accelerator.device), self.discriminators.to(accelerator.device)]
        self.average = WeightAverage(self.generator, options.ema_decay) if options.ema_decay else None
        if options.compile:
            self.generator.compile()
            self.discriminators.compile()
        # made after the networks have moved: fused AdamW binds to the parameters' device
        optimizers = [torch.optim.AdamW(network.parameters(), fused=True) for network in networks]
        self.set_learning_rate(0, optimizers)
        # Prepared networks exchange gradients between processes, so all calls that train them use these.
        self.ddp_generator, self.ddp_discriminators = accelerator.prepare(*networks)
        self.gen_optimizer, self.disc_optimizer = accelerator.prepare(*optimizers)
        for network in (self.ddp_generator, self.ddp_discriminators):
            # removes, in place, Accelerate's conversion of all outputs to float32, slow for the feature maps
            accelerator.unwrap_model(network, keep_fp32_wrapper=False)

    @property
    def models(self) -> dict[str, nn.Module]:
        """The models of a checkpoint by file name. With an average, that is the generator."""
        generators = {"generator": self.generator}
        if self.average:
            generators = {"generator": self.average.model, "generator_raw": self.generator}
        return generators | dict(self.discriminators.named_children())

    def set_learning_rate(self, epoch: int, optimizers: list | None = None) -> float:
        """Set AdamW's betas and the epoch's learning rate from the options, not from a checkpoint."""
        options = self.options
        learning_rate = options.learning_rate * options.lr_decay**epoch
        for optimizer in optimizers or (self.gen_optimizer, self.disc_optimizer):
            set_hyperparameters(optimizer, lr=learning_rate, betas=(options.beta1, options.beta2))
        return learning_rate

    def step(self, batches: list[dict[str, Tensor]], step: int = 0) -> dict[str, Tensor]:
        """Update the discriminators, then the generator, on the mean gradient of `batches`.

        A batch has `audio` (B, segment_size) and, in fine-tuning, `mel` (B, num_mels, T). With gradient
        accumulation there are several. Returns the means of the losses, and the gradient norms, as scalars.
        """
        accelerator, is_adversarial = self.accelerator, step >= self.options.adversarial_start_steps
        pairs = [self.real_and_mel(batch) for batch in batches]
        values, is_single = StepMeans(len(batches)), len(batches) == 1
        generated = None

        if is_adversarial:
            for real, mel in pairs:
                with accelerator.accumulate(self.ddp_discriminators):
                    # A single batch is generated once, for both updates. Several would have to keep their
                    # graphs until the generator's update, which needs the memory that accumulation saves.
                    with torch.set_grad_enabled(is_single):
                        generated = self.generate(mel)
                    # detached: this update must not teach the generator to be recognized
                    disc_loss = self.discriminators_loss(real, generated.detach())
                    accelerator.backward(disc_loss)
                    values.add(disc_loss=disc_loss)
            disc_norm = accelerator.clip_grad_norm_(self.discriminators.parameters(), math.inf)
            skip_unless_finite(self.disc_optimizer, disc_norm)
            self.disc_optimizer.step()
            self.disc_optimizer.zero_grad()
            values.add_once(disc_grad_norm=disc_norm)

        for real, mel in pairs:
            with accelerator.accumulate(self.ddp_generator):
                if not (is_adversarial and is_single):
                    generated = self.generate(mel)
                losses = self.generator_losses(real, generated, is_adversarial)
                accelerator.backward(losses["gen_loss"])
                values.add(**losses)
        gen_norm = accelerator.clip_grad_norm_(self.generator.parameters(), math.inf)
        skip_unless_finite(self.gen_optimizer, gen_norm)
        self.gen_optimizer.step()
        self.gen_optimizer.zero_grad()
        values.add_once(gen_grad_norm=gen_norm)

        if self.average:
            self.average.update(self.generator, step)
        return values.means

    def real_and_mel(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the real audio (B, 1, segment_size) of a batch and its mel, which pretraining computes."""
        mel = batch["mel"] if "mel" in batch else self.input_mel(batch["audio"])
        return batch["audio"].unsqueeze(1), mel

    def generate(self, mel: Tensor) -> Tensor:
        """(B, num_mels, T) -> (B, 1, segment_size)"""
        with self.accelerator.autocast():
            return self.ddp_generator(mel).float()

    def discriminators_loss(self, real: Tensor, generated: Tensor) -> Tensor:
        """Return the loss that teaches the scores 1 for real and 0 for generated audio (equation 1)."""
        with self.accelerator.autocast():
            scores, _ = self.ddp_discriminators(torch.cat([real, generated]))
        real_scores, generated_scores = zip(*(score.chunk(2) for score in scores), strict=True)
        return discriminator_loss(real_scores, generated_scores)

    def generator_losses(self, real: Tensor, generated: Tensor, is_adversarial: bool) -> dict[str, Tensor]:
        """Return the generator's losses by name, with their weighted sum as `gen_loss` (equations 2 to 5).

        Before the adversarial steps, an STFT loss stands in for the discriminators.
        """
        options = self.options
        if not is_adversarial:
            error = mel_loss(self.loss_mel(real), self.loss_mel(generated))
            stft_loss = multi_resolution_stft_loss(real, generated)
            total = options.lambda_mel * (error + STFT_LOSS_WEIGHT * stft_loss)
            ln_error = error * self.config.ln_per_unit
            return {"mel_loss": error, "mel_loss_ln": ln_error, "stft_loss": stft_loss, "gen_loss": total}

        # frozen, the discriminators are not trained and need no exchange between processes; real audio
        # needs no gradients at all; the cache computes normalized weights once for both calls
        with frozen(self.discriminators), parametrize.cached(), self.accelerator.autocast():
            with torch.no_grad():
                _, real_maps = self.discriminators(real)
            scores, generated_maps = self.discriminators(generated)
        losses = {
            "adversarial_loss": adversarial_loss(scores),
            "feature_matching_loss": feature_matching_loss(real_maps, generated_maps),
            "mel_loss": mel_loss(self.loss_mel(real), self.loss_mel(generated)),
        }
        losses["mel_loss_ln"] = losses["mel_loss"] * self.config.ln_per_unit
        losses["gen_loss"] = (
            losses["adversarial_loss"]
            + options.lambda_feature_mapping * losses["feature_matching_loss"]
            + options.lambda_mel * losses["mel_loss"]
        )
        return losses

    @torch.inference_mode()
    @torch.compiler.set_stance("force_eager")  # whole clips have many lengths
    def validate(self, dataset: UtteranceDataset, run: TrainingRun) -> dict[str, float]:
        """Return the L1 loss over all mel bins of whole clips; send a few of them to the trackers."""
        generator = self.average.model if self.average else self.generator
        generator.eval()
        torch.backends.cudnn.benchmark = False
        means, clips = WeightedMeans("val_mel_loss"), {}
        for batch in run.validation_batches(validation_loader(self.accelerator, self.options, dataset)):
            audio = batch["audio"]  # (1, samples)
            mel = batch["mel"] if "mel" in batch else self.input_mel(audio)
            with self.accelerator.autocast():
                generated = generator(mel).squeeze(1).float()  # (1, samples)
            real_mel, generated_mel = self.loss_mel(audio), self.loss_mel(generated)
            means.add(real_mel.numel(), val_mel_loss=mel_loss(real_mel, generated_mel))
            if self.accelerator.trackers and len(clips) < NUM_LOGGED_CLIPS:
                from common.plots import plot_mels, render  # matplotlib is slow to import

                mels = {"real": real_mel[0], "generated": generated_mel[0]}
                picture = render(plot_mels(mels, self.loss_mel.config))
                clips[batch["name"][0]] = generated[0].cpu().numpy(), picture
        self.generator.train()
        torch.backends.cudnn.benchmark = True
        run.log_clips(clips)
        return means.of_all_processes(self.accelerator)


def train(options: VocoderOptions, config: HiFiGANConfig) -> Path:
    """Train a vocoder; return the folder of the final checkpoint."""
    accelerator, processes = make_accelerator(options), Processes()
    train_clips, val_clips = read_manifests(processes, options, config)
    saved_mels = None
    if options.finetune:
        with processes.stopping_together():
            folder = options.path_to_saved_mels
            saved_mels = SavedMels(folder, config, train_clips, val_clips, check=processes.is_main)
    if options.config:
        warn_of_other_batch_size(
            accelerator, options, parser.read_run_settings(options.config, VocoderOptions).get("batch_size")
        )
    config.check_segment_size(options.segment_size)
    segments = SegmentDataset(train_clips, config, options.segment_size, options.seed, saved_mels)
    utterances = UtteranceDataset(val_clips, config, saved_mels)
    loader, steps_per_epoch = training_loader(accelerator, options, segments)
    trainer = VocoderTrainer(accelerator, options, config)

    with TrainingRun(accelerator, processes, options, config, trainer.models, steps_per_epoch) as run:
        run.start("hifigan", trainer.generator, len(train_clips), len(val_clips))
        torch.backends.cudnn.benchmark = True  # pays for segments, which all have the same length
        if run.validation_is_due:  # an earlier process was stopped before it
            validate_and_keep_best(trainer, utterances, run)
        while not run.is_finished:
            learning_rate = trainer.set_learning_rate(run.progress.epoch)
            for batches in run.batches(loader):  # --gradient_accumulation_steps of them
                values = trainer.step(batches, run.progress.step)
                frames = sum(batch["audio"].numel() for batch in batches) // config.hop_size
                run.finish_step(values, frames, learning_rate)
                if run.validation_is_due:
                    validate_and_keep_best(trainer, utterances, run)
            run.finish_epoch()
        return run.finish()


def validate_and_keep_best(trainer: VocoderTrainer, utterances: UtteranceDataset, run: TrainingRun) -> None:
    """Validate, and keep the checkpoint if it is the best of its stage.

    Steps on spectral losses alone reach a lower mel loss than adversarial ones, and sound worse. So they are
    a stage of their own.
    """
    is_spectral = 0 < run.progress.step <= trainer.options.adversarial_start_steps
    run.finish_validation(trainer.validate(utterances, run), "spectral" if is_spectral else "")


def build_parser() -> parser.ArgumentParser:
    return parser.build_parser("train.py", __doc__.splitlines()[0], VocoderOptions, HiFiGANConfig)


def parse_arguments(arguments: list[str] | None = None) -> tuple[VocoderOptions, HiFiGANConfig]:
    """Parse flags, which override `--config`, which overrides the pretrained model's configuration."""
    arguments = from_official(sys.argv[1:] if arguments is None else arguments)
    flags = vars(build_parser().parse_args(arguments))
    settings, sizes = {}, {}
    if path := flags.get("path_to_pretrained_weights"):
        sizes = read_config(path).to_dict()
    if path := flags.get("config"):
        settings = parser.read_run_settings(path, VocoderOptions)
        sizes = HiFiGANConfig.from_file(path).to_dict()
    options = VocoderOptions(**settings | parser.select(VocoderOptions, flags))
    return options, HiFiGANConfig(**sizes | parser.select(HiFiGANConfig, flags))


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    train(*parse_arguments(arguments))


if __name__ == "__main__":
    main()
