"""The Vocos generator and the mels of the published Vocos models."""

import math
import warnings
from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from helpers import ROOT, speech_mel, voice

from checkpoint import read_config
from common.errors import UserError
from config import HiFiGANConfig
from corpus.audio import write_wav
from corpus.manifest import Clip
from corpus.saved_mels import SavedMels
from dataset import SegmentDataset, UtteranceDataset
from generators.build import build_generator
from generators.vocos import Vocos
from losses import mel_loss
from mel import MelConfig, MelSpectrogram, check_same_mel, griffin_lim

SMALL = {"generator": "vocos", "vocos_dim": 24, "vocos_intermediate_dim": 48, "vocos_num_layers": 2}
PUBLISHED = {
    "sampling_rate": 24000, "num_mels": 100, "fmax": None, "mel_scale": "ln", "min_db": -140,
    "mel_filters": "htk", "padding": "center",
}  # fmt: skip
SIZES = {
    "22 kHz": {},
    "published": PUBLISHED,
    "published, same padding": PUBLISHED | {"padding": "same"},
    "hop 300": {"hop_size": 300, "n_fft": 1200, "window_size": 1200},
    "odd edges": {"hop_size": 275},
    "hop of half the window": {"hop_size": 512, "padding": "center"},
    "hop of 0.3 windows": {"hop_size": 300, "padding": "center"},
    "one block": {"vocos_num_layers": 1},
}
every_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())


@torch.no_grad()
def audible(**sizes) -> Vocos:
    """Vocos with random weights whose audio has a peak near 1; a new one is almost silent."""
    torch.manual_seed(0)
    generator = build_generator(HiFiGANConfig(**SMALL | sizes)).eval()
    for name, parameter in generator.named_parameters():
        parameter.normal_(std=0.3 if parameter.ndim > 1 else 0.1)
        if "norm.weight" in name or "gamma" in name:
            parameter.fill_(0.5)
    peak = generator(plausible(generator.config, 30)).abs().max()
    generator.head.out.bias[: generator.config.n_fft // 2 + 1] -= math.log(peak)
    return generator


def plausible(config: HiFiGANConfig, frames: int, batch: int = 1) -> torch.Tensor:
    return config.from_ln(speech_mel(frames, config.num_mels, batch))


def reference(generator: Vocos, mel: torch.Tensor) -> torch.Tensor:
    """The published model's equations on the generator's weights, with torch.istft: (B, samples)."""
    weights, config = generator.state_dict(), generator.config

    def layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = F.conv1d(mel, weights["embed.weight"], weights["embed.bias"], padding=3)
    x = layer_norm(x.mT, "norm")
    for number in range(config.vocos_num_layers):
        block = f"convnext.{number}"
        kernel, bias = weights[f"{block}.dwconv.weight"], weights[f"{block}.dwconv.bias"]
        y = F.conv1d(x.mT, kernel, bias, padding=3, groups=config.vocos_dim).mT
        y = linear(layer_norm(y, f"{block}.norm"), f"{block}.pwconv1")
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + weights[f"{block}.gamma"] * linear(y, f"{block}.pwconv2")
    logs, phase = linear(layer_norm(x, "final_layer_norm"), "head.out").mT.chunk(2, dim=1)
    spectrum = logs.exp().clip(max=100) * torch.exp(1j * phase)
    window = torch.hann_window(config.n_fft)
    if config.padding == "center":
        return torch.istft(spectrum, config.n_fft, config.hop_size, window=window)
    # frame i begins (n_fft - hop_size) / 2 samples before its hop
    edge = (config.n_fft - config.hop_size) // 2
    audio = torch.zeros(len(mel), (mel.shape[2] - 1) * config.hop_size + config.n_fft)
    weight = torch.zeros_like(audio)
    for number, frame in enumerate(torch.fft.irfft(spectrum, config.n_fft, dim=1).unbind(2)):
        part = slice(number * config.hop_size, number * config.hop_size + config.n_fft)
        audio[:, part] += frame * window
        weight[:, part] += window**2
    inside = slice(edge, edge + mel.shape[2] * config.hop_size)
    return audio[:, inside] / weight[:, inside]


@every_size
@torch.inference_mode()
def test_vocos_computes_the_published_equations(sizes):
    generator = audible(**sizes)
    mel = plausible(generator.config, 21, batch=2)
    audio = generator(mel)
    assert audio.shape == (2, 1, generator.config.num_samples(21))
    torch.testing.assert_close(audio.squeeze(1), reference(generator, mel), rtol=0, atol=1e-4)


@every_size
@torch.inference_mode()
def test_the_inverse_transform_without_complex_numbers_computes_the_same(sizes):
    generator = audible(**sizes)
    mel = plausible(generator.config, 21, batch=2)
    audio = generator(mel)
    generator.head.istft.real_valued = True
    torch.testing.assert_close(generator(mel), audio, rtol=0, atol=1e-5)


@every_size
@torch.inference_mode()
def test_streamed_audio_equals_the_audio_of_the_whole_mel(sizes):
    generator = audible(**sizes)
    for size, frames in ((1, 2 * generator.context_frames + 3), (7, 75), (200, 211), (200, 2), (200, 1)):
        mel = plausible(generator.config, frames, batch=2)
        streamed = torch.cat(list(generator.stream(mel.split(size, dim=-1), max_frames=64)), dim=-1)
        torch.testing.assert_close(streamed, generator(mel), rtol=0, atol=1e-5, msg=f"chunks of {size}")


@every_size
def test_the_context_is_exactly_the_frames_that_audio_depends_on(sizes):
    generator = audible(**sizes)
    config, context = generator.config, generator.context_frames
    middle = context + 2
    mel = torch.zeros(1, config.num_mels, 2 * middle + 2)
    mel[..., middle] = torch.nan
    # PyTorch's own convolutions: oneDNN's compute in tiles, in which NaN spreads to neighbors
    with warnings.catch_warnings(), torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        warnings.simplefilter("ignore")
        touched = generator(mel)[0, 0].isnan().nonzero().flatten()
    first, last = int(touched.min()) // config.hop_size, int(touched.max()) // config.hop_size
    assert first > 0 and last < mel.shape[-1] - 2, "the mel is too short"
    assert max(middle - first, last - middle) == context


def test_every_weight_has_a_gradient():
    generator = build_generator(HiFiGANConfig(**SMALL))
    generator(torch.randn(2, 80, 8)).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_gradients_are_finite_where_the_magnitude_is_limited():
    head = build_generator(HiFiGANConfig(**SMALL)).head
    torch.nn.init.zeros_(head.out.weight)
    torch.nn.init.constant_(head.out.bias, 100.0)  # exp(100) overflows float32
    head(torch.randn(1, 6, head.out.in_features)).square().sum().backward()
    assert head.out.bias.grad.isfinite().all() and head.out.weight.grad.isfinite().all()


@torch.inference_mode()
def test_the_head_runs_in_float32_under_autocast():
    generator = audible()
    seen = []
    generator.head.out.register_forward_hook(lambda layer, inputs, output: seen.append(output.dtype))
    mel = plausible(generator.config, 40)
    with torch.autocast("cpu", torch.bfloat16):
        audio = generator(mel)
    assert audio.dtype == torch.float32 and seen == [torch.float32]
    # rounded to 8 bits, the samples would have at most 2 ** 8 values per octave
    assert len(audio.unique()) > 0.9 * audio.numel()


def test_folding_weight_norm_returns_the_generator_itself():
    generator = build_generator(HiFiGANConfig(**SMALL))
    names = list(generator.state_dict())
    assert generator.fold_weight_norm() is generator
    assert list(generator.state_dict()) == names


@pytest.mark.parametrize(
    ("name", "millions"), [("vocos", 13.46), ("vocos_small", 2.79), ("vocos_24k", 13.53)]
)
def test_the_configs_have_the_sizes_in_their_description(name, millions):
    config = read_config(ROOT / "configs" / f"{name}.json")
    generator = build_generator(config)
    assert isinstance(generator, Vocos) and config.discriminators == ("mpd", "mrd")
    size = sum(weight.numel() for weight in generator.parameters()) / 1e6
    assert size == pytest.approx(millions, abs=0.05)


def test_the_24k_config_has_the_mel_of_the_published_models():
    config = read_config(ROOT / "configs" / "vocos_24k.json")
    check_same_mel(config, MelConfig(**PUBLISHED), "the config", "the published models")
    assert config.min_amplitude == pytest.approx(1e-7)


def published_mel(audio: np.ndarray, config: MelConfig) -> np.ndarray:
    """The natural-log mel of torchaudio's defaults, computed with librosa."""
    edge = config.n_fft - config.hop_size
    if config.padding == "same":
        audio = np.pad(audio, (edge // 2, edge // 2), mode="reflect")
    spectrum = librosa.stft(
        audio.astype(np.float64), n_fft=config.n_fft, hop_length=config.hop_size,
        center=config.padding == "center", pad_mode="reflect",
    )  # fmt: skip
    filters = librosa.filters.mel(
        sr=config.sampling_rate, n_fft=config.n_fft, n_mels=config.num_mels, fmin=config.fmin,
        fmax=config.sampling_rate / 2, htk=True, norm=None,
    )  # fmt: skip
    return np.log(np.maximum(filters @ np.abs(spectrum), 1e-7))


@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_mel_equals_the_published_one_including_the_clamp(padding):
    config = MelConfig(**PUBLISHED | {"padding": padding})
    audio = np.concatenate([np.zeros(6000, np.float32), voice(0.5, 24000)])
    mel, expected = MelSpectrogram(config)(torch.from_numpy(audio)), published_mel(audio, config)
    assert mel.shape == (100, config.num_frames(len(audio))) == expected.shape
    np.testing.assert_allclose(mel, expected, atol=1e-3)
    assert float(mel.min()) == pytest.approx(math.log(1e-7), abs=1e-5)
    assert config.silence == pytest.approx(math.log(1e-7))


def test_centered_mels_have_one_extra_frame_and_keep_the_number_of_samples():
    config = HiFiGANConfig(**SMALL | PUBLISHED)
    for samples in (8192, 4 * 256, 5120):
        audio = torch.from_numpy(voice(1.0, 24000)[:samples])
        mel = MelSpectrogram(config)(audio)
        assert mel.shape[1] == samples // 256 + 1
        assert build_generator(config)(mel[None]).shape == (1, 1, samples)
        assert griffin_lim(mel, config, iterations=1).shape == (samples,)


def test_a_click_in_a_centered_mel_stays_at_its_time():
    config = MelConfig(padding="center")
    audio = np.zeros(40 * 256, np.float32)
    audio[17 * 256] = 0.9
    mel = MelSpectrogram(config)(torch.from_numpy(audio))
    assert int(mel.mean(0).argmax()) == 17
    energy = np.convolve(griffin_lim(mel, config) ** 2, np.ones(65), mode="same")
    assert abs(int(energy.argmax()) - 17 * 256) <= 128


def test_audio_too_short_for_a_centered_mel_is_refused():
    config = MelConfig(padding="center")
    with pytest.raises(ValueError, match=r"512 samples.* 513"):
        MelSpectrogram(config)(torch.zeros(512))
    assert MelSpectrogram(config)(torch.zeros(513)).shape == (80, 3)


def test_gradients_of_a_published_mel_are_finite_in_digital_silence():
    audio = torch.from_numpy(np.concatenate([np.zeros(4000, np.float32), voice(0.2)])).requires_grad_()
    frontend = MelSpectrogram(MelConfig(**PUBLISHED))
    mel_loss(frontend(audio), frontend(torch.zeros_like(audio))).backward()
    assert audio.grad.isfinite().all()


def test_settings_of_filters_and_padding_are_compared_checked_and_optional_in_files():
    for name, value in (("mel_filters", "htk"), ("padding", "center")):
        with pytest.raises(UserError, match=f"{name} is .* in a but {value} in b"):
            check_same_mel(MelConfig(), MelConfig(**{name: value}), "a", "b")
        with pytest.raises(UserError, match=f"{name} is 'other'"):
            MelConfig(**{name: "other"})
    old = {
        key: value for key, value in MelConfig().to_dict().items() if key not in ("mel_filters", "padding")
    }
    assert MelConfig.from_dict(old) == MelConfig()
    with pytest.raises(UserError, match="padding"):
        HiFiGANConfig(padding="center")  # its transposed convolutions make hop_size samples of every frame


def test_fine_tuning_on_centered_mels_keeps_audio_and_mel_aligned(tmp_path):
    config, samples = replace(MelConfig(**PUBLISHED), hop_size=256), 60 * 256 + 100
    write_wav(tmp_path / "clip.wav", voice(1.0, 24000)[:samples], 24000)
    whole, _ = soundfile.read(tmp_path / "clip.wav", dtype="float32")
    mel = MelSpectrogram(config)(torch.from_numpy(whole))
    np.save(tmp_path / "clip.npy", mel)
    clips = [Clip(str(tmp_path / "clip.wav"), samples, 0.5, "")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its loud values are plausible with filters of height 1
        saved = SavedMels(tmp_path, config, clips)
    for epoch in range(5):
        item = SegmentDataset(clips, config, 8192, 0, saved)[epoch, 0]
        assert item["mel"].shape == (100, 33)
        own = MelSpectrogram(config)(item["audio"])
        torch.testing.assert_close(item["mel"][:, 3:-3], own[:, 3:-3], rtol=0, atol=1e-3)
    item = UtteranceDataset(clips, config, saved)[0]
    assert item["mel"].shape == (100, 61) and item["audio"].shape == (60 * 256,)
