"""From text to audio: sentences, failures of the attention, and inference.py --text."""

import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import small_generator
from test_save_taco_mels import save_taco

import inference
from checkpoint import load_tacotron2, save_model
from common.errors import UserError
from synthesis import speech
from synthesis.vocoder import GriffinLim
from tacotron2 import speak as speaking
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2
from tacotron2.speak import READING_LIMITS, Failure, Utterance, attention_problem, speak
from text import INVENTORIES, decode, encode

STEP = 0.0348  # seconds of a decoder step of three frames


def attention_along(places: list[int], length: int) -> torch.Tensor:
    """Return attention (steps, length) with its peak at each position in turn."""
    attention = torch.full((len(places), length), 0.1 / length)
    attention[torch.arange(len(places)), torch.tensor(places)] = 0.9
    return attention


def reading(length: int) -> list[int]:
    """Return positions that advance by one character in a step and a half."""
    return [int(step / 1.5) for step in range(round(1.5 * length))]


def test_a_regular_attention_is_not_a_problem():
    assert attention_problem(attention_along(reading(40), 40), True, STEP) == ""


def test_a_pause_and_a_short_step_back_are_not_problems():
    places = reading(40)
    places = places[:20] + [13] * 12 + places[20:30] + [places[30] - 4] + places[31:]
    assert attention_problem(attention_along(places, 40), True, STEP) == ""


@pytest.mark.parametrize(
    ("places", "stopped", "words"),
    [
        (reading(40), False, "did not end"),
        (reading(40)[:20] + reading(40)[36:], True, "skips"),
        (reading(40)[:40], True, "too early"),
        (reading(40)[:52], True, "too early"),  # the last word
        (reading(40)[:30] + reading(40)[38:], True, "skips"),  # a short word
        ([0] * 14, True, "too early"),
        (reading(40)[:40] + reading(40)[20:], True, "goes back"),
        (reading(40)[:30] + [20] * 40 + reading(40)[30:], True, "stays on one character"),
    ],
)
def test_each_failure_of_the_attention_is_reported(places, stopped, words):
    assert words in attention_problem(attention_along(places, 40), stopped, STEP)


@pytest.mark.parametrize(
    ("words", "limit", "places"),
    [
        ("skips", 4, lambda leap: [*range(20), *range(19 + leap, 40)]),
        ("goes back", 6, lambda back: [*range(31), 30 - back, *range(31, 40)]),
        ("too early", 3, lambda unread: [*range(40 - unread)]),
        ("stays on", int(1 / STEP), lambda steps: [*range(20), *[20] * steps, *range(21, 40)]),
    ],
)
def test_the_limits_of_the_attention_are_the_last_values_without_a_problem(words, limit, places):
    assert attention_problem(attention_along(places(limit), 40), True, STEP) == ""
    assert words in attention_problem(attention_along(places(limit + 1), 40), True, STEP)


def test_an_untrained_attention_is_a_problem():
    noise = torch.softmax(torch.randn(80, 40, generator=torch.Generator().manual_seed(0)), dim=1)
    assert attention_problem(noise, True, STEP)


def small_model(**settings) -> Tacotron2:
    sizes = ("character_embed_dim", "encoder_embed_dim", "attention_rnn_dim", "decoder_rnn_dim", "num_mels")
    torch.manual_seed(0)
    return Tacotron2(Tacotron2Config(**dict.fromkeys(sizes, 20), **settings)).eval()


def test_phonemes_have_separate_limits_because_stress_marks_are_silent():
    limits = READING_LIMITS["phonemes"]
    places = reading(40)[:20] + reading(40)[26:]
    assert "skips 5 characters" in attention_problem(attention_along(places, 40), True, STEP)
    assert attention_problem(attention_along(places, 40), True, STEP, limits) == ""
    places = reading(40)[:20] + reading(40)[36:]
    assert "phonemes after" in attention_problem(attention_along(places, 40), True, STEP, limits)


def test_a_phoneme_model_speaks_with_a_lexicon(monkeypatch):
    pytest.importorskip("espeakng_loader")
    model = small_model(text_input="phonemes", num_symbols=len(INVENTORIES["phonemes"]))
    read = []
    infer = model.infer
    monkeypatch.setattr(model, "infer", lambda tokens, *rest: read.append(tokens) or infer(tokens, *rest))
    speak(model, "Well.", max_attempts=1)
    (utterance,) = speak(model, "Well.", max_attempts=1, lexicon={"well": "wɒl"})
    spoken = [decode(tokens[0], INVENTORIES["phonemes"]) for tokens in read]
    assert "wˈɛl." in spoken[0] and "wɒl." in spoken[1]
    assert utterance.attention.shape[1] == read[1].shape[1] and utterance.mel.shape[0] == 20


def test_a_model_with_several_speakers_requires_one():
    with pytest.raises(UserError, match="choose one: ann, bob"):
        speak(small_model(speakers=("ann", "bob")), "Well.")


@pytest.fixture
def said(monkeypatch) -> list[tuple[list[str], int]]:
    """The calls to a model that always fails at "Bad." and fails twice at "Shy."."""
    calls = []

    def speak_batch(model, sentences, seed, lexicon=None):
        calls.append((sentences, seed))
        mel, attention = torch.zeros(80, 3), torch.ones(1, 1)
        fails = {"Bad.": 99, "Shy.": 2}
        return [
            Utterance(text, mel + seed, attention, "it mumbles", 1, Failure.MISREAD)
            if seed < fails.get(text, 0)
            else Utterance(text, mel + seed, attention, "", 1)
            for text in sentences
        ]

    monkeypatch.setattr(speaking, "speak_batch", speak_batch)
    return calls


def test_only_failed_sentences_are_repeated_with_other_dropout(said):
    first, second = speak(small_model(), "Fine words. Shy.")
    assert (first.text, first.attempts, first.problem) == ("Fine words.", 1, "")
    assert (second.text, second.attempts, second.problem) == ("Shy.", 3, "")
    assert said == [(["Shy.", "Fine words."], 0), (["Shy."], 1), (["Shy."], 2)]


def test_a_sentence_that_always_fails_is_reported_and_returned(said):
    (only,) = speak(small_model(), "Bad.", max_attempts=4)
    assert only.problem == "it mumbles" and only.attempts == 4 and len(said) == 4


def test_a_text_without_words_is_a_user_error():
    with pytest.raises(UserError, match="nothing to say"):
        speak(small_model(), " ... ")


def test_speech_depends_only_on_text_and_seed(tmp_path):
    model = load_tacotron2(save_taco(tmp_path, gate_bias=-9, frames_per_step=2))
    text = "One sentence. Another, longer sentence. A third."
    whole = speak(model, text, seed=5, max_attempts=1)
    alone = speak(model, text, seed=5, max_attempts=1, batch_size=1)
    assert len(whole) == 3
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one.mel, other.mel, atol=1e-5, rtol=0)
    differs = speak(model, text, seed=6, max_attempts=1)
    assert differs[1].mel.shape != whole[1].mel.shape or not torch.allclose(differs[1].mel, whole[1].mel)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """An untrained Tacotron 2 and untrained vocoders. They generate long noise."""
    folder = tmp_path_factory.mktemp("models")
    vocoder, other = small_generator(), small_generator(fmax=7600.0, hop_size=256)
    save_model(folder / "vocoder", vocoder.config, generator=vocoder)
    save_model(folder / "other", other.config, generator=other)
    ln = small_generator(mel_scale="ln")
    save_model(folder / "ln", ln.config, generator=ln)
    return {name: folder / name for name in ("vocoder", "other", "ln")} | {
        "taco": save_taco(folder / "t", gate_bias=-9, frames_per_step=3)
    }


def say(models: dict, *flags, vocoder: str = "vocoder") -> None:
    names = ["--taco_weights", models["taco"], "--checkpoint_file", models[vocoder], "--device", "cpu"]
    inference.main([str(flag) for flag in [*names, *flags]])


def test_a_text_is_written_to_one_file_with_a_plot_of_each_sentence(models, tmp_path, capsys):
    say(models, "--text", "One. Two.", "--output_dir", tmp_path, "--plot")
    audio, rate = soundfile.read(tmp_path / "speech.wav")
    assert rate == 22050 and len(audio) > 22050 * 0.3
    assert {path.name for path in tmp_path.iterdir()} == {"speech.wav", "speech_1.png", "speech_2.png"}
    error = capsys.readouterr().err
    assert (
        "'One.' did not come out well" in error and "attempts" in error
    )  # an untrained voice reports failures


def test_the_output_is_named_after_the_text_file(models, tmp_path):
    (tmp_path / "tale.txt").write_text("Once upon a time.\n", encoding="utf-8")
    say(models, "--text_file", tmp_path / "tale.txt", "--output_dir", tmp_path)
    assert (tmp_path / "tale.wav").is_file()


def test_griffin_lim_speaks_without_a_vocoder(models, tmp_path):
    flags = ["--taco_weights", models["taco"], "--vocoder", "griffin_lim", "--output_dir", tmp_path]
    inference.main([str(flag) for flag in [*flags, "--text", "Well.", "--device", "cpu"]])
    audio, _ = soundfile.read(tmp_path / "speech.wav")
    assert len(audio) % 256 == 0 and np.abs(audio).max() > 0


def test_a_vocoder_of_another_scale_receives_converted_mels(models, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        speech, "vocode", lambda generator, mel, *_: given.append(mel) or iter([np.zeros(256, np.float32)])
    )
    for vocoder in ("vocoder", "ln"):
        say(models, "--text", "Well.", "--output_dir", tmp_path, vocoder=vocoder)
    config = small_generator().config
    torch.testing.assert_close(config.to_ln(given[0]), given[1], atol=1e-4, rtol=0)


def test_mismatched_settings_are_named_with_both_values(models, tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        say(models, "--text", "Well.", "--output_dir", tmp_path, vocoder="other")
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1
    assert "fmax is 8000.0 in" in error and "7600.0 in" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--text", "..."], "nothing to say"),
        (["--text_file", "nowhere.txt"], "nowhere.txt"),
        (["--text", "Well.", "--denoising_strength", "-1"], "must be at least 0"),
        (["--text", "Well.", "--text_file", "tale.txt"], "not allowed with"),
    ],
)
def test_user_errors_are_one_line(models, tmp_path, capsys, flags, words):
    with pytest.raises(SystemExit) as leaving:
        say(models, *flags, "--output_dir", tmp_path)
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and words in error and error.count("\n") == 1


def test_streamed_speech_equals_the_file(models, tmp_path, monkeypatch):
    say(models, "--text", "One. Two.", "--output_dir", tmp_path, "--seed", 3)
    whole, _ = soundfile.read(tmp_path / "speech.wav", dtype="int16")
    output = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(output))
    say(models, "--text", "One. Two.", "--output_dir", "-", "--seed", 3, "--stream")
    streamed = np.frombuffer(output.getvalue(), dtype="<i2")
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=2)


@pytest.mark.parametrize(("frames_per_step", "chunk_frames"), [(1, 1), (3, 7), (2, 1000)])
def test_a_streamed_mel_equals_that_of_infer(tmp_path, frames_per_step, chunk_frames):
    model = load_tacotron2(save_taco(tmp_path, gate_bias=-9, frames_per_step=frames_per_step))
    tokens = torch.tensor([encode("A sentence of some length.")])
    whole = model.infer(tokens, max_frames=90, seeds=4)
    stream, parts = model.stream(tokens, 90, seed=4, chunk_frames=chunk_frames), []
    while True:
        try:
            parts.append(next(stream))
        except StopIteration as end:
            streamed = end.value
            break
    assert len(parts) == 1 if chunk_frames > 90 else len(parts) > 5
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.mel[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(streamed.mel, whole.mel, atol=1e-5, rtol=0)
    torch.testing.assert_close(streamed.attention, whole.attention, atol=1e-5, rtol=0)
    assert (streamed.frames, streamed.stopped) == (whole.frames, whole.stopped)


HAS_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no AVX-512")


@needs_bf16
def test_lstms_in_bf16_change_the_mel_little(models):
    model, tokens = load_tacotron2(models["taco"]), torch.tensor([encode("A sentence of some length.")])
    expected = model.infer(tokens, None, 9, 0).mel
    model.decoder.packed = model.decoder.pack()
    assert torch.equal(model.infer(tokens, None, 9, 0).mel, expected)
    model.decoder.packed = model.decoder.pack(torch.bfloat16)
    mel = model.infer(tokens, None, 9, 0).mel
    assert 0 < (mel - expected).norm() < 0.02 * expected.norm()


def test_a_lexicon_is_refused_by_a_model_of_characters(models, tmp_path, capsys):
    (tmp_path / "lexicon.txt").write_text("well wɛl\n", encoding="utf-8")
    with pytest.raises(SystemExit) as leaving:
        say(models, "--text", "Well.", "--lexicon", tmp_path / "lexicon.txt", "--output_dir", tmp_path)
    assert leaving.value.code == 2 and "phonemes" in capsys.readouterr().err


@pytest.mark.skipif(HAS_BF16, reason="this processor has AVX-512")
def test_without_avx512_bf16_speaks_in_float32(models):
    model = load_tacotron2(models["taco"])
    precise, coarse = (
        speech.TextToSpeech(model, GriffinLim(model.config), mixed_precision=name) for name in ("no", "bf16")
    )
    assert np.array_equal(precise.synthesize("A sentence."), coarse.synthesize("A sentence."))


@needs_bf16
def test_two_speakers_with_other_precisions_share_a_model(models):
    model = load_tacotron2(models["taco"])

    def mel(speaker: speech.TextToSpeech) -> torch.Tensor:
        return next(speaker.speak_batches(["A sentence of some length."], seed=0)).mel

    precise = speech.TextToSpeech(model, GriffinLim(model.config))
    expected = mel(precise)
    coarse = speech.TextToSpeech(model, GriffinLim(model.config), mixed_precision="bf16")
    assert not torch.equal(mel(coarse), expected)
    assert torch.equal(mel(precise), expected)
