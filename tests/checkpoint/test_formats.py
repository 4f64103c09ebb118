import importlib
import itertools
import json
import pickle
import re
import socket
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from helpers import ROOT, call
from torch import nn
from torch.nn.utils import remove_weight_norm, spectral_norm, weight_norm

import inference
from checkpoint import load_generator, load_pretrained, read_config, save_model
from checkpoint.__main__ import main
from checkpoint.files import read_weights
from checkpoint.formats import official as official_format
from checkpoint.hub import last_validation
from checkpoint.weights import official_name
from common.errors import UserError
from config import HiFiGANConfig
from generators.build import Discriminators, build_generator
from mel import MelSpectrogram, convert_mel_scale
from model import Generator

MEL = torch.randn(1, 80, 40, generator=torch.Generator().manual_seed(1)) * 2 - 5

V1 = {"upsample_initial_channel": 32}
V3 = {
    "resblock": "2",
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": (3, 5, 7),
    "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
}
MISR = {"fusion": "misr", "upsample_initial_channel": 32, "resblock_dilation_sizes": (1, 3, 5)}


def make_generator(seed: int = 0, **settings) -> Generator:
    """Return a generator with weights so large that every part affects the audio.

    The weight norm's magnitudes differ from the norms of its directions.
    """
    torch.manual_seed(seed)
    generator = build_generator(HiFiGANConfig(**{"mel_scale": "ln"} | V1 | settings)).eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("original0"):
                parameter.mul_(1.5)
    return generator


@torch.no_grad()
def audio_of(generator: nn.Module, mel: torch.Tensor = MEL) -> torch.Tensor:
    return generator(mel)


def assert_same_audio(audio: torch.Tensor, other: torch.Tensor, edge: int = 0, atol: float = 1e-6) -> None:
    """Assert equality except for `edge` samples at either end, and that the audio is not silent."""
    assert other.abs().max() > 0.01
    inside = slice(edge, audio.shape[-1] - edge)
    torch.testing.assert_close(audio[..., inside], other[..., inside], rtol=0, atol=atol)


def run_convert(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "checkpoint", "convert", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def convert(source: Path, target: Path, to: str, *flags: str) -> Path:
    main(["convert", str(source), str(target), "--to", to, *flags])
    return target


# An official code in miniature: old-style norms, the official names, made in the official order.


def old_conv(c_in: int, c_out: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    return nn.Conv1d(c_in, c_out, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


class OldBlock(nn.Module):
    def __init__(self, kind: str, channels: int, kernel: int, dilations: list[int]):
        super().__init__()
        dilated = [weight_norm(old_conv(channels, channels, kernel, d)) for d in dilations]
        if kind == "1":
            self.convs1 = nn.ModuleList(dilated)
            self.convs2 = nn.ModuleList(weight_norm(old_conv(channels, channels, kernel)) for _ in dilations)
        else:
            self.convs = nn.ModuleList(dilated)

    def forward(self, x):
        both = hasattr(self, "convs1")
        for convs in zip(self.convs1, self.convs2, strict=True) if both else zip(self.convs, strict=True):
            y = x
            for conv in convs:
                y = conv(F.leaky_relu(y, 0.1))
            x = x + y
        return x


class OldGenerator(nn.Module):
    def __init__(self, h: dict):
        super().__init__()
        width = h["upsample_initial_channel"]
        widths = [width // 2 ** (i + 1) for i in range(len(h["upsample_rates"]))]
        self.conv_pre = weight_norm(old_conv(h["num_mels"], width, 7))
        self.ups = nn.ModuleList()
        rates, kernels = h["upsample_rates"], h["upsample_kernel_sizes"]
        for rate, kernel, channels in zip(rates, kernels, widths, strict=True):
            up = nn.ConvTranspose1d(2 * channels, channels, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
        self.num = h.get("resblock_num")
        if self.num:
            self.expand_convs = nn.ModuleList(nn.Conv1d(c, c * self.num, 1) for c in widths)
            self.reduce_convs = nn.ModuleList(nn.Conv1d(c * self.num, c, 1) for c in widths)
            shapes = [(h["resblock_kernel_size"], h["resblock_dilation_sizes"])]
        else:
            shapes = list(zip(h["resblock_kernel_sizes"], h["resblock_dilation_sizes"], strict=True))
        blocks = [OldBlock(h["resblock"], c, *shape) for c in widths for shape in shapes]
        self.resblocks = nn.ModuleList(blocks)
        self.conv_post = weight_norm(old_conv(widths[-1], 1, 7))

    def forward(self, mel):
        x = self.conv_pre(mel)
        per_stage = len(self.resblocks) // len(self.ups)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            if self.num:
                y = self.expand_convs[i](x)
                y = self.resblocks[i](y.reshape(len(x) * self.num, -1, x.shape[-1]))
                x = self.reduce_convs[i](y.reshape(len(x), -1, x.shape[-1]))
            else:
                x = sum(block(x) for block in self.resblocks[i * per_stage : (i + 1) * per_stage]) / per_stage
        return torch.tanh(self.conv_post(F.leaky_relu(x)))

    def remove_weight_norm(self):
        for module in self.modules():
            if hasattr(module, "weight_g"):
                remove_weight_norm(module)
        return self


def old_discriminators(width: int, num_mpd: int = 5, num_msd: int = 3) -> dict[str, nn.Module]:
    """Return the parameters of mpd and msd, without their computation."""
    half, quarter, eighth, last = width // 2, width // 4, width // 8, width // 32
    columns = [(pair, (5, 1)) for pair in itertools.pairwise((1, last, eighth, half, width, width))]
    mpd = [
        [weight_norm(nn.Conv2d(*pair, kernel)) for pair, kernel in [*columns, ((width, 1), (3, 1))]]
        for _ in range(num_mpd)
    ]
    shapes = [
        (1, eighth, 15, 1), (eighth, eighth, 41, 4), (eighth, quarter, 41, 16), (quarter, half, 41, 16),
        (half, width, 41, 16), (width, width, 41, 16), (width, width, 5, 1), (width, 1, 3, 1),
    ]  # fmt: skip
    msd = [
        [norm(nn.Conv1d(a, b, k, groups=np.gcd(groups, a))) for a, b, k, groups in shapes]
        for norm in [spectral_norm] + [weight_norm] * (num_msd - 1)
    ]

    def assemble(layers: list[list[nn.Module]]) -> nn.Module:
        parts = [nn.ModuleDict({"convs": nn.ModuleList(one[:-1]), "conv_post": one[-1]}) for one in layers]
        return nn.ModuleDict({"discriminators": nn.ModuleList(parts)})

    return {"mpd": assemble(mpd), "msd": assemble(msd)}


def resume_officially(folder: Path, steps: int, discriminators: dict[str, nn.Module]):
    """Load as the official train.py does before its first step; return (generator, optim_g, optim_d)."""
    h = json.loads((folder / "config.json").read_text())
    do = torch.load(folder / f"do_{steps:08d}", weights_only=True)
    assert do["steps"] == steps
    generator = OldGenerator(h)
    generator.load_state_dict(torch.load(folder / f"g_{steps:08d}", weights_only=True)["generator"])
    for name, discriminator in discriminators.items():
        discriminator.load_state_dict(do[name])
    both = itertools.chain(discriminators["msd"].parameters(), discriminators["mpd"].parameters())
    optimizers = []
    for name, parameters in (("optim_g", generator.parameters()), ("optim_d", both)):
        optimizer = torch.optim.AdamW(parameters, h["learning_rate"], betas=[h["adam_b1"], h["adam_b2"]])
        optimizer.load_state_dict(do[name])
        torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=h["lr_decay"], last_epoch=do["epoch"])
        optimizers.append(optimizer)
    return generator, *optimizers


# The keys that the official train.py, inference.py and models.py read from config.json.
OFFICIAL_KEYS = {
    "resblock", "num_gpus", "batch_size", "learning_rate", "adam_b1", "adam_b2", "lr_decay", "seed",
    "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel", "resblock_dilation_sizes",
    "segment_size", "num_mels", "num_freq", "n_fft", "hop_size", "win_size", "sampling_rate", "fmin", "fmax",
    "fmax_for_loss", "num_workers", "dist_config",
}  # fmt: skip


@pytest.mark.parametrize("settings", [V1, V3, MISR], ids=["v1", "v3", "misr"])
def test_the_official_code_generates_the_same_audio_from_an_export(tmp_path, capsys, settings):
    ours = make_generator(**settings, fmax_loss=10000.0)
    save_model(tmp_path / "model", ours.config, generator=ours)
    convert(tmp_path / "model", tmp_path / "out", "official")
    assert f"{tmp_path / 'out'} holds config.json, g_00000000\n" in capsys.readouterr().out

    h = json.loads((tmp_path / "out" / "config.json").read_text())
    fusion = {"resblock_num", "resblock_kernel_size"} if settings is MISR else {"resblock_kernel_sizes"}
    assert set(h) == OFFICIAL_KEYS | fusion
    assert (h["win_size"], h["fmax_for_loss"], h["fmax"]) == (1024, 10000.0, 8000.0)
    official = OldGenerator(h).eval()
    assert not zipfile.is_zipfile(tmp_path / "out" / "g_00000000")  # PyTorch 1.4 cannot read this format
    contents = torch.load(tmp_path / "out" / "g_00000000", weights_only=True)
    official.load_state_dict(contents["generator"], strict=True)
    assert_same_audio(audio_of(official), audio_of(ours))
    assert_same_audio(audio_of(official.remove_weight_norm()), audio_of(ours))

    again = load_generator(tmp_path / "out")
    assert again.config == ours.config
    assert_same_audio(audio_of(again), audio_of(ours))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_exported_names_and_shapes_equal_the_official_ones(tmp_path, reference_config, version):
    config = HiFiGANConfig.from_dict(reference_config(version))
    weights = official_format.official_weights(build_generator(config))
    expected = OldGenerator(reference_config(version)).state_dict()
    assert list(weights) == list(expected)  # the order matters, as it numbers the optimizer's parameters
    assert all(weights[name].shape == expected[name].shape for name in expected)


@pytest.fixture
def reference_config(shared):
    def read(version: str) -> dict:
        return json.loads(str(np.load(shared / "reference" / f"generator_{version}.npz")["config"]))

    return read


def test_a_folded_model_is_exported_with_weight_norm(tmp_path):
    ours = make_generator()
    save_model(tmp_path / "model", ours.config, generator=make_generator().fold_weight_norm())
    h = json.loads((convert(tmp_path / "model", tmp_path / "out", "official") / "config.json").read_text())
    official = OldGenerator(h)
    official.load_state_dict(torch.load(tmp_path / "out" / "g_00000000", weights_only=True)["generator"])
    assert_same_audio(audio_of(official.remove_weight_norm()), audio_of(ours))


def test_mels_that_the_official_code_lacks_are_refused():
    with pytest.raises(UserError, match="its mel filters are htk"):
        official_format.check_generator(make_generator(mel_filters="htk").config)


def test_a_pickle_without_names_is_refused(tmp_path):
    torch.save({"generator": {0: torch.zeros(1)}}, tmp_path / "g_00000001")
    with pytest.raises(UserError, match="holds no 'generator' state dict"):
        read_weights(tmp_path / "g_00000001", "generator")


def test_the_last_validation_is_the_last_finite_one_before_the_checkpoint(tmp_path):
    records = [
        {"step": 0, "val_mel_loss": 0.5},
        {"step": 1, "val_mel_loss": None},
        {"step": 9, "val_mel_loss": 0.1},
    ]
    lines = [json.dumps(record) for record in records]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, lines[0][:-3]]))
    (tmp_path / "final_checkpoint").mkdir()
    (tmp_path / "final_checkpoint" / "progress.json").write_text('{"step": 2}')
    assert "0.5000 after 1 steps" in last_validation(tmp_path / "final_checkpoint")


def test_a_filter_of_zeros_stays_a_filter_of_zeros(tmp_path):
    ours = make_generator().fold_weight_norm()
    with torch.no_grad():
        ours.conv_pre.weight[0] = 0
    save_model(tmp_path / "model", ours.config, generator=ours)
    assert_same_audio(audio_of(load_generator(tmp_path / "model")), audio_of(ours))


@pytest.mark.parametrize("flag", ["--half_precision", "--fold_weight_norm", "--license=mit"])
def test_options_that_would_have_no_effect_are_refused(tmp_path, capsys, flag):
    ours = make_generator()
    save_model(tmp_path / "model", ours.config, generator=ours)
    done = call(main, "convert", tmp_path / "model", tmp_path / "out", "--to", "official", flag)
    assert done.returncode == 2 and flag.partition("=")[0] in done.stderr and done.stderr.count("\n") == 1


def test_a_db_model_is_exported_for_ln_mels_and_the_difference_is_reported(tmp_path, capsys):
    ours = make_generator(mel_scale="db")
    save_model(tmp_path / "model", ours.config, generator=ours)
    convert(tmp_path / "model", tmp_path / "out", "official")
    frames = ours.context_frames
    assert f"converted from db to ln mels, which is inexact within {frames} frames" in capsys.readouterr().out
    exported = load_generator(tmp_path / "out")
    assert exported.config.mel_scale == "ln"
    db_mel = convert_mel_scale(MEL, exported.config, ours.config)
    assert_same_audio(audio_of(exported), audio_of(ours, db_mel), edge=frames * 256)
    assert not torch.allclose(audio_of(exported), audio_of(ours, db_mel), atol=1e-3)


VARIANTS = {
    "upsampling is 'resize'": {"upsampling": "resize", "upsample_kernel_sizes": (15, 15, 5, 5)},
    "inverse Fourier transform": {
        "upsample_rates": (8, 8), "upsample_kernel_sizes": (16, 16),
        "gen_istft_n_fft": 16, "gen_istft_hop_size": 4,
    },
    "match_mel is on": {"match_mel": True},
    "num_mels is 100, not 80": {"num_mels": 100},
    "has 3 dilations there, and here 3 and 2": {
        "resblock_kernel_sizes": (3, 5), "resblock_dilation_sizes": ((1, 3, 5), (1, 3))
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", VARIANTS)
def test_models_that_the_official_code_does_not_support_are_user_errors(tmp_path, capsys, reason):
    ours = make_generator(**VARIANTS[reason])
    save_model(tmp_path / "model", ours.config, generator=ours)
    with pytest.raises(SystemExit) as stop:
        convert(tmp_path / "model", tmp_path / "out", "official")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_discriminators_of_another_size_are_left_out_and_reported(tmp_path, capsys):
    ours = make_generator(discriminator_channels=32, mpd_periods=(2, 3))
    critics = Discriminators(ours.config)
    save_model(tmp_path / "model", ours.config, generator=ours, mpd=critics.mpd, msd=critics.msd)
    convert(tmp_path / "model", tmp_path / "out", "official")
    assert "no do_… file: official discriminators have" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "g_00000000"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, Path]:
    """A model with discriminators of the official size, and its export by the command line."""
    folder = tmp_path_factory.mktemp("exported")
    ours = make_generator(discriminators=("msd", "mpd"))
    critics = Discriminators(ours.config)
    save_model(folder / "model", ours.config, generator=ours, mpd=critics.mpd, msd=critics.msd)
    (folder / "model" / "progress.json").write_text('{"step": 1234, "epoch": 5}')
    result = call(main, "convert", folder / "model", folder / "out", "--to", "official")
    assert (result.returncode, result.stderr) == (0, "")
    assert "the optimizers start from scratch" in result.stdout
    return folder / "model", folder / "out"


def test_the_official_training_continues_from_an_export(exported, shared):
    do = torch.load(exported[1] / "do_00001234", weights_only=True)
    assert (do["steps"], do["epoch"]) == (1234, 5)
    keys = np.load(shared / "reference" / "discriminators.npz")
    assert set(do["mpd"]) == set(keys["mpd_keys"]) and set(do["msd"]) == set(keys["msd_keys"])
    _, optim_g, optim_d = resume_officially(exported[1], 1234, old_discriminators(1024))
    assert optim_g.param_groups[0]["lr"] == optim_d.param_groups[0]["lr"] == 0.0002


def test_an_export_is_loaded_with_its_discriminators(exported, tmp_path):
    model, official = exported
    convert(official, tmp_path / "back", "project")
    before, after = build_generator(read_config(model)), Generator(read_config(tmp_path / "back"))
    critics = [Discriminators(replace(read_config(model), discriminators=("mpd", "msd"))) for _ in range(2)]
    assert "from scratch" not in load_pretrained(model, before, critics[0])
    assert "from scratch" not in load_pretrained(tmp_path / "back", after, critics[1])
    for one, other in ((before, after), critics):
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("settings", [V1, MISR], ids=["v1", "misr"])
def test_exported_optimizer_states_continue_identically_in_the_official_code(tmp_path, monkeypatch, settings):
    narrow = {"discriminator_channels": 32, "mpd_periods": (2, 3), "msd_num_downsamples": 1}
    monkeypatch.setattr(official_format, "OFFICIAL_DISCRIMINATORS", narrow)
    generator = make_generator(**settings, **narrow, discriminators=("mpd", "msd", "mrd"))
    critics = Discriminators(generator.config)
    models = {"generator": generator, **dict(critics.named_children())}
    optimizers = [torch.optim.AdamW(m.parameters(), 0.01, (0.8, 0.99)) for m in (generator, critics)]

    def step(modules, optimizers, turn):
        """Set gradients that depend only on a weight's official name and the step, and step the optimizer."""
        for name, module in modules.items():
            for key, parameter in module.named_parameters():
                seed = zlib.crc32(f"{name} {official_name(key, generator)} {turn}".encode())
                noise = torch.Generator().manual_seed(seed)
                parameter.grad = torch.randn(parameter.shape, generator=noise)
        for optimizer in optimizers:
            optimizer.step()

    step(models, optimizers, 1)
    optimizers[0].param_groups[0]["lr"] = 0.005
    save_model(tmp_path / "model", generator.config, **models)
    (tmp_path / "model" / "progress.json").write_text(
        '{"step": 1, "epoch": 0, "arguments": {"batch_size": 3}}'
    )
    for optimizer, name in zip(optimizers, ("optimizer.bin", "optimizer_1.bin"), strict=True):
        torch.save(optimizer.state_dict(), tmp_path / "model" / name)
    convert(tmp_path / "model", tmp_path / "out", "official")

    assert json.loads((tmp_path / "out" / "config.json").read_text())["batch_size"] == 3
    old = old_discriminators(32, num_mpd=2, num_msd=2)
    official, *officials = resume_officially(tmp_path / "out", 1, old)
    assert officials[0].param_groups[0]["lr"] == 0.005
    step({"generator": official, **old}, officials, 2)
    step(models, optimizers, 2)
    for name, module in {"generator": official, **old}.items():
        expected = official_format.official_weights(models[name])
        for key, parameter in module.named_parameters():
            torch.testing.assert_close(parameter, expected[key], rtol=0, atol=1e-6, msg=f"{name} {key}")


def nvidia_checkpoint(generator: Generator) -> dict:
    """Write nested blocks, a configuration in two parts, counters and averaged weights, as NVIDIA does."""
    config = generator.config
    blocks = len(config.resblock_kernel_sizes)

    def nest(match: re.Match) -> str:
        return f"resblocks.{int(match[1]) // blocks}.{int(match[1]) % blocks}."

    weights = official_format.official_weights(generator)
    return {
        "generator": {re.sub(r"^resblocks\.(\d+)\.", nest, key): value for key, value in weights.items()},
        "gen_ema": {key: value * 0 for key, value in weights.items()},
        "config": {
            "upsample_rates": [8, 8, 2, 2],
            "upsample_kernel_sizes": [16, 16, 4, 4],
            "upsample_initial_channel": 32,
            "resblock": "1",
            "resblock_kernel_sizes": list(config.resblock_kernel_sizes),
            "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        },
        "train_setup": {
            "segment_size": 8192, "filter_length": 1024, "num_mels": 80, "hop_length": 256,
            "win_length": 1024, "sampling_rate": 22050, "mel_fmin": 0.0, "mel_fmax": 7600.0,
            "mel_fmax_loss": None, "max_wav_value": 32768.0, "seed": 1234, "base_lr": 0.0003,
        },
        "train_state": {"epoch": 10000, "iters_all": 500000},
    }  # fmt: skip


def test_nvidias_checkpoints_are_read_with_their_configuration(tmp_path):
    ours = make_generator(resblock_kernel_sizes=(11, 7, 3), fmax=7600.0)
    contents = nvidia_checkpoint(ours)
    path = tmp_path / "hifigan_gen_checkpoint_10000.pt"
    torch.save(contents, path)
    torch.save(nvidia_checkpoint(make_generator(1)), tmp_path / "hifigan_gen_checkpoint_9000.pt")
    for source in (path, tmp_path):
        loaded = load_generator(source)
        assert loaded.config == ours.config
        assert_same_audio(audio_of(loaded), audio_of(ours))

    older = {f"module.{key}": value for key, value in official_format.official_weights(ours).items()}
    flat = {key: value.unsqueeze(-1) if value.dim() == 3 else value for key, value in older.items()}
    for state in (older, flat):
        torch.save(contents | {"generator": state, "train_setup": None}, path)
        assert_same_audio(audio_of(load_generator(path)), audio_of(ours))

    del contents["config"]
    torch.save(contents, path)
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_generator(path)
    (tmp_path / "config.json").write_text(json.dumps(ours.config.to_dict()))
    assert_same_audio(audio_of(load_generator(path)), audio_of(ours))


# transformers.


def import_transformers() -> ModuleType:
    """Import transformers, hiding torchaudio if it cannot be loaded, as with CPU builds of torch."""
    transformers = pytest.importorskip("transformers")
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        transformers.utils.is_torchaudio_available = lambda: False
    return transformers


def make_transformers(name: str, **settings) -> nn.Module:
    """Return a model with random weights that are audible and a normalization that has an effect."""
    transformers = import_transformers()
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(upsample_initial_channel=32, **settings)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            bound = 1.5 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.uniform_(-bound, bound)
        model.mean.copy_(torch.linspace(-2, -4, config.model_in_dim))
        model.scale.copy_(torch.linspace(0.5, 1.5, config.model_in_dim))
    return model


def audio_in_transformers(model: nn.Module, mel: torch.Tensor = MEL) -> torch.Tensor:
    return audio_of(model, mel.transpose(1, 2)).unsqueeze(1)


@pytest.fixture(scope="module")
def speecht5(tmp_path_factory) -> tuple[Path, torch.Tensor]:
    """A folder written by transformers, and its audio for MEL."""
    model = make_transformers("SpeechT5HifiGan")
    folder = tmp_path_factory.mktemp("speecht5")
    model.save_pretrained(folder)
    return folder, audio_in_transformers(model)


def test_speecht5s_vocoder_generates_identical_audio(speecht5):
    folder, expected = speecht5
    loaded = load_generator(folder)
    assert_same_audio(audio_of(loaded), expected)
    assert_same_audio(audio_of(load_generator(folder / "model.safetensors")), expected)
    config = loaded.config
    assert (config.sampling_rate, config.hop_size, config.fmin, config.fmax) == (16000, 256, 80.0, 7600.0)
    assert (config.mel_scale, config.upsample_rates) == ("log10", (4, 4, 4, 4))
    chunks = torch.cat(list(loaded.stream(MEL.split(7, dim=-1))), dim=-1)
    assert_same_audio(chunks, expected)


@pytest.mark.parametrize("settings", [{"normalize_before": True}, {"normalize_before": False}], ids=str)
def test_fastspeech2s_vocoder_generates_the_same_audio(tmp_path, settings):
    model = make_transformers("FastSpeech2ConformerHifiGan", **settings)
    model.save_pretrained(tmp_path)
    loaded = load_generator(tmp_path)
    assert_same_audio(audio_of(loaded), audio_in_transformers(model))
    assert loaded.config.sampling_rate == 22050


def test_fastspeech2s_mels_are_vocoded_on_the_command_line(tmp_path):
    transformers = import_transformers()
    vocoder = make_transformers("FastSpeech2ConformerHifiGan", model_in_dim=80)
    vocoder.save_pretrained(tmp_path / "vocoder")
    sizes = {"hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 10}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_linear_units": 16, f"{part}_num_attention_heads": 2}
    text_to_mel = transformers.FastSpeech2ConformerModel(
        transformers.FastSpeech2ConformerConfig(**sizes)
    ).eval()
    with torch.no_grad():
        text_to_mel.duration_predictor.linear.bias.fill_(1.5)  # otherwise random weights are silent
        mel = text_to_mel(torch.tensor([[1, 2, 3, 4]]), return_dict=True).spectrogram
        expected = vocoder(mel[0]).numpy()
    (tmp_path / "mels").mkdir()
    np.save(tmp_path / "mels" / "hello.npy", mel[0].numpy())
    flags = [
        "--input_mels_dir",
        str(tmp_path / "mels"),
        "--transposed",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    inference.main(["--checkpoint_file", str(tmp_path / "vocoder"), *flags])
    audio, _ = soundfile.read(tmp_path / "out" / "hello_generated_e2e.wav")
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-4)


def test_older_transformers_folders_are_read(tmp_path, speecht5):
    folder, expected = speecht5
    values = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"model_type": "hifigan"}))
    model = make_transformers("SpeechT5HifiGan")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert_same_audio(audio_of(load_generator(tmp_path)), expected)
    model.apply_weight_norm()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert_same_audio(audio_of(load_generator(tmp_path)), expected)


def test_speecht5s_mel_equals_ours_shifted_by_half_a_hop(speecht5):
    transformers = import_transformers()
    config = load_generator(speecht5[0]).config
    time = np.arange(16000) / 16000
    noise = np.random.default_rng(0).standard_normal(16000)
    audio = (0.3 * time * np.sin(2 * np.pi * 440 * time) + 0.01 * noise).astype(np.float32)
    extractor = transformers.SpeechT5FeatureExtractor()
    theirs = extractor(audio_target=audio, sampling_rate=16000, return_tensors="np")["input_values"][0].T
    ours = MelSpectrogram(config)(torch.from_numpy(np.pad(audio, (config.hop_size // 2, 0))))
    inside = slice(4, -4)  # the edges are reflected at different positions
    np.testing.assert_allclose(ours[:, inside], theirs[:, inside], atol=1e-4)


def test_a_normalization_is_kept_in_our_own_format(tmp_path, speecht5):
    folder, expected = speecht5
    for to, flags in (("project", []), ("project", ["--fold_weight_norm"]), ("hub", [])):
        out = convert(folder, tmp_path / "".join([to, *flags]), to, *flags)
        assert_same_audio(audio_of(load_generator(out)), expected)


def test_a_normalization_is_folded_into_the_weights_of_official_files(tmp_path, speecht5, capsys):
    folder, expected = speecht5
    trained = read_config(folder)
    edge = 256 * Generator(trained).context_frames
    ours = build_generator(replace(trained, discriminator_channels=32))
    message = load_pretrained(folder, ours, Discriminators(ours.config))
    assert "normalization of the mel folded" in message
    assert_same_audio(audio_of(ours), expected, edge, atol=1e-5)
    assert set(ours.state_dict()) == set(Generator(ours.config).state_dict())

    official = load_generator(convert(folder, tmp_path / "official", "official"))
    assert "folded" in capsys.readouterr().out
    ln_mel = convert_mel_scale(MEL, trained, official.config)
    assert_same_audio(audio_of(official, ln_mel), expected, edge, atol=1e-5)


def test_a_transformers_model_with_another_slope_is_refused(tmp_path, speecht5):
    values = json.loads((speecht5[0] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"leaky_relu_slope": 0.2}))
    with pytest.raises(UserError, match=r"leaky_relu_slope of 0\.2"):
        read_config(tmp_path)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **settings):
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("settings", [V1, MISR], ids=["v1", "misr"])
def test_a_generator_is_saved_and_loaded_in_the_hubs_format_without_a_network(tmp_path, no_network, settings):
    from checkpoint import HubGenerator

    ours = make_generator(**settings)
    save_model(tmp_path / "model", ours.config, generator=ours)
    generator = HubGenerator.from_pretrained(tmp_path / "model")
    generator.save_pretrained(tmp_path / "saved")
    for loaded in (HubGenerator.from_pretrained(str(tmp_path / "saved")), load_generator(tmp_path / "saved")):
        assert loaded.config == ours.config and not loaded.training
        assert_same_audio(audio_of(loaded), audio_of(ours))
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == ["README.md", "config.json", "generator.safetensors"]
    assert HubGenerator(ours.config.to_dict()).config == ours.config


def test_the_model_card_contains_config_training_data_metrics_and_license(tmp_path):
    from huggingface_hub import ModelCard

    ours, run = make_generator(), tmp_path / "run"
    save_model(run / "checkpoint_2", ours.config, generator=ours)
    (run / "checkpoint_2" / "progress.json").write_text('{"step": 20, "epoch": 2}')
    losses = [
        {"step": 9, "epoch": 0, "split": "val", "val_mel_loss": 0.75},
        {"step": 10, "epoch": 1, "split": "train", "mel_loss": 0.5},
        {"step": 19, "epoch": 1, "split": "val", "val_mel_loss": 0.625},
        {"step": 29, "epoch": 2, "split": "val", "val_mel_loss": 0.5},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    facts = ["--license", "cc0-1.0", "--training_data", "LJSpeech 1.1, without its test split."]
    result = call(main, "convert", run / "checkpoint_2", tmp_path / "out", "--to", "hub", *facts)
    assert (result.returncode, result.stderr) == (0, "")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc0-1.0" and "vocoder" in card.data.tags
    assert "LJSpeech 1.1, without its test split." in card.text
    assert "0.625" in card.text and "20 steps" in card.text
    values = json.loads(re.search(r"```json\n(.*?)```", card.text, re.DOTALL)[1])
    assert HiFiGANConfig.from_dict(values) == ours.config

    facts = ["--metrics", "UTMOS 4.0"]
    result = call(main, "convert", run / "checkpoint_2", tmp_path / "own", "--to", "hub", *facts)
    assert "the model card does not state: license, training_data" in result.stdout
    text = (tmp_path / "own" / "README.md").read_text()
    assert "UTMOS 4.0" in text and "0.625" not in text


def test_the_model_and_its_card_are_uploaded(tmp_path, monkeypatch):
    from huggingface_hub import hub_mixin

    from checkpoint import HubGenerator

    class FakeApi:
        def __init__(self, **settings):
            pass

        def create_repo(self, repo_id, **settings):
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **settings):
            Path(folder_path).rename(tmp_path / repo_id.replace("/", "-"))
            return "the commit"

    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    ours = make_generator()
    save_model(tmp_path / "model", ours.config, generator=ours)
    generator = HubGenerator.from_pretrained(tmp_path / "model")
    card = {"license": "mit", "training_data": "LJSpeech", "metrics": "mel L1 0.2"}
    assert generator.push_to_hub("me/voice", model_card_kwargs=card) == "the commit"
    text = (tmp_path / "me-voice" / "README.md").read_text()
    assert all(fact in text for fact in ("license: mit", "LJSpeech", "mel L1 0.2", '"hop_size": 256'))
    assert_same_audio(audio_of(load_generator(tmp_path / "me-voice")), audio_of(ours))


def test_folding_writes_a_smaller_generator_with_the_same_audio(tmp_path):
    ours = make_generator(discriminator_channels=32)
    critics = Discriminators(ours.config)
    save_model(tmp_path / "model", ours.config, generator=ours, mpd=critics.mpd, msd=critics.msd)
    convert(tmp_path / "model", tmp_path / "whole", "project")
    convert(tmp_path / "model", tmp_path / "folded", "project", "--fold_weight_norm")
    sizes = {
        name: {path.name: path.stat().st_size for path in (tmp_path / name).iterdir()}
        for name in ("whole", "folded")
    }
    assert set(sizes["whole"]) == {"config.json", *(f"{n}.safetensors" for n in ("generator", "mpd", "msd"))}
    assert set(sizes["folded"]) == {"config.json", "generator.safetensors"}
    assert sizes["folded"]["generator.safetensors"] < sizes["whole"]["generator.safetensors"]
    assert_same_audio(audio_of(load_generator(tmp_path / "folded")), audio_of(ours))


def test_user_errors_are_one_line_with_exit_status_2(tmp_path, capsys):
    save_model(tmp_path / "model", make_generator().config, generator=make_generator())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("all of it")
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    cases = {
        "is there already": ("model", "taken", "--to", "project"),
        "clone is there already": ("model", "clone", "--to", "hub"),
        "there is no": ("nowhere", "out", "--to", "project"),
        "invalid choice": ("model", "out", "--to", "tensorflow"),
        "can't write": ("model", "model/config.json/out", "--to", "official"),
    }
    for text, (source, target, *rest) in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(["convert", str(tmp_path / source), str(tmp_path / target), *rest])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and text in error and error.count("\n") == 1
    result = run_convert(tmp_path / "model", tmp_path / "taken", "--to", "hub")
    assert result.returncode == 2 and result.stderr.startswith("checkpoint: error: ")
    assert (tmp_path / "taken" / "thesis.tex").read_text() == "all of it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "model", "taken"]
    assert (tmp_path / "clone" / ".git").is_dir()


def test_weights_that_16_bits_cannot_store_are_refused(tmp_path, capsys):
    ours = make_generator()
    with torch.no_grad():
        ours.conv_pre.bias[0] = 1e6
    save_model(tmp_path / "model", ours.config, generator=ours)
    with pytest.raises(SystemExit) as stop:
        folders = (str(tmp_path / "model"), str(tmp_path / "half"))
        main(["convert", *folders, "--to", "project", "--half_precision"])
    assert stop.value.code == 2 and "conv_pre.bias" in capsys.readouterr().err
    assert not (tmp_path / "half").exists()


def test_loaded_models_can_be_pickled(tmp_path):
    ours = make_generator()
    save_model(tmp_path / "model", ours.config, generator=ours)
    loaded = load_generator(tmp_path / "model")
    assert_same_audio(audio_of(pickle.loads(pickle.dumps(loaded))), audio_of(loaded))


def test_an_export_that_fails_halfway_leaves_no_files(tmp_path, monkeypatch):
    ours = make_generator()
    save_model(tmp_path / "model", ours.config, generator=ours)
    (tmp_path / "out").mkdir()

    def fail(contents, path, **settings):
        path.write_bytes(b"half a ")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(SystemExit) as stop:
        convert(tmp_path / "model", tmp_path / "out", "official")
    assert stop.value.code == 2
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
