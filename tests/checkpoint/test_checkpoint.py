import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import ROOT, official_names, save_official, small_config, small_generator

import checkpoint.formats.project
from checkpoint import load_generator, load_pretrained, read_config, save_model
from common.errors import UserError
from generators.build import Discriminators
from mel import MelSpectrogram, convert_mel_scale
from model import Generator

MEL = torch.randn(1, 80, 12, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def audio_of(generator: Generator, mel: torch.Tensor = MEL) -> torch.Tensor:
    return generator(mel)


def assert_same_voice(path: Path, generator: Generator) -> None:
    loaded = load_generator(path)
    assert not loaded.training
    assert loaded.config == generator.config
    torch.testing.assert_close(audio_of(loaded), audio_of(generator), rtol=0, atol=1e-6)


def small_discriminators(seed: int) -> Discriminators:
    torch.manual_seed(seed)
    return Discriminators(small_config())


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_model_is_loaded_from_its_folder_from_its_file_and_from_its_config(tmp_path):
    generator = small_generator()
    save_model(tmp_path / "model", generator.config, generator=generator, mpd=small_discriminators(0).mpd)
    for name in ("", "generator.safetensors", "config.json"):
        assert_same_voice(tmp_path / "model" / name, generator)
        assert_same_voice(str(tmp_path / "model" / name), generator)


def test_a_folder_written_with_folded_weights_is_the_same_model(tmp_path):
    generator = small_generator()
    folded = small_generator().fold_weight_norm()
    save_model(tmp_path / "model", folded.config, generator=folded)
    assert_same_voice(tmp_path / "model", generator)


def test_official_files_are_read_with_the_config_in_the_same_folder(tmp_path):
    generator = small_generator(mel_scale="ln", resblock="2")
    path = save_official(tmp_path / "official", generator.config, generator=generator)
    assert_same_voice(path, generator)
    assert_same_voice(path.parent, generator)
    path.rename(path.with_name("generator_v1"))
    assert_same_voice(path.with_name("generator_v1"), generator)
    assert_same_voice(path.parent, generator)


def test_a_folder_of_official_files_is_loaded_from_the_newest(tmp_path):
    config = small_config(mel_scale="ln")
    for steps, seed in ((2_500_000, 2), (5_000, 1)):
        save_official(tmp_path, config, steps, generator=small_generator(seed, mel_scale="ln"))
    assert_same_voice(tmp_path, small_generator(2, mel_scale="ln"))


def test_files_of_all_serialization_formats_are_read(tmp_path):
    generator = small_generator(mel_scale="ln")
    path = save_official(tmp_path, generator.config, generator=generator)
    state = official_names(generator.state_dict())
    parallel = {f"module.{key}": value for key, value in state.items()}
    folded = small_generator(mel_scale="ln").fold_weight_norm().state_dict()
    for contents in (parallel, folded, dict(reversed(state.items()))):
        torch.save({"generator": contents}, path)
        assert_same_voice(path, generator)
    torch.save(
        {"generator": state}, path, _use_new_zipfile_serialization=False
    )  # the format before PyTorch 1.6
    assert_same_voice(path, generator)


def test_a_loaded_generator_is_in_eval_mode(tmp_path):
    save_model(tmp_path / "model", small_config(), generator=small_generator())
    loaded = load_generator(tmp_path / "model")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any("parametrizations" in name for name in loaded.state_dict())


def test_the_published_model_reproduces_the_published_audio(shared, reference):
    expected = reference("lj_v2")
    generator = load_generator(shared / "pretrained" / "LJ_V2" / "generator_v2")
    assert generator.config.mel_scale == "ln"
    wav = shared / "data" / "ljspeech-mini" / "wavs" / f"{expected['clip']}.wav"
    audio, _ = soundfile.read(wav, dtype="float32")
    mel = MelSpectrogram(generator.config)(torch.from_numpy(audio))
    np.testing.assert_allclose(mel, expected["mel"], atol=1e-3)
    # from the official mel too, because rounding in the mel depends on the processor
    for source, tolerance in ((torch.from_numpy(expected["mel"]), 1e-4), (mel, 1e-3)):
        again = audio_of(generator, source.reshape(1, *mel.shape))[0, 0]
        np.testing.assert_allclose(again, expected["audio"].ravel(), atol=tolerance)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        load_generator(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_generator(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(small_config().to_dict()))
    with pytest.raises(UserError, match=r"no generator\.safetensors"):
        load_generator(tmp_path)
    path = save_official(tmp_path / "official", small_config(), generator=small_generator())
    (path.parent / "config.json").unlink()
    with pytest.raises(UserError, match=r"official holds no config\.json"):
        load_generator(path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"hop_size": "many"}', '{"hop_size": 300}', "\udcff"])
def test_an_invalid_config_is_a_user_error(tmp_path, text):
    save_model(tmp_path / "model", small_config(), generator=small_generator())
    (tmp_path / "model" / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError):
        load_generator(tmp_path / "model")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before PyTorch 1.6"])
def test_a_truncated_or_damaged_file_is_named_in_the_error(tmp_path, zipped):
    generator = small_generator()
    path = save_official(tmp_path, generator.config, generator=generator)
    state = {"generator": official_names(generator.state_dict())}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    cut = [whole[: int(len(whole) * part)] for part in (0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999)]
    random = np.random.default_rng(0)
    damaged = [bytearray(whole) for _ in range(40)]
    for contents in damaged:
        for place in random.integers(0, 2000, 20):
            contents[place] = random.integers(256)
    for contents in (*cut, *damaged, b"not a checkpoint", b'{"generator": 1}', whole[1000:]):
        path.write_bytes(contents)
        try:
            load_generator(path)
        except UserError as error:
            assert path.name in str(error)
        else:
            assert bytes(contents) not in cut


def test_a_truncated_safetensors_file_is_named_in_the_error(tmp_path):
    save_model(tmp_path / "model", small_config(), generator=small_generator())
    file = tmp_path / "model" / "generator.safetensors"
    whole = file.read_bytes()
    for part in (0, 0.001, 0.1, 0.9):
        file.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UserError, match=r"generator\.safetensors can't be read"):
            load_generator(tmp_path / "model")


class Burglar:
    """An object whose unpickling creates a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("how", ["zip", "before PyTorch 1.6", "plain pickle"])
def test_a_pickle_with_code_is_refused_and_the_code_is_not_executed(tmp_path, how, recwarn):
    path = save_official(tmp_path, small_config(), generator=small_generator())
    contents = {
        "generator": official_names(small_generator().state_dict()),
        "extra": Burglar(tmp_path / "mark"),
    }
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(UserError, match=r"refused.*run code"):
        load_generator(path)
    assert not (tmp_path / "mark").exists()
    assert not recwarn.list  # nothing else is printed
    if how == "zip":
        torch.load(path, weights_only=False)["extra"].close()
        assert (tmp_path / "mark").exists()  # the pickle does execute code when loaded carelessly


def test_a_file_with_other_tensors_than_in_the_config_is_refused(tmp_path):
    config = small_config()
    path = save_official(tmp_path, config, generator=small_generator(upsample_initial_channel=32))
    with pytest.raises(UserError, match=r"conv_pre\S* is \(32,.*\) in the file and \(16,.*\) in the model"):
        load_generator(path)
    save_official(tmp_path, config, generator=small_generator(resblock="2"))
    with pytest.raises(UserError, match=r"\d+ tensors missing, \d+ left over"):
        load_generator(path)
    discriminators = small_discriminators(0)
    save_model(tmp_path / "model", config, mpd=discriminators.mpd)
    with pytest.raises(UserError, match="does not fit"):
        load_generator(tmp_path / "model" / "mpd.safetensors")
    for contents in ({"mpd": {}}, [1, 2], {"generator": torch.zeros(3)}, {"generator": {"conv_pre.bias": 1}}):
        torch.save(contents, path)
        with pytest.raises(UserError, match="no 'generator' state dict"):
            load_generator(path)


def test_saving_that_fails_halfway_keeps_the_old_model(tmp_path, monkeypatch):
    old, new = small_generator(1), small_generator(2)
    save_model(tmp_path / "model", old.config, generator=old)

    def fail_at_the_second(state, path, save=checkpoint.formats.project.save_tensors):
        if path.name == "mpd.safetensors":
            raise OSError("no space left on device")
        save(state, path)

    monkeypatch.setattr(checkpoint.formats.project, "save_tensors", fail_at_the_second)
    with pytest.raises(OSError, match="no space"):
        save_model(tmp_path / "model", new.config, generator=new, mpd=small_discriminators(0).mpd)
    assert_same_voice(tmp_path / "model", old)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_process_killed_while_saving_keeps_the_old_model(tmp_path):
    old = small_generator(1)
    save_model(tmp_path / "model", old.config, generator=old)
    program = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import checkpoint.formats.project
from helpers import small_config, small_generator
save = checkpoint.formats.project.save_tensors
def killed(state, path):
    save(state, path)
    os.kill(os.getpid(), 9)
checkpoint.formats.project.save_tensors = killed
checkpoint.save_model({str(tmp_path / "model")!r}, small_config(), generator=small_generator(2))
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert_same_voice(tmp_path / "model", old)
    save_model(tmp_path / "model", old.config, generator=small_generator(3))
    assert_same_voice(tmp_path / "model", small_generator(3))


def test_a_model_is_replaced_atomically(tmp_path):
    generator = small_generator()
    save_model(tmp_path / "model", generator.config, generator=generator, mpd=small_discriminators(0).mpd)
    save_model(tmp_path / "model", generator.config, generator=generator)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "generator.safetensors",
    ]
    assert read_config(tmp_path / "model") == generator.config


@pytest.mark.parametrize("name", ["fmax", "hop_size", "sampling_rate", "window_size"])
def test_a_model_without_a_setting_of_its_mels_is_refused(tmp_path, name):
    generator = small_generator()
    save_model(tmp_path, generator.config, generator=generator)
    values = json.loads((tmp_path / "config.json").read_text())
    del values[name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"config\.json lacks {name}, .* add the values"):
        load_generator(tmp_path)


@pytest.mark.parametrize("official", [False, True], ids=["our folder", "g_ and do_ files"])
def test_discriminators_are_loaded_with_their_generator(tmp_path, official):
    generator, discriminators = small_generator(1), small_discriminators(1)
    models = {"generator": generator, "mpd": discriminators.mpd, "msd": discriminators.msd}
    config = small_config(mel_scale="ln")
    path = tmp_path / "model"
    if official:
        path = save_official(path, config, **models)
    else:
        save_model(path, config, **models)
    ours, critics = small_generator(2, mel_scale="ln"), small_discriminators(2)
    assert not same_weights(critics, discriminators)
    message = load_pretrained(path, ours, critics)
    assert same_weights(ours, generator)
    assert same_weights(critics, discriminators)
    assert message.count("do_02500000" if official else ".safetensors") == (2 if official else 3)


def test_missing_discriminators_are_reported_and_start_from_scratch(tmp_path):
    path = save_official(tmp_path, small_config(mel_scale="ln"), generator=small_generator(1))
    save_official(tmp_path, small_config(mel_scale="ln"), 5000, generator=small_generator(1), mpd=Generator(
        small_config()
    ))  # fmt: skip
    ours, critics = small_generator(2, mel_scale="ln"), small_discriminators(2)
    message = load_pretrained(path, ours, critics)
    assert same_weights(ours, small_generator(1))
    assert same_weights(critics, small_discriminators(2))
    assert "mpd from scratch" in message and "msd from scratch" in message


def test_a_folded_generator_can_be_trained(tmp_path):
    folded = small_generator(1).fold_weight_norm()
    save_model(tmp_path / "model", folded.config, generator=folded)
    ours = small_generator(2)
    load_pretrained(tmp_path / "model", ours, small_discriminators(0))
    torch.testing.assert_close(audio_of(ours), audio_of(small_generator(1)), rtol=0, atol=1e-6)
    ours(MEL).square().mean().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_pretrained_weights_with_other_mel_settings_are_refused(tmp_path):
    save_model(tmp_path / "model", small_config(), generator=small_generator())
    ours = small_generator(fmax=7600.0, window_size=800)
    with pytest.raises(UserError) as error:
        load_pretrained(tmp_path / "model", ours, small_discriminators(0))
    assert "fmax is 8000.0 in" in str(error.value) and "but 7600.0 in this run" in str(error.value)
    assert "window_size is 1024" in str(error.value)


def test_discriminators_of_another_size_are_refused_by_name(tmp_path):
    wide = Discriminators(small_config(discriminator_channels=64))
    save_model(tmp_path / "model", small_config(), generator=small_generator(), mpd=wide.mpd)
    with pytest.raises(UserError, match=r"mpd\.safetensors does not fit"):
        load_pretrained(tmp_path / "model", small_generator(), small_discriminators(0))


@pytest.mark.parametrize(("trained", "wanted"), [("ln", "db"), ("db", "ln")])
def test_a_model_of_another_scale_is_converted_and_sounds_the_same(tmp_path, trained, wanted):
    original, ours = small_generator(1, mel_scale=trained), small_generator(2, mel_scale=wanted)
    save_model(tmp_path / "model", original.config, generator=original)
    message = load_pretrained(tmp_path / "model", ours, small_discriminators(0))
    assert f"converted from {trained} to {wanted}" in message
    mel = convert_mel_scale(torch.randn(1, 80, 60) - 5, small_config(mel_scale="ln"), original.config)
    converted = convert_mel_scale(mel, original.config, ours.config)

    before, after = original.conv_pre(mel), ours.conv_pre(converted)
    torch.testing.assert_close(after[..., 3:-3], before[..., 3:-3], rtol=1e-4, atol=1e-4)
    difference = (audio_of(ours, converted) - audio_of(original, mel)).abs()
    inside = slice(12 * 256, -12 * 256)  # later layers spread the difference of those three frames
    assert difference[..., inside].max() < 1e-5
    assert difference.max() > 1e-4

    save_model(tmp_path / "converted", ours.config, generator=ours)
    torch.testing.assert_close(
        audio_of(load_generator(tmp_path / "converted"), converted),
        audio_of(ours, converted),
        rtol=0,
        atol=1e-6,
    )


def test_weights_have_the_mode_of_the_umask_like_the_configuration(tmp_path):
    generator = small_generator()
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "model", generator.config, generator=generator)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == {"config.json": 0o640, "generator.safetensors": 0o640}
