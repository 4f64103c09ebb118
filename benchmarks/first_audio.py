"""Time from text to the first audio: `python benchmarks/first_audio.py`.

Measures two cases with a voice and a text of two sentences:

- shell: from the start of `inference.py --stream` to its first byte on standard output;
- running process: from the call of `TextToSpeech.stream` to its first chunk.

Prints the median and the best of several runs. For the running process, it also prints the CPU time, which
other programs affect less. For the shell, it prints the time of `import torch` as a lower bound.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint.voices import find_voice
from common.errors import report_user_errors
from synthesis.speech import load_text_to_speech

ROOT = Path(__file__).resolve().parent.parent
TEXT = "The first sentence should be heard at once, although it is not short. The second one follows it."


def until_first_byte(command: list[str]) -> float:
    """Return the seconds until a command writes to standard output, or ends if it writes nothing."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.read(2)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with status {process.returncode}")
    return seconds


def until_first_chunk(stream: Callable) -> tuple[float, float]:
    """Return the seconds and the CPU seconds until `stream()` yields its first chunk."""
    start, cpu_start = time.perf_counter(), time.process_time()
    next(iter(stream()))
    return time.perf_counter() - start, time.process_time() - cpu_start


def report(name: str, seconds: list[float], target: float | None = None) -> None:
    median, best = 1000 * statistics.median(seconds), 1000 * min(seconds)
    note = f"   target {1000 * target:.0f} ms" if target else ""
    print(f"{name:<24}median {median:6.0f} ms   best {best:6.0f} ms{note}")


@report_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voice", help="name or folder of a voice; default: the default voice")
    parser.add_argument("--text", default=TEXT, help="text of several sentences")
    parser.add_argument(
        "--runs", type=int, default=5, help="number of runs in the shell; a fifth of those in a process"
    )
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no", help="vocoder precision")
    args = parser.parse_args()

    voice = find_voice(args.voice)
    print(f"voice {voice.name}, {torch.get_num_threads()} threads")
    tts = load_text_to_speech(voice, mixed_precision=args.mixed_precision)
    until_first_chunk(lambda: tts.stream(args.text))  # the first call allocates and imports
    seconds = [until_first_chunk(lambda: tts.stream(args.text)) for _ in range(5 * args.runs)]
    report("running process", [wall for wall, _ in seconds], target=0.3)
    report("  CPU time", [cpu for _, cpu in seconds])

    flags = ["--text", args.text, "--voice", args.voice or voice.name, "--stream", "--output_dir", "-"]
    flags += ["--mixed_precision", args.mixed_precision, "--device", "cpu"]
    command = [sys.executable, str(ROOT / "inference.py"), *flags]
    report("shell", [until_first_byte(command) for _ in range(args.runs)], target=3.0)
    importing = [sys.executable, "-c", "import torch; print(1)"]
    report("  of it, import torch", [until_first_byte(importing) for _ in range(args.runs)])


if __name__ == "__main__":
    main()
