"""Variants of the networks: generators, sampling rates, discriminators; streaming and denoising."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import ROOT, official_names, small_config, small_generator, speech_mel, voice
from runs import manifest_row, metrics, train_here, write_manifest

import inference
from checkpoint import load_generator, load_weights, read_config
from common.errors import UserError
from config import HiFiGANConfig
from corpus.audio import write_wav
from corpus.manifest import read_manifest
from dataset import SegmentDataset
from generators.build import Discriminators, build_generator
from generators.multi_resolution import (
    FrameDiscriminator,
    LogImageDiscriminator,
    MultiLogSpectrumDiscriminator,
    MultiResolutionDiscriminator,
    ResolutionDiscriminator,
)
from generators.variants import InverseSTFTHead, MelMatch, MultiInputSharedResidual, ResizeConvolution
from mel import MelSpectrogram, griffin_lim
from model import Generator, WNConvTranspose1d
from synthesis.denoiser import Denoiser

ALL_CONFIGS = sorted((ROOT / "configs").glob("*.json"))
CONFIGS = [path for path in ALL_CONFIGS if not path.stem.startswith("vocos")]  # tested in test_vocos.py
SMALL_VOCOS = {"vocos_dim": 16, "vocos_intermediate_dim": 32, "vocos_num_layers": 2}
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)

RESIZE = {"upsampling": "resize", "upsample_kernel_sizes": (15, 15, 5, 5)}
MISR = {"fusion": "misr", "resblock_num": 2, "resblock_dilation_sizes": (1, 3)}
ISTFT = {
    "upsample_rates": (8, 8), "upsample_kernel_sizes": (16, 16),
    "gen_istft_n_fft": 16, "gen_istft_hop_size": 4,
}  # fmt: skip
MATCH = {"match_mel": True}
VARIANTS = {
    "resize": RESIZE, "misr": MISR, "istft": ISTFT, "misr and istft": MISR | ISTFT, "match": ISTFT | MATCH,
}  # fmt: skip


def narrow(path: Path) -> HiFiGANConfig:
    """Return a preset with fewer channels."""
    config = read_config(path)
    sizes = SMALL_VOCOS if config.generator == "vocos" else {"upsample_initial_channel": 16}
    return replace(config, discriminator_channels=32, **sizes)


@torch.inference_mode()
def audible(config: HiFiGANConfig) -> Generator:
    """Return a random generator with loud output.

    New generators are nearly silent, which would hide errors.
    """
    torch.manual_seed(0)
    generator = build_generator(config).eval()
    mel = plausible(config, 30)
    gains = [p for name, p in generator.named_parameters() if name.endswith("original0")]
    for gain in gains[:-1]:  # up to the last layer, so that distant frames affect the audio
        gain *= 1.5
    if not config.gen_istft_n_fft:
        gains[-1] *= 0.5 / generator(mel).abs().max().atanh()
    assert generator(mel).abs().max() > 0.02
    return generator


def plausible(config: HiFiGANConfig, frames: int, batch: int = 1) -> torch.Tensor:
    return config.from_ln(speech_mel(frames, config.num_mels, batch))


@pytest.mark.parametrize("version", ["v1", "v2"])
@torch.inference_mode()
def test_misrnet_agrees_with_the_official_one(version, formula, reference):
    official = reference(f"misr_{version}")
    seed, frames = int(official["seed"]), int(official["frames"])
    generator = build_generator(HiFiGANConfig.from_dict(json.loads(str(official["config"])))).eval()
    load_weights(generator, formula.fill(official_names(generator.state_dict()), seed), Path("formula.fill"))
    audio, expected = generator(formula.mel(frames, seed)), official["audio"].ravel()
    np.testing.assert_allclose(audio.flatten(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_misr_presets_equal_the_official_ones(version, reference):
    official = HiFiGANConfig.from_dict(json.loads(str(reference(f"misr_{version}")["config"])))
    assert read_config(ROOT / "configs" / f"misr_{version}.json") == official
    assert official.fusion == "misr"


@torch.inference_mode()
def test_the_shared_block_of_misr_processes_all_signals_in_one_call():
    config = small_config(**MISR | {"resblock_num": 5})
    fusion, x, seen = MultiInputSharedResidual(config, 8), torch.randn(3, 8, 20), []
    fusion.block.register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))
    y = fusion(x)
    assert [tuple(batch.shape) for batch in seen] == [(3 * 5, 8, 20)]
    one_by_one = [fusion.block(signal) for signal in fusion.expand(x).chunk(5, dim=1)]
    torch.testing.assert_close(y, fusion.reduce(torch.cat(one_by_one, dim=1)))


@pytest.mark.parametrize(("n_fft", "hop_size"), [(16, 4), (8, 4), (20, 5), (18, 7)])
@torch.inference_mode()
def test_the_istft_head_agrees_with_torch_istft(n_fft, hop_size):
    rates = {"upsample_rates": (4,), "upsample_kernel_sizes": (8,), "hop_size": 4 * hop_size}
    head = InverseSTFTHead(small_config(gen_istft_n_fft=n_fft, gen_istft_hop_size=hop_size, **rates), 6)
    x = torch.randn(2, 6, 33)
    hidden = torch.nn.functional.leaky_relu(torch.cat([x[..., 1:2], x], dim=-1))
    logs, angles = head.conv_post(hidden).split(n_fft // 2 + 1, dim=1)
    spectrum = torch.polar(logs.exp(), angles.sin())
    expected = torch.istft(spectrum, n_fft, hop_size, window=torch.hann_window(n_fft))
    assert expected.shape == (2, 33 * hop_size)
    torch.testing.assert_close(head(x).squeeze(1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [1, 4])
@torch.inference_mode()
def test_a_mel_of_one_frame_has_audio_and_one_of_many_streams_frame_by_frame(rate):
    """The inverse transform needs one frame more than there are hops, also where there is none to reflect."""
    rates = {"upsample_rates": (rate,), "upsample_kernel_sizes": (rate,), "hop_size": rate * 64}
    generator = small_generator(gen_istft_n_fft=128, gen_istft_hop_size=64, **rates)
    mel = torch.randn(2, 80, 1)
    audio = generator(mel)
    assert audio.shape == (2, 1, rate * 64) and audio.isfinite().all() and audio.abs().max() > 0
    assert torch.equal(torch.cat(list(generator.stream([mel])), dim=-1), audio)
    mel = torch.randn(2, 80, 40)
    parts = torch.cat(list(generator.stream(mel.split(1, dim=-1))), dim=-1)
    torch.testing.assert_close(parts, generator(mel), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mel_scale", ["ln", "db"])
@torch.inference_mode()
def test_matching_brings_audio_closer_to_a_mel(mel_scale):
    config, audio = small_config(mel_scale=mel_scale), torch.from_numpy(voice(1.0))[: 86 * 256]
    match, mel_of = MelMatch(config), MelSpectrogram(config)
    bands, frames = torch.arange(80)[:, None], torch.arange(86)
    change = config.from_ln(torch.sin(bands / 9) + torch.sin(frames / 5)) - config.from_ln(0.0)
    wanted = mel_of(audio) + change
    matched = match(audio[None, None], wanted[None])
    assert matched.shape == (1, 1, len(audio))
    before, after = ((mel_of(one) - wanted).abs().mean() for one in (audio, matched[0, 0]))
    assert after < before / 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.inference_mode()
def test_matching_runs_in_other_precisions(dtype):
    match, mel = MelMatch(small_config(mel_scale="ln")), speech_mel(40)
    audio = torch.from_numpy(voice(1.0))[None, None, : 40 * 256]
    expected = match(audio, mel)
    matched = match.to(dtype)(audio.to(dtype), mel.to(dtype))
    assert matched.dtype == dtype
    assert (matched - expected).norm() < 0.05 * expected.norm()


@torch.inference_mode()
def test_matching_leaves_audio_with_the_mel_and_what_is_above_its_bands_as_it_is():
    config, audio = small_config(), torch.from_numpy(voice(1.0))[None, None, : 86 * 256]
    matched = MelMatch(config)(audio, MelSpectrogram(config)(audio[0]))
    torch.testing.assert_close(matched, audio, rtol=0, atol=1e-4)
    above = torch.sin(2 * math.pi * 9500 * torch.arange(86 * 256) / 22050)[None, None]
    louder = torch.zeros(1, 80, 86)  # 0 dB in all bands, most of which have no more than a window's leakage
    matched = MelMatch(small_config(match_mel=True))(above, louder)
    power = torch.fft.rfft(matched[0, 0]).abs().square()
    assert power.argmax() == round(9500 / 22050 * 86 * 256)
    assert abs(10 * math.log10(matched.square().mean() / above.square().mean())) < 0.5


@torch.inference_mode()
def test_resizing_repeats_samples_and_avoids_the_checkerboard_of_transposed_convolutions():
    torch.manual_seed(0)
    x, resize = torch.randn(2, 4, 40), ResizeConvolution(4, 3, 5, 3)
    torch.testing.assert_close(resize(x), resize[1](x.repeat_interleave(3, dim=-1)))
    flat = torch.ones(1, 4, 40)
    resized = ResizeConvolution(4, 3, 5, 3)(flat)[..., 10:-10]
    transposed = WNConvTranspose1d(4, 3, 5, 3)(flat)[..., 10:-10]
    assert float(resized.std(-1).max()) < 1e-6 < 1e-2 < float(transposed.std(-1).min())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_of_every_variant_has_a_gradient(name):
    generator = small_generator(**VARIANTS[name])
    generator(torch.randn(2, 80, 8)).square().mean().backward()
    for weight, parameter in generator.named_parameters():
        assert parameter.grad.abs().sum() > 0, weight


@pytest.mark.parametrize("name", VARIANTS)
@torch.inference_mode()
def test_folding_weight_norm_does_not_change_the_audio_of_a_variant(name):
    generator, mel = audible(small_config(**VARIANTS[name])), torch.randn(2, 80, 11)
    before = generator(mel)
    torch.testing.assert_close(generator.fold_weight_norm()(mel), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"upsampling": "nearest"}, ["'nearest'", "transpose, resize"]),
        ({"upsampling": "resize"}, ["resize", "kernel 16", "odd"]),
        ({"fusion": "sum"}, ["'sum'", "mrf, misr"]),
        (
            {"resblock_num": 0},
            ["resblock_num is 0", "at least 1"],
        ),  # the key implies misr, as in official files
        ({"resblock_num": 3}, ["((1, 3, 5), (1, 3, 5), (1, 3, 5))", "one list"]),
        ({**MISR, "resblock_kernel_size": 10}, ["kernel 10", "odd"]),
        ({**MISR, "resblock_dilation_sizes": [[1, 3], [1, 3]]}, ["((1, 3), (1, 3))", "one list"]),
        ({**MISR, "resblock_dilation_sizes": []}, ["resblock_dilation_sizes is empty"]),
        ({**ISTFT, "gen_istft_hop_size": 8}, ["8 x 8 x 8 = 512", "hop_size is 256"]),
        ({**ISTFT, "gen_istft_n_fft": 15}, ["gen_istft_n_fft is 15", "even"]),
        ({**ISTFT, "gen_istft_n_fft": 6}, ["is 6", "gen_istft_hop_size 4", "twice"]),
        ({**ISTFT, "gen_istft_hop_size": None}, ["16", "None"]),
        ({**ISTFT, "gen_istft_n_fft": None}, ["None", "4"]),
        ({"gen_istft_n_fft": 16, "gen_istft_hop_size": 4}, ["8 x 8 x 2 x 2 x 4 = 1024", "256"]),
        ({**MATCH, "window_size": 800}, ["match_mel", "1024, 800"]),
        ({**MATCH, "n_fft": 510, "window_size": 510}, ["match_mel", "twice hop_size", "510 and 256"]),
        ({**MATCH, "n_fft": 1023, "window_size": 1023}, ["match_mel", "even", "1023"]),
        ({**MATCH, "generator": "vocos"}, ["match_mel", "hifigan"]),
        ({"discriminators": []}, ["discriminators is empty"]),
        ({"discriminators": ["mpd", "mbd"]}, ["'mbd'", "mpd, msd, mrd, mld"]),
        ({"discriminator_channels": 16}, ["16", "at least 32"]),
        ({"mrd_resolutions": []}, ["mrd_resolutions is empty"]),
        ({"mrd_resolutions": [[1024, 120]]}, ["(1024, 120)", "n_fft, hop and window"]),
        ({"mrd_resolutions": [[1024, [120], 600]]}, ["(1024, (120,), 600)", "n_fft, hop and window"]),
        ({"resblock_dilation_sizes": [[1, [3], 5], [1, 3, 5], [1, 3, 5]]}, ["(1, (3,), 5)", "positive"]),
        ({"mrd_resolutions": [1024, 120, 600]}, ["1024", "n_fft, hop and window"]),
        ({"mrd_resolutions": [[1024, 0, 600]]}, ["(1024, 0, 600)"]),
        ({"mrd_resolutions": [[512, 120, 600]]}, ["window of 600", "n_fft of 512"]),
        ({"mrd_resolutions": [[1024, 700, 600]]}, ["hop of 700", "window of 600"]),
    ],
)
def test_an_impossible_variant_is_refused_with_the_arithmetic(settings, words):
    with pytest.raises(UserError) as error:
        HiFiGANConfig.from_dict(settings)
    assert all(word in str(error.value) for word in words), error.value


def test_there_is_a_preset_for_every_variant():
    expected = {"v1", "v2", "v3", "v1_16k", "v1_24k", "v1_44k", "v1_48k", "vocos", "vocos_small", "vocos_24k"}
    for family in ("misr", "istft", "misr_istft"):
        expected |= {f"{family}_v1", f"{family}_v2"}
    assert {path.stem for path in ALL_CONFIGS} == expected


# stated in the papers: Kong et al., table 1; Kaneko et al. (iSTFTNet), table 1, C8C8I
@pytest.mark.parametrize(
    ("name", "millions"),
    [("v1", 13.93), ("v2", 0.93), ("v3", 1.46), ("istft_v1", 13.25), ("istft_v2", 0.89)],
)
def test_generators_have_the_number_of_parameters_in_their_papers(name, millions):
    generator = build_generator(read_config(ROOT / "configs" / f"{name}.json")).fold_weight_norm()
    size = sum(weight.numel() for weight in generator.parameters())
    assert size / 1e6 == pytest.approx(millions, abs=0.006)


def test_a_shared_block_has_fewer_parameters_than_separate_blocks():
    def size(name: str) -> int:
        generator = build_generator(read_config(ROOT / "configs" / f"{name}.json"))
        return sum(weight.numel() for weight in generator.parameters())

    for name, other in (("misr_v1", "v1"), ("misr_v2", "v2"), ("misr_istft_v1", "istft_v1")):
        assert size(name) < 0.75 * size(other)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Return a function from a sampling rate to a corpus of two training clips and one validation clip."""
    made = {}

    def corpus(rate: int) -> Path:
        if rate not in made:
            folder = made[rate] = tmp_path_factory.mktemp(f"corpus{rate}")
            for number in range(3):
                write_wav(folder / f"clip{number}.wav", voice(0.4, rate, seed=number), rate)
            rows = [manifest_row(folder / f"clip{number}.wav") for number in range(3)]
            write_manifest(folder / "train.csv", rows[:2])
            write_manifest(folder / "test.csv", rows[2:])
        return made[rate]

    return corpus


def train_a_step(path: Path, corpus: Path, folder: Path, **settings) -> HiFiGANConfig:
    """Train the preset at `path` for one step with fewer channels; return the configuration to expect."""
    config = narrow(path)
    sizes = SMALL_VOCOS | {"upsample_initial_channel": None} if config.generator == "vocos" else {}
    settings = {
        "resblock_kernel_sizes": None, "resblock_dilation_sizes": None,
        "mpd_periods": None, "msd_num_downsamples": None,
        "segment_size": 8 * config.hop_size, "training_epochs": 1, "checkpoint_epochs": 9, "config": path,
    } | sizes | settings  # fmt: skip
    train_here(corpus, folder, **settings)
    (step,) = metrics(folder, "train")
    (val,) = metrics(folder, "val")
    assert step["step"] == 0
    values = [value for record in (step, val) for value in record.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in values)
    assert step["gen_grad_norm"] > 0 and step["disc_grad_norm"] > 0
    return config


@pytest.mark.parametrize("path", ALL_CONFIGS, ids=lambda path: path.stem)
def test_every_preset_trains_for_a_step_and_saves_its_configuration(path, corpora, tmp_path):
    rate = read_config(path).sampling_rate
    config = train_a_step(path, corpora(rate), tmp_path / "run")
    generator = load_generator(tmp_path / "run" / "final_checkpoint")
    found = replace(generator.config, mel_scale=config.mel_scale)
    assert found == config
    audio = generator(plausible(generator.config, 9))
    assert audio.shape == (1, 1, config.num_samples(9)) and audio.isfinite().all()


@pytest.mark.parametrize("names", [["mrd"], ["mpd", "mld"], ["mpd", "msd", "mrd"]], ids=" ".join)
def test_the_discriminators_of_a_run_are_chosen_by_flag(names, corpora, tmp_path):
    train_a_step(ROOT / "configs" / "v2.json", corpora(22050), tmp_path / "run", discriminators=names)
    folder = tmp_path / "run" / "final_checkpoint"
    assert read_config(folder).discriminators == tuple(names)
    assert {path.stem for path in folder.glob("m?d.safetensors")} == set(names)


def test_flags_override_the_variants_in_a_config_file(corpora, tmp_path):
    train_a_step(
        ROOT / "configs" / "v2.json", corpora(22050), tmp_path / "run",
        upsampling="resize", upsample_kernel_sizes=[15, 15, 5, 5],
        fusion="misr", resblock_num=2, resblock_kernel_size=5, resblock_dilation_sizes="(1,3)",
    )  # fmt: skip
    config = read_config(tmp_path / "run" / "final_checkpoint")
    assert (config.upsampling, config.upsample_kernel_sizes) == ("resize", (15, 15, 5, 5))
    assert (config.fusion, config.resblock_num, config.resblock_kernel_size) == ("misr", 2, 5)
    assert config.resblock_dilation_sizes == (1, 3)


# 16 kHz with a hop of 240: no size is a power of two.


@pytest.fixture(scope="module")
def config_16k() -> HiFiGANConfig:
    return read_config(ROOT / "configs" / "v1_16k.json")


def test_a_segment_at_16k_is_whole_frames_of_240_samples(config_16k, corpora):
    settings = json.loads((ROOT / "configs" / "v1_16k.json").read_text())
    assert settings["segment_size"] == 32 * 240
    clips = read_manifest(corpora(16000) / "train.csv", 16000)
    segments = SegmentDataset(clips, config_16k, 8 * 240, seed=0)
    starts = set()
    for epoch in range(5):
        audio = segments[epoch, 0]["audio"]
        assert audio.shape == (8 * 240,)
        assert MelSpectrogram(config_16k)(audio).shape == (80, 8)
        starts.add(float(audio[0]))
    assert len(starts) > 1


def test_griffin_lim_at_16k_keeps_timing_length_and_spectrum(config_16k):
    audio = np.concatenate([np.zeros(3000, np.float32), voice(0.4, 16000), np.zeros(4100, np.float32)])
    mel = MelSpectrogram(config_16k)(torch.from_numpy(audio))
    assert mel.shape == (80, len(audio) // 240)
    again = griffin_lim(mel, config_16k, iterations=20)
    assert again.shape == (mel.shape[1] * 240,)
    voiced = slice(16, 36)
    error = (MelSpectrogram(config_16k)(torch.from_numpy(again)) - mel)[:, voiced].abs().mean()
    assert float(error) * 20 / math.log(10) < 1.5  # decibels
    energy, original = (np.convolve(x**2, np.ones(801), mode="same") for x in (again, audio[: len(again)]))
    energy, original = energy - energy.mean(), original - original.mean()
    lag = int(np.correlate(energy, original, mode="full").argmax()) - (len(again) - 1)
    assert abs(lag) <= 20  # samples


def test_a_wav_at_16k_goes_through_a_16k_vocoder(corpora, tmp_path):
    train_a_step(ROOT / "configs" / "v1_16k.json", corpora(16000), tmp_path / "run")
    inference.main(
        [
            f"--checkpoint_file={tmp_path / 'run' / 'final_checkpoint'}",
            f"--input_wavs_dir={corpora(16000)}",
            f"--output_dir={tmp_path / 'out'}",
            "--device=cpu",
        ]
    )
    info = soundfile.info(tmp_path / "out" / "clip0_generated.wav")
    assert (info.samplerate, info.frames) == (16000, int(0.4 * 16000) // 240 * 240)


def reach_in_frames(generator: Generator) -> float:
    """Return how many frames before or after its own samples a mel frame still affects the audio.

    NaN propagates to all values computed from it. oneDNN's convolutions are turned off because they compute
    in tiles, in which NaN also reaches neighbors.
    """
    config, context = generator.config, generator.context_frames
    middle = context + 2
    mel = torch.zeros(1, config.num_mels, 2 * middle + 1)
    mel[..., middle] = torch.nan
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False):
            touched = generator(mel)[0, 0].isnan().nonzero().flatten()
    first, last = int(touched.min()) / config.hop_size, (int(touched.max()) + 1) / config.hop_size
    assert first > 0 and last < mel.shape[-1], "it reaches the ends: the mel is too short to tell how far"
    return max(middle - first, last - (middle + 1))


@every_config
def test_the_context_is_exactly_the_receptive_field_of_each_preset(path):
    generator = build_generator(narrow(path)).eval()
    assert math.ceil(reach_in_frames(generator)) == generator.context_frames


ODD_SIZES = {
    "kernels shorter and longer": {"upsample_kernel_sizes": (8, 24, 2, 10)},
    "stages of 5, 5, 4, 3": {
        "hop_size": 300, "upsample_rates": (5, 5, 4, 3), "upsample_kernel_sizes": (11, 9, 8, 5)
    },
    "one stage": {"hop_size": 7, "upsample_rates": (7,), "upsample_kernel_sizes": (15,)},
    "wide dilations": {"resblock_dilation_sizes": ((1, 27), (9,)), "resblock": "2"},
    "wide transform": {**ISTFT, "gen_istft_n_fft": 64},
    "transform of odd sizes": {
        "hop_size": 240, "upsample_rates": (8, 6), "upsample_kernel_sizes": (16, 12),
        "gen_istft_n_fft": 18, "gen_istft_hop_size": 5,
    },
    "resize": RESIZE,
    "misr with wide kernels": {**MISR, "resblock_kernel_size": 21},
    "match": MATCH,
    "match with short frames": {**ISTFT, **MATCH, "n_fft": 600, "window_size": 600},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_SIZES)
@torch.inference_mode()
def test_the_context_covers_the_receptive_field_of_odd_sizes(name):
    generator = audible(small_config(**ODD_SIZES[name]))
    reach = reach_in_frames(generator)
    assert reach <= generator.context_frames < reach + 2
    mel = plausible(generator.config, 67)
    streamed = torch.cat(list(generator.stream(mel.split(5, dim=-1))), dim=-1)
    torch.testing.assert_close(streamed, generator(mel), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_changed_frame_changes_no_audio_outside_the_context():
    for path in CONFIGS:
        generator = audible(narrow(path))
        config, context = generator.config, generator.context_frames
        mel = plausible(config, 3 * context)
        changed, middle = mel.clone(), 3 * context // 2
        changed[..., middle] += 2.0
        difference = (generator(changed) - generator(mel)).abs()[0, 0].unflatten(0, (-1, config.hop_size))
        assert difference[middle].max() > 1e-4, path.stem
        far = torch.cat([difference[: middle - context], difference[middle + context + 1 :]])
        assert far.max() < 1e-6, path.stem


# the others differ from one of these only in channels, mel bands or sampling rate
@pytest.mark.parametrize("name", ["v1", "v1_16k", "v1_48k", "v3", "misr_v1", "istft_v1", "misr_istft_v1"])
@torch.inference_mode()
def test_streamed_audio_equals_the_audio_of_the_whole_mel(name):
    generator = audible(narrow(ROOT / "configs" / f"{name}.json"))
    config = generator.config
    for size, frames in ((1, 2 * generator.context_frames + 5), (2, 61), (7, 75), (200, 411), (200, 3)):
        mel = plausible(config, frames, batch=2)
        whole = generator(mel)
        streamed = torch.cat(list(generator.stream(mel.split(size, dim=-1))), dim=-1)
        # the inverse transform is unbounded, so differences are relative to its peak; other audio is in ±1
        peak = max(1.0, float(whole.abs().max()))
        torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5 * peak, msg=f"chunks of {size}")


@torch.inference_mode()
def test_chunks_of_any_size_produce_the_same_audio():
    generator = audible(small_config())
    mel = plausible(generator.config, 140)
    chunks = mel.split([1, 0, 30, 2, 0, 64, 43], dim=-1)
    for max_frames in (512, 20, 1):
        streamed = torch.cat(list(generator.stream(iter(chunks), max_frames)), dim=-1)
        torch.testing.assert_close(streamed, generator(mel), rtol=0, atol=1e-5)
    assert list(generator.stream([])) == []


@torch.inference_mode()
def test_audio_is_returned_as_soon_as_its_context_is_available():
    generator = audible(small_config())
    context, hop_size = generator.context_frames, generator.config.hop_size
    given = 0

    def frames():
        nonlocal given
        for frame in plausible(generator.config, 60).split(1, dim=-1):
            given += 1
            yield frame

    done = 0
    for chunk in generator.stream(frames()):
        done += chunk.shape[-1] // hop_size
        assert done in (given - context, 60)
    assert done == 60


@torch.inference_mode()
def test_streaming_calls_the_generator_on_bounded_parts_of_the_mel():
    generator, lengths = audible(small_config()), []
    generator.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[-1]))
    for size in (10, 400):
        list(generator.stream(plausible(generator.config, 400).split(size, dim=-1), max_frames=32))
    assert max(lengths) <= 32 + 2 * generator.context_frames


@pytest.mark.parametrize(("mrd_channels", "channels"), [(None, 64 // 32), (5, 5)])
@torch.inference_mode()
def test_the_multi_resolution_discriminator_scores_each_resolution(mrd_channels, channels):
    config = small_config(discriminators=("mrd",), discriminator_channels=64, mrd_channels=mrd_channels)
    model, audio = MultiResolutionDiscriminator(config), torch.from_numpy(voice(0.4))[None, None]
    audio = torch.cat([audio, 0.5 * audio])[..., :8192]
    scores, feature_maps = model(audio)
    assert (type(scores), len(scores), type(feature_maps), len(feature_maps)) == (list, 3, list, 3)
    for score, maps, (n_fft, hop_size, _) in zip(scores, feature_maps, config.mrd_resolutions, strict=True):
        assert score.ndim == 2 and len(score) == 2
        assert [m.shape[1] for m in maps] == [channels] * 5 + [1]
        assert tuple(maps[0].shape[2:]) == (8192 // hop_size, n_fft // 2 + 1)
        assert torch.equal(maps[-1].flatten(1), score)
    for flipped, score in zip(model(-audio)[0], scores, strict=True):  # magnitudes do not depend on the sign
        torch.testing.assert_close(flipped, score)


def test_discriminators_are_combined_in_the_order_of_the_config():
    config = small_config(discriminators=("mrd", "mpd", "msd"))
    model, audio = Discriminators(config), torch.from_numpy(voice(0.2))[None, None].requires_grad_()
    assert [name for name, _ in model.named_children()] == ["mrd", "mpd", "msd"]
    scores, feature_maps = model.eval()(audio)
    apart = [score for part in model.children() for score in part(audio)[0]]
    assert len(scores) == len(feature_maps) == 3 + 2 + 2
    assert all(torch.equal(one, other) for one, other in zip(scores, apart, strict=True))
    sum(score.square().mean() for score in scores).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.mrd.parameters())
    assert audio.grad.abs().sum() > 0


def test_a_resolution_is_judged_by_magnitudes_of_hann_windows():
    judge = ResolutionDiscriminator((512, 128, 400), 4)
    seen = []
    judge.convs[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    audio = torch.randn(2, 1, 2048)
    judge(audio)
    padded = torch.nn.functional.pad(audio, (192, 192), mode="reflect")[:, 0]
    window = torch.hann_window(400)
    expected = torch.stft(padded, 512, 128, 400, window, center=False, return_complex=True).abs()
    torch.testing.assert_close(seen[0][:, 0], expected.transpose(1, 2))


def test_a_frame_is_judged_by_the_logarithms_of_all_its_bins():
    judge, audio = FrameDiscriminator(600, 8), torch.from_numpy(voice(0.4))[None, None, :8192]
    seen = []
    judge.convs[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    score, maps = judge(torch.cat([audio, 0.1 * audio, 0 * audio]))
    assert score.shape == (3, 1 + 8192 // 150)
    assert [m.shape for m in maps] == [(3, 8, 55)] * 4 + [(3, 1, 55)]
    loud, soft, silent = seen[0]
    assert loud.shape == (301, 55)
    expected = torch.stft(audio[0], 600, 150, window=torch.hann_window(600), return_complex=True)[0].abs()
    is_loud = expected > 0.1
    torch.testing.assert_close(loud[is_loud], (expected[is_loud].log() + 2) / 2.5)
    # ten times softer: the same step everywhere, so soft parts count as much as loud ones
    torch.testing.assert_close((loud - soft)[is_loud], torch.full_like(loud[is_loud], math.log(10) / 2.5))
    torch.testing.assert_close(silent, torch.full_like(silent, (math.log(1e-3) + 2) / 2.5))


def test_an_image_of_a_spectrum_is_judged_by_its_logarithms():
    judge, audio = LogImageDiscriminator(600, 4), torch.from_numpy(voice(0.4))[None, None, :8192]
    seen = []
    judge.convs[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    score, maps = judge(torch.cat([audio, 0.1 * audio]))
    assert [m.shape[1:] for m in maps] == [
        (4, 55, 76),
        (4, 55, 38),
        (8, 55, 19),
        (8, 55, 10),
        (8, 55, 10),
        (1, 55, 10),
    ]
    assert torch.equal(score, maps[-1].flatten(1))
    loud, soft = seen[0].squeeze(1)
    frames = FrameDiscriminator(600, 8)
    frames.convs[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    frames(audio)
    torch.testing.assert_close(loud, seen[1][0].T)
    assert float((loud - soft).max()) == pytest.approx(math.log(10) / 2.5, abs=1e-3)


def test_the_log_spectrum_discriminator_has_three_sizes_of_frames_and_an_image():
    model = MultiLogSpectrumDiscriminator(small_config())
    assert [len(judge.window) for judge in model.discriminators] == [1200, 600, 2400, 1200]
    assert [judge.convs[1].weight.shape[0] for judge in model.discriminators] == [256, 256, 256, 16]


@pytest.mark.parametrize("discriminator", [MultiResolutionDiscriminator, MultiLogSpectrumDiscriminator])
def test_gradients_of_discriminators_of_spectra_are_finite_in_silence(discriminator):
    model = discriminator(small_config())
    audio = torch.zeros(1, 1, 4096, requires_grad=True)
    scores, _ = model(audio)
    sum(score.mean() for score in scores).backward()
    assert audio.grad.isfinite().all()


@torch.inference_mode()
def test_the_denoiser_agrees_with_nvidias(shared, reference):
    expected = reference("lj_v2")
    denoiser = Denoiser(load_generator(shared / "pretrained" / "LJ_V2"))
    audio = torch.from_numpy(expected["audio"].ravel())
    for strength in (0.005, 0.1):
        denoised = denoiser(audio, strength)
        np.testing.assert_allclose(denoised, expected[f"denoised_{strength}"].ravel(), rtol=0, atol=1e-4)
    assert (denoiser(audio, 0.1) - audio).abs().max() > 1e-3


@torch.inference_mode()
def test_the_denoiser_accepts_a_batch_and_changes_nothing_at_strength_0():
    denoiser = Denoiser(audible(small_config()))
    audio = torch.from_numpy(np.stack([voice(0.3), voice(0.3, seed=1)]))
    assert torch.equal(denoiser(audio, 0.0), audio)
    assert torch.equal(denoiser(audio[0, :512], 0.1), audio[0, :512])  # too short for the transform
    assert not torch.equal(denoiser(audio[0, :513], 0.1), audio[0, :513])
    together = denoiser(audio, 0.1)
    assert together.shape == audio.shape
    torch.testing.assert_close(together[1], denoiser(audio[1], 0.1))


@torch.inference_mode()
def test_the_denoiser_does_not_depend_on_the_mel_scale():
    ln = audible(small_config(mel_scale="ln"))
    db = build_generator(replace(ln.config, mel_scale="db")).eval()
    db.load_state_dict(ln.state_dict())
    db.conv_pre.register_forward_pre_hook(lambda conv, inputs: (db.config.to_ln(inputs[0]),))
    torch.testing.assert_close(Denoiser(db).bias, Denoiser(ln).bias, rtol=1e-3, atol=1e-4)
