"""Compare one training step with the official loop's order: `python benchmarks/train_step.py`.

The baseline uses the same modules, weights and segments in the order of the official code: separate calls of
the discriminators for real and generated audio, in both turns and with all gradients, and AdamW with its
defaults. The variants take turns. Prints the losses of each step and the ratio of the median times.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import read_config
from common.errors import report_user_errors
from losses import adversarial_loss, discriminator_loss, feature_matching_loss, mel_loss
from train import VocoderTrainer, parse_arguments

REQUIRED = ["--experiment_name=x", "--working_directory=x"]
REQUIRED += ["--path_to_train_manifest=x", "--path_to_val_manifest=x"]


class OfficialOrder:
    """A step in the official order, in float32, with the modules and mels of a `VocoderTrainer`."""

    def __init__(self, trainer: VocoderTrainer):
        options, self.trainer = trainer.options, trainer
        self.optimizers = [
            torch.optim.AdamW(model.parameters(), options.learning_rate, betas=(options.beta1, options.beta2))
            for model in (trainer.generator, trainer.discriminators)
        ]

    def step(self, batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        optimizer_g, optimizer_d = self.optimizers
        trainer, (batch,) = self.trainer, batches
        mel, real_mel = trainer.input_mel(batch["audio"]), trainer.loss_mel(batch["audio"])
        real = batch["audio"].unsqueeze(1)
        generated = trainer.generator(mel)
        generated_mel = trainer.loss_mel(generated.squeeze(1))

        optimizer_d.zero_grad()
        disc_loss = torch.zeros(())
        for discriminator in trainer.discriminators.children():
            real_scores, _ = discriminator(real)
            generated_scores, _ = discriminator(generated.detach())
            disc_loss = disc_loss + discriminator_loss(real_scores, generated_scores)
        disc_loss.backward()
        optimizer_d.step()

        optimizer_g.zero_grad()
        mel_error = mel_loss(real_mel, generated_mel)
        gen_loss = 45 * mel_error
        for discriminator in trainer.discriminators.children():
            _, real_maps = discriminator(real)
            generated_scores, generated_maps = discriminator(generated)
            gen_loss = gen_loss + adversarial_loss(generated_scores)
            gen_loss = gen_loss + 2 * feature_matching_loss(real_maps, generated_maps)
        gen_loss.backward()
        optimizer_g.step()
        return {"disc_loss": disc_loss, "gen_loss": gen_loss, "mel_loss": mel_error}


def build(flags: list[str], precision: str, on_cpu: bool = True) -> VocoderTrainer:
    options, config = parse_arguments([*REQUIRED, *flags])
    torch.manual_seed(options.seed)
    AcceleratorState._reset_state(True)  # one process has accelerators of two precisions
    return VocoderTrainer(Accelerator(mixed_precision=precision, cpu=on_cpu), options, config)


def timed(step: Callable, audio: torch.Tensor) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    losses = step([{"audio": audio}])
    shown = {name: losses[name].item() for name in ("disc_loss", "gen_loss", "mel_loss")}
    return time.perf_counter() - started, shown


def square_waves(batch_size: int, samples: int, sampling_rate: int) -> torch.Tensor:
    """Return square waves of random pitch with noise (batch_size, samples)."""
    seconds = torch.arange(samples) / sampling_rate
    random = torch.Generator().manual_seed(0)
    pitches = 80 + 200 * torch.rand(batch_size, 1, generator=random)
    audio = 0.3 * torch.sin(2 * torch.pi * pitches * seconds).sign()
    return audio + 0.01 * torch.randn(audio.shape, generator=random)


@report_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parent.parent / "configs" / "v1.json"
    parser.add_argument("--config", type=Path, default=default)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--segment_size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each variant, after a warm-up")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    audio = square_waves(args.batch_size, args.segment_size, read_config(args.config).sampling_rate)
    flags = [f"--config={args.config}", f"--batch_size={args.batch_size}"]
    variants = {
        "official order": OfficialOrder(build(flags, "no")),
        "float32": build(flags, "no"),
        "bf16": build(flags, "bf16"),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    print(f"{args.config.name}, batch {args.batch_size}, {args.segment_size} samples, {args.threads} threads")
    for step in range(args.steps + 1):
        for name, variant in variants.items():
            elapsed, losses = timed(variant.step, audio)
            times[name] += [elapsed] if step > 0 else []
            shown = ", ".join(f"{key} {value:.5f}" for key, value in losses.items())
            print(f"step {step} {name:>14}: {elapsed:6.2f} s  {shown}", flush=True)
    baseline = statistics.median(times["official order"])
    for name, values in times.items():
        median = statistics.median(values)
        ratio = f"{baseline / median:.2f} times the official order's speed"
        print(f"{name:>14}: median {median:.2f} s per step, {ratio}")


if __name__ == "__main__":
    main()
