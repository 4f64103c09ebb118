"""How good a clip of speech is, by the measures that papers report: what `evaluate.py` puts into its table.

`METRICS` lists them and `measure` applies one; each is a plain function too, of mono audio (samples,) in
[-1, 1] and its sampling rate in Hz. A number that can't be had raises `Unavailable` with the reason in words,
which belongs under the table: a zero or a guess in its place would enter the mean. Each of them runs on one
core, or on as many as PyTorch may use: evaluate in several processes rather than with several threads.
"""

import importlib
import importlib.util
import itertools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from audio import resample, to_pcm
from tacotron2.mel import MelConfig, MelSpectrogram
from utils import UserError

# The mel in which mel L1 and mel-cepstral distortion are told: the one that HiFi-GAN's generator reads.
MEL = MelConfig(mel_scale="ln")

# Vocoders give a whole number of frames, and some pad by half a window: so much more or less is no misfit.
LENGTH_TOLERANCE = 0.05  # seconds

# n_fft, hop size and window size in samples: section 3.2 of Yamamoto et al. (2020), and auraloss's defaults
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

CEPSTRAL_ORDER = 13
DECIBELS_PER_NEPER = 10.0 / math.log(10.0)

# Praat's own defaults, for a speaker of whom nothing is known: Hz, Hz, seconds, part of the clip's peak
PITCH_FLOOR, PITCH_CEILING, PITCH_STEP, SILENCE_THRESHOLD = 75.0, 600.0, 0.01, 0.03

# P.862's own code writes past its arrays at more than 50 utterances, and takes the process with it.
# Utterances and the pauses between them last 0.2 s at least, so a clip of this length holds no more.
PESQ_LONGEST = 20.0  # seconds


class Unavailable(Exception):
    """A metric can't be had for a clip, or at all. The message is the reason, fit for a footnote."""


# Naturalness, of the audio alone.


def utmos(audio: np.ndarray, sampling_rate: int) -> float:
    """Naturalness as listeners rate it, predicted by UTMOS22's strong learner: 1 to 5, higher is better.

    Any length from 0.1 s. Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022" (2022);
    see `evaluation/utmos.py` for the weights.
    """
    audio = checked(audio)
    refuse_silence(audio)
    scorer = utmos_scorer()
    if isinstance(scorer, str):
        raise Unavailable(scorer)
    try:
        return float(scorer.calculate_wav(audio, sampling_rate))
    except (UserError, ValueError) as error:
        raise Unavailable(str(error)) from error


@lru_cache(maxsize=1)
def utmos_scorer():
    """The `utmos.Score`, or why there is none: asked once and not for each clip, as a network may be slow."""
    try:
        from evaluation.utmos import Score

        return Score()
    except (UserError, ImportError, OSError) as error:  # OSError: torchaudio that misses a CUDA library
        return " ".join(str(error).split()) or type(error).__name__


def dnsmos(audio: np.ndarray, sampling_rate: int) -> float:
    """Overall quality as listeners would rate it, predicted by DNSMOS P.835: 1 to 5, higher is better.

    The package `speechmos`'s `ovrl_mos`. At 16 kHz; a clip shorter than 9.01 s is doubled until it is that
    long, and the mean over windows of 9.01 s, one a second, is the clip's. It was made to rate noise
    suppressors: hiss and artefacts cost more with it than a dull voice does. Reddy, Gopal and Cutler, "DNSMOS
    P.835" (2022).
    """
    audio = checked(audio)
    refuse_silence(audio)
    with torch.inference_mode():
        return dnsmos_network()(np.clip(at_rate(audio, sampling_rate, 16000), -1.0, 1.0))


@lru_cache(maxsize=1)
def dnsmos_network() -> "DNSMOSNetwork":
    package = importlib.util.find_spec("speechmos")
    if package is None:
        raise Unavailable("needs the package speechmos: pip install speechmos")
    return DNSMOSNetwork(Path(package.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx")


class DNSMOSNetwork:
    """The network of DNSMOS P.835, from the ONNX file that `speechmos` carries, in PyTorch.

    The package runs it afresh on each window, and beside it a second network whose figure isn't asked for
    here: up to 2 s a clip. The windows overlap by eight ninths, and nearly all the work is in the first four
    convolutions. So these run once over the whole clip, and again only where a window's edge matters.
    """

    WINDOW, STEP = 900, 100  # frames of 160 samples: 9 s, 1 s
    REACH = 4  # frames by which four convolutions of width 3 see past an edge
    # the outputs of `ovrl_mos` to the scale of the listeners, as published with the model
    OVERALL = (-0.06766283, 1.11546468, 0.04602535)

    def __init__(self, path: Path):
        onnx = require("onnx")
        weights = {
            tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in onnx.load(path).graph.initializer
        }
        layers = ("conv2d", *(f"conv2d_{number}" for number in range(1, 7)))
        prefix, suffix = "mos_estimator_logpow/dense", "ReadVariableOp/resource:0"
        try:
            self.fourier = torch.cat(
                [weights[f"time2freq/stft-{part}/kernel:0"][..., 0] for part in ("real", "imag")]
            )  # (2 * 161, 320)
            self.convolutions = [
                # channels last is twice as fast with so many channels
                (
                    weights[f"{layer}/kernel:0"].to(memory_format=torch.channels_last),
                    weights[f"{layer}/bias:0"],
                )
                for layer in layers
            ]
            self.dense = [
                (weights[f"{prefix}{layer}/MatMul/{suffix}"], weights[f"{prefix}{layer}/BiasAdd/{suffix}"])
                for layer in ("", "_1", "_3")
            ]
        except KeyError as error:
            raise Unavailable(
                f"the model in {path} isn't the one that was known: no {error}; install speechmos 0.0.1.1"
            ) from error

    def __call__(self, audio: np.ndarray) -> float:
        """`ovrl_mos` of (samples,) at 16 kHz."""
        while len(audio) < 144160:
            audio = np.append(audio, audio)
        # Seconds at which windows start, by the package's own arithmetic: rounding makes those from second 7
        # to second 23 a sample too short, and it leaves these out.
        seconds = range(max(1, len(audio) // 16000 - 9))
        starts = [s * self.STEP for s in seconds if int((s + 9.01) * 16000) - s * 16000 >= 144160]
        frames = starts[-1] + self.WINDOW

        pieces = torch.from_numpy(audio[: 160 * frames + 160]).unfold(0, 320, 160)  # (frames, 320)
        real, imaginary = (pieces @ self.fourier.T).chunk(2, dim=-1)
        spectrum = (real**2 + imaginary**2).clamp(min=1e-12).log10()[None, None]  # (1, 1, frames, 161)
        spectrum = spectrum.contiguous(memory_format=torch.channels_last)

        deep = self.deep_features(spectrum)
        reach, end = self.REACH, self.WINDOW
        outputs = []
        for start in starts:
            window, features = spectrum[:, :, start : start + end], deep[:, :, start : start + end].clone()
            features[:, :, :reach] = self.convolve(window[:, :, : 2 * reach], 0, 4)[:, :, :reach]
            features[:, :, -reach:] = self.convolve(window[:, :, -2 * reach :], 0, 4)[:, :, -reach:]
            outputs.append(self.top(features))
        overall = torch.cat(outputs)[:, 2].double().numpy()  # the columns are signal, background, overall
        return float(np.polyval(self.OVERALL, overall).mean())

    def deep_features(self, spectrum: Tensor) -> Tensor:
        """(1, 1, frames, 161) to (1, 32, frames, 161), in pieces that fit into a processor's cache."""
        frames, parts = spectrum.shape[2], []
        for start in range(0, frames, 200):
            left = max(0, start - self.REACH)
            part = self.convolve(spectrum[:, :, left : start + 200 + self.REACH], 0, 4)
            parts.append(part[:, :, start - left : start - left + 200])
        return torch.cat(parts, dim=2)

    def top(self, features: Tensor) -> Tensor:
        """(1, 32, 900, 161) of a window to its three figures, (1, 3)."""
        for layer in (4, 5, 6):
            features = self.convolve(F.max_pool2d(features, 2), layer, layer + 1)
        values = features.amax(dim=(2, 3))
        for layer, (weight, bias) in enumerate(self.dense):
            values = values @ weight + bias
            if layer < 2:
                values = values.relu()
        return values

    def convolve(self, values: Tensor, first: int, last: int) -> Tensor:
        for weight, bias in self.convolutions[first:last]:
            values = F.conv2d(values, weight, bias, padding=1).relu_()
        return values


# Likeness to a recording that it follows sample by sample.


def pesq_wideband(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Perceptual evaluation of speech quality, wideband (MOS-LQO): 1.04 to 4.64, higher is better.

    At 16 kHz, by the package `pesq`, which wraps the ITU's own code. It levels the two clips and aligns them
    in time first. From 0.25 s to 20 s. ITU-T P.862.2 (2007).
    """
    pesq = require("pesq", "; it is compiled on installation, which needs a C compiler and Python's headers")
    audio, reference = paired(audio, reference, sampling_rate)
    refuse_silence(audio)
    if len(audio) > PESQ_LONGEST * sampling_rate:
        raise Unavailable(
            f"the clip lasts {len(audio) / sampling_rate:.1f} s; PESQ is safe to compute up to "
            f"{PESQ_LONGEST:.0f} s"
        )
    try:
        return float(
            pesq.pesq(
                16000, at_rate(reference, sampling_rate, 16000), at_rate(audio, sampling_rate, 16000), "wb"
            )
        )
    except pesq.BufferTooShortError as error:
        raise Unavailable("the clip is shorter than the 0.25 s that PESQ needs") from error
    except pesq.NoUtterancesError as error:
        raise Unavailable("PESQ finds no utterance in the clip") from error


def mel_l1(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mean absolute difference of natural-log mels: 0 upwards, lower is better; 0.115 is 1 dB.

    Over all frames and all 80 bands, 0 to 8000 Hz, of the mel that HiFi-GAN's generator reads, at 22,050 Hz;
    amplitudes below 1e-5 count as 1e-5. The loss of Kong et al., "HiFi-GAN" (2020), section 3.3, unweighted;
    theirs goes up to half the sampling rate, which adds 0.01 for LJSpeech and their V2.
    """
    ours, theirs = (log_mel(clip, sampling_rate) for clip in paired(audio, reference, sampling_rate))
    return float(np.abs(ours - theirs).mean())


def multi_resolution_stft(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Multi-resolution STFT distance: 0 upwards, lower is better.

    For each of three resolutions, the spectral convergence |R - A| / |R| (Frobenius norms of the magnitudes R
    of the reference and A of the audio) plus the mean of |ln R - ln A|; then the mean of the three. Hann
    windows of 1200, 600 and 240 samples, powers below 1e-8 counted as 1e-8, at 22,050 Hz. Yamamoto, Song and
    Kim, "Parallel WaveGAN" (2020), equations 4 to 6, with the constants of the package `auraloss`.
    """
    audio, reference = paired(audio, reference, sampling_rate)
    clips = np.stack([at_rate(clip, sampling_rate, MEL.sampling_rate) for clip in (audio, reference)])
    if clips.shape[1] <= max(n_fft for n_fft, _, _ in STFT_RESOLUTIONS) // 2:
        raise Unavailable("the clip is shorter than the 0.05 s that the longest window needs")
    total = 0.0
    for n_fft, hop_size, window_size in STFT_RESOLUTIONS:
        spectra = torch.stft(
            torch.from_numpy(clips),
            n_fft,
            hop_size,
            window_size,
            torch.hann_window(window_size),
            return_complex=True,
        )
        ours, theirs = torch.view_as_real(spectra).square().sum(-1).clamp(min=1e-8).sqrt()
        convergence = torch.linalg.norm(theirs - ours) / torch.linalg.norm(theirs)
        total += float(convergence + (theirs.log() - ours.log()).abs().mean())
    return total / len(STFT_RESOLUTIONS)


def mel_cepstral_distortion(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mel-cepstral distortion in dB: 0 upwards, lower is better.

    The mean over frames of `cepstral_distance`, over c1 to c13 of `mel_cepstrum`: the shape of the spectrum,
    without its level (c0) and without its fine structure. All frames count, pauses too. Kubichek,
    "Mel-cepstral distance measure for objective speech quality assessment" (1993). Figures from other cepstra
    don't compare: those of power are twice these, which are of the mel's amplitude.
    """
    ours, theirs = (
        mel_cepstrum(log_mel(clip, sampling_rate)) for clip in paired(audio, reference, sampling_rate)
    )
    return float(cepstral_distance(ours, theirs).mean())


def pitch_rmse(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Root mean square difference of pitch in cents (1200 an octave): 0 upwards, lower is better.

    Over the frames, one each 10 ms, that are voiced in both clips; how far they agree on that is
    `voicing_f1`. Pitch by Praat's autocorrelation, 75 to 600 Hz (see `pitch_track`). The measure is that of
    Morrison et al., "Chunked Autoregressive GAN for Conditional Waveform Synthesis" (2022), section 4.2.
    """
    ours, theirs = (pitch_track(clip, sampling_rate)[0] for clip in paired(audio, reference, sampling_rate))
    voiced = (ours > 0) & (theirs > 0)
    if not voiced.any():
        raise Unavailable("no frame is voiced in both clips")
    return float(np.sqrt(np.mean((1200.0 * np.log2(ours[voiced] / theirs[voiced])) ** 2)))


def voicing_f1(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """F1 of the decision voiced or unvoiced, the reference's being the truth: 0 to 1, higher is better.

    2 · both / (voiced in the audio + voiced in the reference), in frames of 10 ms. See `pitch_rmse`.
    """
    ours, theirs = (
        pitch_track(clip, sampling_rate)[0] > 0 for clip in paired(audio, reference, sampling_rate)
    )
    if not theirs.any():
        raise Unavailable("no frame of the reference is voiced")
    return float(2.0 * np.sum(ours & theirs) / (ours.sum() + theirs.sum()))


def periodicity_rmse(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Root mean square difference of periodicity: 0 to 1, lower is better.

    Over all frames of 10 ms. Periodicity is the share of a frame's power that repeats itself (see
    `pitch_track`): a vocoder that buzzes or is hoarse has too much or too little. The measure is that of
    Morrison et al. (2022), section 4.2, whose tracker is a neural one: their figures don't compare.
    """
    ours, theirs = (pitch_track(clip, sampling_rate)[1] for clip in paired(audio, reference, sampling_rate))
    return float(np.sqrt(np.mean((ours - theirs) ** 2)))


# Likeness to another reading of the same text.


def mel_cepstral_distortion_dtw(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mel-cepstral distortion in dB after dynamic time warping: 0 upwards, lower is better.

    The frames of the two clips are paired along the monotonic path from both starts to both ends whose sum of
    distances is the least, in steps of one frame in either clip or in both; the mean of `cepstral_distance`
    over the path's pairs. It never exceeds `mel_cepstral_distortion` where that can be had.
    """
    ours, theirs = (
        mel_cepstrum(log_mel(checked(clip, name), sampling_rate))
        for clip, name in ((audio, "the clip"), (reference, "the reference"))
    )
    distances = cepstral_distance(ours[:, :, None], theirs[:, None, :])  # (frames, frames)
    _, path = librosa.sequence.dtw(C=distances)
    return float(distances[path[:, 0], path[:, 1]].mean())


def word_error_rate(audio: np.ndarray, sampling_rate: int, transcript: str) -> float:
    """Words that a recogniser gets wrong, in % of the transcript's: 0 upwards, lower is better.

    `word_errors` over the number of words. It is about 20 % for real recordings of LJSpeech: a small
    recogniser with a general vocabulary, by which systems can be compared, and not how well a person would
    understand. The mean over clips weighs a short clip like a long one; the rate of a corpus is the sum of
    the errors over the sum of the words.
    """
    errors, words = word_errors(audio, sampling_rate, transcript)
    return 100.0 * errors / words


def word_errors(audio: np.ndarray, sampling_rate: int, transcript: str) -> tuple[int, int]:
    """(errors, words): the fewest substitutions, deletions and insertions from transcript to what is heard.

    English only: the recogniser is `pocketsphinx` with the model it carries, at 16 kHz, and the words of both
    are those of `tacotron2.text.clean` without punctuation. A silent clip has all its words deleted.
    """
    audio = checked(audio)
    wanted = words_of(transcript)
    if not wanted:
        raise Unavailable("the transcript holds no words")
    decoder = recogniser()
    # What it learned of noise and level from the clips before would make the result depend on their order.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(to_pcm(at_rate(audio, sampling_rate, 16000)).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return edit_distance(wanted, words_of(hypothesis.hypstr if hypothesis else "")), len(wanted)


@lru_cache(maxsize=1)
def recogniser():
    # The limits on hypotheses per frame, by default 30,000 and none, halve the time; on 41 clips of LJSpeech
    # the error rate is 26.7 % with them and 26.4 % without.
    return require("pocketsphinx").Decoder(
        loglevel="FATAL", samprate=16000, cmn="batch", maxhmmpf=3000, maxwpf=10
    )


def words_of(text: str) -> list[str]:
    from tacotron2.text import clean  # only the word error rate has to do with text

    return re.sub(r"[^a-z0-9' ]", " ", clean(text).lower()).replace(" '", " ").replace("' ", " ").split()


def edit_distance(wanted: list[str], heard: list[str]) -> int:
    """Levenshtein's distance between two lists of words."""
    distances = list(range(len(heard) + 1))
    for row, word in enumerate(wanted, start=1):
        diagonal, distances[0] = distances[0], row
        for column, other in enumerate(heard, start=1):
            diagonal, distances[column] = (
                distances[column],
                min(distances[column] + 1, distances[column - 1] + 1, diagonal + (word != other)),
            )
    return distances[-1]


# What the metrics are made of.


def mel_cepstrum(ln_mel: np.ndarray, order: int = CEPSTRAL_ORDER) -> np.ndarray:
    """c1 to c`order`, (order, frames), of a natural-log mel (bands, frames).

    By the convention ln_mel[n] = c0 + 2 Σ c_k cos(π k (n + 1/2) / bands): a ripple of amplitude 2a over the
    bands is a coefficient of a.
    """
    bands = ln_mel.shape[0]
    cosines = np.cos(np.pi * np.outer(np.arange(1, order + 1), np.arange(bands) + 0.5) / bands)
    return cosines @ ln_mel.astype(np.float64) / bands


def cepstral_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """10 / ln 10 · √2 · √(Σ (Δc_k)²) in dB, over the first axis of cepstra (order, ...): (...)."""
    return DECIBELS_PER_NEPER * np.sqrt(2.0 * np.square(first - second).sum(axis=0))


def remember(function: Callable) -> Callable:
    """Cache a function of (audio, sampling rate): several metrics ask for the same clip's mel and pitch."""

    @lru_cache(maxsize=8)
    def cached(data: bytes, sampling_rate: int):
        return function(np.frombuffer(data, dtype=np.float32).copy(), sampling_rate)

    @wraps(function)
    def of_arrays(audio: np.ndarray, sampling_rate: int):
        return cached(audio.tobytes(), sampling_rate)

    return of_arrays


@remember
def log_mel(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Natural-log mel (80, frames) by `MEL`, at its rate. Raises Unavailable for a clip with no frame."""
    audio = at_rate(audio, sampling_rate, MEL.sampling_rate)
    if len(audio) < MEL.min_samples:
        raise Unavailable(
            f"the clip of {len(audio)} samples is shorter than the {MEL.min_samples} of one mel frame"
        )
    return mel_spectrogram()(torch.from_numpy(audio)).numpy()


@lru_cache(maxsize=1)
def mel_spectrogram() -> MelSpectrogram:
    return MelSpectrogram(MEL)


@remember
def pitch_track(audio: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch in Hz, 0 where unvoiced, and periodicity in [0, 1], each (frames,), one frame each 10 ms.

    Praat's autocorrelation method with its default settings. Periodicity is the greatest normalised
    autocorrelation at a lag within 75 to 600 Hz, whether or not the frame was taken for voiced: power of the
    periodic part over all power. It is 0 below 0.225, half the voicing threshold, where Praat keeps no
    candidates, and in frames whose peak is 30 dB below the clip's. Boersma, "Accurate short-term analysis of
    the fundamental frequency and the harmonics-to-noise ratio of a sampled sound" (1993).
    """
    # 4 ms for a second of speech, a twentieth of librosa's pYIN; installs without a compiler, as pyworld
    # doesn't; and the strength of its candidates is a periodicity with a definition.
    parselmouth = require("parselmouth", package="praat-parselmouth")
    try:
        track = parselmouth.Sound(audio.astype(np.float64), sampling_rate).to_pitch_ac(
            time_step=PITCH_STEP,
            pitch_floor=PITCH_FLOOR,
            silence_threshold=SILENCE_THRESHOLD,
            pitch_ceiling=PITCH_CEILING,
        )
    except parselmouth.PraatError as error:
        raise Unavailable("the clip is shorter than the 0.04 s that the pitch tracker needs") from error
    candidates = track.to_array()  # (candidates, frames), nan where a frame has fewer
    frequency, strength = candidates["frequency"], candidates["strength"]
    periodicity = np.where((frequency > 0) & (frequency < PITCH_CEILING), strength, 0.0).max(axis=0)
    peaks = np.array([frame.intensity for frame in track])  # of the clip's highest
    return track.selected_array["frequency"], np.where(peaks < SILENCE_THRESHOLD, 0.0, periodicity)


@remember
def resampled_to_16_khz(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    return resample(audio, sampling_rate, 16000)


def at_rate(audio: np.ndarray, sampling_rate: int, target_rate: int) -> np.ndarray:
    if sampling_rate == target_rate:
        return audio
    if target_rate == 16000:  # the rate of three metrics
        return resampled_to_16_khz(audio, sampling_rate)
    return resample(audio, sampling_rate, target_rate)


def checked(audio: np.ndarray, name: str = "the clip") -> np.ndarray:
    """The audio as (samples,) float32. Raises Unavailable for none, or with values that aren't finite."""
    audio = np.asarray(audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(
            f"audio is {audio.dtype} of shape {audio.shape}; it must be (samples,) of floats in [-1, 1]"
        )
    if not audio.size:
        raise Unavailable(f"{name} is empty")
    if not np.isfinite(audio).all():
        raise Unavailable(f"{name} holds values that are not finite")
    return audio.astype(np.float32)


def refuse_silence(audio: np.ndarray, name: str = "the clip") -> None:
    if not audio.any():
        raise Unavailable(f"{name} is silent")


def paired(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Both clips, checked, cut to the shorter. Raises Unavailable where they differ by more than 0.05 s."""
    audio, reference = checked(audio), checked(reference, "the reference")
    refuse_silence(reference, "the reference")
    if abs(len(audio) - len(reference)) > LENGTH_TOLERANCE * sampling_rate:
        raise Unavailable(
            f"the clip lasts {len(audio) / sampling_rate:.2f} s and its reference "
            f"{len(reference) / sampling_rate:.2f} s: they aren't aligned in time"
        )
    samples = min(len(audio), len(reference))
    return audio[:samples], reference[:samples]


def require(module: str, hint: str = "", package: str = "") -> ModuleType:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library that the package needs is missing
        package = package or module
        raise Unavailable(f"needs the package {package}: pip install {package}{hint}") from error


# The list.


@dataclass(frozen=True)
class Metric:
    """One column of the table.

    `needs` says what `function` takes: "audio" (audio, sampling_rate); "aligned reference", a recording that
    the clip follows sample by sample, or "reference", any reading of the same text, (audio, reference,
    sampling_rate); "transcript" (audio, sampling_rate, transcript). `decimals` is how many mean something.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    needs: Literal["audio", "aligned reference", "reference", "transcript"]
    function: Callable[..., float]
    description: str
    decimals: int = 2


METRICS = (
    Metric("utmos", "UTMOS", "MOS", True, "audio", utmos, "predicted naturalness, 1 to 5"),
    Metric("dnsmos", "DNSMOS", "MOS", True, "audio", dnsmos, "predicted overall quality (OVRL), 1 to 5"),
    Metric(
        "pesq", "PESQ", "MOS", True, "aligned reference", pesq_wideband,
        "PESQ wideband at 16 kHz, 1.04 to 4.64",
    ),
    Metric(
        "mel_l1", "Mel L1", "", False, "aligned reference", mel_l1,
        "mean absolute difference of natural-log mels, 80 bands to 8 kHz", 3,
    ),
    Metric(
        "mr_stft", "MR-STFT", "", False, "aligned reference", multi_resolution_stft,
        "spectral convergence plus log-magnitude difference, mean over three resolutions", 3,
    ),
    Metric(
        "mcd", "MCD", "dB", False, "aligned reference", mel_cepstral_distortion,
        "mel-cepstral distortion, c1 to c13",
    ),
    Metric(
        "pitch_rmse", "Pitch RMSE", "cents", False, "aligned reference", pitch_rmse,
        "difference of pitch where both clips are voiced", 1,
    ),
    Metric(
        "voicing_f1", "V/UV F1", "", True, "aligned reference", voicing_f1,
        "agreement on which frames are voiced, 0 to 1", 3,
    ),
    Metric(
        "periodicity_rmse", "Periodicity RMSE", "", False, "aligned reference", periodicity_rmse,
        "difference of the periodic share of the power, 0 to 1", 3,
    ),
    Metric(
        "mcd_dtw", "MCD-DTW", "dB", False, "reference", mel_cepstral_distortion_dtw,
        "mel-cepstral distortion, c1 to c13, after dynamic time warping",
    ),
    Metric(
        "wer", "WER", "%", False, "transcript", word_error_rate,
        "words that a recogniser (pocketsphinx) gets wrong", 1,
    ),
)  # fmt: skip


def measure(
    metric: Metric,
    audio: np.ndarray,
    sampling_rate: int,
    reference: np.ndarray | None = None,
    reference_rate: int | None = None,
    transcript: str | None = None,
) -> float:
    """Apply a metric to a clip, with as much beside it as is known; audio (samples,) in [-1, 1], rates in Hz.

    A clip at another rate than its reference's (default: the same) is resampled to that. Raises Unavailable,
    with the reason, where no number can be had.
    """
    audio = checked(audio)
    if metric.needs == "audio":
        value = metric.function(audio, sampling_rate)
    elif metric.needs == "transcript":
        if transcript is None:
            raise Unavailable("needs the transcript")
        value = metric.function(audio, sampling_rate, transcript)
    else:
        if reference is None:
            raise Unavailable("needs a reference recording")
        reference_rate = reference_rate or sampling_rate
        if sampling_rate != reference_rate:
            audio = resample(audio, sampling_rate, reference_rate)
        value = metric.function(audio, checked(reference, "the reference"), reference_rate)
    if not math.isfinite(value):
        raise Unavailable(f"came out as {value}")
    return value


# What the numbers of many clips say.


class Interval(NamedTuple):
    """A mean and the interval in which the mean of other such clips would lie; `count` clips had a value."""

    mean: float
    low: float
    high: float
    count: int


class Difference(NamedTuple):
    """Mean of second minus first over `count` clips, and the probability of as much by chance alone."""

    mean: float
    p_value: float
    count: int


def bootstrap_interval(
    values: Iterable[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean over clips and its bootstrap interval: percentiles of the means of clips redrawn with `seed`.

    A nan is a clip without a value and is left out. One value has a mean but no interval, whose ends are nan
    then; none has neither. Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    values = np.asarray(list(values), dtype=np.float64)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    if len(values) == 1:
        return Interval(float(values[0]), math.nan, math.nan, 1)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    first: Iterable[float], second: Iterable[float], resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Whether two systems differ on the same clips, by the permutation test for pairs; two-sided.

    If they didn't, each clip's difference could as well have the other sign. The p-value is the share of
    choices of signs whose mean lies as far from 0 as the real one: of all choices where there are at most
    `resamples`, else of so many drawn with `seed`, the real one among them. It needs no normal distribution,
    and it tests the mean, which is what the table shows. Fewer than 6 clips can't give 0.05. A pair with a
    nan is left out; without pairs both numbers are nan. Fisher, "The Design of Experiments" (1935).
    """
    first, second = (np.asarray(list(values), dtype=np.float64) for values in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} values and {len(second)} don't make pairs")
    differences = second - first
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    if count == 0:
        return Difference(math.nan, math.nan, 0)
    observed = abs(differences.sum())
    if 2**count <= resamples:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, count))
        signs[0] = 1.0  # the real one
    # sums that are equal but for rounding are equal
    as_far = np.abs(signs @ differences) >= observed - 1e-9 * np.abs(differences).sum()
    return Difference(float(differences.mean()), float(as_far.mean()), count)
