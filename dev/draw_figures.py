"""Draw the figures of the README from a sentence generated with espeak-ng.

    python dev/draw_figures.py

The figures show the input of the networks: the mel for the generator, and samples arranged by period and by
scale for the discriminators. They need no recordings and are the same on every run.
"""

import sys
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import librosa
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image

if not __package__:  # with `python dev/draw_figures.py`, only dev/ is on the import path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import Options, option
from common.parser import parse_options
from config import HiFiGANConfig
from mel import MelSpectrogram
from model import MultiScaleDiscriminator
from text.espeak import Espeak

SENTENCE = "She sells sea shells by the sea shore."
VOWEL, ONSET = 0.36, 0.3065  # seconds: in the "e" of "sells", and shortly before it in the "s"

WIDTH, DPI = 8.2, 110  # inches, pixels per inch: GitHub displays a README about 900 pixels wide
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#1f5fa8", "#d9641e", "#2f8f5b", "#8a3fa0", "#8a8a8a"
CENTERED = {"ha": "center", "va": "center"}
STYLE = {
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "image.aspect": "auto",
    "image.interpolation": "nearest",
}


def draw_waveform_and_mel(audio: np.ndarray, config: HiFiGANConfig) -> Figure:
    """Plot the waveform of audio (samples,), its mel on the same time axis, and the samples of two frames."""
    rate, hop, bands = config.sampling_rate, config.hop_size, config.num_mels
    mel = MelSpectrogram(replace(config, mel_scale="ln"))(torch.from_numpy(audio))  # (num_mels, frames)
    times, first = np.arange(len(audio)) / rate, round(VOWEL * rate / hop) * hop
    start, middle, end = times[first], times[first + hop], times[first + 2 * hop]
    figure = Figure(figsize=(WIDTH, 7.6), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12)  # inches: space for the lines from the mel to its two frames
    waveform, picture, zoom = figure.subplots(3, 1, height_ratios=(1.0, 1.5, 1.3))

    waveform.plot(times, audio, color=BLUE, linewidth=0.5)
    waveform.set(title=f'The waveform of "{SENTENCE}"', ylabel="amplitude", xlabel="time (s)")

    extent = (0.0, mel.shape[1] * hop / rate, -0.5, bands - 0.5)
    image = picture.imshow(mel * (20.0 / np.log(10.0)), origin="lower", cmap="magma", extent=extent)
    figure.colorbar(image, ax=picture, label="level (dB)", pad=0.01, aspect=15)
    hertz = librosa.mel_frequencies(bands + 2, fmin=config.fmin, fmax=config.highest_frequency)[1:-1]
    ticks = (250, 500, 1000, 2000, 4000)
    picture.set_yticks(np.interp(ticks, hertz, np.arange(bands)), ticks)
    title = f"Its mel spectrogram: {bands} frequency bands, one frame per {hop} samples"
    picture.set(title=title, ylabel="frequency (Hz)")
    picture.tick_params(labelbottom=False)

    zoom.plot(times, audio, color=BLUE, linewidth=0.8, marker=".", markersize=2.5)
    zoom.set(xlim=(start, end), ylim=(-0.8, 1.15), yticks=(-0.5, 0.0, 0.5))
    zoom.set(ylabel="amplitude", xlabel="time (s)")
    zoom.text(start, -0.7, "  each dot is a sample", color=BLUE)
    for left, right in ((start, middle), (middle, end)):
        zoom.annotate("", (left, 0.88), (right, 0.88), arrowprops={"arrowstyle": "<->", "color": ORANGE})
        label = f"{bands} numbers → {hop} samples, {1000 * hop / rate:.1f} ms"
        zoom.text((left + right) / 2, 0.94, label, color=ORANGE, ha="center")
    for boundary in (start, middle, end):
        zoom.axvline(boundary, color=ORANGE, linewidth=2, clip_on=False)
    for axes in (waveform, picture):
        axes.axvspan(start, end, facecolor="none", edgecolor=ORANGE, linewidth=1.5)
        axes.set_xlim(0.0, times[-1])
    for edge in (start, end):
        guide = ConnectionPatch((edge, -0.5), (edge, 1.15), "data", "data", axesA=picture, axesB=zoom)
        guide.set(color=ORANGE, linestyle=":", in_layout=False)
        figure.add_artist(guide)
    return figure


def draw_upsampling(config: HiFiGANConfig) -> Figure:
    """Plot the shapes of the signal inside the generator, and the receptive fields of the residual blocks.

    Requires a configuration with three kernel sizes of `ResBlock1`, such as V1 or V2.
    """
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1.0))
    fusion, reach = lower.subplots(1, 2, width_ratios=(1.0, 1.15))
    _draw_stages(upper.subplots(), config)
    colors = dict(zip(config.resblock_kernel_sizes, (BLUE, GREEN, PURPLE), strict=True))

    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": GRAY}
    for height, (size, color) in zip((0.85, 0.5, 0.15), colors.items(), strict=True):
        fusion.plot((0.15, 0.55, 0.92), (0.5, height, 0.5), color=GRAY, zorder=1)
        name = f"residual block\nkernel {size}"
        fusion.text(0.55, height, name, bbox=box | {"edgecolor": color}, **CENTERED)
    fusion.text(0.15, 0.5, "transposed\nconvolution", bbox=box, **CENTERED)
    fusion.text(0.92, 0.5, "mean", bbox=box, **CENTERED)
    fusion.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0), title="Inside a stage: three kernel sizes in parallel")
    fusion.axis("off")

    frame = config.hop_size / config.sampling_rate  # seconds
    per_frame = np.cumprod(config.upsample_rates)
    stages = np.arange(len(per_frame)) + 1
    for (size, color), dilations in zip(colors.items(), config.resblock_dilation_sizes, strict=True):
        # each dilation adds a dilated and an undilated convolution, and both extend the receptive field
        positions = 1 + sum((size - 1) * (dilation + 1) for dilation in dilations)
        seconds = positions / per_frame * frame
        reach.plot(seconds, stages, "o", color=color, label=f"kernel {size}", markersize=8)
    reach.axvline(frame, color=ORANGE, linestyle=":")
    reach.text(frame, 0.5, " one frame", color=ORANGE)
    reach.set_yticks(stages, [f"stage {stage}" for stage in stages])
    reach.set(xscale="log", ylim=(stages[-1] + 0.5, 0.2), xlabel="receptive field of a block (s)")
    reach.set_xticks([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"])
    reach.set_title("Together the blocks see short and long patterns")
    reach.grid(axis="y", linewidth=0.5)
    reach.legend(loc="lower right")
    return figure


def _draw_stages(axes: Axes, config: HiFiGANConfig) -> None:
    blocks = [("mel", config.num_mels, "bands", 1, "frame")]
    for stage, positions in enumerate(np.cumprod((1, *config.upsample_rates))):
        name = f"stage {stage}" if stage else "first layer"
        unit = "positions" if stage else "position"
        blocks.append((name, config.upsample_initial_channel >> stage, "channels", positions, unit))
    blocks.append(("audio", 1, "channel", config.hop_size, "samples"))
    for place, (name, channels, channel_unit, positions, unit) in enumerate(blocks):
        half, left, right = 0.2 + np.log2(channels) / 2, place - 0.31, place + 0.31
        color = GRAY if name in ("mel", "audio") else BLUE
        axes.fill_between((left, right), -half, half, facecolor=color, alpha=0.22)
        axes.add_patch(Rectangle((left, -half), 0.62, 2 * half, fill=False, edgecolor=color, linewidth=1.5))
        axes.vlines(np.linspace(left, right, positions + 1), -half, half, color=color, linewidth=0.35)
        axes.text(place, 5.1, name, ha="center", fontweight="bold")
        axes.text(place, -5.1, f"{channels} {channel_unit}\n{positions} {unit}", ha="center", va="top")
    for place, label in enumerate(["", *(f"×{rate}" for rate in config.upsample_rates), ""]):
        arrow = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.5}
        axes.annotate("", (place + 0.69, 0.0), (place + 0.31, 0.0), arrowprops=arrow)
        axes.text(place + 0.5, 0.4, label, ha="center", color=ORANGE, fontweight="bold")
    axes.set(xlim=(-0.5, len(blocks) - 0.5), ylim=(-7.4, 6.2))
    title = f"From one frame to {config.hop_size} samples"
    axes.set_title(f"{title}: each stage lengthens the signal and halves its channels")
    axes.axis("off")


def draw_periods(audio: np.ndarray, config: HiFiGANConfig) -> Figure:
    """Plot how a period discriminator folds audio (samples,) into an image, and the images of all periods."""
    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    folding, images = figure.subfigures(2, 1, height_ratios=(1.0, 1.5))
    first = round(VOWEL * config.sampling_rate)
    times = np.arange(len(audio)) / config.sampling_rate
    _draw_folding(folding, times[first : first + 24], audio[first : first + 24])
    _draw_period_images(images, times[first : first + 440], audio[first : first + 440], config.mpd_periods)
    return figure


def _draw_folding(figure: SubFigure, times: np.ndarray, samples: np.ndarray) -> None:
    period, colors = 3, (BLUE, ORANGE, GREEN)
    waveform, table = figure.subplots(1, 2, width_ratios=(3.6, 1.0))
    waveform.plot(times, samples, color=GRAY)
    for index, (time, sample) in enumerate(zip(times, samples, strict=True)):
        row, column = divmod(index, period)
        waveform.plot(time, sample, "o", color=colors[column], markersize=14)
        waveform.text(time, sample, index, color="white", fontsize=8.5, **CENTERED)
        table.add_patch(Rectangle((column, row), 1, 1, facecolor=colors[column], edgecolor="white"))
        table.text(column + 0.5, row + 0.5, index, color="white", **CENTERED)
    waveform.margins(y=0.14)
    waveform.set(title=f"{len(samples)} samples, numbered", xlabel="time (s)", ylabel="amplitude")
    rows = len(samples) // period
    table.add_patch(Rectangle((0.04, 0.06), 0.92, 4.88, fill=False, linewidth=2.5))  # a kernel is (5, 1)
    table.text(period / 2, rows + 0.3, "every 3rd per column;\nframed: one kernel", ha="center", va="top")
    table.set(xlim=(0, period), ylim=(rows, 0), title="Folded, period 3")
    table.axis("off")


def _draw_period_images(figure: SubFigure, times: np.ndarray, samples: np.ndarray, periods: tuple) -> None:
    waveform, *panels = figure.subplots(1, 1 + len(periods), sharey=True)
    spacing, peak = times[1] - times[0], np.abs(samples).max()
    waveform.plot(samples, times, color=BLUE, linewidth=1)
    waveform.set(title="waveform", xlabel="amplitude", ylabel="time (s)", xticks=(-0.5, 0.5))
    for axes, period in zip(panels, periods, strict=True):
        image = np.pad(samples, (0, -len(samples) % period), mode="reflect").reshape(-1, period)
        extent = (0.5, period + 0.5, times[0] + image.size * spacing, times[0])
        drawn = axes.imshow(image, cmap="RdBu_r", vmin=-peak, vmax=peak, extent=extent)
        axes.set(title=f"period {period}", xlabel=f"{len(image)} × {period}", xticks=(1, period))
    waveform.set_ylim(times[-1] + spacing, times[0])  # downwards, in the order in which the rows are filled
    waveform.locator_params(axis="y", nbins=5)
    figure.colorbar(drawn, ax=panels, label="amplitude", aspect=30, pad=0.02)
    milliseconds = 1000 * len(samples) * spacing
    figure.suptitle(f"The same {milliseconds:.0f} ms as input of each period discriminator", fontsize=10.5)


def draw_scales(audio: np.ndarray, config: HiFiGANConfig, seconds: float = 0.015) -> Figure:
    """Plot the inputs of the multi-scale discriminator: audio (samples,) and its averaged-down versions."""
    pool = MultiScaleDiscriminator(HiFiGANConfig(discriminator_channels=32)).pool  # small, with the same pool
    (kernel,), (stride,), (padding,) = pool.kernel_size, pool.stride, pool.padding
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    panels = figure.subplots(1 + config.msd_num_downsamples, 1, sharex=True, sharey=True)
    raw_times = times = np.arange(len(audio)) / config.sampling_rate
    scaled = torch.from_numpy(audio)[None]
    for scale, axes in enumerate(panels):
        if scale > 0:
            near = (raw_times >= ONSET) & (raw_times < ONSET + seconds)
            axes.plot(raw_times[near], audio[near], color=GRAY, linewidth=0.6, alpha=0.7)
            scaled = pool(scaled)
            # a pooled sample is plotted in the middle of the samples that it averages
            middle = np.arange(scaled.shape[-1]) * stride - padding + (kernel - 1) / 2
            times = times[0] + middle * (times[1] - times[0])
        near = (times >= ONSET) & (times < ONSET + seconds)
        axes.plot(times[near], scaled[0, near], color=BLUE, linewidth=1, marker=".", markersize=5)
        name = f"Averaged down by {stride**scale} (gray: original)" if scale else "Original"
        axes.set(title=f"{name}: {near.sum()} samples", ylabel="amplitude", xlim=(ONSET, ONSET + seconds))
    panels[-1].set_xlabel("time (s)")
    return figure


@dataclass(frozen=True, kw_only=True)
class FigureOptions(Options):
    """Options of `dev/draw_figures.py`."""

    output_dir: Path = option(Path("docs"), "Write the PNG files into this folder")

    def __post_init__(self):
        super().__post_init__()
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise UserError(f"--output_dir {self.output_dir} is a file; choose a folder")


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(FigureOptions, "dev/draw_figures.py", __doc__, arguments)
    config, audio = HiFiGANConfig(), Espeak().say(SENTENCE)
    with rc_context(STYLE):
        figures = {
            "waveform_and_mel": draw_waveform_and_mel(audio, config),
            "upsampling": draw_upsampling(config),
            "periods": draw_periods(audio, config),
            "scales": draw_scales(audio, config),
        }
        for name, figure in figures.items():
            path = options.output_dir / f"{name}.png"
            buffer = BytesIO()
            figure.savefig(buffer, dpi=DPI, facecolor="white")
            with atomic_write(path) as temporary:
                # 256 colors halve the file size without a visible difference
                Image.open(buffer).convert("RGB").quantize(256).save(temporary, "PNG", optimize=True)
            print(path)


if __name__ == "__main__":
    main()
