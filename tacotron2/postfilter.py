"""A filter that sharpens predicted mels: the modulation spectrum post-filter of Takamichi et al. (2016).

A model averages over everything that the text leaves open, so the mels that it predicts are smoother than
those of recordings, in time and over frequency. The *modulation spectrum* of a mel shows this: the power with
which each cepstral coefficient (the cosine transform of a frame) varies at each modulation frequency. The
filter raises the power of predicted mels towards that of recordings. It is linear, so it cannot add detail
that a mel lacks; it amplifies what is left of it.

Takamichi et al., "Postfilters to modify the modulation spectrum for statistical parametric speech synthesis"
(IEEE/ACM Transactions on Audio, Speech, and Language Processing 24, 2016).
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError

WINDOW = 64  # frames of a modulation spectrum


class Postfilter(nn.Module):
    """Filters each cepstral coefficient of a mel along time, with a filter for each speaker.

    mel (B, num_mels, T), mask (B, T), speakers (B,) -> (B, num_mels, T)

    Buffers: `mean` (num_speakers, num_mels), a cepstrum that the filter leaves unchanged, and `kernel`
    (num_speakers, num_mels, taps), the impulse responses. A new filter changes nothing.
    """

    def __init__(self, num_mels: int, taps: int, num_speakers: int = 1):
        super().__init__()
        kernel = torch.zeros(num_speakers, num_mels, taps)
        kernel[..., taps // 2] = 1
        self.register_buffer("mean", torch.zeros(num_speakers, num_mels))
        self.register_buffer("kernel", kernel)
        self.transform = cosine_transform(num_mels)  # no buffer, since models are created on the meta device

    @property
    def is_neutral(self) -> bool:
        """Whether the filter changes nothing."""
        return torch.equal(
            self.kernel, Postfilter(*self.kernel.shape[1:], len(self.kernel)).kernel.to(self.kernel)
        )

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that the result depends on."""
        return self.kernel.shape[2] // 2

    def forward(self, mel: Tensor, mask: Tensor, speakers: Tensor | None = None) -> Tensor:
        batch, num_mels, frames = mel.shape
        if speakers is None:
            speakers = torch.zeros(batch, dtype=torch.long, device=mel.device)
        transform = self.transform.to(mel.device)
        mean, kernel = self.mean[speakers].unsqueeze(2), self.kernel[speakers]
        with torch.autocast(mel.device.type, enabled=False):
            cepstrum = (transform @ mel.float() - mean) * mask.unsqueeze(1)
            # every coefficient of every sentence is a channel with its own kernel
            channels, kernels = cepstrum.reshape(1, -1, frames), kernel.reshape(batch * num_mels, 1, -1)
            filtered = F.conv1d(channels, kernels, padding=self.context_frames, groups=batch * num_mels)
            return transform.T @ (filtered.reshape(batch, num_mels, frames) + mean)

    def for_speaker(self, index: int) -> "Postfilter":
        """Return the filter of one speaker."""
        single = Postfilter(*self.kernel.shape[1:])
        single.mean, single.kernel = self.mean[index : index + 1], self.kernel[index : index + 1]
        return single


def cosine_transform(size: int) -> Tensor:
    """Return the orthonormal matrix (size, size) of the cosine transform of type 2."""
    order, place = np.arange(size)[:, None], np.arange(size) + 0.5
    matrix = np.sqrt(2 / size) * np.cos(np.pi / size * order * place)
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix.astype(np.float32))


def modulation_spectrum(mels: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean cepstrum (num_mels,) and the modulation power (num_mels, WINDOW // 2 + 1) of mels.

    Takes mels (num_mels, T), and ignores those shorter than WINDOW frames. Raises UserError if all are.
    """
    total, power, frames, windows = 0.0, 0.0, 0, 0
    for mel in mels:
        if mel.shape[1] >= WINDOW:
            cepstrum = cosine_transform(len(mel)) @ mel.float()
            total, frames = total + cepstrum.sum(1), frames + cepstrum.shape[1]
            parts = (cepstrum - cepstrum.mean(1, keepdim=True)).unfold(1, WINDOW, WINDOW // 4)
            spectra = torch.fft.rfft(parts * torch.hann_window(WINDOW))  # (num_mels, windows, bins)
            power, windows = power + spectra.abs().square().sum(1), windows + spectra.shape[1]
    if not windows:
        raise UserError(f"no clip has {WINDOW} frames; a post-filter needs longer ones")
    return total / frames, power / windows


def design_kernel(recorded: Tensor, predicted: Tensor, taps: int, strength: float, limit: float) -> Tensor:
    """Return impulse responses (num_mels, taps) that change the modulation power `predicted` to `recorded`.

    The gain of an amplitude is limited to 1 / limit ... limit and raised to the power of `strength`: 0
    changes nothing, 1 reaches `recorded` within the limit. Coefficient 0, a frame's level, is not changed.
    """
    gain = (recorded / predicted).sqrt().clamp(1 / limit, limit) ** strength
    gain[0] = 1
    response = torch.fft.irfft(gain, WINDOW).roll(taps // 2, dims=1)[:, :taps]  # symmetric, so no delay
    return response * torch.hann_window(taps + 2, periodic=False)[1:-1]
