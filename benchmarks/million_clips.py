"""Start-up time and memory of a training run on a million clips: `python benchmarks/million_clips.py`.

Writes a manifest of a million rows that point to a few files, trains a small vocoder on it, and reports the
time to the first step, the part of it in which the process computed, and the memory of the process and its
workers. The same run on a thousand rows shows what is independent of the manifest. `--code` measures other
checkouts in comparison. Needs Linux.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from corpus.audio import write_wav

ROOT = Path(__file__).resolve().parent.parent
FILES, SAMPLES, RATE = 8, 22050, 22050
TEXT = "The number of the clip that is read here, after a sentence of ordinary length, is {}."
SMALL = "--upsample_initial_channel 16 --resblock_kernel_sizes 3 --resblock_dilation_sizes ((1,3),)"
SMALL += " --mpd_periods 2 3 --msd_num_downsamples 1 --discriminator_channels 32 --segment_size 2048"


def write_corpus(folder: Path, clips: int, kind: str) -> Path:
    """Write FILES clips with their mels, and a manifest of `clips` rows; return the manifest."""
    random = np.random.default_rng(0)
    for number in range(FILES):
        write_wav(folder / "wavs" / f"clip{number}.wav", random.uniform(-0.5, 0.5, SAMPLES), RATE)
        (folder / "mels").mkdir(exist_ok=True)
        np.save(folder / "mels" / f"clip{number}.npy", np.full((80, SAMPLES // 256), -1, np.float32))
    names = (f"clip{number % FILES}" for number in range(clips))
    manifest = folder / f"{clips}.{kind}"
    with manifest.open("w", newline="") as file:
        if kind == "filelist":
            file.writelines(f"{name}|{TEXT.format(row)}\n" for row, name in enumerate(names))
            return manifest
        writer = csv.writer(file)
        writer.writerow(["file_path", "normalized_transcript", "duration", "samples", "peak"])
        writer.writerows(
            [f"wavs/{name}.wav", TEXT.format(row), SAMPLES / RATE, SAMPLES, 0.5]
            for row, name in enumerate(names)
        )
    if kind == "parquet":
        import pandas

        pandas.read_csv(manifest).to_parquet(manifest)
    return manifest


@contextmanager
def training(code: Path, corpus: Path, manifest: Path, flags: list[str]) -> Iterator[tuple[int, Path]]:
    """Run the `train.py` of a checkout; yield its process ID and its folder."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        arguments = ["--experiment_name", "run", "--working_directory", folder, *SMALL.split(), *flags]
        arguments += ["--path_to_train_manifest", manifest, "--path_to_val_manifest", corpus / "8.csv"]
        arguments += ["--input_wavs_dir", corpus / "wavs", "--console_out_iters", "1"]
        process = subprocess.Popen(
            [sys.executable, code / "train.py", *map(str, arguments)], stdout=log, stderr=log
        )
        try:
            yield process.pid, Path(folder) / "run" / "metrics.jsonl"
        except ProcessLookupError as error:
            log.seek(0)
            raise SystemExit(f"the run has ended: {log.read()}") from error
        finally:
            process.kill()
            process.wait()


def wait_for_step(pid: int, metrics: Path, step: int) -> None:
    while True:
        lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
        if any(line.endswith("\n") and json.loads(line)["step"] >= step for line in lines[-1:]):
            return
        if (Path(f"/proc/{pid}/stat").read_text().split()[2]) == "Z":
            raise ProcessLookupError(pid)
        time.sleep(0.1)


def processor_seconds(pid: int) -> float:
    """Return the time that a process has computed, which does not depend on other programs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user and system


def peak(pid: int) -> int:
    """Return the most memory that a process has had at any time in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def memory(pid: int, *names: str) -> int:
    """Return the sum of these entries of a process's memory map in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.split(":")[0] in names)


def measure(code: Path, corpus: Path, manifest: Path, flags: list[str], steps: int) -> np.ndarray:
    """Return seconds and processor seconds to the first step, the most bytes of the process until then, its
    bytes after `steps`, and the mean private bytes of its workers.
    """
    started = time.perf_counter()
    with training(code, corpus, manifest, flags) as (pid, metrics):
        wait_for_step(pid, metrics, 0)
        seconds, most = [time.perf_counter() - started, processor_seconds(pid)], peak(pid)
        wait_for_step(pid, metrics, steps)  # workers copy memory pages when they use the clips on them
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        workers = [int(child) for task in tasks for child in task.read_text().split()]
        private = [memory(worker, "Private_Clean", "Private_Dirty") for worker in workers]
        return np.array([*seconds, most, memory(pid, "Rss"), np.mean(private)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=("csv", "parquet", "filelist"), default="csv")
    parser.add_argument("--finetune", action="store_true", help="train on saved mels")
    parser.add_argument("--code", type=Path, nargs="+", default=[ROOT], help="checkouts to measure")
    parser.add_argument("--steps", type=int, default=200, help="steps before memory is measured")
    parser.add_argument("--num_workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder)
        write_corpus(corpus, 8, "csv")
        manifests = [write_corpus(corpus, clips, args.kind) for clips in (1000, args.clips)]
        flags = ["--num_workers", str(args.num_workers)]
        if args.finetune:
            flags += ["--finetune", "--path_to_saved_mels", str(corpus / "mels")]
        for code in args.code:
            few, many = (
                measure(code.resolve(), corpus, manifest, flags, args.steps) for manifest in manifests
            )
            per_clip = (many - few)[3:] / (args.clips - 1000)
            firsts = (
                f"{seconds:.1f} s ({processor:.1f} s of a core) and with at most {most / 1e6:.0f} MB"
                for seconds, processor, most in (many[:3], few[:3])
            )
            print(
                f"{code}: first step after {' (1000 clips: after '.join(firsts)}); bytes per clip: "
                f"{per_clip[0]:.0f} in the process, {per_clip[1]:.0f} more in each worker; "
                f"process {many[3] / 1e6:.0f} MB, worker {many[4] / 1e6:.0f} MB"
            )


if __name__ == "__main__":
    main()
