"""The metrics of `evaluate.py`: a list of what can be measured, and one function that measures a clip.

The metrics are plain functions in `signal`, `perception` and `recognition`, one file per family.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from corpus.audio import resample
from evaluation import perception, recognition, signal
from evaluation.inputs import Unavailable, checked_audio
from evaluation.recognition import DEFAULT_RECOGNIZER


@dataclass(frozen=True)
class Value:
    """The value of a metric for a clip: a number, or nan and the reason why there is none."""

    number: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Metric:
    """A metric and how the table shows it.

    `needs` is the input of `function`: "audio" (audio, sampling_rate, device); "aligned reference", a
    recording with the same timing, or "reference", any reading of the same text (audio, reference,
    sampling_rate); "transcript" (audio, sampling_rate, transcript, recognizer).
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    needs: Literal["audio", "aligned reference", "reference", "transcript"]
    function: Callable[..., float]
    description: str
    decimals: int = 2


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "utmos", "UTMOS", "MOS", True, "audio", perception.utmos,
            "naturalness predicted by UTMOS22, 1 to 5",
        ),
        Metric(
            "distillmos", "DistillMOS", "MOS", True, "audio", perception.distillmos,
            "quality predicted by DistillMOS, 1 to 5",
        ),
        Metric(
            "wer", "WER", "%", False, "transcript", recognition.word_error_rate,
            "word error rate of a speech recognizer, the mean of the clips' rates", 1,
        ),
        Metric(
            "pesq", "PESQ", "MOS", True, "aligned reference", perception.pesq_wideband,
            "wideband PESQ at 16 kHz, 1.04 to 4.64",
        ),
        Metric(
            "mel_l1", "Mel L1", "", False, "aligned reference", signal.mel_l1,
            "mean absolute difference of natural-log mels, 80 bands up to 8 kHz", 3,
        ),
        Metric(
            "mr_stft", "MR-STFT", "", False, "aligned reference", signal.multi_resolution_stft,
            "spectral convergence plus log-magnitude difference, mean over three resolutions", 3,
        ),
        Metric(
            "mcd", "MCD", "dB", False, "aligned reference", signal.mel_cepstral_distortion,
            "mel-cepstral distortion, c1 to c13",
        ),
        Metric(
            "pitch_rmse", "Pitch RMSE", "cents", False, "aligned reference", signal.pitch_rmse,
            "difference of pitch in frames that are voiced in both clips", 1,
        ),
        Metric(
            "voicing_f1", "V/UV F1", "", True, "aligned reference", signal.voicing_f1,
            "agreement on voiced and unvoiced frames, 0 to 1", 3,
        ),
        Metric(
            "periodicity_rmse", "Periodicity RMSE", "", False, "aligned reference", signal.periodicity_rmse,
            "difference of the periodic fraction of the power, 0 to 1", 3,
        ),
        Metric(
            "mcd_dtw", "MCD-DTW", "dB", False, "reference", signal.mel_cepstral_distortion_dtw,
            "mel-cepstral distortion, c1 to c13, after dynamic time warping",
        ),
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
