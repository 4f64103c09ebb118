"""Metrics computed from the signal: mel, STFT, cepstrum and pitch differences from a reference recording.

All functions take mono audio (samples,) in [-1, 1] and its sampling rate in Hz, and raise Unavailable where
the metric is undefined.
"""

import math
from functools import lru_cache

import librosa
import numpy as np
import torch
from scipy.spatial.distance import cdist

from corpus.audio import resample
from evaluation.inputs import Unavailable, cached_by_audio, checked_audio, optional_package, paired
from mel import MelConfig, MelSpectrogram

# The mel of mel L1 and of mel-cepstral distortion: the input of HiFi-GAN's generator.
MEL = MelConfig(mel_scale="ln")

# n_fft, hop size and window size in samples: section 3.2 of Yamamoto et al. (2020), and auraloss's defaults
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))

CEPSTRAL_ORDER = 13
DECIBELS_PER_NEPER = 10.0 / math.log(10.0)

# Praat's defaults for an unknown speaker: Hz, Hz, seconds, fraction of the clip's peak
PITCH_FLOOR, PITCH_CEILING, PITCH_STEP, SILENCE_THRESHOLD = 75.0, 600.0, 0.01, 0.03


def mel_l1(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mean absolute difference of natural-log mels: 0 upwards, lower is better; 0.115 corresponds to 1 dB.

    Averaged over all frames and 80 bands from 0 to 8000 Hz at 22,050 Hz, the input of HiFi-GAN's generator,
    with amplitudes clamped to 1e-5. The unweighted loss of Kong et al., "HiFi-GAN" (2020), section 3.3, which
    extends to half the sampling rate; that adds 0.01 for LJSpeech and the official V2.
    """
    generated, real = (log_mel(clip, sampling_rate) for clip in paired(audio, reference, sampling_rate))
    return float(np.abs(generated - real).mean())


def multi_resolution_stft(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Multi-resolution STFT distance: 0 upwards, lower is better.

    The mean over three resolutions of the spectral convergence |R - A| / |R| (Frobenius norms of the
    magnitudes R of the reference and A of the audio) plus the mean of |ln R - ln A|. Hann windows of 1200,
    600 and 240 samples at 22,050 Hz, with powers clamped to 1e-8. Yamamoto, Song and Kim, "Parallel WaveGAN"
    (2020), equations 4 to 6, with the constants of the package `auraloss`.
    """
    audio, reference = paired(audio, reference, sampling_rate)
    clips = np.stack([at_mel_rate(clip, sampling_rate) for clip in (audio, reference)])
    if clips.shape[1] <= max(n_fft for n_fft, _, _ in STFT_RESOLUTIONS) // 2:
        raise Unavailable("the clip is shorter than the 0.05 s that the longest window needs")
    total = 0.0
    for n_fft, hop_size, window_size in STFT_RESOLUTIONS:
        window = torch.hann_window(window_size)
        spectra = torch.stft(
            torch.from_numpy(clips), n_fft, hop_size, window_size, window, return_complex=True
        )
        generated, real = torch.view_as_real(spectra).square().sum(-1).clamp(min=1e-8).sqrt()
        convergence = torch.linalg.norm(real - generated) / torch.linalg.norm(real)
        total += float(convergence + (real.log() - generated.log()).abs().mean())
    return total / len(STFT_RESOLUTIONS)


def mel_cepstral_distortion(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mel-cepstral distortion in dB: 0 upwards, lower is better.

    The mean of `cepstral_distance` over all frames, including pauses, for c1 to c13 of `mel_cepstrum`: the
    spectral envelope without its level (c0) and fine structure. Kubichek, "Mel-cepstral distance measure for
    objective speech quality assessment" (1993). With the coefficients used here, of the amplitude and after
    a factor of 2, it is half of the root mean square difference of the envelopes in dB. With those of SPTK
    or of the power spectrum, in which many papers measure it, it is twice as large.
    """
    generated, real = (
        mel_cepstrum(log_mel(clip, sampling_rate)) for clip in paired(audio, reference, sampling_rate)
    )
    return float(cepstral_distance(generated, real).mean())


def mel_cepstral_distortion_dtw(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Mel-cepstral distortion in dB after dynamic time warping: 0 upwards, lower is better.

    For different readings of the same text. The frames of the two clips are paired along the monotonic path
    with the least sum of distances, which advances by one frame in either clip or in both; the result is the
    mean of `cepstral_distance` over the path. Never larger than `mel_cepstral_distortion`.
    """
    generated, real = (
        mel_cepstrum(log_mel(checked_audio(clip, name), sampling_rate))
        for clip, name in ((audio, "the clip"), (reference, "the reference"))
    )
    # as cepstral_distance, without an array of (order, frames, frames)
    distances = DECIBELS_PER_NEPER * np.sqrt(2.0) * cdist(generated.T, real.T)  # (frames, frames)
    _, path = librosa.sequence.dtw(C=distances)
    return float(distances[path[:, 0], path[:, 1]].mean())


def pitch_rmse(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Root mean square difference of pitch in cents (1200 per octave): 0 upwards, lower is better.

    Over the frames of 10 ms that are voiced in both clips; `voicing_f1` measures the agreement on voicing.
    Pitch by Praat's autocorrelation, 75 to 600 Hz (see `pitch_track`). Morrison et al., "Chunked
    Autoregressive GAN for Conditional Waveform Synthesis" (2022), section 4.2.
    """
    generated, real = (
        pitch_track(clip, sampling_rate)[0] for clip in paired(audio, reference, sampling_rate)
    )
    voiced = (generated > 0) & (real > 0)
    if not voiced.any():
        raise Unavailable("no frame is voiced in both clips")
    return float(np.sqrt(np.mean((1200.0 * np.log2(generated[voiced] / real[voiced])) ** 2)))


def voicing_f1(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """F1 score of the voiced/unvoiced decision, with the reference as truth: 0 to 1, higher is better.

    2 · both / (voiced in the audio + voiced in the reference), in frames of 10 ms. See `pitch_rmse`.
    """
    generated, real = (
        pitch_track(clip, sampling_rate)[0] > 0 for clip in paired(audio, reference, sampling_rate)
    )
    if not real.any():
        raise Unavailable("no frame of the reference is voiced")
    return float(2.0 * np.sum(generated & real) / (generated.sum() + real.sum()))


def periodicity_rmse(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Root mean square difference of periodicity: 0 to 1, lower is better.

    Over all frames of 10 ms. Periodicity is the periodic fraction of a frame's power (see `pitch_track`);
    a buzzing vocoder has too much of it and a hoarse one too little. Morrison et al. (2022), section 4.2,
    whose pitch tracker is a neural network: their results are not comparable.
    """
    generated, real = (
        pitch_track(clip, sampling_rate)[1] for clip in paired(audio, reference, sampling_rate)
    )
    return float(np.sqrt(np.mean((generated - real) ** 2)))


def mel_cepstrum(ln_mel: np.ndarray, order: int = CEPSTRAL_ORDER) -> np.ndarray:
    """Return c1 to c`order` (order, frames) of a natural-log mel (bands, frames).

    Defined by ln_mel[n] = c0 + 2 Σ c_k cos(π k (n + 1/2) / bands): a ripple of amplitude 2a over the bands is
    a coefficient of a.
    """
    bands = ln_mel.shape[0]
    cosines = np.cos(np.pi * np.outer(np.arange(1, order + 1), np.arange(bands) + 0.5) / bands)
    return cosines @ ln_mel.astype(np.float64) / bands


def cepstral_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return 10 / ln 10 · √2 · √(Σ (Δc_k)²) in dB, summed over the first axis of cepstra (order, ...)."""
    return DECIBELS_PER_NEPER * np.sqrt(2.0 * np.square(first - second).sum(axis=0))


@cached_by_audio
def log_mel(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the natural-log mel (80, frames) with the settings `MEL`, after resampling to its rate.

    Raises Unavailable if the clip is shorter than one frame.
    """
    audio = at_mel_rate(audio, sampling_rate)
    if len(audio) < MEL.min_samples:
        raise Unavailable(
            f"the clip of {len(audio)} samples is shorter than the {MEL.min_samples} of one mel frame"
        )
    return mel_spectrogram()(torch.from_numpy(audio)).numpy()


@lru_cache(maxsize=1)
def mel_spectrogram() -> MelSpectrogram:
    return MelSpectrogram(MEL)


def at_mel_rate(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    return resample(audio, sampling_rate, MEL.sampling_rate)


@cached_by_audio
def pitch_track(audio: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pitch in Hz (0 where unvoiced) and periodicity in [0, 1], both (frames,) at 10 ms per frame.

    Praat's autocorrelation method with default settings. Periodicity is the largest normalized
    autocorrelation at lags of 75 to 600 Hz, whether or not the frame is voiced: the power of the periodic
    part divided by the total power. It is 0 below 0.225, half the voicing threshold, where Praat keeps no
    candidates, and in frames whose peak is 30 dB below the clip's. Boersma, "Accurate short-term analysis of
    the fundamental frequency and the harmonics-to-noise ratio of a sampled sound" (1993).
    """
    # Chosen because it takes 4 ms per second of speech (librosa's pYIN takes 20 times as long), has wheels
    # (pyworld has none), and its candidates' strength is a well-defined periodicity.
    parselmouth = optional_package("parselmouth", package="praat-parselmouth")
    try:
        track = parselmouth.Sound(audio.astype(np.float64), sampling_rate).to_pitch_ac(
            time_step=PITCH_STEP,
            pitch_floor=PITCH_FLOOR,
            silence_threshold=SILENCE_THRESHOLD,
            pitch_ceiling=PITCH_CEILING,
        )
    except parselmouth.PraatError as error:
        raise Unavailable("the clip is shorter than the 0.04 s that the pitch tracker needs") from error
    candidates = track.to_array()  # (candidates, frames), nan where a frame has fewer candidates
    # the strength of the unvoiced candidate, which has frequency 0, is 0
    is_pitch = candidates["frequency"] < PITCH_CEILING
    periodicity = np.where(is_pitch, candidates["strength"], 0.0).max(axis=0)
    peaks = np.array([frame.intensity for frame in track])  # relative to the clip's peak
    return track.selected_array["frequency"], np.where(peaks < SILENCE_THRESHOLD, 0.0, periodicity)
