"""Figures of mels and attention, with axes in seconds and hertz. `config` is a `MelConfig`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

IMAGE = {"origin": "lower", "aspect": "auto", "cmap": "magma"}


def plot_mels(mels: Mapping[str, Tensor | np.ndarray], config, extra_panels: int = 0) -> Figure:
    """Plot mels (num_mels, frames) side by side with a shared color scale; the keys are the titles.

    Adds `extra_panels` empty panels on the right.
    """
    arrays = {title: np.asarray(mel.cpu() if isinstance(mel, Tensor) else mel) for title, mel in mels.items()}
    low, high = min(mel.min() for mel in arrays.values()), max(mel.max() for mel in arrays.values())
    count = len(arrays) + extra_panels
    figure = Figure(figsize=(1.0 + 5.0 * count, 3.5), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0][: len(arrays)]
    for axes in panels[1:]:
        axes.sharey(panels[0])
        axes.tick_params(labelleft=False)
    for axes, (title, mel) in zip(panels, arrays.items(), strict=True):
        extent = (0.0, mel.shape[1] * config.hop_size / config.sampling_rate, -0.5, config.num_mels - 0.5)
        image = axes.imshow(mel, vmin=low, vmax=high, extent=extent, **IMAGE)
        axes.set(title=title, xlabel="time (s)")
    import librosa  # slow to import

    bands = librosa.mel_frequencies(
        config.num_mels + 2, fmin=config.fmin, fmax=config.highest_frequency, htk=config.mel_filters == "htk"
    )[1:-1]
    ticks = [frequency for frequency in (250, 500, 1000, 2000, 4000, 8000, 16000) if frequency <= bands[-1]]
    panels[0].set_yticks(np.interp(ticks, bands, np.arange(config.num_mels)), ticks)
    panels[0].set_ylabel("frequency (Hz)")
    unit = f"dB, scaled to ±{config.max_scaled_abs:g}" if config.mel_scale == "db" else config.mel_scale
    figure.colorbar(image, ax=panels.tolist(), label=f"amplitude ({unit})")
    return figure


def plot_attention(
    mels: Mapping[str, Tensor | np.ndarray],
    attention: Tensor | np.ndarray,
    config,
    symbols: Sequence[str] = (),
) -> Figure:
    """Plot mels as `plot_mels` does, and the attention (steps, tokens) over the time of the last mel.

    `symbols` are the labels of the first tokens, for example the phonemes of the sentence.
    """
    figure = plot_mels(mels, config, extra_panels=1)
    attention = np.asarray(attention.cpu() if isinstance(attention, Tensor) else attention)
    axes = figure.axes[len(mels)]
    frames = list(mels.values())[-1].shape[1]
    extent = (0.0, frames * config.hop_size / config.sampling_rate, -0.5, attention.shape[1] - 0.5)
    axes.imshow(attention.T, interpolation="nearest", extent=extent, **IMAGE)
    axes.set(title="attention", xlabel="time (s)", ylabel="" if symbols else "token")
    if symbols:
        axes.set_yticks(range(len(symbols)), symbols, fontsize=7)
        figure.set_figheight(max(figure.get_figheight(), 1.0 + 0.1 * attention.shape[1]))  # inches
    return figure


def render(figure: Figure) -> np.ndarray:
    """Return the figure as an image (height, width, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
