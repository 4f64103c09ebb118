"""The metrics of `evaluate.py`: a list of what can be measured, and one function that measures a clip.

The metrics are plain functions in `signal`, `perception` and `recognition`, one file per family.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from corpus.audio import resample
from evaluation.inputs import Unavailable, checked_audio

DEFAULT_RECOGNIZER = "base.en"
SPEED = "rtf"


@dataclass(frozen=True)
class Value:
    """The value of a metric for a clip: a number, or nan and the reason why there is none."""

    number: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric and how the table shows it.

    `source` is the module and the name of `function`. It is imported when it is used, since it needs packages
    that are slow to import. `needs` is its input: "audio" (audio, sampling_rate, device); "aligned
    reference", a recording with the same timing, or "reference", any reading of the same text (audio,
    reference, sampling_rate); "transcript" (audio, sampling_rate, transcript, recognizer). The mean over
    clips is weighted by the number of their words if `per_word` is set.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    needs: Literal["audio", "aligned reference", "reference", "transcript"]
    source: str
    description: str
    decimals: int = 2
    per_word: bool = False

    @property
    def function(self) -> Callable[..., float]:
        module, name = self.source.split(".")
        return getattr(importlib.import_module(f"evaluation.{module}"), name)


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "utmos", "UTMOS", "MOS", True, "audio", "perception.utmos",
            "naturalness predicted by UTMOS22, 1 to 5",
        ),
        Metric(
            "distillmos", "DistillMOS", "MOS", True, "audio", "perception.distillmos",
            "quality predicted by DistillMOS, 1 to 5",
        ),
        Metric(
            "wer", "WER", "%", False, "transcript", "recognition.word_error_rate",
            "word error rate of a speech recognizer, the errors in all clips per word", 1, True,
        ),
        Metric(
            "pesq", "PESQ", "MOS", True, "aligned reference", "perception.pesq_wideband",
            "wideband PESQ at 16 kHz, 1.04 to 4.64",
        ),
        Metric(
            "mel_l1", "Mel L1", "", False, "aligned reference", "signal.mel_l1",
            "mean absolute difference of natural-log mels, 80 bands up to 8 kHz", 3,
        ),
        Metric(
            "mr_stft", "MR-STFT", "", False, "aligned reference", "signal.multi_resolution_stft",
            "spectral convergence plus log-magnitude difference, mean over three resolutions", 3,
        ),
        Metric(
            "mcd", "MCD", "dB", False, "aligned reference", "signal.mel_cepstral_distortion",
            "mel-cepstral distortion, c1 to c13",
        ),
        Metric(
            "pitch_rmse", "Pitch RMSE", "cents", False, "aligned reference", "signal.pitch_rmse",
            "difference of pitch in frames that are voiced in both clips", 1,
        ),
        Metric(
            "voicing_f1", "V/UV F1", "", True, "aligned reference", "signal.voicing_f1",
            "agreement on voiced and unvoiced frames, 0 to 1", 3,
        ),
        Metric(
            "periodicity_rmse", "Periodicity RMSE", "", False, "aligned reference", "signal.periodicity_rmse",
            "difference of the periodic fraction of the power, 0 to 1", 3,
        ),
        Metric(
            "mcd_dtw", "MCD-DTW", "dB", False, "reference", "signal.mel_cepstral_distortion_dtw",
            "mel-cepstral distortion, c1 to c13, after dynamic time warping",
        ),
    )
}  # fmt: skip


class Column(NamedTuple):
    """A metric in the table. Without `decimals`, values have two significant digits.

    The mean over clips is weighted by the number of words if `per_word` is set.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    description: str
    decimals: int | None
    per_word: bool = False

    @classmethod
    def of(cls, metric: Metric) -> "Column":
        return cls(*(getattr(metric, name) for name in cls._fields))

    @property
    def heading(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.higher_is_better else '↓'}"

    def format(self, value: float, sign: bool = False) -> str:
        if self.decimals is None:
            text = np.format_float_positional(value, precision=2, fractional=False, trim="-")
            return f"+{text}" if sign and value >= 0 else text
        return f"{value:{'+' if sign else ''}.{self.decimals}f}"


COLUMNS = {name: Column.of(metric) for name, metric in METRICS.items()} | {
    SPEED: Column(
        SPEED, "RTF", "", False,
        "real-time factor of the vocoder: seconds of computation per second of audio", None,
    )
}  # fmt: skip


def metric_value(
    metric: Metric,
    audio: np.ndarray,
    sampling_rate: int,
    reference: np.ndarray | None = None,
    reference_rate: int | None = None,
    transcript: str | None = None,
    recognizer: str = DEFAULT_RECOGNIZER,
    device: str = "cpu",
) -> float:
    """Return the value of a metric for a clip (samples,) in [-1, 1].

    A clip with another sampling rate than its reference is resampled to the reference's. Sampling rates are
    in Hz; `reference_rate` defaults to `sampling_rate`. Networks that rate audio run on `device`.
    Raises Unavailable, with the reason, if there is no value.
    """
    audio = checked_audio(audio)
    if metric.needs == "audio":
        value = metric.function(audio, sampling_rate, device)
    elif metric.needs == "transcript":
        if transcript is None:
            raise Unavailable("needs the transcript")
        value = metric.function(audio, sampling_rate, transcript, recognizer)
    else:
        if reference is None:
            raise Unavailable("needs a reference recording")
        reference_rate = reference_rate or sampling_rate
        audio = resample(audio, sampling_rate, reference_rate)
        value = metric.function(audio, checked_audio(reference, "the reference"), reference_rate)
    if not math.isfinite(value):
        raise Unavailable(f"the result is {value}")
    return value
