"""--speed: duration and pitch of a voice, and streams that equal whole audio."""

import numpy as np
import pytest
import torch

from checkpoint.voices import find_voice, load_voice_tacotron2
from common.errors import UserError
from synthesis.options import InferenceOptions
from synthesis.speech import TextToSpeech, load_text_to_speech
from synthesis.speed import change_speed
from tacotron2.speak import Utterance

TEXT = "Please leave the blue umbrella by the kitchen door. The hall was locked."
SPEEDS = (0.25, 0.8, 1.0, 1.25, 1.7, 4.0)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("frames", [1, 2, 3, 50, 101])
def test_parts_of_any_length_give_the_frames_of_the_whole_mel(speed, frames):
    mel = torch.randn(80, frames, generator=torch.Generator().manual_seed(frames))
    whole = torch.cat(list(change_speed([mel], speed)), dim=1)
    assert whole.shape == (80, max(1, round(frames / speed)))
    assert speed != 1 or torch.equal(whole, mel)
    for size in (1, 2, 7, 32):
        parts = torch.cat(list(change_speed(mel.split(size, dim=1), speed)), dim=1)
        assert torch.equal(parts, whole)


def test_a_ramp_stays_a_ramp_between_its_ends():
    ramp = torch.arange(100.0)[None]
    for speed in (0.5, 0.8, 1.25, 3.0):
        faster = torch.cat(list(change_speed([ramp], speed)), dim=1)
        expected = ((torch.arange(faster.shape[1]) + 0.5) * speed - 0.5).clamp(0, 99)
        torch.testing.assert_close(faster[0], expected)


def test_parts_are_yielded_before_the_mel_ends():
    mels, made = iter(torch.randn(10, 80, 32)), 0
    parts = change_speed(mels, 1.25)
    for _ in range(8):
        made += next(parts).shape[1]
    assert len(list(mels)) == 2 and made >= 8 * 32 / 1.25 - 2


def test_speeds_from_a_quarter_to_four_times_are_allowed():
    for speed in (0.25, 4.0):
        assert InferenceOptions(text="a", speed=speed).speed == speed
    for speed in (0.24, 4.01):
        with pytest.raises(UserError, match=r"--speed is .* at least 0.25 and at most 4"):
            InferenceOptions(text="a", speed=speed)


@pytest.mark.parametrize(
    ("first", "sizes"), [(1, [1, 2, 4, 8, 16, 16, 3]), (16, [16, 16, 16, 2]), (20, [20, 20, 10])]
)
def test_batches_of_sentences_grow_up_to_a_limit(monkeypatch, first, sizes):
    batches = []

    def speak(model, batch, *args, **options) -> list[Utterance]:
        batches.append(batch)
        return [Utterance(text, None, None, "", 1) for text in batch]

    monkeypatch.setattr("synthesis.speech.speak_sentences", speak)
    tts = TextToSpeech.__new__(TextToSpeech)
    tts.device, tts.precision, tts.tacotron2, tts.lexicon = "cpu", "no", None, None
    sentences = [str(number) for number in range(50)]
    assert [one.text for one in tts.speak_batches(sentences, seed=0, first_batch=first)] == sentences
    assert [len(batch) for batch in batches] == sizes


@pytest.fixture(scope="module")
def speaker() -> TextToSpeech:
    return load_text_to_speech(find_voice("ljspeech"))


def at_speed(speaker: TextToSpeech, speed: float) -> TextToSpeech:
    return TextToSpeech(load_voice_tacotron2(find_voice("ljspeech")), speaker.vocoder, speed=speed)


def pitch(audio: np.ndarray, rate: int, frames: int) -> np.ndarray:
    """Return F0 in Hz at this number of times, evenly distributed; 0 where there is no voice."""
    parselmouth = pytest.importorskip("parselmouth")
    f0 = parselmouth.Sound(audio.astype(np.float64), rate).to_pitch(0.005).selected_array["frequency"]
    return f0[np.linspace(0, len(f0) - 1, frames).round().astype(int)]


def test_the_duration_changes_and_the_pitch_does_not(speaker):
    plain = speaker.synthesize(TEXT)
    before = pitch(plain, speaker.sampling_rate, 1000)
    for speed in (0.8, 1.25):
        changed = at_speed(speaker, speed).synthesize(TEXT)
        assert len(changed) * speed == pytest.approx(len(plain), rel=0.02)
        after = pitch(changed, speaker.sampling_rate, 1000)
        voiced = (before > 0) & (after > 0)
        assert voiced.mean() > 0.4
        assert np.median(after[voiced]) == pytest.approx(np.median(before[voiced]), rel=0.02)


def test_a_stream_at_another_speed_equals_the_whole_audio(speaker):
    fast = at_speed(speaker, 1.25)
    streamed = np.concatenate(list(fast.stream(TEXT)))
    whole = fast.synthesize(TEXT)
    assert streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, atol=1e-3)


def test_marks_in_a_text_change_pauses_and_speeds(speaker):
    plain, pause = speaker.synthesize("Good morning. How are you?"), 0.3
    marked = 'Good morning. [pause 1.5] <prosody rate="50%">How are you?</prosody> [pause 2]'
    first, second = speaker.sentences(marked, first_batch=16)
    assert (first.before, second.before, second.speed) == (0.0, 1.5, 0.5)
    rate = speaker.sampling_rate
    assert len(plain) == len(first.audio) + len(second.audio) / 2 + pause * rate
    whole = speaker.synthesize(marked)
    assert len(whole) == len(first.audio) + 1.5 * rate + len(second.audio) + 2 * rate
    assert not whole[-2 * rate :].any()
    assert not whole[len(first.audio) : len(first.audio) + int(1.5 * rate)].any()
    assert sum(map(len, speaker.stream(marked))) == len(whole)
