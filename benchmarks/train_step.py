"""One training step against the official loop's order: `python benchmarks/train_step.py`.

The baseline runs the same modules, with the same weights, on the same segments, in the order of the official
code: real and generated audio through the discriminators in calls of their own, twice, with every gradient
on, and AdamW as it comes. Both take turns, step by step; printed are the losses of each, and the ratio of
their median times.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import read_config
from losses import adversarial_loss, discriminator_loss, feature_matching_loss, mel_loss
from train import VocoderTraining, parse_arguments


def official_step(training: VocoderTraining, audio: torch.Tensor) -> dict[str, float]:
    """A step in the official order, in float32, with the modules and mels of `training`."""
    optimizer_g, optimizer_d = training.optimizers
    mel, real_mel = training.input_mel(audio), training.loss_mel(audio)
    real = audio.unsqueeze(1)
    generated = training.generator(mel)
    generated_mel = training.loss_mel(generated.squeeze(1))

    optimizer_d.zero_grad()
    disc_loss = torch.zeros(())
    for critic in training.discriminators.children():
        real_scores, _ = critic(real)
        generated_scores, _ = critic(generated.detach())
        disc_loss = disc_loss + discriminator_loss(real_scores, generated_scores)
    disc_loss.backward()
    optimizer_d.step()

    optimizer_g.zero_grad()
    mel_error = mel_loss(real_mel, generated_mel)
    gen_loss = 45 * mel_error
    for critic in training.discriminators.children():
        _, real_maps = critic(real)
        generated_scores, generated_maps = critic(generated)
        gen_loss = gen_loss + adversarial_loss(generated_scores)
        gen_loss = gen_loss + 2 * feature_matching_loss(real_maps, generated_maps)
    gen_loss.backward()
    optimizer_g.step()
    return {"disc_loss": disc_loss.item(), "gen_loss": gen_loss.item(), "mel_loss": mel_error.item()}


def build(config_file: Path, batch_size: int, precision: str, fused: bool) -> VocoderTraining:
    required = ["--experiment_name=x", "--working_directory=x"]
    required += ["--path_to_train_manifest=x", "--path_to_val_manifest=x"]
    args, config = parse_arguments([*required, f"--config={config_file}", f"--batch_size={batch_size}"])
    torch.manual_seed(args.seed)
    AcceleratorState._reset_state(True)  # one process holds accelerators of two precisions
    training = VocoderTraining(Accelerator(mixed_precision=precision, cpu=True), args, config)
    if not fused:
        models = (training.generator, training.discriminators)
        training.optimizers = [
            torch.optim.AdamW(model.parameters(), args.learning_rate, betas=(args.beta1, args.beta2))
            for model in models
        ]
    return training


def project_step(training: VocoderTraining, audio: torch.Tensor) -> dict[str, float]:
    from training import TrainingRun

    run = SimpleNamespace(accelerator=training.accelerator)
    run.update = lambda *values: TrainingRun.update(run, *values)
    losses = training.step([{"audio": audio}], run)
    return {name: losses[name].item() for name in ("disc_loss", "gen_loss", "mel_loss")}


def timed(step: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    losses = step()
    return time.perf_counter() - started, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", type=Path, default=Path(__file__).resolve().parent.parent / "configs" / "v1.json"
    )
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--segment_size", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rate = read_config(args.config).sampling_rate
    seconds = torch.arange(args.segment_size) / rate
    random = torch.Generator().manual_seed(0)
    pitches = 80 + 200 * torch.rand(args.batch_size, 1, generator=random)
    audio = 0.3 * torch.sin(2 * torch.pi * pitches * seconds).sign()
    audio += 0.01 * torch.randn(audio.shape, generator=random)

    official = build(args.config, args.batch_size, "no", fused=False)
    candidates = {
        "float32": build(args.config, args.batch_size, "no", fused=True),
        "bf16": build(args.config, args.batch_size, "bf16", fused=True),
    }
    times: dict[str, list[float]] = {"official order": [], **{name: [] for name in candidates}}
    print(f"{args.config.name}, batch {args.batch_size}, {args.segment_size} samples, {args.threads} threads")
    for step in range(args.steps + 1):
        runs = {"official order": lambda: official_step(official, audio)}
        for name, training in candidates.items():
            runs[name] = lambda training=training: project_step(training, audio)
        for name, run in runs.items():
            elapsed, losses = timed(run)
            times[name] += [elapsed] if step > 0 else []
            shown = ", ".join(f"{key} {value:.5f}" for key, value in losses.items())
            print(f"step {step} {name:>14}: {elapsed:6.2f} s  {shown}", flush=True)
    baseline = statistics.median(times["official order"])
    for name, values in times.items():
        median = statistics.median(values)
        ratio = f"{baseline / median:.2f} times the official order's speed"
        print(f"{name:>14}: median {median:.2f} s a step, {ratio}")


if __name__ == "__main__":
    main()
