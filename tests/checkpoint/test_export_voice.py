"""A voice exported to ONNX, and the example script that speaks with it without torch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import ROOT, load_script, small_config, small_generator

from checkpoint import load_generator, load_tacotron2, save_model
from checkpoint.__main__ import main
from checkpoint.voices import find_voice
from mel import convert_mel_scale
from synthesis.speech import join_sentences, load_text_to_speech
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2
from tacotron2.speak import speak_sentences
from tacotron2.stepping import PrenetDropout
from text import INVENTORIES

SIZES = {
    "character_embed_dim": 16, "encoder_embed_dim": 16, "attention_rnn_dim": 18, "attention_dim": 20,
    "decoder_rnn_dim": 14, "decoder_prenet_dim": 12, "decoder_postnet_n_filters": 22, "frames_per_step": 3,
}  # fmt: skip
TEXT = "Dr. Smith paid $3.50. It's 5 km away -- isn't it?"
SENTENCES = ["Hello, is it you?", "The birch canoe."]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A vocoder for natural-log mels, and a Tacotron 2 for phonemes with mels in decibels."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    config = Tacotron2Config(text_input="phonemes", num_symbols=len(INVENTORIES["phonemes"]), **SIZES)
    save_model(folder / "taco", config, tacotron2=Tacotron2(config))
    vocoder = small_generator(mel_scale="ln")
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            if name.endswith("original0"):
                parameter *= 2  # louder, because new weights are nearly silent
    save_model(folder / "vocoder", vocoder.config, generator=vocoder)
    return folder


@pytest.fixture(scope="module")
def exported(models) -> Path:
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    sources = ["--taco_weights", str(models / "taco"), "--checkpoint_file", str(models / "vocoder")]
    main(["export", *sources, "--output", str(models / "onnx")])
    return models / "onnx"


def run_export(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "checkpoint", "export", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def speak_onnx():
    return load_script("scripts/speak_onnx.py")


def torch_audio(models: Path, sentence: str, seed: int) -> np.ndarray:
    tacotron2, vocoder = load_tacotron2(models / "taco"), load_generator(models / "vocoder")
    utterance = speak_sentences(tacotron2, [sentence], seed)[0]
    mel = convert_mel_scale(utterance.mel, tacotron2.config, vocoder.config)
    with torch.inference_mode():
        return vocoder(mel[None])[0, 0].numpy()


def test_the_exported_voice_agrees_with_torch(exported, models, speak_onnx):
    voice = speak_onnx.OnnxVoice(exported)
    for seed, sentence in enumerate(SENTENCES):
        expected, audio = torch_audio(models, sentence, seed), voice.speak(sentence, seed)
        assert audio.shape == expected.shape and expected.std() > 0.01
        np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-3)


def test_pauses_and_warnings_are_those_of_the_voice_in_torch(exported, models, speak_onnx, capsys):
    text = f"{SENTENCES[1]} [pause 1] Il ne sait pas que je suis dans la rue. [pause 0.5]"
    voice = replace(find_voice("espeak"), taco=models / "taco", vocoder=models / "vocoder", speaker=None)
    tts = load_text_to_speech(voice)
    sentences = list(tts.sentences(text))
    expected, messages = join_sentences(sentences, tts.silence), capsys.readouterr().err
    assert "French" in messages and messages.count("did not come out well in 6 attempts") == 2
    audio = speak_onnx.OnnxVoice(exported).speak(text)
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(messages.splitlines())
    assert audio.shape == expected.shape and not audio[-11025:].any() and audio[-12000:].any()
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-3)


def test_an_8_bit_voice_is_close_to_torch(models, speak_onnx, tmp_path, capsys):
    sources = ["--taco_weights", str(models / "taco"), "--checkpoint_file", str(models / "vocoder")]
    main(["export", *sources, "--output", str(tmp_path / "int8"), "--int8"])
    assert "8 bits, SNR of its vocoder" in capsys.readouterr().out
    expected = torch_audio(models, SENTENCES[0], 0)
    audio = speak_onnx.OnnxVoice(tmp_path / "int8").speak(SENTENCES[0])
    assert audio.shape == expected.shape and not np.allclose(audio, expected, atol=1e-4)
    np.testing.assert_allclose(np.abs(audio).mean(), np.abs(expected).mean(), rtol=0.5)


def test_the_example_works_without_torch(exported, models, tmp_path):
    script = str(ROOT / "scripts" / "speak_onnx.py")
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [script, str(exported), SENTENCES[0], "speech.wav", "--seed", "7"]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    audio, rate = soundfile.read(tmp_path / "speech.wav")
    assert rate == 22050
    np.testing.assert_allclose(audio, torch_audio(models, SENTENCES[0], 7), rtol=0, atol=1e-3)


def test_dropout_masks_equal_those_of_torch(speak_onnx):
    config = Tacotron2Config(**SIZES)
    settings = {
        "prenet": [config.decoder_prenet_depth, config.decoder_prenet_dim],
        "prenet_dropout": config.decoder_prenet_dropout_p,
    }
    for seed in (0, 5, 2**32 - 1):
        torchs = PrenetDropout(config, [seed], torch.device("cpu"))
        for step, keep in zip(range(150), speak_onnx.dropout_masks(settings, seed), strict=False):
            np.testing.assert_array_equal(keep, torchs.keep(step).numpy())


def test_without_torch_a_bundled_voice_says_what_inference_says(speak_onnx, tmp_path):
    main(["export", "--voice", "espeak", "--output", str(tmp_path / "onnx")])
    text = TEXT + ' [pause 0.7] <prosody rate="slow">Take five.</prosody>'
    tts = load_text_to_speech(find_voice("espeak"))
    tts.speed = 1.25
    expected = tts.synthesize(text)
    audio = speak_onnx.OnnxVoice(tmp_path / "onnx").speak(text, speed=1.25)
    assert audio.shape == expected.shape
    np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-3)


def test_a_voice_is_exported_by_its_folder(models, tmp_path):
    voice = dict.fromkeys(("title", "language", "license", "provenance"), "x")
    voice |= {"taco": "taco", "vocoder": "vocoder"}
    (models / "voice.json").write_text(json.dumps(voice))
    result = run_export("--voice", models, "--output", tmp_path / "onnx")
    assert result.returncode == 0, result.stderr
    assert "differ from PyTorch by at most" in result.stdout and result.stdout.count("\n") == 1
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    parts = ("encoder", "decoder_step", "postnet", "vocoder")
    assert names == {"config.json", *(f"{part}.onnx" for part in parts)}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_a_speech_file_that_cannot_be_written_is_one_line(exported, speak_onnx, capsys):
    for name, words in (("speech.flac", ".wav file"), ("/proc/speech.wav", "can't write /proc/speech.wav")):
        with pytest.raises(SystemExit) as stop:
            speak_onnx.main([str(exported), "Hello.", name])
        *warnings, error = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2 and words in error, error
        assert all("did not come out well" in line for line in warnings)


def test_impossible_exports_of_voices_are_user_errors(models, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("all of it")
    other = small_config(sampling_rate=16000)
    save_model(tmp_path / "other", other, generator=small_generator(sampling_rate=16000))
    several = Tacotron2Config(speakers=("anna", "ben"), **SIZES)
    save_model(tmp_path / "several", several, tacotron2=Tacotron2(several))
    taco, vocoder, out = models / "taco", models / "vocoder", tmp_path / "out"
    cases = {
        "is there already": [
            "--taco_weights", taco, "--checkpoint_file", vocoder, "--output", tmp_path / "taken",
        ],
        "sampling_rate is 22050": [
            "--taco_weights", taco, "--checkpoint_file", tmp_path / "other", "--output", out,
        ],
        "has several speakers (anna, ben)": [
            "--taco_weights", tmp_path / "several", "--checkpoint_file", vocoder, "--output", out,
        ],
        "there is no voice 'nobody'": ["--voice", "nobody", "--output", out],
        "not allowed with": ["--voice", "nobody", "--checkpoint_file", vocoder, "--output", out],
        "one of the arguments": ["--output", out],
    }  # fmt: skip
    for words, arguments in cases.items():
        with pytest.raises(SystemExit) as stop:
            main(["export", *map(str, arguments)])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and words in error and error.count("\n") == 1, error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "several", "taken"]


def test_one_speaker_is_extracted_from_a_tacotron_2_of_several(models, tmp_path):
    config = Tacotron2Config(speakers=("anna", "ben"), **SIZES)
    torch.manual_seed(0)
    model = Tacotron2(config).eval()
    save_model(tmp_path / "several", config, tacotron2=model)
    main(["convert", str(tmp_path / "several"), str(tmp_path / "ben"), "--to", "project", "--speaker", "ben"])
    alone = load_tacotron2(tmp_path / "ben")
    tokens = torch.tensor([[5, 6, 7, 1]])
    expected = model.infer(tokens, None, 9, 0, speakers=torch.tensor([1])).mel
    torch.testing.assert_close(alone.infer(tokens, None, 9, 0).mel, expected)
    with pytest.raises(SystemExit):
        main(["convert", str(models / "vocoder"), str(tmp_path / "x"), "--to", "project", "--speaker", "ben"])
