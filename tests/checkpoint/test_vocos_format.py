"""Published Vocos models: a config.yaml and a pickle with the published names."""

import json
from pathlib import Path

import pytest
import torch

from checkpoint import load_generator, load_pretrained, read_config, save_model
from checkpoint.__main__ import main
from common.errors import UserError
from config import HiFiGANConfig
from generators.build import Discriminators, build_generator
from generators.vocos import Vocos
from mel import convert_mel_scale

YAML = """
feature_extractor:
  class_path: vocos.feature_extractors.{features}
  init_args: {{sample_rate: 24000, n_fft: 1024, hop_length: 256, n_mels: 100, padding: center}}
backbone:
  class_path: vocos.models.VocosBackbone
  init_args: {{input_channels: 100, dim: 16, intermediate_dim: 32, num_layers: 2}}
head:
  class_path: vocos.heads.ISTFTHead
  init_args: {{dim: 16, n_fft: 1024, hop_length: 256, padding: {padding}}}
"""
PUBLISHED = {"mel_filters": "htk", "padding": "center", "mel_scale": "ln", "min_db": -140.0}
SIZES = {"generator": "vocos", "vocos_dim": 16, "vocos_intermediate_dim": 32, "vocos_num_layers": 2}
MEL = torch.randn(1, 100, 30, generator=torch.Generator().manual_seed(1)) * 2 - 5


def make_vocos(**settings) -> Vocos:
    torch.manual_seed(0)
    config = HiFiGANConfig(
        **SIZES, sampling_rate=24000, num_mels=100, fmax=None, discriminator_channels=32, **settings
    )
    vocos = build_generator(config).eval()
    with torch.no_grad():
        for parameter in vocos.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return vocos


def save_published(folder: Path, vocos: Vocos, features="MelSpectrogramFeatures", padding="center") -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(YAML.format(features=features, padding=padding))
    state = vocos.state_dict()
    named = {key if key.startswith("head.") else f"backbone.{key}": state[key] for key in state}
    constants = {"head.istft.window": torch.hann_window(1024), "feature_extractor.mel_spec.mel_scale.fb": MEL}
    torch.save(named | constants, folder / "pytorch_model.bin")
    return folder


@torch.no_grad()
def audio_of(generator, mel: torch.Tensor = MEL) -> torch.Tensor:
    return generator(mel)


def test_a_published_vocos_is_loaded_from_its_folder_or_files(tmp_path):
    vocos = make_vocos(**PUBLISHED)
    folder = save_published(tmp_path / "vocos", vocos)
    for path in (folder, folder / "pytorch_model.bin", folder / "config.yaml"):
        loaded = load_generator(path)
        assert isinstance(loaded, Vocos) and not loaded.training
        for name, value in (PUBLISHED | SIZES).items():
            assert getattr(loaded.config, name) == value
        assert (loaded.config.fmin, loaded.config.highest_frequency) == (0.0, 12000.0)
        assert torch.equal(audio_of(loaded), audio_of(vocos))
    assert audio_of(vocos).shape == (1, 1, 29 * 256) and audio_of(vocos).std() > 1e-3


@pytest.mark.parametrize("to", ["project", "hub"])
def test_a_published_vocos_is_converted_to_our_own_format(tmp_path, to):
    vocos = make_vocos(**PUBLISHED)
    folder = save_published(tmp_path / "vocos", vocos)
    main(["convert", str(folder), str(tmp_path / "out"), "--to", to])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["generator"] == "vocos"
    assert torch.equal(audio_of(load_generator(tmp_path / "out")), audio_of(vocos))
    if to == "hub":
        from checkpoint import HubGenerator

        generator = HubGenerator.from_pretrained(folder)
        assert torch.equal(audio_of(generator), audio_of(vocos))
        assert "Vocos" in (tmp_path / "out" / "README.md").read_text()


def test_a_vocos_is_not_exported_to_the_official_hifigan_format(tmp_path, capsys):
    folder = save_published(tmp_path / "vocos", make_vocos(**PUBLISHED))
    with pytest.raises(SystemExit) as stop:
        main(["convert", str(folder), str(tmp_path / "out"), "--to", "official"])
    assert stop.value.code == 2 and "it is a vocos generator" in capsys.readouterr().err


def test_training_continues_from_a_published_vocos_in_another_mel_scale(tmp_path):
    vocos = make_vocos(**PUBLISHED)
    folder = save_published(tmp_path / "vocos", vocos)
    ours = make_vocos(mel_filters="htk", padding="center", min_db=-140.0)
    assert "converted from ln to db" in load_pretrained(folder, ours, Discriminators(ours.config))
    audio = audio_of(ours, convert_mel_scale(MEL, vocos.config, ours.config))
    inside = slice(12 * 256, -12 * 256)
    torch.testing.assert_close(audio[..., inside], audio_of(vocos)[..., inside], rtol=0, atol=1e-4)
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_a_vocos_that_does_not_read_mels_is_refused(tmp_path):
    with pytest.raises(UserError, match="EncodecFeatures"):
        read_config(save_published(tmp_path / "encodec", make_vocos(**PUBLISHED), "EncodecFeatures"))
    with pytest.raises(UserError, match="other Fourier transforms"):
        read_config(save_published(tmp_path / "same", make_vocos(**PUBLISHED), padding="same"))
    (tmp_path / "same" / "config.yaml").write_text("backbone: [")
    with pytest.raises(UserError, match="can't read the configuration"):
        load_generator(tmp_path / "same")


def test_a_folder_without_weights_names_the_files_that_are_missing(tmp_path):
    folder = save_published(tmp_path / "vocos", make_vocos(**PUBLISHED))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"holds no pytorch_model\.bin or model\.safetensors"):
        load_generator(folder)


def test_our_own_vocos_is_saved_and_loaded(tmp_path):
    vocos = make_vocos()
    save_model(tmp_path / "own", vocos.config, generator=vocos)
    assert torch.equal(audio_of(load_generator(tmp_path / "own")), audio_of(vocos))
