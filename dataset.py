"""Datasets of the clips in a manifest: random segments for training, whole utterances for validation.

Workers only read audio from disk. Mels are computed on the training device, one batch at a time.
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
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from audio import ClipInfo, inspect_clip, read_audio
from tacotron2.mel import MelConfig, check_same_mel, unlikely_mel_values
from utils import UserError, available_cores

POOLED_BATCHES = 20  # batches whose clips are sorted by length together
PEAK = 0.95  # peak amplitude to which pretraining scales every clip, as the official code does


@dataclass(frozen=True)
class Clip:
    """An audio file of a manifest: its length in samples, its peak amplitude, its transcript and speaker."""

    path: Path
    samples: int
    peak: float
    transcript: str
    speaker: str = ""


def read_manifest(
    path: Path | str, sampling_rate: int, input_wavs_dir: Path | str | None = None
) -> list[Clip]:
    """Return the clips of a manifest of `prep_splits.py`, or of an official filelist (`id|text|text`).

    Relative paths in a manifest are relative to it; names in a filelist are looked up in `input_wavs_dir`. If
    the manifest lacks `duration`, `samples` or `peak`, every clip is decoded once. Raises UserError for clips
    that are missing, damaged, not mono, or at another sampling rate in Hz.
    """
    path = Path(path)
    rows = read_rows(path, input_wavs_dir)
    paths = [row["file_path"] for row in rows]
    refuse_clips(path, paths, ["" if clip.is_file() else "file is missing" for clip in paths])
    infos = stored_infos(rows, sampling_rate) or scan_clips(paths, f"Scanning {path.name}")
    refuse_clips(path, paths, [clip_problem(info, sampling_rate) for info in infos])
    texts = [(row.get("normalized_transcript") or "", row.get("speaker") or "") for row in rows]
    return [
        Clip(clip, info.samples, info.peak, *text)
        for clip, info, text in zip(paths, infos, texts, strict=True)
    ]


def read_rows(path: Path, input_wavs_dir: Path | str | None) -> list[dict]:
    """Return the rows of a manifest or filelist with the columns of a manifest; `file_path` is a Path."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # unlike splitlines, keeps U+2028 in a text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read the manifest {path}: {error}; create it with prep_splits.py") from error
    lines = [line for line in lines if line.strip()]
    if lines and "file_path" in next(csv.reader(lines[:1])):
        rows = list(csv.DictReader(lines))
        for number, row in enumerate(rows, 2):
            if not row["file_path"]:
                raise UserError(f"line {number} of {path} has no file_path; create the manifest again")
        rows = [row | {"file_path": path.parent / row["file_path"]} for row in rows]
    elif input_wavs_dir is not None:
        rows = [filelist_row(line, Path(input_wavs_dir)) for line in lines]
    else:
        raise UserError(
            f"{path} has no column file_path; if it is an official filelist (id|text|text), add "
            "--input_wavs_dir"
        )
    if not rows:
        raise UserError(f"{path} lists no clips")
    return rows


def filelist_row(line: str, wavs: Path) -> dict:
    """Return a line of an official filelist as a manifest's row."""
    name, *texts = line.split("|")
    file_name = name if Path(name).suffix == ".wav" else f"{name}.wav"
    return {"file_path": wavs / file_name, "normalized_transcript": (texts or [name])[-1].strip()}


def stored_infos(rows: list[dict], sampling_rate: int) -> list[ClipInfo] | None:
    """Return what the manifest stores about its clips, or None if it lacks anything."""
    infos = []
    try:
        for row in rows:
            samples, seconds = int(row["samples"]), float(row["duration"])
            # durations are rounded, so for short clips samples / seconds is not exactly the rate
            is_expected = abs(samples - seconds * sampling_rate) < 1
            rate = sampling_rate if is_expected else round(samples / seconds)
            infos.append(ClipInfo(samples, rate, 1, float(row["peak"])))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return infos


def scan_clips(paths: list[Path], description: str) -> list[ClipInfo]:
    """Decode every clip once, on all cores."""
    with ThreadPoolExecutor(available_cores()) as pool:  # decoding releases the interpreter lock
        return list(tqdm(pool.map(inspect_clip, paths), total=len(paths), desc=description, unit="clip"))


def clip_problem(info: ClipInfo, sampling_rate: int) -> str:
    """Return why a clip can't be used, or "" if it can."""
    if info.problem:
        return info.problem
    if info.channels > 1:
        return f"it has {info.channels} channels, not one"
    if info.sampling_rate != sampling_rate:
        return f"its sampling rate is {info.sampling_rate} Hz, not {sampling_rate} Hz"
    return ""


def refuse_clips(manifest: Path, paths: list[Path], problems: list[str]) -> None:
    """Raise UserError if any clip has a problem."""
    found = [f"{path}: {problem}" for path, problem in zip(paths, problems, strict=True) if problem]
    if found:
        raise UserError(
            f"{len(found)} of {len(paths)} clips in {manifest} can't be used, the first: {found[0]}; fix or "
            "remove them (prep_splits.py leaves such clips out)"
        )


class SavedMels:
    """A folder of mels for fine-tuning: `<stem>.npy`, float32 (num_mels, frames) or (1, num_mels, frames).

    A `config.json` in the folder, with the settings of the mels, is compared with `config`. Raises UserError
    that names clips whose mel is missing, not finite, or does not match the clip's length.
    """

    def __init__(self, folder: Path | str, clips: list[Clip], config: MelConfig):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder} of saved mels; correct --path_to_saved_mels")
        if (self.folder / "config.json").is_file():
            saved_with = MelConfig.from_file(self.folder / "config.json")
            check_same_mel(saved_with, config, f"the saved mels of {self.folder}", "the vocoder")
        problems = self.problems_with_files(clips, config) or self.problems_with_values(clips, config)
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise UserError(
                f"{len(problems)} of {len(clips)} clips have no fitting mel: {shown}; save them again from "
                "the same audio with the same hop_size"
            )

    def problems_with_files(self, clips: list[Clip], config: MelConfig) -> list[str]:
        stems = Counter(path.stem for path in {clip.path for clip in clips})
        problems = [
            f"{stem} (two clips have this name, one mel)" for stem, count in stems.items() if count > 1
        ]
        for clip in clips:
            expected = (config.num_mels, config.num_frames(clip.samples))
            if not self.path(clip).is_file():
                problems.append(f"{clip.path.stem} (no file {self.path(clip)})")
            elif (shape := self.open(clip).shape) != expected:
                problems.append(f"{clip.path.stem} (its mel is {shape}, its audio needs {expected})")
        return problems

    def problems_with_values(self, clips: list[Clip], config: MelConfig) -> list[str]:
        """Check about 20 mels for values that are not finite. Warn if they seem to be in another scale."""
        problems = []
        for clip in clips[:: max(1, len(clips) // 20)]:
            mel = np.array(self.open(clip))
            if not np.isfinite(mel).all():
                problems.append(f"{clip.path.stem} (its mel holds values that are not finite)")
            elif doubt := unlikely_mel_values(mel, config):
                warnings.warn(f"{self.path(clip)} {doubt}; is it in the vocoder's --mel_scale?", stacklevel=3)
                break
        return problems

    def path(self, clip: Clip) -> Path:
        return self.folder / f"{clip.path.stem}.npy"

    def open(self, clip: Clip) -> np.ndarray:
        """Return the mel (num_mels, frames), mapped from the file so that only indexed parts are read."""
        try:
            mel = np.load(self.path(clip), mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(f"can't read the mel {self.path(clip)}: {error}; save it again") from error
        return mel[0] if mel.ndim == 3 and mel.shape[0] == 1 else mel


class SegmentDataset(Dataset):
    """Random segments. Item (epoch, index) is a dict of `audio` (segment_size,) and, in fine-tuning, `mel`.

    The start of a segment depends only on (seed, epoch, index), not on the number of workers or on earlier
    draws. Clips shorter than a segment are padded with silence.

    Pretraining scales each clip to a peak of 0.95. Fine-tuning (with `saved_mels`) does not scale, since a
    saved mel belongs to the unscaled audio. Its segments start at frame boundaries: audio sample i * hop_size
    corresponds to frame i of the mel (num_mels, frames).

    Raises UserError for a `segment_size` that is not a whole number of frames.
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
        if self.saved_mels is None:
            start = int(random.integers(0, max(0, clip.samples - self.segment_size) + 1))
            audio = read_segment(clip, start, min(self.segment_size, clip.samples - start))
            return {"audio": pad_to(scale_to_peak(audio, clip), self.segment_size, 0.0)}

        frames = self.config.num_frames(self.segment_size)
        mel = self.saved_mels.open(clip)
        first = int(random.integers(0, max(0, mel.shape[1] - frames) + 1))
        mel = mel[:, first : first + frames]
        audio = read_segment(clip, first * self.config.hop_size, self.config.num_samples(mel.shape[1]))
        return {
            "audio": pad_to(audio, self.segment_size, 0.0),
            "mel": pad_to(mel.astype(np.float32), frames, self.config.silence),
        }


class UtteranceDataset(Dataset):
    """Whole clips for validation: dicts of `audio` (samples,), `name` and, in fine-tuning, `mel`.

    The audio is trimmed to whole hops. Raises UserError for a clip that is too short for a mel.
    """

    def __init__(self, clips: list[Clip], config: MelConfig, saved_mels: SavedMels | None = None):
        self.clips, self.config, self.saved_mels = clips, config, saved_mels
        for clip in clips:
            if self.whole_hops(clip) < config.min_samples:
                raise UserError(
                    f"{clip.path.stem} is shorter than {config.min_samples} samples and has no mel; remove it"
                )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        clip = self.clips[index]
        audio = read_segment(clip, 0, self.whole_hops(clip))
        if self.saved_mels is None:
            return {"audio": torch.from_numpy(scale_to_peak(audio, clip)), "name": clip.path.stem}
        mel = np.array(self.saved_mels.open(clip), dtype=np.float32)
        return {"audio": torch.from_numpy(audio), "mel": torch.from_numpy(mel), "name": clip.path.stem}

    def whole_hops(self, clip: Clip) -> int:
        return clip.samples // self.config.hop_size * self.config.hop_size


def read_segment(clip: Clip, start: int, samples: int) -> np.ndarray:
    """Return `samples` float32 samples from `start` on. Raises UserError if the file is shorter."""
    audio, _, _ = read_audio(clip.path, start, samples)
    if len(audio) != samples:
        raise UserError(
            f"{clip.path} is shorter than its manifest states; create the manifest again with prep_splits.py"
        )
    return audio


def scale_to_peak(audio: np.ndarray, clip: Clip) -> np.ndarray:
    """Return the segment scaled as if its whole clip had a peak of 0.95. Digital silence stays unchanged."""
    return audio * np.float32(PEAK / clip.peak) if clip.peak > 0 else audio


def pad_to(values: np.ndarray, length: int, fill: float) -> Tensor:
    """Return (..., n) padded at the end with `fill` to (..., length)."""
    return F.pad(torch.from_numpy(values), (0, length - values.shape[-1]), value=fill)


class EpochSampler(Sampler):
    """Yields (epoch, index) over a shuffled corpus, in an order that depends only on (seed, epoch).

    An epoch consists of whole batches of `global_batch_size` clips. The few remaining clips, different ones
    in each epoch, are left out. A corpus smaller than one batch is repeated, with different segments.

    With `lengths`, one per clip, each batch has clips of similar lengths and therefore little padding. The
    order then also depends on the batch size, so an epoch that is resumed with another batch size may repeat
    clips.

    `start_at` lets an interrupted epoch continue.
    """

    def __init__(
        self, num_clips: int, global_batch_size: int, seed: int, lengths: Sequence[int] | None = None
    ):
        self.num_clips, self.seed, self.epoch, self.start = num_clips, seed, 0, 0
        self.length = max(1, num_clips // global_batch_size) * global_batch_size
        self.global_batch_size, self.lengths = global_batch_size, lengths

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, clips: int) -> None:
        """Leave out the first `clips` clips of each epoch, until this method is called again."""
        self.start = clips

    def __len__(self) -> int:
        # whole batches also after a resume with another batch size
        return max(0, self.length - self.start) // self.global_batch_size * self.global_batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        rounds = [
            first + random.permutation(self.num_clips) for first in range(0, self.length, self.num_clips)
        ]
        order = np.concatenate(rounds)[: self.length]
        if self.lengths is not None:
            order = self._batches_of_similar_lengths(order, random)
        for index in order[self.start :][: len(self)]:
            yield self.epoch, int(index)

    def _batches_of_similar_lengths(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        # Sorted within pools, because sorting the whole corpus would yield the same batches in every epoch.
        pool = POOLED_BATCHES * self.global_batch_size
        lengths = np.asarray(self.lengths)
        pools = [order[first : first + pool] for first in range(0, len(order), pool)]
        pools = [part[np.argsort(lengths[part % self.num_clips], kind="stable")] for part in pools]
        batches = np.concatenate(pools).reshape(-1, self.global_batch_size)
        return random.permutation(batches).reshape(-1)
