"""Streaming: audio from mels of any length, chunk by chunk and with bounded memory."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from config import HiFiGANConfig


class Streaming:
    """Mixin that adds `stream` to a callable mel-to-audio generator with `config` and `context_frames`."""

    config: HiFiGANConfig
    context_frames: int  # frames before and after a frame that its audio depends on

    @torch.inference_mode()
    def stream(self, mels: Iterable[Tensor], max_frames: int = 512) -> Iterator[Tensor]:
        """Yield audio chunks (B, 1, n) for mel chunks (B, num_mels, t) of any lengths t.

        The concatenated chunks equal the audio of the concatenated mel. Audio is delayed by `context_frames`
        frames; the remainder follows the last mel chunk. Each call of the generator makes the audio of at
        most `max_frames` frames, so memory does not grow with the length of the mel.
        """
        context, hop_size = self.context_frames, self.config.hop_size
        buffer: Tensor | None = None  # mel frames from `start` on
        start = done = 0
        for mel in chain(mels, [None]):  # None is the end
            if mel is not None:
                buffer = mel if buffer is None else torch.cat([buffer, mel], dim=-1)
            if buffer is None:
                return
            ready = start + buffer.shape[-1] - (0 if mel is None else context)
            while done < ready:
                end = min(ready, done + max_frames)
                audio = self(buffer[..., : end + context - start])
                audio = audio[..., (done - start) * hop_size : (end - start) * hop_size]
                if audio.shape[-1] > 0 or done == 0:  # with padding "center", the last frame adds no samples
                    yield audio
                done = end
                keep_from = max(0, done - context)
                buffer, start = buffer[..., keep_from - start :], keep_from
