"""The post-filter of spoken mels, and the command that fits it to a bundled Tacotron 2."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import scipy.fft
import soundfile
import torch
import torch.nn.functional as F
from helpers import ROOT, load_script
from tacotron2_runs import train_here

import prep_splits
from checkpoint import load_tacotron2
from checkpoint.__main__ import main as checkpoint_command
from common.errors import UserError
from corpus.manifest import Clip
from mel import MelConfig, convert_mel_scale
from tacotron2.model import Tacotron2
from tacotron2.postfilter import WINDOW, Postfilter, cosine_transform, design_kernel, modulation_spectrum
from text import encode_texts

fit_postfilter = load_script("scripts/fit_postfilter.py")

TACO = ROOT / "voices" / "tacotron2"
TEXTS = ["The train leaves at half past seven.", "She bought bread and milk on the way home."]


def random_mels(count: int = 30, frames: int = 200) -> list[torch.Tensor]:
    """Noise that is smooth in time and over frequency, like speech."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 1, 80, frames, generator=random)
    return list(F.avg_pool2d(noise, (5, 3), 1, padding=(2, 1)).squeeze(1))


def random_filter(num_speakers: int = 1) -> Postfilter:
    result, random = Postfilter(80, 5, num_speakers), torch.Generator().manual_seed(1)
    result.kernel += 0.1 * torch.randn(result.kernel.shape, generator=random)
    result.mean += torch.randn(result.mean.shape, generator=random)
    return result


def test_a_new_filter_changes_nothing():
    mel = torch.stack(random_mels(2))
    torch.testing.assert_close(Postfilter(80, 9)(mel, torch.ones(2, 200)), mel, atol=1e-5, rtol=0)


def test_the_cosine_transform_is_scipys():
    expected = scipy.fft.dct(np.eye(80), axis=0, norm="ortho")
    np.testing.assert_allclose(cosine_transform(80), expected, atol=1e-6)


def test_each_coefficient_is_filtered_with_its_kernel():
    mel, postfilter = random_mels(1)[0], random_filter()
    deviation = (cosine_transform(80) @ mel).numpy() - postfilter.mean[0, :, None].numpy()
    # the kernel that torch applies is not reversed, unlike that of a convolution
    rows = zip(deviation, postfilter.kernel[0].numpy(), strict=True)
    filtered = np.stack([np.convolve(row, kernel[::-1], "same") for row, kernel in rows])
    expected = cosine_transform(80).T.numpy() @ (filtered + postfilter.mean[0, :, None].numpy())
    result = postfilter(mel[None], torch.ones(1, 200))[0]
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-4)


def test_padding_and_other_speakers_do_not_affect_a_sentence():
    postfilter, (first, second) = random_filter(2), random_mels(2)
    batch = torch.stack([F.pad(first[:, :150], (0, 50), value=7.0), second])
    mask = torch.arange(200) < torch.tensor([[150], [200]])
    together = postfilter(batch, mask, torch.tensor([1, 0]))
    alone = postfilter.for_speaker(1)(first[None, :, :150], torch.ones(1, 150))
    torch.testing.assert_close(together[0, :, :150], alone[0], atol=1e-5, rtol=0)
    assert not torch.allclose(
        together[0, :, :150], postfilter.for_speaker(0)(first[None], mask[1:])[0, :, :150]
    )


def test_a_constant_is_in_the_mean_cepstrum_and_has_no_modulation_power():
    mels = random_mels(3)
    mean, power = modulation_spectrum(mels)
    level, same_power = modulation_spectrum([mel + 2 for mel in mels])
    torch.testing.assert_close(same_power, power, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(mean, cosine_transform(80) @ torch.cat(mels, dim=1).mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(level - mean, F.pad(torch.tensor([2 * 80**0.5]), (0, 79)), atol=1e-4, rtol=0)


def test_a_designed_filter_restores_the_modulation_spectrum_of_smoothed_mels():
    recorded = random_mels()
    smooth = [F.avg_pool2d(mel[None], (3, 3), 1, padding=1)[0] for mel in recorded]
    mean, power = modulation_spectrum(recorded)
    _, smooth_power = modulation_spectrum(smooth)
    postfilter = Postfilter(80, 17)
    postfilter.mean[0] = mean

    def distance(strength: float) -> float:
        postfilter.kernel[0] = design_kernel(power, smooth_power, 17, strength, limit=4.0)
        filtered = [postfilter(mel[None], torch.ones(1, 200))[0] for mel in smooth]
        reached = modulation_spectrum(filtered)[1]
        return (reached[1:60, :16] / power[1:60, :16]).log().abs().mean().item()

    none, half, whole = map(distance, (0.0, 0.5, 1.0))
    assert whole < 0.35 * none and whole < half < 0.8 * none


@pytest.mark.parametrize(("ratio", "gain"), [(100.0, 4.0), (0.01, 0.25), (9.0, 3.0), (1 / 9, 1 / 3)])
def test_the_gain_of_an_amplitude_is_limited_in_both_directions_and_spares_the_level(ratio, gain):
    predicted = torch.full((3, WINDOW // 2 + 1), 2.0)
    kernel = design_kernel(ratio * predicted, predicted, taps=9, strength=1.0, limit=4.0)
    # an equal gain of all modulation frequencies is a single impulse, in the middle
    expected = torch.zeros(3, 9)
    expected[:, 4] = torch.tensor([1.0, gain, gain])
    torch.testing.assert_close(kernel, expected, atol=1e-6, rtol=0)
    root = design_kernel(ratio * predicted, predicted, taps=9, strength=0.5, limit=4.0)
    torch.testing.assert_close(root[1], expected[1].sqrt(), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def manifest(espeak_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("splits")
    prep_splits.main(["--path_to_ljspeech", str(espeak_corpus), "--path_to_save", str(folder)])
    return folder / "train_metadata.csv"


@pytest.fixture(scope="module")
def filtered(manifest, tmp_path_factory):
    """The bundled Tacotron 2 with a filter for its speaker `espeak`."""
    folder = tmp_path_factory.mktemp("filtered") / "taco"
    fit(manifest, folder, "--speaker", "espeak")
    return folder


def fit(manifest, folder, *flags, taco=TACO) -> None:
    arguments = ["--taco_weights", taco, "--path_to_manifest", manifest, "--path_to_save", folder, *flags]
    fit_postfilter.main([*map(str, arguments), "--device", "cpu"])


def speak(model: Tacotron2, text: str = TEXTS[0]) -> torch.Tensor:
    return model.infer(torch.tensor(encode_texts([text], model.config)), max_frames=600, seeds=3).mel[0]


def unfiltered(model: Tacotron2) -> Tacotron2:
    model.postfilter = None
    return model


def test_a_fitted_filter_sharpens_the_spoken_mels_of_its_speaker(filtered):
    model = load_tacotron2(filtered)
    assert model.config.postfilter_taps == 17
    sharp = speak(model.for_speaker("espeak"))
    plain = speak(unfiltered(load_tacotron2(filtered).for_speaker("espeak")))
    coefficients = slice(20, 80)  # the fine structure
    sharp_power, plain_power = (
        (cosine_transform(80) @ mel)[coefficients].var(dim=1).mean() for mel in (sharp, plain)
    )
    assert sharp.shape == plain.shape and sharp_power > 1.2 * plain_power


def test_a_streamed_mel_is_filtered_too(filtered):
    model = load_tacotron2(filtered).for_speaker("espeak")
    parts = list(model.stream(torch.tensor(encode_texts(TEXTS[:1], model.config)), 600, seed=3))
    assert len(parts) > 1
    torch.testing.assert_close(torch.cat(parts, dim=1), speak(model), atol=1e-4, rtol=0)


def test_fitting_leaves_another_speaker_and_teacher_forcing_as_they_are(filtered):
    before, after = load_tacotron2(TACO), load_tacotron2(filtered)
    spoken = (speak(model.for_speaker("ljspeech")) for model in (before, after))
    torch.testing.assert_close(*spoken, atol=1e-4, rtol=0)
    tokens = torch.tensor(encode_texts(TEXTS[:1], before.config))
    mel, lengths = torch.zeros(1, 80, 90), torch.tensor([tokens.shape[1]])
    forced = []
    for model in (before, after):
        torch.manual_seed(0)
        forced.append(model(tokens, lengths, mel, torch.tensor([90]), torch.tensor([0])).mel)
    assert torch.equal(*forced)


def test_the_strength_zero_changes_nothing(manifest, filtered, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    flags = ["--speaker", "espeak", "--strength", 0, "--text_file", tmp_path / "texts.txt"]
    fit(manifest, tmp_path / "taco", *flags, taco=filtered)  # a model that has a filter already
    plain = speak(unfiltered(load_tacotron2(filtered).for_speaker("espeak")))
    same = speak(load_tacotron2(tmp_path / "taco").for_speaker("espeak"))
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=0)


def test_conversion_keeps_the_filter_and_training_drops_it(filtered, small_corpus, tmp_path):
    checkpoint_command(
        ["convert", str(filtered), str(tmp_path / "one"), "--to", "project", "--speaker", "espeak"]
    )
    single = load_tacotron2(tmp_path / "one")
    torch.testing.assert_close(speak(single), speak(load_tacotron2(filtered).for_speaker("espeak")))
    sizes = dict.fromkeys(json.loads((tmp_path / "one" / "config.json").read_text()))  # no flags for sizes
    start = {"path_to_pretrained_weights": tmp_path / "one", "max_train_steps": 1}
    run = train_here(small_corpus, tmp_path / "run", **sizes | start)
    assert load_tacotron2(run / "final_checkpoint").config.postfilter_taps == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "has several speakers; add --speaker: espeak, ljspeech"),
        (["--speaker", "nobody"], "has no speaker 'nobody'"),
        (["--speaker", "espeak", "--text_file", "missing.txt"], "missing.txt"),
        (["--speaker", "espeak", "--taps", "4"], "odd"),
        (["--speaker", "espeak", "--taps", "65"], "at most 63"),
        (["--speaker", "espeak", "--text_file", "/dev/null"], "has no sentences"),
    ],
)
def test_wrong_flags_are_refused(manifest, tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as stop:
        fit(manifest, tmp_path / "taco", *flags)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and words in error and "Traceback" not in error
    assert not (tmp_path / "taco").exists()


def test_filters_of_other_lengths_and_speakers_are_kept(manifest, filtered, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    flags = ["--speaker", "ljspeech", "--taps", 5, "--text_file", tmp_path / "texts.txt"]
    fit(manifest, tmp_path / "both", *flags, taco=filtered)
    before, after = (load_tacotron2(folder).for_speaker("espeak") for folder in (filtered, tmp_path / "both"))
    assert torch.equal(before.postfilter.kernel, after.postfilter.kernel)


def test_a_model_of_one_speaker_gets_the_same_filter(manifest, filtered, tmp_path):
    command = ["convert", TACO, tmp_path / "one", "--to", "project", "--speaker", "espeak"]
    checkpoint_command(list(map(str, command)))
    fit(manifest, tmp_path / "filtered", taco=tmp_path / "one")
    single, multiple = load_tacotron2(tmp_path / "filtered"), load_tacotron2(filtered).for_speaker("espeak")
    torch.testing.assert_close(single.postfilter.kernel, multiple.postfilter.kernel, atol=1e-3, rtol=0)


def test_recordings_too_short_for_a_mel_are_left_out_and_damaged_ones_refused(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, 30000).astype(np.float32)
    audio[5] = np.nan
    clips = []
    for name, samples in (("short", audio[10:110]), ("good", audio[10:]), ("damaged", audio)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 22050, subtype="FLOAT")
        clips.append(Clip(str(tmp_path / f"{name}.wav"), len(samples), 0.1, "text"))
    config = load_tacotron2(TACO).config
    assert len(list(fit_postfilter.mels_of_recordings(clips[:2], config))) == 1
    with pytest.raises(UserError, match=r"damaged\.wav contains values that are not finite"):
        list(fit_postfilter.mels_of_recordings(clips, config))


def test_a_speaker_without_a_filter_has_no_delay():
    both = Tacotron2(replace(load_tacotron2(TACO).config, postfilter_taps=9))
    both.postfilter.kernel[1, 3, 0] = 0.5
    espeak, ljspeech = (both.for_speaker(name) for name in ("espeak", "ljspeech"))
    assert espeak.postfilter is None and espeak.config.postfilter_taps == 0
    assert ljspeech.context_frames == espeak.context_frames + 4


def test_an_exported_voice_is_filtered(tmp_path):
    """In a new process, in which nothing was computed before the export compares the results."""
    command = [sys.executable, "-m", "checkpoint", "export", "--voice", "ljspeech", "--output"]
    exported = subprocess.run([*command, str(tmp_path / "onnx")], cwd=ROOT, capture_output=True, text=True)
    assert exported.returncode == 0, exported.stderr[-2000:]
    postnet = onnxruntime.InferenceSession(tmp_path / "onnx" / "postnet.onnx")
    model = load_tacotron2(TACO).for_speaker("ljspeech")
    mel, mask = random_mels(1)[0][None], torch.ones(1, 200)
    ln = MelConfig(mel_scale="ln")
    sharp = convert_mel_scale(model.complete(mel, mask), model.config, ln).numpy()
    plain = convert_mel_scale(unfiltered(model).complete(mel, mask), model.config, ln).numpy()
    (result,) = postnet.run(None, {"mel": mel.numpy()})
    assert np.abs(result - sharp).max() < 1e-3 < 0.1 < np.abs(result - plain).max()


def test_an_existing_folder_is_refused(manifest, filtered, capsys):
    with pytest.raises(SystemExit) as stop:
        fit(manifest, filtered, "--speaker", "espeak")
    assert stop.value.code == 2 and "is there already" in capsys.readouterr().err
