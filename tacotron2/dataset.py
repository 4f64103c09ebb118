"""Clips with their transcripts, as batches of tokens and mels."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dataset import Clip, read_segment
from tacotron2.mel import MelConfig, MelSpectrogram
from tacotron2.text import PAD_ID, encode
from utils import UserError


class TextMelDataset(Dataset):
    """Whole clips: item (epoch, index) or index is a dict of `tokens` (L,), `mel` (num_mels, T) and `name`.

    T is samples // hop_size, of the audio at the level it has on the disk. Texts end with END_ID where
    `end_symbol` says so. Raises UserError, which names them, for clips that have no text or no mel.
    """

    def __init__(self, clips: list[Clip], config: MelConfig, end_symbol: bool = True):
        self.clips, self.config = clips, config
        self.tokens = [
            torch.tensor(encode(clip.transcript)[: None if end_symbol else -1], dtype=torch.long)
            for clip in clips
        ]
        self.mel = MelSpectrogram(config)
        letters = set(encode("abcdefghijklmnopqrstuvwxyz")[:-1])
        silent = [
            clip.path.stem
            for clip, tokens in zip(clips, self.tokens, strict=True)
            if letters.isdisjoint(tokens.tolist())
        ]
        if silent:
            raise UserError(
                f"{len(silent)} clips have no words in their normalized_transcript, the first {silent[0]}; "
                "add them to the manifest or remove the clips"
            )
        short = [clip.path.stem for clip in clips if clip.samples < config.min_samples]
        if short:
            raise UserError(
                f"{short[0]} is shorter than {config.min_samples} samples and has no mel; remove the clip"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int] | int) -> dict:
        index = (key if isinstance(key, int) else key[1]) % len(self.clips)
        clip = self.clips[index]
        audio = torch.from_numpy(read_segment(clip, 0, clip.samples))
        return {"tokens": self.tokens[index], "mel": self.mel(audio), "name": clip.path.stem}

    @property
    def frames(self) -> list[int]:
        """The length of each clip's mel."""
        return [clip.samples // self.config.hop_size for clip in self.clips]

    def collate(self, items: list[dict]) -> dict[str, Tensor | list[str]]:
        """A batch: `tokens` (B, L), `token_lengths` (B,), `mel` (B, num_mels, T), `mel_lengths` (B,), `name`.

        Tokens are padded with PAD_ID, mels with silence.
        """
        tokens = [item["tokens"] for item in items]
        mels = [item["mel"].T for item in items]
        return {
            "tokens": pad(tokens, PAD_ID),
            "token_lengths": torch.tensor([len(text) for text in tokens]),
            "mel": pad(mels, self.config.silence).transpose(1, 2),
            "mel_lengths": torch.tensor([len(mel) for mel in mels]),
            "name": [item["name"] for item in items],
        }


def pad(values: list[Tensor], fill: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
