import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, official_names, small_config, small_generator, voice
from torch.nn.utils import parametrize

import config
from checkpoint import load_weights, read_config
from common.errors import UserError
from config import HiFiGANConfig
from generators import build
from generators.build import Discriminators
from losses import adversarial_loss, discriminator_loss, feature_matching_loss, mel_loss
from mel import MelConfig, MelSpectrogram
from model import RESBLOCKS, Generator, MultiPeriodDiscriminator, MultiScaleDiscriminator, PeriodDiscriminator

V3_SIZES = {
    "resblock": "2",
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": (3, 5, 7),
    "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
}


def filled(model: torch.nn.Module, formula, seed: int) -> torch.nn.Module:
    """Return the model with the reference's weights, loaded under their official names."""
    load_weights(model, formula.fill(official_names(model.state_dict()), seed), Path("formula.fill"))
    return model.eval()


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@torch.inference_mode()
def test_the_generator_agrees_with_the_official_one(version, formula, reference):
    official = reference(f"generator_{version}")
    seed, frames = int(official["seed"]), int(official["frames"])
    config = HiFiGANConfig.from_dict(json.loads(str(official["config"])))
    audio = filled(Generator(config), formula, seed)(formula.mel(frames, seed))
    np.testing.assert_allclose(audio.flatten(), official["audio"].ravel(), atol=1e-4)


@pytest.fixture(scope="module")
def judged(formula, reference):
    """The reference outputs, and our discriminators' outputs for the same real and generated audio."""
    official = reference("discriminators")
    seed, samples = int(official["seed"]), int(official["samples"])
    real, generated = formula.audio(samples, seed), 0.7 * formula.audio(samples, seed + 1)
    models = Discriminators(HiFiGANConfig())
    with torch.inference_mode():
        ours = {
            name: (filled(model, formula, seed)(real), model(generated))
            for name, model in models.named_children()
        }
    return official, models, ours, (real, generated)


@pytest.mark.parametrize("name", ["mpd", "msd"])
def test_scores_feature_maps_and_losses_agree_with_the_official_ones(name, judged):
    official, _, ours, _ = judged
    (real_scores, real_maps), (generated_scores, generated_maps) = ours[name]
    for scores, half in ((real_scores, "real"), (generated_scores, "generated")):
        np.testing.assert_allclose(
            [s.mean() for s in scores], official[f"{name}_{half}"], rtol=1e-3, atol=1e-6
        )
    differences = [
        [float((real - generated).abs().mean()) for real, generated in zip(*maps, strict=True)]
        for maps in zip(real_maps, generated_maps, strict=True)
    ]
    # the deepest features are so small that rounding, which depends on the processor, is visible in them
    np.testing.assert_allclose(differences, official[f"{name}_feature_l1"], rtol=1e-3, atol=1e-8)
    losses = {
        "discriminator_loss": discriminator_loss(real_scores, generated_scores),
        "generator_loss": adversarial_loss(generated_scores),
        "feature_loss": 2
        * feature_matching_loss(real_maps, generated_maps),  # the official loss includes its weight
    }
    for loss, value in losses.items():
        assert float(value) == pytest.approx(float(official[f"{name}_{loss}"]), rel=1e-3)


def test_the_weighted_mel_loss_agrees_with_the_official_one(judged):
    official, _, _, (real, generated) = judged
    frontend = MelSpectrogram(MelConfig(mel_scale="ln", fmax=None))
    loss = 45 * mel_loss(frontend(real), frontend(generated))
    assert float(loss) == pytest.approx(float(official["mel_loss"]), rel=1e-3)


@pytest.mark.parametrize("name", ["mpd", "msd"])
def test_discriminators_have_the_official_layers_in_the_official_order(name, judged):
    official, models, _, _ = judged
    assert list(official_names(getattr(models, name).state_dict())) == official[f"{name}_keys"].tolist()


def test_the_generator_has_the_layers_of_the_published_one(shared):
    folder = shared / "pretrained" / "LJ_V2"
    published = torch.load(folder / "generator_v2", map_location="cpu", weights_only=True)["generator"]
    ours = official_names(Generator(read_config(folder)).state_dict())
    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in published.items()}


@pytest.mark.parametrize(("version", "millions"), [("v1", 13.93), ("v2", 0.93), ("v3", 1.46)])
def test_the_generator_has_the_number_of_parameters_in_the_paper(version, millions):
    generator = Generator(read_config(ROOT / "configs" / f"{version}.json")).fold_weight_norm()
    assert round(sum(weight.numel() for weight in generator.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        V3_SIZES,
        {"hop_size": 300, "upsample_rates": (5, 5, 4, 3), "upsample_kernel_sizes": (11, 9, 8, 5)},
        {"hop_size": 240, "upsample_rates": (10, 6, 4), "upsample_kernel_sizes": (10, 12, 8), "num_mels": 64},
        {
            "hop_size": 7,
            "upsample_rates": (7,),
            "upsample_kernel_sizes": (15,),
            "resblock_kernel_sizes": (3, 1),
        },
    ],
    ids=["V1", "V3", "hop 300", "hop 240", "one stage"],
)
@torch.inference_mode()
def test_each_frame_becomes_hop_size_samples_between_minus_1_and_1(sizes):
    generator = small_generator(**sizes)
    config = generator.config
    for batch, frames in ((1, 1), (2, 2), (3, 17)):
        audio = generator(torch.randn(batch, config.num_mels, frames))
        assert audio.shape == (batch, 1, frames * config.hop_size)
        assert audio.abs().max() < 1


@torch.inference_mode()
def test_clips_of_a_batch_do_not_affect_each_other():
    generator, mels = small_generator(), torch.randn(3, 80, 9)
    together = generator(mels)
    torch.testing.assert_close(together[1:2], generator(mels[1:2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sizes", [{}, V3_SIZES], ids=["V1", "V3"])
@torch.inference_mode()
def test_folding_the_weight_norm_changes_nothing_but_the_parameters(sizes):
    generator = small_generator(**sizes)
    for name, parameter in generator.named_parameters():
        if name.endswith("original0"):  # magnitudes unlike those of a new layer
            parameter.mul_(torch.linspace(0.5, 1.5, parameter.numel()).view_as(parameter))
    mel = torch.randn(1, 80, 11)
    before, count = generator(mel), len(list(generator.parameters()))
    folded = generator.fold_weight_norm()
    torch.testing.assert_close(folded(mel), before, rtol=0, atol=1e-6)
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert len(list(folded.parameters())) < count
    torch.testing.assert_close(folded.fold_weight_norm()(mel), before, rtol=0, atol=1e-6)


def test_every_weight_of_the_generator_has_a_gradient():
    for sizes in ({}, V3_SIZES):
        generator = small_generator(**sizes)
        generator(torch.randn(2, 80, 8)).square().mean().backward()
        for name, parameter in generator.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hop_size": 300}, ["8 x 8 x 2 x 2 = 256", "300"]),
        ({"upsample_rates": [8, 8, 4]}, ["upsample_kernel_sizes has 4", "upsample_rates 3"]),
        ({"upsample_kernel_sizes": [15, 16, 4, 4]}, ["by 8 with kernel 15", "= 7", "even"]),
        ({"upsample_kernel_sizes": [16, 16, 4, 1]}, ["by 2 with kernel 1", "= -1"]),
        ({"upsample_rates": []}, ["upsample_rates is empty"]),
        ({"upsample_rates": [8, 8, -2, -2]}, ["upsample_rates", "-2", "at least 1"]),
        ({"resblock_kernel_sizes": [3, 7]}, ["resblock_dilation_sizes has 3", "resblock_kernel_sizes 2"]),
        ({"resblock_kernel_sizes": [3, 7, 10]}, ["kernel 10", "odd"]),
        ({"resblock_dilation_sizes": [[1, 3], [1, 0], [1, 3]]}, ["holds (1, 0)", "positive"]),
        ({"resblock_dilation_sizes": [[1, 3], [], [1, 3]]}, ["holds ()", "positive"]),
        ({"resblock_dilation_sizes": [1, 3, 5]}, ["resblock_dilation_sizes holds 1", "lists"]),
        ({"upsample_initial_channel": 24}, ["24", "halved 4 times", "16"]),
        ({"upsample_initial_channel": 0}, ["upsample_initial_channel is 0"]),
        ({"resblock": "3"}, ["'3'", "one of 1, 2"]),
        ({"mpd_periods": []}, ["mpd_periods"]),
        ({"mpd_periods": [2, 0]}, ["mpd_periods", "0"]),
        ({"msd_num_downsamples": -1}, ["msd_num_downsamples", "-1"]),
        ({"discriminator_channels": 48}, ["48", "multiple of 32"]),
        ({"discriminator_channels": 0}, ["0", "at least 32"]),
        ({"fmax_loss": 12000.0}, ["12000", "11025"]),
        ({"fmax_loss": 0.0}, ["fmax_loss", "0.0"]),
        ({"fmin": 50.0, "fmax_loss": 50.0}, ["fmax_loss 50.0", "fmin 50.0"]),
        ({"generator": "vocos", "hop_size": 1024}, ["n_fft is 1024", "larger than hop_size 1024"]),
        ({"upsample_rates": "8,8,2,2"}, ["wrong type"]),
        ({"upsample_initial_channel": "512"}, ["wrong type"]),
        ({"window_size": 2048}, ["window_size 2048", "n_fft 1024"]),
    ],
)
def test_an_impossible_configuration_is_refused_with_the_arithmetic(settings, words):
    with pytest.raises(UserError) as error:
        HiFiGANConfig.from_dict(settings)
    assert all(word in str(error.value) for word in words), error.value


def test_the_extremes_of_sizes_are_allowed():
    config = HiFiGANConfig(
        upsample_rates=(8, 8), upsample_kernel_sizes=(8, 8), upsample_initial_channel=4, gen_istft_n_fft=8,
        gen_istft_hop_size=4, msd_num_downsamples=0, discriminator_channels=32, fmax_loss=11025.0,
    )  # fmt: skip
    assert build.build_generator(config)(torch.zeros(1, 80, 3)).shape == (1, 1, 3 * 256)
    assert len(Discriminators(config).msd(torch.zeros(1, 1, 64))[0]) == 1


@pytest.mark.parametrize(
    ("settings", "shortest"),
    [
        ({"discriminators": ("mpd",), "mpd_periods": (2, 37)}, 37),
        ({"discriminators": ("mrd",), "mrd_resolutions": ((32, 7, 16), (16, 1, 16))}, 14),
        ({"discriminators": ("mld",)}, 1201),
    ],
)
def test_the_shortest_segment_is_the_shortest_that_the_discriminators_judge(settings, shortest):
    config = HiFiGANConfig(**settings, discriminator_channels=32)
    config.check_segment_size(shortest)
    Discriminators(config)(torch.zeros(1, 1, shortest))
    with pytest.raises(UserError, match=f"at least {shortest}"):
        config.check_segment_size(shortest - 1)


def test_a_numeric_resblock_is_accepted():
    assert HiFiGANConfig.from_dict({"resblock": 2}).resblock == "2"


@pytest.mark.parametrize("samples", [8192, 8191, 4096])
@torch.inference_mode()
def test_discriminators_return_scores_and_feature_maps_per_sub_discriminator(samples):
    config = small_config(mpd_periods=(2, 3, 5, 7, 11), msd_num_downsamples=2)
    audio = torch.randn(2, 1, samples)
    for model, parts, layers in (
        (MultiPeriodDiscriminator(config), 5, 6),
        (MultiScaleDiscriminator(config), 3, 8),
    ):
        scores, feature_maps = model(audio)
        assert (type(scores), len(scores)) == (list, parts)
        assert (type(feature_maps), len(feature_maps)) == (list, parts)
        for score, maps in zip(scores, feature_maps, strict=True):
            assert score.ndim == 2 and len(score) == 2
            assert len(maps) == layers
            assert torch.equal(maps[-1].flatten(1), score)


@torch.inference_mode()
def test_the_combined_discriminators_equal_the_separate_ones():
    config = small_config()
    model, audio = Discriminators(config).eval(), torch.randn(1, 1, 4096)
    scores, feature_maps = model(audio)
    apart = [part(audio) for part in (model.mpd, model.msd)]
    for ours, theirs in zip(scores, apart[0][0] + apart[1][0], strict=True):
        assert torch.equal(ours, theirs)
    assert len(feature_maps) == len(scores) == 2 + 2


@pytest.mark.parametrize("width", [32, 64, 96])
def test_narrow_discriminators_keep_the_proportions(width):
    model = Discriminators(small_config(discriminator_channels=width, msd_num_downsamples=1))
    scores, feature_maps = model(torch.from_numpy(voice(0.2))[None, None])
    (
        discriminator_loss(scores, scores) + sum(m.abs().mean() for maps in feature_maps for m in maps)
    ).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    period, scale = feature_maps[0], feature_maps[-1]
    assert [maps.shape[1] for maps in period] == [width // 32, width // 8, width // 2, width, width, 1]
    eighth = [width // 8, width // 8, width // 4, width // 2]
    assert [maps.shape[1] for maps in scale] == [*eighth, width, width, width, 1]


def test_only_the_full_rate_scale_has_spectral_norm():
    for downsamples in (0, 2):
        model = MultiScaleDiscriminator(small_config(msd_num_downsamples=downsamples))
        assert len(model.discriminators) == 1 + downsamples
        for scale, discriminator in enumerate(model.discriminators):
            names = {name.rpartition(".")[2] for name in official_names(discriminator.state_dict())}
            normed = {"weight_orig", "weight_u", "weight_v"} if scale == 0 else {"weight_g", "weight_v"}
            assert names == {"bias"} | normed


@torch.inference_mode()
def test_each_scale_receives_the_previous_one_at_half_the_rate():
    model = MultiScaleDiscriminator(small_config(msd_num_downsamples=2)).eval()
    audio = torch.randn(1, 1, 4096)
    scores, _ = model(audio)
    for score, discriminator in zip(scores, model.discriminators, strict=True):
        assert torch.equal(score, discriminator(audio)[0])
        padded = torch.nn.functional.pad(audio, (2, 2))
        audio = padded.unfold(-1, 4, 2).mean(-1)


@torch.inference_mode()
def test_a_period_discriminator_combines_only_samples_one_period_apart():
    model = PeriodDiscriminator(period=5, width=32)
    audio = torch.randn(1, 1, 5 * 405)
    disturbed = audio.clone()
    disturbed[..., 3::5] += 1.0
    for before, after in zip(model(audio)[1], model(disturbed)[1], strict=True):
        assert torch.equal(before[..., [0, 1, 2, 4]], after[..., [0, 1, 2, 4]])
        assert not torch.equal(before[..., 3], after[..., 3])
    positions = math.ceil(405 / 81)
    assert model(audio)[0].shape == (1, positions * 5)


def test_the_configuration_lists_everything_that_can_be_built():
    assert tuple(build.GENERATORS) == config.GENERATORS
    assert tuple(build.DISCRIMINATORS) == config.DISCRIMINATORS
    assert tuple(RESBLOCKS) == config.RESBLOCKS
    for settings in (
        {"upsampling": "resize", "upsample_kernel_sizes": (17, 17, 5, 5)},
        {"fusion": "misr", "resblock_dilation_sizes": (1, 3, 5)},
    ):
        kind = {type(module).__name__ for module in build.build_generator(small_config(**settings)).modules()}
        assert kind & {"ResizeConvolution", "MultiInputSharedResidual"}
