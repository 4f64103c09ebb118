"""Datasets of the clips in a manifest: random segments for training, whole clips for validation.

Workers only read audio from disk. Mels are computed on the training device, one batch at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from common.errors import UserError
from corpus.manifest import Clip, read_segment, stale_manifest
from corpus.saved_mels import SavedMels
from mel import MelConfig

PEAK = 0.95  # peak amplitude to which pretraining scales every clip, as the official code does


class SegmentDataset(Dataset):
    """Random segments. Item (epoch, index) is a dict of `audio` (segment_size,) and, in fine-tuning, `mel`.

    The start of a segment depends only on (seed, epoch, index), not on the number of workers or on earlier
    draws. Clips shorter than a segment are padded with silence.

    Pretraining scales each clip to a peak of 0.95. Fine-tuning (with `saved_mels`) does not scale, since a
    saved mel belongs to the unscaled audio. Its segments start at frame boundaries: audio sample i * hop_size
    corresponds to frame i of the mel (num_mels, frames).

    Raises UserError for a `segment_size` that is not a whole number of frames, or too short for a mel.
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
        clip = self.clips[index % len(self.clips)]  # an index beyond the corpus repeats it
        random, rate = np.random.default_rng((self.seed, epoch, index)), self.config.sampling_rate
        if self.saved_mels is None:
            start = int(random.integers(0, max(0, clip.samples - self.segment_size) + 1))
            samples = min(self.segment_size, clip.samples - start)
            audio = read_segment(clip, start, samples, rate)
            return {"audio": pad_to(scale_to_peak(audio, clip), self.segment_size, 0.0)}

        frames = self.config.num_frames(self.segment_size)
        mel = self.saved_mels.open(clip)
        first = int(random.integers(0, max(0, mel.shape[1] - frames) + 1))
        mel = mel[:, first : first + frames]
        audio = read_segment(clip, first * self.config.hop_size, self.config.num_samples(mel.shape[1]), rate)
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
                least = -(-config.min_samples // config.hop_size) * config.hop_size
                raise UserError(
                    f"{clip.path.stem} is shorter than {least} samples, too short to validate with; remove it"
                )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        clip = self.clips[index]
        audio = read_segment(clip, 0, clip.samples, self.config.sampling_rate)
        item = {"name": clip.path.stem}
        if self.saved_mels is None:
            audio = scale_to_peak(audio, clip)
        else:
            item["mel"] = torch.from_numpy(np.array(self.saved_mels.open(clip), dtype=np.float32))
        return item | {"audio": torch.from_numpy(audio[: self.whole_hops(clip)])}

    def whole_hops(self, clip: Clip) -> int:
        return clip.samples // self.config.hop_size * self.config.hop_size


def scale_to_peak(audio: np.ndarray, clip: Clip) -> np.ndarray:
    """Return the segment scaled as if its whole clip had a peak of 0.95. Digital silence stays unchanged.

    Raises UserError if the audio would then exceed 1: its peak is not the manifest's.
    """
    if not clip.peak > 0:
        return audio
    if np.abs(audio).max() * PEAK > clip.peak:
        raise stale_manifest(clip, "is louder than")
    return audio * np.float32(PEAK / clip.peak)


def pad_to(values: np.ndarray, length: int, fill: float) -> Tensor:
    """Return (..., n) padded at the end with `fill` to (..., length)."""
    return F.pad(torch.from_numpy(values), (0, length - values.shape[-1]), value=fill)
