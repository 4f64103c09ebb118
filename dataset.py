"""Datasets of the clips in a manifest: random segments for training, whole utterances for validation.

Workers only read audio from disk. Mels are computed on the training device, one batch at a time.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from audio import read_audio
from manifest import Clip
from tacotron2.mel import MelConfig, check_same_mel, unlikely_mel_values
from utils import UserError, map_in_threads

POOLED_BATCHES = 20  # batches whose clips are sorted by length together
NPY_HEADER = 128  # bytes before the values of a matrix in an .npy file
PEAK = 0.95  # peak amplitude to which pretraining scales every clip, as the official code does


class SavedMels:
    """A folder of mels for fine-tuning: `<stem>.npy`, float32 (num_mels, frames) or (1, num_mels, frames).

    If clips in different folders have the same name, the mels are in folders too: `speaker/0001.npy` belongs
    to `…/speaker/0001.wav`. A `config.json` in the folder, with the settings of the mels, is compared with
    `config`. With `check`, raises UserError that names clips whose mel is missing, does not match the clip's
    length or, among a few of them, is not finite.
    """

    def __init__(self, folder: Path | str, config: MelConfig, *manifests: Sequence[Clip], check: bool = True):
        self.folder, self.config = Path(folder), config
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder} of saved mels; correct --path_to_saved_mels")
        if (self.folder / "config.json").is_file():
            saved_with = MelConfig.from_file(self.folder / "config.json")
            check_same_mel(saved_with, config, f"the saved mels of {self.folder}", "the vocoder")
        first = manifests[0][0]
        depths = range(1, first.file.count(os.sep) + 1)
        found = (depth for depth in depths if (self.folder / mel_name(first, depth)).is_file())
        self.depth = next(found, 1)
        if check:
            self.check(manifests)

    def check(self, manifests: Sequence[Sequence[Clip]]) -> None:
        shared = shared_names(*manifests, depth=self.depth)
        problems = [f"{name} (two clips have this name, one mel)" for name in shared]
        problems += filter(None, map_in_threads(self.problem_with_file, chain(*manifests), chunk=100))
        problems = problems or self.problems_with_values(manifests)
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise UserError(
                f"{len(problems)} of {sum(map(len, manifests))} clips have no fitting mel: {shown}; save "
                "them again from the same audio with the same hop_size"
            )

    def problem_with_file(self, clip: Clip) -> str:
        """Return why a clip's mel can't be used, judging by its size, or "". Opens files of other sizes."""
        expected = NPY_HEADER + 4 * self.config.num_mels * self.config.num_frames(clip.samples)
        try:
            size = os.stat(self.file(clip)).st_size
        except OSError:
            return f"{clip.path.stem} (no file {self.file(clip)})"
        return "" if size == expected else self.problem_with_shape(clip, self.open(clip))

    def problem_with_shape(self, clip: Clip, mel: np.ndarray) -> str:
        expected = (self.config.num_mels, self.config.num_frames(clip.samples))
        if mel.shape == expected:
            return ""
        return f"{clip.path.stem} (its mel is {mel.shape}, its audio needs {expected})"

    def problems_with_values(self, manifests: Sequence[Sequence[Clip]]) -> list[str]:
        """Open about 20 mels per manifest. Warn if their values seem to be in another scale."""
        problems = []
        for clip in chain(*(clips[:: max(1, len(clips) // 20)] for clips in manifests)):
            mel = np.array(self.open(clip))
            if problem := self.problem_with_shape(clip, mel):
                problems.append(problem)
            elif not np.isfinite(mel).all():
                problems.append(f"{clip.path.stem} (its mel holds values that are not finite)")
            elif doubt := unlikely_mel_values(mel, self.config):
                warnings.warn(f"{self.file(clip)} {doubt}; is it in the vocoder's --mel_scale?", stacklevel=4)
                break
        return problems

    def file(self, clip: Clip) -> str:
        return os.path.join(self.folder, mel_name(clip, self.depth))

    def open(self, clip: Clip) -> np.ndarray:
        """Return the mel (num_mels, frames), mapped from the file so that only indexed parts are read."""
        try:
            mel = np.load(self.file(clip), mmap_mode="r", allow_pickle=False)
            if mel.dtype.kind != "f":
                raise ValueError(f"its values are of the type {mel.dtype}")
        except Exception as error:  # damaged files make NumPy raise many types of exception
            raise UserError(f"can't read the mel {self.file(clip)}: {error}; save it again") from error
        return mel[0] if mel.ndim == 3 and mel.shape[0] == 1 else mel


def mel_name(clip: Clip, depth: int = 1) -> str:
    """Return the name of a clip's mel in its folder: the last `depth` parts of the clip's path."""
    file = plain_path(clip)
    start = len(file)
    for _ in range(depth):
        start = file.rfind(os.sep, 0, start)
    return os.path.splitext(file[start + 1 :])[0] + ".npy"


def plain_path(clip: Clip) -> str:
    return os.path.abspath(clip.file) if ".." in clip.file else clip.file  # abspath is slow


def distinct_depth(clips: Sequence[Clip]) -> int:
    """Return the smallest depth at which clips with different paths have mels with different names.

    Raises UserError if there is none.
    """
    for depth in range(1, max(plain_path(clip).count(os.sep) for clip in clips) + 2):
        if not (shared := shared_names(clips, depth=depth)):
            return depth
    raise UserError(f"two clips would both be saved as {min(shared)}; rename one")


def shared_names(*manifests: Sequence[Clip], depth: int = 1) -> set[str]:
    """Return the names in a folder of mels that clips with different paths share."""
    # hashes take less memory than a million names
    pairs = ((hash(mel_name(clip, depth)), hash(plain_path(clip))) for clip in chain(*manifests))
    pairs = np.fromiter(pairs, np.dtype((np.int64, 2)), sum(map(len, manifests)))
    distinct = np.unique(pairs, axis=0)
    names, counts = np.unique(distinct[:, 0], return_counts=True)
    shared = set(names[counts > 1].tolist())
    if not shared:
        return set()
    return {name for clip in chain(*manifests) if hash(name := mel_name(clip, depth)) in shared}


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
        clips: Sequence[Clip],
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

    def __init__(self, clips: Sequence[Clip], config: MelConfig, saved_mels: SavedMels | None = None):
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
    audio, _, _ = read_audio(clip.file, start, samples)
    if len(audio) != samples:
        raise UserError(
            f"{clip.file} is shorter than its manifest states; create the manifest again with prep_splits.py"
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

    def __init__(self, num_clips: int, global_batch_size: int, seed: int, lengths: np.ndarray | None = None):
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
