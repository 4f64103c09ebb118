"""UTMOS, a prediction of the naturalness of speech from 1 to 5; `python -m evaluation.utmos FILE...`.

The strong learner of UTMOS22 (Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022",
arXiv:2204.02152), by the package `utmos-pytorch`. `Score` has the interface of the package `utmos`, whose
dependency fairseq cannot be imported on Python 3.11 or later.
"""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import signal
from torch import Tensor
from utmos_pytorch import UTMOSScoreTorch
from utmos_pytorch.utils import download_utmos_ckpt

from checkpoint import read_weights
from common.errors import UserError, report_user_errors
from common.options import Options, device_option, option
from common.parser import parse_options
from corpus.audio import read_audio

SAMPLING_RATE = 16000
MIN_SAMPLES = 400  # 25 ms, one frame of wav2vec 2.0
MAX_CHANNELS = 8

CHECKPOINT_VARIABLE = "UTMOS_CHECKPOINT"
CHECKPOINT_URL = "https://huggingface.co/Blinorot/UTMOS-PyTorch/resolve/main/utmos_state_dict.pt"

# Names in the file of github.com/tarepan/SpeechMOS, and in that of `CHECKPOINT_URL`
NAMES = {
    "wav2vec2.": "feature_extractors.0.ssl_model.",
    "blstm.": "output_layers.0.decoder_rnn.",
    "projection.0.": "output_layers.1.net.0.",
    "projection.2.": "output_layers.1.net.3.",  # the dropout between them is counted
}
# Embedding tables: name, the row used for any audio (all that SpeechMOS's file contains), number of rows
EMBEDDINGS = {
    "domain_emb": ("feature_extractors.1.embedding.weight", 0, 3),
    "judge_emb": ("output_layers.0.judge_embedding.weight", 288, 3000),
}


class Score:
    """UTMOS scorer.

    Args:
        checkpoint: the file with the weights, as published by UTMOS-PyTorch or by SpeechMOS. Defaults to the
            environment variable `UTMOS_CHECKPOINT`, or to UTMOS-PyTorch's file, which is downloaded from the
            Hugging Face Hub if it is not in its cache (0.4 GB).
        device: defaults to the CPU.

    Raises UserError if the weights are missing or do not fit, or the device cannot be used.
    """

    def __init__(self, checkpoint: Path | str | None = None, device: torch.device | str | None = None):
        self.model = load_model(find_checkpoint(checkpoint))
        try:
            self.device = torch.device(device or "cpu")
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"can't use the device {device}: {error}; use another, such as cpu") from error

    def calculate_wav_file(self, path: Path | str) -> float:
        """Return the score of an audio file. Raises UserError if it cannot be read or scored."""
        audio, sampling_rate, _ = read_audio(path)
        return self._calculate(audio, sampling_rate, str(path))

    def calculate_wav(self, wav: np.ndarray | Tensor | Sequence[float], sample_rate: int) -> float:
        """Return the score of (samples,), (channels, samples) or (samples, channels) audio.

        Floating-point numbers are in [-1, 1], and 16-bit or 32-bit integers are PCM. Channels are averaged,
        and audio at any `sample_rate` in Hz is resampled to 16 kHz. Raises UserError for audio shorter than
        25 ms, values that are not finite, or another shape or type.
        """
        return self._calculate(wav, sample_rate, "the audio")

    def _calculate(self, wav: np.ndarray | Tensor | Sequence[float], sampling_rate: int, name: str) -> float:
        """Return the score of one clip; `name` is used in messages."""
        audio = prepare_audio(wav, sampling_rate, name)
        # a caller's autocast, or TF32, which cuDNN uses for convolutions, would change the score
        with (
            torch.autocast(self.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            return self.model.score(torch.from_numpy(audio).to(self.device)).item()


class Network(UTMOSScoreTorch):
    """utmos-pytorch's network, which also accepts SpeechMOS's file and refuses an incomplete one."""

    def load_utmos_weights(self, state: dict[str, Tensor], device: str, verbose: bool) -> None:
        """Replace the parameters. Raises RuntimeError if tensors are missing or have other shapes."""
        missing, _ = self.model.load_state_dict(state, strict=False, assign=True)
        if missing:
            raise RuntimeError(f"{missing[0]} and {len(missing) - 1} other tensors are missing")
        self.eval().requires_grad_(False)


def load_model(path: Path) -> Network:
    """Return the network in eval mode on the CPU. Raises UserError if the file lacks its weights."""
    try:
        state = published_weights(path)
        # "meta" skips the initialization of weights that are replaced
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return Network(state, device="meta")
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit UTMOS's strong learner: {' '.join(str(error).split())[:200]}; download its "
            f"weights: {CHECKPOINT_URL}"
        ) from error


def published_weights(path: Path) -> dict[str, Tensor]:
    """Return a file's float32 weights under the names of utmos-pytorch. Raises UserError if it is damaged."""
    state = {}
    for name, tensor in read_weights(path).items():
        if name in EMBEDDINGS:
            name, row, rows = EMBEDDINGS[name]
            tensor = torch.cat([torch.zeros(row, 128), tensor, torch.zeros(rows - row - 1, 128)])
        prefix = next((prefix for prefix in NAMES if name.startswith(prefix)), "")
        state[NAMES.get(prefix, "") + name.removeprefix(prefix)] = tensor.float()
    return state


def find_checkpoint(checkpoint: Path | str | None = None) -> Path:
    """Return the file with the weights, downloading it if necessary; see `Score`.

    Raises UserError if there is none.
    """
    named = checkpoint or os.environ.get(CHECKPOINT_VARIABLE)
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            source = "" if checkpoint else f" (set in {CHECKPOINT_VARIABLE})"
            raise UserError(f"there is no file {path}{source}; download UTMOS's weights: {CHECKPOINT_URL}")
        return path
    try:
        return download_utmos_ckpt()
    except Exception as error:  # the Hub's client raises errors of several HTTP libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"can't download UTMOS's weights: {reason} Download {CHECKPOINT_URL} elsewhere and set "
            f"{CHECKPOINT_VARIABLE} to its path"
        ) from error


def prepare_audio(wav: np.ndarray | Tensor | Sequence[float], sampling_rate: int, name: str) -> np.ndarray:
    """Return an input of `Score.calculate_wav` as (samples,) float32 at 16 kHz."""
    audio = np.asarray(wav.detach().cpu() if isinstance(wav, Tensor) else wav)
    if audio.dtype in (np.int16, np.int32):
        audio = audio / 2.0 ** (8 * audio.dtype.itemsize - 1)
    if audio.dtype.kind != "f":
        raise UserError(f"{name} has {audio.dtype} values; convert them to floating-point numbers in [-1, 1]")
    audio = mono(audio.astype(np.float32), name)
    if not np.isfinite(audio).all():
        raise UserError(f"{name} has values that are not finite; repair it or leave it out")
    if not sampling_rate > 0 or sampling_rate % 1:
        raise UserError(f"{name} can't have a sampling rate of {sampling_rate!r}; give it in Hz")
    if math.ceil(len(audio) * SAMPLING_RATE / sampling_rate) < MIN_SAMPLES:
        raise UserError(
            f"{name} has {len(audio)} samples at {sampling_rate} Hz, less than the "
            f"{1000 * MIN_SAMPLES / SAMPLING_RATE:g} ms that a score needs; use a longer clip"
        )
    return sinc_resample(audio, int(sampling_rate))


def mono(audio: np.ndarray, name: str) -> np.ndarray:
    """Return (samples,) of one clip, with its channels averaged."""
    shape = audio.shape
    while audio.ndim > 2 and audio.shape[0] == 1:
        audio = audio[0]
    if audio.ndim == 2:
        # channels come first in torchaudio and librosa, and last in soundfile
        axis = 0 if audio.shape[0] <= audio.shape[1] else 1
        if 0 < audio.shape[axis] <= MAX_CHANNELS:
            audio = audio.mean(axis=axis)
    if audio.ndim != 1:
        raise UserError(f"{name} has the shape {shape}; it must be (samples,) or (channels, samples)")
    return audio


def sinc_resample(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Resample (samples,) float32 audio from any rate in Hz to 16 kHz with the filter used by SpeechMOS.

    That is torchaudio's default: a sinc with six zero crossings on each side and a Hann window, with its
    cutoff at 99 % of the lower Nyquist frequency. `corpus.audio.resample` has a better filter, with which
    scores would not be comparable with published ones.
    """
    zero_crossings, rolloff = 6, 0.99
    divisor = math.gcd(sampling_rate, SAMPLING_RATE)
    source, target = sampling_rate // divisor, SAMPLING_RATE // divisor
    if source == target:
        return np.ascontiguousarray(audio)
    cutoff = rolloff * min(1.0, target / source)  # in half cycles per source sample
    width = math.ceil(zero_crossings / cutoff)  # in source samples
    times = (cutoff * np.arange(-width * target, width * target + 1) / target).clip(
        -zero_crossings, zero_crossings
    )
    window = np.cos(np.pi / 2 * times / zero_crossings) ** 2
    filters = cutoff / target * np.sinc(times) * window  # resample_poly multiplies by `target`
    return signal.resample_poly(audio, target, source, window=filters).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class UtmosOptions(Options):
    """Options of `python -m evaluation.utmos`."""

    files: tuple[Path, ...] = option(help="Audio files to score", positional=True, metavar="FILE")
    checkpoint: Path | None = option(
        None, f"Read the weights in this file; default: ${CHECKPOINT_VARIABLE} or the published file"
    )
    device: str = device_option()


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    description = __doc__.splitlines()[0].partition(";")[0]
    options = parse_options(UtmosOptions, "evaluation.utmos", description, arguments)
    for path in options.files:  # before loading the weights, which takes seconds
        if not path.is_file():
            raise UserError(f"there is no file {path}; expected audio files")
    score = Score(options.checkpoint, options.device)
    for path in options.files:
        print(f"{path}\t{score.calculate_wav_file(path):.4f}", flush=True)


if __name__ == "__main__":
    main()
