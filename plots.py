"""Pictures of mels and waveforms, with axes in seconds and hertz."""

from collections.abc import Mapping

import librosa
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from tacotron2.mel import MelConfig


def plot_mels(mels: Mapping[str, Tensor | np.ndarray], config: MelConfig, width: float = 10.0) -> Figure:
    """Mels (num_mels, frames) one below the other, titled by their keys, on one colour scale."""
    arrays = {
        title: np.asarray(mel.detach().cpu() if isinstance(mel, Tensor) else mel)
        for title, mel in mels.items()
    }
    low, high = min(mel.min() for mel in arrays.values()), max(mel.max() for mel in arrays.values())
    figure = Figure(figsize=(width, 0.6 + 2.0 * len(arrays)), layout="constrained")
    band_edges = librosa.mel_frequencies(config.num_mels + 2, fmin=config.fmin, fmax=config.highest_frequency)
    ticks = [
        frequency for frequency in (0, 500, 1000, 2000, 4000, 8000, 16000) if frequency <= band_edges[-2]
    ]
    for axes, (title, mel) in zip(
        figure.subplots(len(arrays), squeeze=False)[:, 0], arrays.items(), strict=True
    ):
        seconds = mel.shape[1] * config.hop_size / config.sampling_rate
        image = axes.imshow(
            mel, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="magma",
            extent=(0.0, seconds, -0.5, config.num_mels - 0.5),
        )  # fmt: skip
        axes.set_yticks(
            np.interp(ticks, band_edges[1:-1], np.arange(config.num_mels)), [f"{tick}" for tick in ticks]
        )
        axes.set(title=title, ylabel="frequency (Hz)")
    axes.set_xlabel("time (s)")
    unit = "ln amplitude" if config.mel_scale == "ln" else f"dB, scaled to ±{config.max_scaled_abs:g}"
    figure.colorbar(image, ax=figure.axes, label=unit)
    return figure
