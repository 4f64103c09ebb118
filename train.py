"""Train a vocoder on true or saved mels: `accelerate launch train.py …`."""

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import parametrize

from checkpoint import load_pretrained, read_config
from common import parser
from common.errors import report_user_errors
from common.options import ArgumentParser
from common.plots import plot_mels, render
from config import HiFiGANConfig
from corpus.saved_mels import SavedMels
from dataset import SegmentDataset, UtteranceDataset
from generators.build import Discriminators, build_generator
from losses import (
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    mel_loss,
    multi_resolution_stft_loss,
)
from mel import MelSpectrogram
from training.loaders import read_manifests, training_loader, validation_loader
from training.optimization import Update, WeightAverage, frozen
from training.options import VocoderOptions
from training.processes import Processes, make_accelerator
from training.run import TrainingRun
from training.validation import ValidationMeans

NUM_LOGGED_CLIPS = 4
STFT_LOSS_WEIGHT = 0.1  # relative to the mel loss, in the steps before the discriminators


class VocoderTrainer:
    """The networks, their optimizers, a training step and validation."""

    def __init__(self, accelerator: Accelerator, options: VocoderOptions, config: HiFiGANConfig):
        self.accelerator, self.options, self.config = accelerator, options, config
        self.generator, self.discriminators = build_generator(config), Discriminators(config)
        if options.path_to_pretrained_weights:
            found = load_pretrained(options.path_to_pretrained_weights, self.generator, self.discriminators)
            accelerator.print(f"Pretrained: {found}")
        self.input_mel = MelSpectrogram(config).to(accelerator.device)
        self.loss_mel = MelSpectrogram(replace(config, fmax=config.fmax_loss)).to(accelerator.device)

        networks = [self.generator.to(accelerator.device), self.discriminators.to(accelerator.device)]
        self.average = WeightAverage(self.generator, options.ema_decay) if options.ema_decay else None
        if options.compile:
            self.generator.compile()
            self.discriminators.compile()
        betas = (options.beta1, options.beta2)
        # made after the networks have moved: fused AdamW binds to the parameters' device
        optimizers = [
            torch.optim.AdamW(network.parameters(), options.learning_rate, betas=betas, fused=True)
            for network in networks
        ]
        # prepared networks exchange gradients between processes, so all calls that train them use these
        self.parallel_generator, self.parallel_discriminators = accelerator.prepare(*networks)
        self.optimizers = accelerator.prepare(*optimizers)
        for network in (self.parallel_generator, self.parallel_discriminators):
            # Accelerate's wrapper converts all outputs to float32, which is slow for the feature maps
            accelerator.unwrap_model(network, keep_fp32_wrapper=False)
        self.generator_update = Update(
            accelerator, self.parallel_generator, self.optimizers[0], "gen_grad_norm"
        )
        self.discriminator_update = Update(
            accelerator, self.parallel_discriminators, self.optimizers[1], "disc_grad_norm"
        )

    @property
    def models(self) -> dict[str, nn.Module]:
        """The models of a checkpoint by file name. With an average, that is the generator."""
        generators = {"generator": self.generator}
        if self.average:
            generators = {"generator": self.average.model, "generator_raw": self.generator}
        return generators | dict(self.discriminators.named_children())

    def set_learning_rate(self, epoch: int) -> float:
        """Set the learning rate of an epoch, a function of the options and so independent of resuming."""
        learning_rate = self.options.learning_rate * self.options.lr_decay**epoch
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = learning_rate, (self.options.beta1, self.options.beta2)
        return learning_rate

    def step(self, batches: list[dict[str, Tensor]], step: int = 0) -> dict[str, Tensor]:
        """Update the discriminators, then the generator, on the mean gradient of `batches`.

        A batch has `audio` (B, segment_size) and, in fine-tuning, `mel` (B, num_mels, T). With gradient
        accumulation there are several. Returns the losses and gradient norms as scalars.
        """
        batches = [self.prepare(batch) for batch in batches]
        adversarial_step = step - self.options.adversarial_start_steps
        if adversarial_step < 0:
            losses = self.spectral_turn(batches)
        elif adversarial_step < self.options.discriminator_warmup_steps:
            losses = self.discriminator_turn(batches, keep_graph=False)
            # the generator has no losses; NaN is null in the log
            losses |= dict.fromkeys(("gen_loss", "mel_loss"), torch.full_like(losses["disc_loss"], torch.nan))
        else:
            # several graphs would need the memory that accumulation saves, so then it generates again
            losses = self.discriminator_turn(batches, keep_graph=len(batches) == 1)
            losses |= self.generator_turn(batches)
        if self.average:
            self.average.update(self.generator, step)
        return losses

    def prepare(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return `real` audio (B, 1, segment_size) and its mel, which pretraining computes."""
        mel = batch["mel"] if "mel" in batch else self.input_mel(batch["audio"])
        return {"real": batch["audio"].unsqueeze(1), "mel": mel}

    def generate(self, mel: Tensor) -> Tensor:
        """(B, num_mels, T) -> (B, 1, segment_size)"""
        with self.accelerator.autocast():
            return self.parallel_generator(mel).float()

    def discriminator_turn(self, batches: list[dict[str, Tensor]], keep_graph: bool) -> dict[str, Tensor]:
        """Train the discriminators to score real audio 1 and generated audio 0 (equation 1).

        `keep_graph` records the gradients of generating, which the generator's turn then uses.
        """
        for batch in self.discriminator_update.accumulate(batches):
            with torch.set_grad_enabled(keep_graph):
                batch["generated"] = self.generate(batch["mel"])
            both = torch.cat([batch["real"], batch["generated"].detach()])
            with self.accelerator.autocast():
                scores, _ = self.parallel_discriminators(both)
            real_scores, generated_scores = zip(*(score.chunk(2) for score in scores), strict=True)
            loss = discriminator_loss(real_scores, generated_scores)
            self.discriminator_update.backward(loss, {"disc_loss": loss})
        return self.discriminator_update.step()

    def generator_turn(self, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Train the generator on the adversarial, feature-matching and mel losses (equations 2 to 5).

        With --lambda_stft, also on the STFT loss.
        """
        for batch in self.generator_update.accumulate(batches):
            real = batch["real"]
            generated = batch["generated"] if len(batches) == 1 else self.generate(batch["mel"])
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
            losses["gen_loss"] = (
                losses["adversarial_loss"]
                + self.options.lambda_feature_mapping * losses["feature_matching_loss"]
                + self.options.lambda_mel * losses["mel_loss"]
            )
            if self.options.lambda_stft:
                losses["stft_loss"] = multi_resolution_stft_loss(real, generated)
                losses["gen_loss"] = losses["gen_loss"] + self.options.lambda_stft * losses["stft_loss"]
            self.generator_update.backward(losses["gen_loss"], losses)
        return self.generator_update.step()

    def spectral_turn(self, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Train the generator without discriminators, on the mel and STFT losses."""
        for batch in self.generator_update.accumulate(batches):
            real, generated = batch["real"], self.generate(batch["mel"])
            losses = {
                "mel_loss": mel_loss(self.loss_mel(real), self.loss_mel(generated)),
                "stft_loss": multi_resolution_stft_loss(real, generated),
            }
            losses["gen_loss"] = self.options.lambda_mel * (
                losses["mel_loss"] + STFT_LOSS_WEIGHT * losses["stft_loss"]
            )
            losses["disc_loss"] = torch.full_like(losses["gen_loss"], torch.nan)  # null in the log
            self.generator_update.backward(losses["gen_loss"], losses)
        return self.generator_update.step()

    @torch.inference_mode()
    @torch.compiler.set_stance("force_eager")  # whole utterances have many lengths
    def validate(self, dataset: UtteranceDataset, run: TrainingRun) -> dict[str, float]:
        """Return the L1 loss over all mel bins of whole utterances; send a few of them to the trackers."""
        generator = self.average.model if self.average else self.generator
        generator.eval()
        torch.backends.cudnn.benchmark = False
        means, clips = ValidationMeans(run, ("val_mel_loss",)), {}
        for batch in means.batches(validation_loader(self.accelerator, self.options, dataset)):
            audio = batch["audio"]  # (1, samples)
            mel = batch["mel"] if "mel" in batch else self.input_mel(audio)
            with self.accelerator.autocast():
                generated = generator(mel).squeeze(1).float()  # (1, samples)
            real_mel, generated_mel = self.loss_mel(audio), self.loss_mel(generated)
            means.add(real_mel.numel(), {"val_mel_loss": (real_mel - generated_mel).abs().mean()})
            if self.accelerator.trackers and len(clips) < NUM_LOGGED_CLIPS:
                mels = {"real": real_mel[0], "generated": generated_mel[0]}
                picture = render(plot_mels(mels, self.loss_mel.config))
                clips[batch["name"][0]] = generated[0].cpu().numpy(), picture
        self.generator.train()
        torch.backends.cudnn.benchmark = True
        run.log_clips(clips)
        return means.result()


def train(options: VocoderOptions, config: HiFiGANConfig) -> Path:
    """Train a vocoder; return the folder of the final checkpoint."""
    accelerator = make_accelerator(options)
    processes = Processes()
    train_clips, val_clips = read_manifests(processes, options, config)
    saved_mels = None
    if options.finetune:
        with processes.stopping_together():
            folder = options.path_to_saved_mels
            saved_mels = SavedMels(folder, config, train_clips, val_clips, check=processes.is_main)
    segments = SegmentDataset(train_clips, config, options.segment_size, options.seed, saved_mels)
    utterances = UtteranceDataset(val_clips, config, saved_mels)

    loader, steps_per_epoch = training_loader(accelerator, options, segments)
    trainer = VocoderTrainer(accelerator, options, config)
    run = TrainingRun(accelerator, processes, options, config, trainer.models, steps_per_epoch)
    run.start("hifigan", lambda: trainer.validate(utterances, run))
    run.print_sizes("Generator", trainer.generator, len(train_clips), len(val_clips))
    if options.config:
        official = parser.read_run_settings(options.config, VocoderOptions).get("batch_size")
        run.warn_of_other_batch_size(options.config, official or run.clips_per_step)

    torch.backends.cudnn.benchmark = True  # pays for segments, which all have the same length
    while not run.finished:
        learning_rate = trainer.set_learning_rate(run.progress.epoch)
        for batches in run.batches(loader):
            losses = trainer.step(batches, run.progress.step)
            frames = sum(batch["audio"].numel() for batch in batches) // config.hop_size
            run.finish_step(losses, frames, learning_rate)
        run.finish_epoch()
    return run.finish()


def build_parser() -> ArgumentParser:
    return parser.build_parser("train.py", __doc__.splitlines()[0], VocoderOptions, HiFiGANConfig)


def parse_arguments(arguments: list[str] | None = None) -> tuple[VocoderOptions, HiFiGANConfig]:
    """Parse flags, which override `--config`, which overrides the pretrained model's configuration."""
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
