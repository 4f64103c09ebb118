"""Copy synthesis of one clip by several vocoders, with spectrograms and metrics."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from common.errors import UserError, one_line
from common.plots import plot_mels
from corpus.audio import DECODING_ERRORS, open_audio, read_audio, resample
from evaluation.inputs import Unavailable
from evaluation.metrics import METRICS, Column, Metric, metric_value
from evaluation.signal import MEL, log_mel
from evaluation.table import markdown_rows
from synthesis.vocoder import Vocoder, copy_synthesis

RECORDING = "recording"

Sound = tuple[np.ndarray, int]  # audio (samples,) and its sampling rate in Hz


def read_clip(path: Path, max_seconds: float) -> Sound:
    """Return the audio of an uploaded file and its sampling rate.

    Raises UserError for a file that can't be decoded, is longer than `max_seconds`, is too short for a mel,
    or has values that are not finite.
    """
    try:
        with open_audio(path) as decoder:
            sampling_rate = decoder.sampling_rate
    except DECODING_ERRORS as error:
        # without the reason's own advice, which is for files on the server
        reason = one_line(error).replace(str(path), path.name).partition(";")[0]
        raise UserError(
            f"can't read the file {path.name}: {reason}; choose a WAV, FLAC, OGG or MP3 file"
        ) from error
    if not 4000 <= sampling_rate <= 192000:
        raise UserError(f"the file {path.name} has {sampling_rate} samples per second; use 4,000 to 192,000")
    longest = round(max_seconds * sampling_rate)
    audio, _, _ = read_audio(path, 0, longest + 1)  # decoding a long file could exhaust the memory
    if len(audio) > longest:
        raise UserError(f"the file {path.name} lasts more than {max_seconds:g} s; use a shorter clip")
    if len(audio) < 0.1 * sampling_rate:
        raise UserError(
            f"the file {path.name} lasts {len(audio) / sampling_rate:.2f} s; use a clip of at least 0.1 s"
        )
    if not np.isfinite(audio).all():
        raise UserError(f"the file {path.name} contains values that are not finite; choose another file")
    return audio, sampling_rate


def copies(
    recording: Sound, vocoders: Mapping[str, Vocoder], device: torch.device | str = "cpu"
) -> Iterator[tuple[str, Sound]]:
    """Yield the recording, and its copy by each vocoder at the vocoder's sampling rate, with their names."""
    yield RECORDING, recording
    for name, vocoder in vocoders.items():
        rate = vocoder.config.sampling_rate
        audio = recording[0] if rate == recording[1] else resample(recording[0], recording[1], rate)
        yield name, (copy_synthesis(vocoder, audio, device), rate)


def plot_copies(clips: Mapping[str, Sound]) -> Figure:
    """Plot the mels of the clips side by side, from 0 to 8000 Hz."""
    return plot_mels({name: log_mel(*clip) for name, clip in clips.items()}, MEL)


def shown_metrics(*needs: str) -> list[Metric]:
    """Return the metrics with these inputs, without UTMOS unless its weights are on this computer."""
    has_utmos = Path(os.environ.get("UTMOS_CHECKPOINT", "")).is_file()
    return [
        metric
        for metric in METRICS.values()
        if metric.needs in needs and (metric.name != "utmos" or has_utmos)
    ]


def metrics_table(clips: Mapping[str, Sound], device: str = "cpu", transcript: str | None = None) -> str:
    """Return the metrics of clips as Markdown; those that are unavailable are a dash.

    They compare copies with the recording among them or, if there is none, speech with its transcript.
    """
    rows, reasons = [], {}
    reference = clips.get(RECORDING, (None, None))
    for metric in shown_metrics("audio", "aligned reference" if RECORDING in clips else "transcript"):
        column, texts = Column.of(metric), []
        for clip in clips.values():
            try:
                value = metric_value(metric, *clip, *reference, transcript, device=device)
                texts.append(column.format(value))
            except Unavailable as error:
                texts.append("–")
                reasons[f"{metric.title}: {error}"] = None
        rows.append((column.heading, texts))
    table = markdown_rows("Metric", [name.replace("|", "\\|") for name in clips], rows)
    return "\n".join([*table, "", *(f"{reason}\n" for reason in reasons)])
