"""Streaming: audio from mels of any length, chunk by chunk and with bounded memory."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from config import HiFiGANConfig


class Streaming:
    """Mixin that adds `stream` to a callable mel-to-audio generator with a `.config`."""

    config: HiFiGANConfig

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that its audio depends on."""
        context = vocos_context if self.config.generator == "vocos" else hifigan_context
        return context(self.config)

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
                if audio.shape[-1] > 0:  # with padding "center", the last frame adds no samples
                    yield audio
                done = end
                keep_from = max(0, done - context)
                buffer, start = buffer[..., keep_from - start :], keep_from


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Return the padding on either side that keeps the length of the input, for an odd kernel."""
    return dilation * (kernel_size - 1) // 2


def hifigan_context(config: HiFiGANConfig) -> int:
    """Return the receptive field of `Generator` in frames on either side."""
    # added up from the output layer backwards, in samples of each layer's rate
    reach = same_padding(7)  # conv_post
    if config.gen_istft_n_fft:  # the reflected frame and the overlapping windows
        reach += 1 + (config.gen_istft_n_fft // 2 - 1) // config.gen_istft_hop_size
    if config.fusion == "misr":
        blocks = [(config.resblock_kernel_size, config.resblock_dilation_sizes)]
    else:
        blocks = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
    undilated = 1 if config.resblock == "1" else 0  # convolutions after each dilated one
    stages = list(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True))
    for rate, kernel_size in reversed(stages):
        reach += max(
            sum(same_padding(kernel, dilation) + undilated * same_padding(kernel) for dilation in dilations)
            for kernel, dilations in blocks
        )
        padding = same_padding(kernel_size) if config.upsampling == "resize" else (kernel_size - rate) // 2
        # the last of the `rate` samples of one input is the farthest from the input's first sample
        reach = (reach + padding + rate - 1) // rate
    return reach + same_padding(7)  # conv_pre


def vocos_context(config: HiFiGANConfig) -> int:
    """Return the receptive field of `Vocos` in frames on either side."""
    before = config.stft_padding[0]  # samples of frame i's window before sample i * hop_size
    after = config.n_fft - before
    overlap = max((before + config.hop_size - 1) // config.hop_size, (after - 1) // config.hop_size)
    return same_padding(7) * (1 + config.vocos_num_layers) + overlap
