"""Dataset of transcripts as tokens and clips as mels, and its batches."""

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dataset import Clip, read_segment
from tacotron2.config import Tacotron2Config
from tacotron2.mel import MelSpectrogram
from tacotron2.text import PAD_ID, encode_texts, spoken_ids
from utils import UserError


class TextMelDataset(Dataset):
    """Whole clips with their transcripts, indexed by index or (epoch, index).

    An item is a dict of `tokens` (L,), `mel` (num_mels, T), `speaker` and `name`. `speaker` is the index of
    the clip's speaker in `config.speakers`, or 0 for a model with a single voice. The audio is not scaled.

    Raises UserError, with the first clip's name, for clips that have no words, that are too short for a mel,
    or whose speaker the model lacks.
    """

    def __init__(self, clips: list[Clip], config: Tacotron2Config):
        self.clips, self.config, self.mel = clips, config, MelSpectrogram(config)
        tokens = encode_texts([clip.transcript for clip in clips], config)
        spoken = spoken_ids(config.text_input)
        silent = [clip for clip, text in zip(clips, tokens, strict=True) if spoken.isdisjoint(text)]
        refuse(silent, "have no words in their normalized_transcript", "add them to the manifest")
        short = [clip for clip in clips if clip.samples < config.min_samples]
        refuse(short, f"have fewer than {config.min_samples} samples and no mel", "remove them")
        if config.speakers:
            remedy = f"the model's speakers: {', '.join(config.speakers)}"
            unnamed = [clip for clip in clips if not clip.speaker]
            refuse(unnamed, "have no speaker in the manifest's column speaker", remedy)
            others = [clip for clip in clips if clip.speaker not in config.speakers]
            refuse(others, "have a speaker that the model lacks", remedy)
        # one array, because workers would copy the memory pages of many small tensors
        self.tokens = np.fromiter((token for text in tokens for token in text), dtype=np.int16)
        self.ends = list(accumulate(map(len, tokens), initial=0))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int] | int) -> dict:
        index = (key if isinstance(key, int) else key[1]) % len(self.clips)
        clip = self.clips[index]
        tokens = self.tokens[self.ends[index] : self.ends[index + 1]]
        audio = read_segment(clip, 0, clip.samples)
        return {
            "tokens": torch.from_numpy(tokens.astype(np.int64)),
            "mel": self.mel(torch.from_numpy(audio)),
            "speaker": self.config.speakers.index(clip.speaker) if self.config.speakers else 0,
            "name": clip.path.stem,
        }

    @property
    def frames(self) -> list[int]:
        """Number of mel frames of each clip."""
        return [self.config.num_frames(clip.samples) for clip in self.clips]

    def collate(self, items: list[dict]) -> dict[str, Tensor | list[str]]:
        """Return a batch: `tokens` (B, L), `token_lengths` (B,), `mel` (B, num_mels, T), `mel_lengths` (B,),
        `speakers` (B,) and `name`, a list. Tokens are padded with PAD_ID, mels with silence.
        """
        tokens = [item["tokens"] for item in items]
        mels = [item["mel"].T for item in items]
        return {
            "tokens": pad(tokens, PAD_ID),
            "token_lengths": torch.tensor([len(text) for text in tokens]),
            "mel": pad(mels, self.config.silence).transpose(1, 2),
            "mel_lengths": torch.tensor([len(mel) for mel in mels]),
            "speakers": torch.tensor([item["speaker"] for item in items]),
            "name": [item["name"] for item in items],
        }


def refuse(clips: list[Clip], problem: str, remedy: str) -> None:
    """Raise UserError if there are clips with this problem."""
    if clips:
        raise UserError(f"{len(clips)} clips {problem}, the first {clips[0].path.stem}; {remedy}")


def pad(values: list[Tensor], fill: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
