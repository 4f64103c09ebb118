"""From a manifest to training segments and whole utterances.

Workers read the segment from the disk and nothing else; its mel is computed on the training device, a batch
at a time.
"""

import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from audio import inspect_clip, read_audio
from tacotron2.mel import MelConfig, check_same_mel, unlikely_mel_values
from utils import UserError, available_cores

POOLED_BATCHES = 20  # batches of clips among which those of like lengths meet
PEAK = 0.95  # the level that pretraining scales every clip to, as the official code does


@dataclass(frozen=True)
class Clip:
    """An audio file of a manifest: its length in samples, its peak amplitude, and what is said in it."""

    path: Path
    samples: int
    peak: float
    transcript: str


def read_manifest(
    path: Path | str, sampling_rate: int, input_wavs_dir: Path | str | None = None
) -> list[Clip]:
    """The clips of a manifest of `prep_splits.py`, or of an official filelist (`LJ001-0001|text|text`).

    Relative paths in a manifest are relative to it; a filelist's names are looked up in `input_wavs_dir`.
    Where length or peak are not in the file, every clip is read once. Raises UserError for clips that can't
    be trained on.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a transcript may hold U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read the manifest {path}: {error}; prep_splits.py makes one") from error
    lines = [line for line in lines if line.strip()]
    if lines and "file_path" in next(csv.reader(lines[:1])):
        rows = list(csv.DictReader(lines))
        if cut_off := [number for number, row in enumerate(rows, 2) if not row["file_path"]]:
            raise UserError(f"line {cut_off[0]} of {path} has no file_path; make the manifest again")
        paths = [path.parent / row["file_path"] for row in rows]
        transcripts = [row.get("normalized_transcript") or "" for row in rows]
    elif input_wavs_dir is not None:
        fields = [line.split("|") for line in lines]
        names = [name if Path(name).suffix == ".wav" else f"{name}.wav" for name, *_ in fields]
        rows, paths = [{}] * len(fields), [Path(input_wavs_dir) / name for name in names]
        transcripts = [texts[-1].strip() for texts in fields]
    else:
        raise UserError(
            f"{path} has no column file_path; if it is an official filelist (id|text|text), add "
            "--input_wavs_dir"
        )
    if not rows:
        raise UserError(f"{path} lists no clips")

    problems = [f"{clip}: file is missing" for clip in paths if not clip.is_file()]
    if not problems:
        try:
            lengths = [int(row["samples"]) for row in rows]
            peaks = [float(row["peak"]) for row in rows]
            seconds = [float(row["duration"]) for row in rows]
            # a duration is rounded: of a short clip it gives the rate but roughly
            rates = [
                sampling_rate if abs(samples - duration * sampling_rate) < 1 else round(samples / duration)
                for samples, duration in zip(lengths, seconds, strict=True)
            ]
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            with ThreadPoolExecutor(available_cores()) as pool:  # decoding releases the interpreter lock
                scan = pool.map(inspect_clip, paths)
                infos = list(tqdm(scan, total=len(paths), desc=f"Scanning {path.name}", unit="clip"))
            problems = [
                f"{clip}: {info.problem}" for clip, info in zip(paths, infos, strict=True) if info.problem
            ]
            lengths = [info.samples for info in infos]
            peaks = [info.peak for info in infos]
            rates = [info.sampling_rate for info in infos]
            problems += [
                f"{clip}: it has {info.channels} channels, not one"
                for clip, info in zip(paths, infos, strict=True)
                if info.channels > 1
            ]
    if not problems:
        problems = [
            f"{clip}: its sampling rate is {rate} Hz, not {sampling_rate} Hz"
            for clip, rate in zip(paths, rates, strict=True)
            if rate != sampling_rate
        ]
    if problems:
        raise UserError(
            f"{len(problems)} of {len(paths)} clips in {path} can't be used, the first: {problems[0]}; "
            "mend or remove them (prep_splits.py sorts such clips out)"
        )
    return [Clip(*values) for values in zip(paths, lengths, peaks, transcripts, strict=True)]


class SavedMels:
    """A folder of mels to fine-tune on: `<stem>.npy`, float32 (num_mels, frames) or (1, num_mels, frames).

    A `config.json` in the folder says which settings made them and is held against `config`. Raises UserError
    that names the clips whose mel is missing or has not exactly samples // hop_size frames.
    """

    def __init__(self, folder: Path | str, clips: list[Clip], config: MelConfig):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder} of saved mels; mend --path_to_saved_mels")
        if (self.folder / "config.json").is_file():
            saved_with = MelConfig.from_file(self.folder / "config.json")
            check_same_mel(saved_with, config, f"the saved mels of {self.folder}", "the vocoder")
        stems = Counter(path.stem for path in {clip.path for clip in clips})
        problems = [
            f"{stem} (two clips have this name, one mel)" for stem, count in stems.items() if count > 1
        ]
        for clip in clips:
            expected = (config.num_mels, clip.samples // config.hop_size)
            if not self.path(clip).is_file():
                problems.append(f"{clip.path.stem} (no file {self.path(clip)})")
            elif (shape := self.open(clip).shape) != expected:
                problems.append(f"{clip.path.stem} (its mel is {shape}, its audio needs {expected})")
        if not problems:
            for clip in clips[:: max(1, len(clips) // 20)]:  # enough to see the scale they are in
                mel = np.array(self.open(clip))
                if not np.isfinite(mel).all():
                    problems.append(f"{clip.path.stem} (its mel holds values that are not finite)")
                elif doubt := unlikely_mel_values(mel, config):
                    warnings.warn(
                        f"{self.path(clip)} {doubt}; is it in the vocoder's --mel_scale?", stacklevel=2
                    )
                    break
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise UserError(
                f"{len(problems)} of {len(clips)} clips have no fitting mel: {shown}; save them again from "
                "the same audio with the same hop_size"
            )

    def path(self, clip: Clip) -> Path:
        return self.folder / f"{clip.path.stem}.npy"

    def open(self, clip: Clip) -> np.ndarray:
        """(num_mels, frames), mapped from the file: only what is indexed is read."""
        try:
            mel = np.load(self.path(clip), mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"can't read the mel {self.path(clip)}: {error}; save it again") from error
        return mel[0] if mel.ndim == 3 and mel.shape[0] == 1 else mel


class SegmentDataset(Dataset):
    """Random segments: item (epoch, index) is a dict with `audio` (segment_size,) and, in fine-tuning, `mel`.

    Where a segment starts depends on (seed, epoch, index) alone: not on the number of workers, nor on what
    was drawn before. Pretraining scales each clip to a peak of 0.95. Fine-tuning (with `saved_mels`) never
    does, for a saved mel belongs to the audio as it is; its segments start where a frame does, so that audio
    sample i * hop_size and mel frame i, (num_mels, segment_size / hop_size), stay together. A clip shorter
    than a segment is padded with silence.
    """

    def __init__(
        self,
        clips: list[Clip],
        config: MelConfig,
        segment_size: int,
        seed: int,
        saved_mels: SavedMels | None = None,
    ):
        if segment_size % config.hop_size or segment_size < config.min_samples:
            raise UserError(
                f"segment_size is {segment_size}: it must be a multiple of hop_size {config.hop_size}, and "
                f"at least {config.min_samples} samples"
            )
        self.clips, self.config, self.segment_size = clips, config, segment_size
        self.seed, self.saved_mels = seed, saved_mels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        clip = self.clips[index % len(self.clips)]
        random = np.random.default_rng((self.seed, epoch, index))
        hop_size = self.config.hop_size

        if self.saved_mels is None:
            start = int(random.integers(0, max(0, clip.samples - self.segment_size) + 1))
            audio = read_segment(clip, start, min(self.segment_size, clip.samples - start))
            return {"audio": pad_to(scale_to_peak(audio, clip), self.segment_size, 0.0)}

        frames = self.segment_size // hop_size
        mel = self.saved_mels.open(clip)
        first = int(random.integers(0, max(0, mel.shape[1] - frames) + 1))
        mel = mel[:, first : first + frames]
        audio = read_segment(clip, first * hop_size, mel.shape[1] * hop_size)
        return {
            "audio": pad_to(audio, self.segment_size, 0.0),
            "mel": pad_to(mel.astype(np.float32), frames, self.config.silence),
        }


class UtteranceDataset(Dataset):
    """Whole clips, for validation: `audio` (frames * hop_size,), its `name`, and in fine-tuning its `mel`."""

    def __init__(self, clips: list[Clip], config: MelConfig, saved_mels: SavedMels | None = None):
        short = [
            clip.path.stem
            for clip in clips
            if clip.samples // config.hop_size * config.hop_size < config.min_samples
        ]
        if short:
            raise UserError(
                f"{short[0]} is shorter than {config.min_samples} samples and has no mel; remove the clip"
            )
        self.clips, self.config, self.saved_mels = clips, config, saved_mels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        clip = self.clips[index]
        audio = read_segment(clip, 0, clip.samples // self.config.hop_size * self.config.hop_size)
        if self.saved_mels is None:
            return {"audio": torch.from_numpy(scale_to_peak(audio, clip)), "name": clip.path.stem}
        mel = np.array(self.saved_mels.open(clip), dtype=np.float32)
        return {"audio": torch.from_numpy(audio), "mel": torch.from_numpy(mel), "name": clip.path.stem}


def read_segment(clip: Clip, start: int, samples: int) -> np.ndarray:
    """(samples,) float32 of the clip from `start` on. Raises UserError where the file ends before that."""
    audio, _, _ = read_audio(clip.path, start, samples)
    if len(audio) != samples:
        raise UserError(
            f"{clip.path} is shorter than the manifest says; make the manifest again with prep_splits.py"
        )
    return audio


def scale_to_peak(audio: np.ndarray, clip: Clip) -> np.ndarray:
    """The segment at the level it has when its whole clip peaks at 0.95; digital silence stays as it is."""
    return audio * np.float32(PEAK / clip.peak) if clip.peak > 0 else audio


def pad_to(values: np.ndarray, length: int, fill: float) -> Tensor:
    """(..., n) to (..., length), `fill` at the end."""
    missing = length - values.shape[-1]
    if missing:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)
    return torch.from_numpy(values)


class EpochSampler(Sampler):
    """Yields (epoch, index) over a shuffled corpus, in an order that depends on (seed, epoch) alone.

    An epoch is as many whole batches of `global_batch_size` clips as the corpus gives; the few clips left
    over, others each epoch, wait for the next. A corpus smaller than one batch fills it by repeating clips,
    with other segments. With `lengths`, one a clip, a batch has clips of like lengths, and so little padding;
    the order then depends on the size of a batch too: an epoch gone on with in another size may repeat clips.
    """

    def __init__(
        self, num_clips: int, global_batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ):
        self.num_clips, self.seed, self.epoch = num_clips, seed, 0
        self.length = max(1, num_clips // global_batch_size) * global_batch_size
        self.global_batch_size, self.lengths = global_batch_size, lengths

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        rounds = [
            first + random.permutation(self.num_clips) for first in range(0, self.length, self.num_clips)
        ]
        order = np.concatenate(rounds)[: self.length]
        if self.lengths is not None:
            order = self._batches_of_like_lengths(order, random)
        for index in order:
            yield self.epoch, int(index)

    def _batches_of_like_lengths(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        # sorted within pools, not over the corpus: else each epoch would have the same batches
        pool = POOLED_BATCHES * self.global_batch_size
        lengths = np.asarray(self.lengths)
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        pools = [part[np.argsort(lengths[part % self.num_clips], kind="stable")] for part in pools]
        batches = np.concatenate(pools).reshape(-1, self.global_batch_size)
        return random.permutation(batches).reshape(-1)
