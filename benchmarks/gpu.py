"""Measure and check training and synthesis on a GPU in at most eight minutes: `python benchmarks/gpu.py`.

Prints a table and writes everything to a JSON file. Exit status 1 if a check fails. Training is compared with
the order of the official code, as in `train_step.py`, with PyTorch's defaults (convolutions in TF32) and the
official cudnn.benchmark. The peak is the measured rate of a large matrix product in the same precision.
On a CPU, the same code runs with small sizes, which only tests the program.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.train_step import REQUIRED, OfficialOrder, build, square_waves
from common.files import atomic_write
from config import HiFiGANConfig
from corpus.audio import write_wav
from generators.build import build_generator
from mel import MelSpectrogram
from tacotron2 import train as tacotron2_train
from training.processes import use_tf32

ROOT = Path(__file__).resolve().parent.parent
SMALL_VOCODER = ["--upsample_initial_channel=32", "--resblock_kernel_sizes", "3"]
SMALL_VOCODER += ["--resblock_dilation_sizes=((1,3),)", "--discriminators", "mpd", "--mpd_periods", "2"]
SMALL_VOCODER += ["--discriminator_channels=32"]
SMALL_TACOTRON2 = ["--encoder_embed_dim=32", "--attention_rnn_dim=32", "--decoder_rnn_dim=32"]
SMALL_TACOTRON2 += ["--decoder_postnet_n_filters=32"]
# name: precision of autocast, TF32, compiled
VARIANTS = {
    "float32": ("no", False, False),
    "TF32": ("no", True, False),
    "bf16": ("bf16", True, False),
    "bf16 compiled": ("bf16", True, True),
}
SECONDS_TO_COMPILE = 120  # with less time left, a compiled variant is not started


@dataclass
class Benchmark:
    """Sizes, deadline and results."""

    device: torch.device
    batch_size: int
    deadline: float
    records: list[dict] = field(default_factory=list)
    checks: list[dict] = field(default_factory=list)

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def repeats(self) -> int:
        return 8 if self.is_gpu else 1

    def record(self, task: str, variant: str, **values: float | str) -> None:
        self.records.append({"task": task, "variant": variant, **values})
        shown = "  ".join(f"{key} {value:.4g}" for key, value in values.items() if isinstance(value, float))
        print(f"{task:<24} {variant:<26} {shown or values.get('problem', '')}", flush=True)

    def check(self, name: str, difference: float, limit: float) -> None:
        self.checks.append({"check": name, "difference": difference, "limit": limit})
        verdict = "ok" if difference <= limit else "FAILED"
        print(f"{verdict:>6}: {name}: {difference:.2g}, at most {limit:.2g}", flush=True)

    def seconds_per_call(self, function: Callable[[], object]) -> tuple[float, float]:
        """Return the median time after a warm-up, and the peak memory in GB (0 on a CPU)."""
        function(), function()  # the first calls compile, or choose algorithms
        times = []
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(self.repeats):
            self.wait()
            started = time.perf_counter()
            function()
            self.wait()
            times.append(time.perf_counter() - started)
        memory = torch.cuda.max_memory_allocated() / 1e9 if self.is_gpu else 0.0
        return statistics.median(times), memory

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()

    @contextmanager
    def attempt(self, task: str, variant: str) -> Iterator[None]:
        """Record running out of memory instead of ending; free the memory in any case."""
        try:
            yield
        except torch.OutOfMemoryError:
            self.record(task, variant, problem="out of memory")
        finally:
            gc.collect()
            if self.is_gpu:
                torch.cuda.empty_cache()

    def has_time(self, task: str, variant: str, compiled: bool) -> bool:
        """Return whether a variant can start; record it as skipped otherwise."""
        wanted = SECONDS_TO_COMPILE if compiled else 10
        if time.monotonic() + wanted < self.deadline:
            return True
        self.record(task, variant, problem="no time left")
        return False


def peak_rate(bench: Benchmark, precision: str, tf32: bool) -> float:
    """Return the rate of a large matrix product in operations per second."""
    use_tf32(tf32)
    size = 8192 if bench.is_gpu else 512
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device=bench.device, dtype=dtype)
    seconds, _ = bench.seconds_per_call(lambda: matrix @ matrix)
    return 2 * size**3 / seconds


def vocoder_training(bench: Benchmark) -> None:
    """Measure V1's training step in all variants and in the official order; check the first losses."""
    flags = [f"--config={ROOT / 'configs/v1.json'}", f"--batch_size={bench.batch_size}"]
    samples = 8192 if bench.is_gpu else 2048
    flags += [] if bench.is_gpu else SMALL_VOCODER
    audio = square_waves(bench.batch_size, samples, 22050).to(bench.device)
    frames = bench.batch_size * samples / 256
    torch.backends.cudnn.benchmark = True
    task, losses = "train V1", {}

    def measure(name: str, step: Callable, flops: float = 0.0, peak: float = 1.0) -> None:
        first = step([{"audio": audio}])
        losses[name] = torch.stack([first["gen_loss"], first["disc_loss"]]).detach().cpu()
        seconds, memory = bench.seconds_per_call(lambda: step([{"audio": audio}]))
        share = {"share_of_peak": flops / seconds / peak} if flops else {}
        bench.record(task, name, frames_per_second=frames / seconds, memory_gb=memory, **share)

    use_tf32(False)  # PyTorch's default for matrix products
    torch.backends.cudnn.allow_tf32 = True  # and for convolutions
    if bench.has_time(task, "official order", False):
        with bench.attempt(task, "official order"):
            measure("official order", OfficialOrder(build(flags, "no", not bench.is_gpu)).step)
    flops = 0.0
    for name, (precision, tf32, compiled) in VARIANTS.items():
        if not bench.has_time(task, name, compiled):
            continue
        with bench.attempt(task, name):
            use_tf32(tf32)
            trainer = build(flags + ["--compile"] * compiled, precision, not bench.is_gpu)
            if not flops:
                with FlopCounterMode(display=False) as counter:
                    build(flags, "no", not bench.is_gpu).step([{"audio": audio}])
                flops = float(counter.get_total_flops())
            measure(name, trainer.step, flops, peak_rate(bench, precision, tf32))
            if name == "bf16":
                check_waiting(bench, trainer, audio)
    for name, values in losses.items():
        if name != "official order" and "official order" in losses:
            error = ((values - losses["official order"]).abs() / losses["official order"]).max().item()
            bench.check(f"first losses, {name} and official order", error, 0.05 if "bf16" in name else 2e-3)


def check_waiting(bench: Benchmark, trainer, audio: Tensor) -> None:
    """Check that a step queues its work without waiting for the GPU."""
    if not bench.is_gpu:
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step([{"audio": audio}])
        waits = 0
    except RuntimeError as error:
        print(error)
        waits = 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
    bench.check("calls in a training step that wait for the GPU", waits, 0)


def vocoding(bench: Benchmark) -> None:
    """Measure generators with batches of 1 and 16, in multiples of real time; check against the CPU."""
    torch.backends.cudnn.benchmark = False
    seconds = 10 if bench.is_gpu else 0.1
    for name in ("v1", "v2", "v3", "vocos") if bench.is_gpu else ("v3", "vocos_small"):
        config = HiFiGANConfig.from_file(ROOT / "configs" / f"{name}.json")
        torch.manual_seed(0)
        generator = build_generator(config).eval().fold_weight_norm()
        mel = torch.randn(16, config.num_mels, int(seconds * config.sampling_rate / config.hop_size))
        with torch.inference_mode():
            on_cpu = generator(mel[:1, :, :40])
            generator = generator.to(bench.device)
            use_tf32(False)
            difference = (generator(mel[:1, :, :40].to(bench.device)).cpu() - on_cpu).abs().max().item()
            bench.check(f"audio of {name} and a CPU's", difference, 1e-4)
            for precision, tf32 in (("no", True), ("bf16", True)):
                use_tf32(tf32 and bench.is_gpu)
                for batch in (1, 16):
                    variant = f"{'TF32' if precision == 'no' else 'bf16'}, batch {batch}"
                    if bench.has_time(f"vocode {name}", variant, False):
                        measure_vocoding(bench, name, variant, generator, mel[:batch], precision, seconds)


def measure_vocoding(
    bench: Benchmark, name: str, variant: str, generator, mel: Tensor, precision: str, seconds: float
) -> None:
    mel = mel.to(bench.device)
    with bench.attempt(f"vocode {name}", variant):
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=precision == "bf16"):
            elapsed, memory = bench.seconds_per_call(lambda: generator(mel))
        speed = len(mel) * seconds / elapsed
        bench.record(f"vocode {name}", variant, times_real_time=speed, memory_gb=memory)


def tacotron2_training(bench: Benchmark) -> None:
    """Measure Tacotron 2's teacher-forced training in all variants; check the first losses."""
    torch.backends.cudnn.benchmark = False
    clips, tokens, frames = (32, 100, 600) if bench.is_gpu else (2, 20, 24)
    torch.manual_seed(0)
    batch = {
        "tokens": torch.randint(1, 30, (clips, tokens)),
        "token_lengths": torch.full((clips,), tokens),
        "mel": torch.randn(clips, 80, frames),
        "mel_lengths": torch.full((clips,), frames),
        "speakers": torch.zeros(clips, dtype=torch.int64),
    }
    batch = {name: values.to(bench.device) for name, values in batch.items()}
    task, losses = "train Tacotron 2", {}
    for name, (precision, tf32, compiled) in VARIANTS.items():
        if not bench.has_time(task, name, compiled):
            continue
        with bench.attempt(task, name):
            use_tf32(tf32)
            trainer = build_tacotron2(bench, precision, ["--compile"] * compiled)
            losses[name] = trainer.step([batch])["loss"].item()
            seconds, memory = bench.seconds_per_call(partial(trainer.step, [batch]))
            bench.record(task, name, frames_per_second=clips * frames / seconds, memory_gb=memory)
    for name, loss in losses.items():
        if "float32" in losses:
            error, limit = abs(loss / losses["float32"] - 1), 0.05 if "bf16" in name else 5e-3
            bench.check(f"first loss of Tacotron 2, {name} and float32", error, limit)


def build_tacotron2(bench: Benchmark, precision: str, flags: list[str]) -> tacotron2_train.Tacotron2Trainer:
    flags = [*REQUIRED, *([] if bench.is_gpu else SMALL_TACOTRON2), *flags]
    options, config = tacotron2_train.parse_arguments(flags)
    torch.manual_seed(options.seed)
    AcceleratorState._reset_state(True)
    accelerator = Accelerator(mixed_precision=precision, cpu=not bench.is_gpu)
    return tacotron2_train.Tacotron2Trainer(accelerator, options, config)


def tacotron2_decoding(bench: Benchmark) -> None:
    """Measure Tacotron 2's free-running decoder, which reads the gate after every frame."""
    use_tf32(True)
    model, frames = build_tacotron2(bench, "no", []).model.eval(), 300 if bench.is_gpu else 10
    for clips in (1, 16) if bench.is_gpu else (1, 2):
        if not bench.has_time("decode Tacotron 2", f"batch {clips}", False):
            continue
        tokens = torch.randint(1, 30, (clips, 100), device=bench.device)
        infer = partial(model.infer, tokens, max_frames=frames, gate_threshold=2.0)
        seconds, memory = bench.seconds_per_call(infer)
        speed = clips * frames / seconds
        bench.record("decode Tacotron 2", f"batch {clips}", frames_per_second=speed, memory_gb=memory)


def check_mel(bench: Benchmark) -> None:
    """Check that TF32 does not reach the mel."""
    use_tf32(True)
    audio, to_mel = square_waves(2, 22050, 22050), MelSpectrogram(HiFiGANConfig())
    difference = to_mel(audio) - to_mel.to(bench.device)(audio.to(bench.device)).cpu()
    bench.check("mel and a CPU's, with TF32 on", difference.abs().max().item(), 1e-3)


def check_resume(bench: Benchmark) -> None:
    """Check that a run that is stopped and resumed logs the losses of an uninterrupted one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = ["file_path,normalized_transcript,duration"]
        for number, audio in enumerate(square_waves(8, 22050, 22050)):
            write_wav(folder / f"{number}.wav", audio.numpy(), 22050)
            rows.append(f"{folder / f'{number}.wav'},a,1.0")
        (folder / "clips.csv").write_text("\n".join(rows) + "\n")

        def run(experiment: str, *flags: str) -> list[float]:
            command = [sys.executable, "train.py", f"--experiment_name={experiment}", *flags]
            command += [f"--working_directory={folder}", f"--path_to_train_manifest={folder / 'clips.csv'}"]
            command += [f"--path_to_val_manifest={folder / 'clips.csv'}", "--batch_size=2", *SMALL_VOCODER]
            command += ["--console_out_iters=1", "--num_workers=0", "--segment_size=4096", "--no_tf32"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            lines = (folder / experiment / "metrics.jsonl").read_text().splitlines()
            records = map(json.loads, lines)
            return [record["gen_loss"] for record in records if record["split"] == "train"]

        whole = run("whole", "--max_train_steps=6")
        run("parts", "--max_train_steps=3")
        parts = run("parts", "--max_train_steps=6", "--resume_from_checkpoint=latest")
    error = max(abs(one / other - 1) for one, other in zip(whole, parts, strict=True))
    # cuDNN may choose another algorithm each time, which adds in another order
    bench.check("losses of a resumed and an uninterrupted run", error, 1e-3 if bench.is_gpu else 0.0)


def table(bench: Benchmark) -> str:
    """Return a Markdown table of the measurements."""
    lines = ["| task | variant | speed | memory (GB) | share of peak |", "|---|---|--:|--:|--:|"]
    for record in bench.records:
        speed = record.get("problem", "")
        if "frames_per_second" in record:
            speed = f"{record['frames_per_second']:,.0f} frames/s"
        elif "times_real_time" in record:
            speed = f"{record['times_real_time']:,.1f} times real time"
        memory = f"{record['memory_gb']:.1f}" if record.get("memory_gb") else "–"
        share = f"{record['share_of_peak']:.0%}" if "share_of_peak" in record else "–"
        lines.append(f"| {record['task']} | {record['variant']} | {speed} | {memory} | {share} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="JSON file with the results")
    parser.add_argument("--batch_size", type=int, help="clips per training batch; default: 64, 2 on a CPU")
    parser.add_argument("--minutes", type=float, default=7.5, help="time after which nothing more is started")
    parser.add_argument("--cpu", action="store_true", help="run on the CPU, with small sizes")
    args = parser.parse_args(arguments)

    is_gpu = torch.cuda.is_available() and not args.cpu
    batch_size = args.batch_size or (64 if is_gpu else 2)
    deadline = time.monotonic() + 60 * args.minutes
    bench = Benchmark(torch.device("cuda" if is_gpu else "cpu"), batch_size, deadline)
    name = torch.cuda.get_device_name() if is_gpu else "CPU, with small sizes"
    print(f"{name}, PyTorch {torch.__version__}, batch size {batch_size}")
    parts = check_mel, vocoding, check_resume, tacotron2_decoding, vocoder_training, tacotron2_training
    for part in parts:
        part(bench)
    print(table(bench))
    result = {"device": name, "torch": torch.__version__, "batch_size": batch_size}
    with atomic_write(args.output) as temporary:
        text = json.dumps(result | {"measurements": bench.records, "checks": bench.checks}, indent=2)
        temporary.write_text(text + "\n")
    if failed := [check["check"] for check in bench.checks if not check["difference"] <= check["limit"]]:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
