"""UTMOS, a prediction of the naturalness of speech from 1 to 5; `python -m evaluation.utmos FILE...`.

The strong learner of UTMOS22 (Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022",
arXiv:2204.02152), without the phoneme encoder, as in most papers. `Score` has the interface of the package
`utmos`, whose dependency fairseq cannot be imported on Python 3.11 or later. The modules are named after the
published weights, unlike those of torchaudio's wav2vec 2.0.
"""

import http.client
import math
import numbers
import os
import socket
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor, nn

from checkpoint import DEVICE, read_pickle, read_weights
from common.errors import UserError, report_user_errors
from common.options import ArgumentParser, checked
from corpus.audio import read_audio
from evaluation.cache import sha256

SAMPLING_RATE = 16000
MIN_SAMPLES = 400  # 25 ms, one frame of wav2vec 2.0
MAX_CHANNELS = 8
SILENCE = 1e-4  # peak to peak: three steps of 16-bit audio

CHECKPOINT_VARIABLE = "UTMOS_CHECKPOINT"
# The official checkpoint without the training state, as released by github.com/tarepan/SpeechMOS. The author
# publishes no hash; this one is pinned by projects that use the file, such as the Open TTS Leaderboard.
CHECKPOINT_URL = "https://github.com/tarepan/SpeechMOS/releases/download/v1.0.0/utmos22_strong_step7459_v1.pt"
CHECKPOINT_SHA256 = "38aa51ab79e2a4e09a1449758a4b37e9cbb2e8235a49662a732d33a9ba1e9bff"
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte

Wav = np.ndarray | Tensor | Sequence[float]


class Score:
    """UTMOS scorer. A clip's score does not depend on other clips.

    Args:
        checkpoint: the file with the weights. Defaults to the environment variable `UTMOS_CHECKPOINT`, or
            to the published file (411 MB), which is downloaded to torch.hub's cache if necessary.
        device: defaults to a GPU if there is one.

    Raises UserError if the weights are missing or do not fit, or the device cannot be used.
    """

    def __init__(self, checkpoint: Path | str | None = None, device: torch.device | str | None = None):
        model = load_model(find_checkpoint(checkpoint))
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            self.model = model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"can't use the device {device}: {error}; use another, such as cpu") from error

    def calculate_wav_file(self, path: Path | str) -> float:
        """Return the score of an audio file. Raises UserError if it cannot be read or scored."""
        audio, sampling_rate, _ = read_audio(path)
        return self._calculate(audio, sampling_rate, str(path))

    def calculate_wav(self, wav: Wav, sample_rate: int) -> float:
        """Return the score of (samples,), (channels, samples) or (samples, channels) audio.

        Integers are PCM, and floating-point numbers are in [-1, 1]. Channels are averaged, and audio at any
        `sample_rate` in Hz is resampled to 16 kHz. Warns if the audio is silent, as its score is meaningless.
        Raises UserError for audio shorter than 25 ms, values that are not finite, or another shape.
        """
        return self._calculate(wav, sample_rate, "the audio")

    def calculate_batch(self, wavs: Iterable[Wav], sample_rate: int) -> list[float]:
        """Return the scores of clips of any lengths: a list of clips, or (B, 1, samples).

        Computed one by one and so identical to those of `calculate_wav`. The original model has no mask:
        padding to a common length would change the scores.
        """
        return [self._calculate(wav, sample_rate, f"clip {index}") for index, wav in enumerate(wavs)]

    def _calculate(self, wav: Wav, sampling_rate: int, name: str) -> float:
        """Return the score of one clip; `name` is used in messages."""
        audio = prepare_audio(wav, sampling_rate, name)
        # a caller's autocast, or TF32, which cuDNN uses for convolutions, would change the score
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            return self.model(torch.from_numpy(audio).to(self.device)[None]).item()


def prepare_audio(wav: Wav, sampling_rate: int, name: str) -> np.ndarray:
    """Return an input of `Score.calculate_wav` as (samples,) float32 at 16 kHz."""
    audio = mono(to_float(wav, name), name)
    if not isinstance(sampling_rate, numbers.Real) or not sampling_rate > 0 or sampling_rate % 1:
        raise UserError(f"{name} can't have a sampling rate of {sampling_rate!r}; give it in Hz")
    if not np.isfinite(audio).all():
        raise UserError(f"{name} has values that are not finite; repair it or leave it out")
    samples = math.ceil(len(audio) * SAMPLING_RATE / sampling_rate)
    if samples < MIN_SAMPLES:
        raise UserError(
            f"{name} has {len(audio)} samples at {sampling_rate} Hz, less than the "
            f"{1000 * MIN_SAMPLES / SAMPLING_RATE:g} ms that a score needs; use a longer clip"
        )
    if np.ptp(audio) < SILENCE:
        warnings.warn(f"{name} is silent: its UTMOS is meaningless", stacklevel=4)
    return resample(audio, int(sampling_rate))


def resample(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Resample (samples,) float32 audio from any rate in Hz to 16 kHz with the filter used by SpeechMOS.

    That is torchaudio's default: a sinc with six zero crossings on each side and a Hann window, with its
    cutoff at 99 % of the lower Nyquist frequency. `audio.resample` has a better filter, with which scores
    would not be comparable with published ones.
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


def to_float(wav: Wav, name: str) -> np.ndarray:
    """Return an array or tensor of any type as float32; PCM is scaled to [-1, 1]."""
    try:
        if isinstance(wav, Tensor):
            wav = wav.detach().cpu()
            wav = wav.float() if wav.is_floating_point() else wav  # NumPy has no bfloat16
        audio = np.asarray(wav)
    except ValueError as error:
        raise UserError(f"{name} is not an array of samples: {error}") from error
    if audio.dtype.kind == "f":
        return audio.astype(np.float32)
    if audio.dtype.kind not in "iu" or audio.dtype.itemsize > 4:
        raise UserError(
            f"{name} has {audio.dtype} values; convert them to floating-point numbers in [-1, 1] or to "
            "integer PCM of at most 32 bits"
        )
    half = 2.0 ** (8 * audio.dtype.itemsize - 1)
    middle = half if audio.dtype.kind == "u" else 0.0  # 8-bit PCM is unsigned, with 0 at 128
    return ((audio - middle) / half).astype(np.float32)


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
        raise UserError(
            f"{name} has the shape {shape}, which is not (samples,) or (channels, samples) of one clip; "
            "use calculate_batch for several clips"
        )
    return audio


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
    path = Path(torch.hub.get_dir()) / "checkpoints" / CHECKPOINT_URL.rpartition("/")[2]
    if not path.is_file():
        download(path)
    elif sha256(path) != CHECKPOINT_SHA256:
        warnings.warn(
            f"{path} is not the published file, so its scores are not comparable; delete it to download the "
            "published one",
            stacklevel=3,
        )
    return path


def download(path: Path) -> None:
    """Download the published weights to `path`. Raises UserError, without leaving a file, if that fails."""
    timeout = socket.getdefaulttimeout()
    # torch.hub sets no timeout and would wait very long behind a firewall that drops packets
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            CHECKPOINT_URL, str(path), hash_prefix=CHECKPOINT_SHA256, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(
            f"can't download UTMOS's weights: {error}; copy {CHECKPOINT_URL} to {path}, or set "
            f"{CHECKPOINT_VARIABLE} to its path"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def load_model(path: Path) -> "UTMOS22Strong":
    """Return the model in eval mode on the CPU, with weights in the published form.

    Raises UserError if the file cannot be read, contains anything but tensors, or differs from the published
    names and shapes.
    """
    state = read_weights(path, "utmos") if path.suffix == ".safetensors" else read_pickle(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is not a state dict; download UTMOS's weights: {CHECKPOINT_URL}")
    with torch.device("meta"):  # skips the initialisation of weights that are replaced
        model = UTMOS22Strong()
    wanted = model.state_dict()
    problems = [f"{key} is missing" for key in wanted if key not in state]
    problems += [f"{key} is unexpected" for key in state if key not in wanted]
    problems += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more differences" if len(problems) > 1 else ""
        raise UserError(
            f"{path} does not fit UTMOS's strong learner: {problems[0]}{more}; download its weights: "
            f"{CHECKPOINT_URL}"
        )
    model.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


class UTMOS22Strong(nn.Module):
    """Audio (B, N) at 16 kHz to scores (B,): wav2vec 2.0, two embeddings, a BLSTM and a projection.

    The network's outputs, in which -1 to 1 correspond to scores from 1 to 5, are averaged over frames. There
    is no mask: all clips of a batch have the same length.
    """

    def __init__(self):
        super().__init__()
        self.wav2vec2 = Wav2Vec2()
        # The published weights contain one row of each embedding table, which the authors' demo uses for any
        # audio: domain 0 and listener 288.
        self.domain_emb = nn.Parameter(torch.empty(1, 128))
        self.judge_emb = nn.Parameter(torch.empty(1, 128))
        self.blstm = nn.LSTM(768 + 128 + 128, 512, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1))

    def forward(self, audio: Tensor) -> Tensor:
        features = self.wav2vec2(audio)  # (B, T, 768)
        condition = torch.cat([self.domain_emb, self.judge_emb], dim=1).expand(*features.shape[:2], -1)
        hidden, _ = self.blstm(torch.cat([features, condition], dim=2))  # (B, T, 1024)
        return 3.0 + 2.0 * self.projection(hidden).mean(dim=(1, 2))


class Wav2Vec2(nn.Module):
    """wav2vec 2.0 base, audio (B, N) to features (B, T, 768) (Baevski et al., arXiv:2006.11477, §2).

    A frame is 20 ms of audio. The audio is not normalised, as in the training of the base model.
    """

    def __init__(self):
        super().__init__()
        self.mask_emb = nn.Parameter(
            torch.empty(768)
        )  # used only in training, but part of the published weights
        self.feature_extractor = FeatureExtractor()
        self.layer_norm = nn.LayerNorm(512)
        self.post_extract_proj = nn.Linear(512, 768)
        self.encoder = Encoder()

    def forward(self, audio: Tensor) -> Tensor:
        features = self.feature_extractor(audio[:, None])  # (B, 512, T)
        return self.encoder(self.post_extract_proj(self.layer_norm(features.transpose(1, 2))))


class FeatureExtractor(nn.Module):
    """Seven convolutions, (B, 1, N) to (B, 512, T) with T = (N - 80) // 320."""

    def __init__(self):
        super().__init__()
        sizes = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]  # kernel, stride
        self.conv_layers = nn.ModuleList()
        for index, (kernel_size, stride) in enumerate(sizes):
            conv = nn.Conv1d(512 if index else 1, 512, kernel_size, stride, bias=False)
            # the identity is in the place of a dropout, which is counted in the weights' names
            norm = [] if index else [nn.GroupNorm(512, 512)]
            self.conv_layers.append(nn.Sequential(conv, nn.Identity(), *norm, nn.GELU()))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.conv_layers:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Transformer with a convolutional position embedding: (B, T, 768) -> (B, T, 768)."""

    def __init__(self):
        super().__init__()
        self.pos_conv = nn.Sequential(PositionalConv(768, kernel_size=128, groups=16), nn.GELU())
        self.layer_norm = nn.LayerNorm(768)
        self.layers = nn.ModuleList(EncoderLayer(768, 3072, num_heads=12) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


class PositionalConv(nn.Module):
    """Grouped convolution (B, C, T) -> (B, C, T) with one weight norm per tap of the kernel.

    PyTorch's weight norm is not used, as its parametrization changes the names of the weights.
    """

    def __init__(self, channels: int, kernel_size: int, groups: int):
        super().__init__()
        self.groups = groups
        self.bias = nn.Parameter(torch.empty(channels))
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel_size))
        self.weight_v = nn.Parameter(torch.empty(channels, channels // groups, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        padding = weight.shape[2] // 2
        # with an even kernel, this padding adds one frame
        return F.conv1d(x, weight, self.bias, padding=padding, groups=self.groups)[..., : x.shape[2]]


class EncoderLayer(nn.Module):
    """Attention and a feed-forward part, each with a residual and a norm: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, hidden_channels: int, num_heads: int):
        super().__init__()
        self.self_attn = SelfAttention(channels, num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.final_layer_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x))
        return self.final_layer_norm(x + self.fc2(F.gelu(self.fc1(x))))


class SelfAttention(nn.Module):
    """Multi-head self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (proj(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for proj in projections)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, C / heads)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="evaluation.utmos", description=__doc__.splitlines()[0].partition(";")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="audio file")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help=f"file with the weights; by default ${CHECKPOINT_VARIABLE} or the published file",
    )
    parser.add_argument(
        "--device", type=checked(str, **DEVICE), help="cpu, cuda, cuda:1, …; by default a GPU if there is one"
    )
    return parser


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    for path in args.files:  # before loading the weights, which takes seconds
        if not path.is_file():
            raise UserError(f"there is no file {path}; expected audio files")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"utmos.py: warning: {message}", file=sys.stderr)
        score = Score(args.checkpoint, args.device)
        for path in args.files:
            print(f"{path}\t{score.calculate_wav_file(path):.4f}", flush=True)


if __name__ == "__main__":
    main()
