"""Audio files in any format: their length is what they decode to, and a segment is that part of the whole."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from helpers import RATE, voice

from common.errors import UserError
from corpus import audio as audio_files
from corpus.audio import inspect_clip, mix_down, read_audio, to_pcm
from corpus.conversion import SilentClip, convert_audio
from corpus.mel_comparison import mel_of, unlikely_mel_values, wrong_mel
from mel import MelConfig

FORMATS = [
    ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "DOUBLE"), ("WAV", "ALAW"), ("WAV", "GSM610"),
    ("WAV", "G721_32"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"),
    ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
PADDED = {"IMA_ADPCM": 2048, "MS_ADPCM": 2048}  # samples of a block


def write(path: Path, form: str, subtype: str, audio: np.ndarray) -> Path:
    soundfile.write(path, audio, RATE, format=form, subtype=subtype)
    return path


@pytest.mark.parametrize("form, subtype", FORMATS)
def test_the_length_is_decoded_and_segments_are_parts_of_the_whole(tmp_path, form, subtype):
    audio = voice(1.9)
    path = write(tmp_path / "named.wav", form, subtype, audio)  # the contents count, not the suffix
    info, (whole, rate, _) = inspect_clip(path), read_audio(path)
    assert not info.problem and rate == RATE and info.samples == len(whole)
    assert 0 <= len(whole) - len(audio) <= PADDED.get(subtype, 0)
    for start in np.random.default_rng(0).integers(0, len(whole) - 8192, 5):
        part, _, _ = read_audio(path, int(start), 8192)
        assert len(part) == 8192 and np.abs(part - whole[start : start + 8192]).max() < 1e-3


@pytest.mark.parametrize("form, subtype", [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")])
def test_joined_files_are_read_to_the_end(tmp_path, form, subtype):
    parts = [
        write(tmp_path / f"{n}", form, subtype, voice(1.0 + n / 3, seed=n)).read_bytes() for n in range(2)
    ]
    (tmp_path / "joined").write_bytes(b"".join(parts))
    assert (
        0 <= inspect_clip(tmp_path / "joined").samples / RATE - (1.0 + 4 / 3) < 0.15
    )  # the second file begins with padding


@pytest.mark.parametrize(
    "container, codec", [("mp4", "aac"), ("adts", "aac"), ("ogg", "flac"), ("flac", "flac")]
)
def test_files_that_ffmpeg_writes_are_read_to_the_end_and_segments_are_parts_of_them(
    tmp_path, container, codec
):
    audio = voice(1.9)
    for name in ("first", "second"):
        with av.open(str(tmp_path / name), "w", format=container) as file:
            stream = file.add_stream(codec, rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(to_pcm(audio)[None], format="s16", layout="mono")
            frame.rate = RATE
            frame.pts = 0
            for packet in (*stream.encode(frame), *stream.encode(None)):
                file.mux(packet)
    whole, rate, _ = read_audio(tmp_path / "first")
    assert rate == RATE and 0 <= len(whole) - len(audio) < 3000  # whole frames of AAC
    joined = (tmp_path / "first").read_bytes() + (tmp_path / "second").read_bytes()
    if container != "mp4":  # which states its length
        (tmp_path / "first").write_bytes(joined)
        whole, _, _ = read_audio(tmp_path / "first")
        assert len(whole) >= 2 * len(audio)
    for start in (0, 1234, len(audio) - 100, len(whole) - 500):
        part, _, _ = read_audio(tmp_path / "first", start, 700)
        expected = whole[start : start + 700]
        assert len(part) == len(expected) and np.abs(part - expected).max(initial=0) < 1e-3


def test_an_unknown_format_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(1000))  # WMA
    with pytest.raises(UserError, match=r"a\.wav: its format is unknown; convert it, .*ffmpeg -i"):
        read_audio(tmp_path / "a.wav")


def test_lengths_of_real_files_that_state_another_one(shared):
    folder = shared / "cases" / "mp3_lost"
    found = {path.stem: inspect_clip(path).samples / RATE for path in folder.glob("*.mp3")}
    assert found["vbr_noxing"] == pytest.approx(10.6, abs=0.1)
    assert found["vbr_xing"] == pytest.approx(10.6, abs=0.1)
    assert found["cat_hi_lo"] == pytest.approx(11.9, abs=0.1)


def test_a_small_file_of_many_channels_is_refused_before_it_is_decoded(tmp_path):
    """Silence of 255 channels takes 200 bytes per second in Vorbis, and 200 MB per second when decoded."""
    path = tmp_path / "silence.ogg"
    soundfile.write(path, np.zeros((19200, 255), np.float32), 192_000, format="OGG")
    with pytest.raises(UserError, match="255 channels; at most 32"):
        read_audio(path)
    assert "255 channels" in inspect_clip(path).problem


@pytest.mark.parametrize("form, subtype", [("WAV", "PCM_16"), ("OGG", "VORBIS")])
def test_samples_times_channels_of_a_file_that_is_read_as_a_whole_are_limited(
    tmp_path, monkeypatch, form, subtype
):
    path = write(tmp_path / "long", form, subtype, np.stack([voice(30.0), voice(30.0, seed=1)], 1))
    monkeypatch.setattr(audio_files, "MOST_VALUES", 40 * RATE)
    with pytest.raises(UserError, match=r"longer than 0\.0 hours; split the file"):
        read_audio(path)
    assert len(read_audio(path, RATE, 10 * RATE)[0]) == 10 * RATE  # a part of it
    assert inspect_clip(path).samples == 30 * RATE


@pytest.mark.parametrize("scale", ["db", "ln"])
def test_values_far_below_the_clamp_or_above_full_scale_are_unlikely(scale):
    """With room of 22 dB below and 26 dB above; HTK's filters sum more of the neighbors."""
    for filters, highest in (("slaney", 3.0), ("htk", 8.0)):
        config = MelConfig(mel_scale=scale, mel_filters=filters)
        lowest = config.to_ln(config.silence) - 2.5
        for value, is_unlikely in (
            (lowest + 0.1, False), (lowest - 0.1, True), (highest - 0.1, False), (highest + 0.1, True)
        ):  # fmt: skip
            assert bool(unlikely_mel_values(np.full((80, 2), config.from_ln(value)), config)) == is_unlikely


def test_channels_that_cancel_are_not_averaged():
    audio = voice(0.5)
    mono, change = mix_down(np.stack([audio, -0.5 * audio], axis=1))
    assert np.array_equal(mono, audio) and "loudest" in change
    mono, change = mix_down(np.stack([audio, audio], axis=1))
    assert np.allclose(mono, audio) and change == "mixed down from 2 channels"


@pytest.mark.parametrize("noise, offset", [(0.0, 0.0), (1e-4, 0.0), (1e-3, 0.0), (3e-3, 0.0), (1e-4, 0.001)])
def test_silence_is_relative_to_the_noise_of_the_clip(tmp_path, noise, offset):
    audio = np.concatenate([np.zeros(RATE), 0.7 * voice(2.0), np.zeros(RATE)])
    audio += noise * np.random.default_rng(0).standard_normal(len(audio)) + offset
    path = write(tmp_path / "in.wav", "WAV", "FLOAT", audio)
    (converted, rate), changes, trimmed = convert_audio(path, RATE)
    assert rate == RATE and 1.7 < trimmed <= 2.1
    assert any("offset" in change for change in changes) == bool(offset)
    assert abs(converted.mean()) < 5e-3
    assert convert_audio(path, RATE, trim_db=0)[2] == 0


def test_a_clip_without_sound_is_refused(tmp_path):
    path = write(tmp_path / "in.wav", "WAV", "PCM_16", np.full(RATE, 0.25))
    with pytest.raises(SilentClip):
        convert_audio(path, RATE)


@pytest.fixture(scope="module")
def speech(shared) -> np.ndarray:
    return read_audio(shared / "data" / "ljspeech-mini" / "wavs" / "LJ001-0002.wav")[0]


def test_mels_of_other_scales_shifts_spectrograms_and_clips_are_recognized(speech):
    config = MelConfig(mel_scale="ln")
    true = mel_of(speech, config)
    wrong = {
        "log10: the factor between the two is 2.30": true / np.log(10),
        "normalized to 0..1": (true - true.min()) / np.ptp(true),
        "0.5 hops": mel_of(np.roll(speech, 128), config),
        "fmax": mel_of(speech, MelConfig(mel_scale="ln", fmax=None)),
        "n_fft 2048": mel_of(speech, MelConfig(mel_scale="ln", n_fft=2048, window_size=2048)),
        "does not follow its audio": np.roll(true, 70, axis=1),
        "louder or quieter audio, by a constant of 3.00": true + 3,
    }
    for words, mel in wrong.items():
        assert words in wrong_mel(mel.astype(np.float32), speech, config), words


def test_mels_of_poor_models_are_accepted(speech):
    config, random = MelConfig(), np.random.default_rng(0)
    true = mel_of(speech, config)
    blurred = sum(np.roll(true, shift, axis=1) for shift in range(-2, 5)) / 7
    poor = {
        "blurred and late": 0.8 * blurred + 0.2 * true.mean(),
        "the previous frame, with noise": 0.9 * np.roll(true, 1, axis=1)
        + 0.3 * random.standard_normal(true.shape),
        "nothing learned": 0.1 * random.standard_normal(true.shape),
        "the mean of each band": np.repeat(true.mean(axis=1, keepdims=True), true.shape[1], axis=1),
    }
    for name, mel in poor.items():
        assert wrong_mel(mel.astype(np.float32), speech, config) == "", name
