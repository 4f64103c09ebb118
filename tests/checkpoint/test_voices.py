"""Voices: the bundled ones, and what a `voice.json` must contain."""

import json
from types import SimpleNamespace

import pytest
from helpers import ROOT

from checkpoint import load_generator, voices
from checkpoint.voices import VOICE_FILE, VOICES, find_voice, list_voices, load_voice_tacotron2
from common.errors import UserError
from mel import check_same_mel

COMPLETE = {
    "title": "A voice",
    "language": "en-us",
    "license": "CC0",
    "provenance": "made by a test",
    "taco": "../shared/tacotron2",
    "vocoder": "hifigan",
}


def write_voice(folder, **values) -> None:
    folder.mkdir(parents=True)
    (folder / VOICE_FILE).write_text(json.dumps(COMPLETE | values), encoding="utf-8")


def test_exactly_one_bundled_voice_is_the_default():
    assert [voice.default for voice in list_voices()].count(True) == 1
    assert find_voice().default


def test_the_bundled_voices_are_small_and_contain_only_tensors():
    files = [path for path in VOICES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 24e6
    assert {path.suffix for path in files if path.name != "LICENSE"} <= {".json", ".safetensors", ".md"}


@pytest.mark.parametrize("voice", list_voices(), ids=lambda voice: voice.name)
def test_the_models_of_each_bundled_voice_agree_on_the_mel(voice):
    tacotron2 = load_voice_tacotron2(voice)
    vocoder = load_generator(voice.vocoder)
    check_same_mel(tacotron2.config, vocoder.config, "Tacotron 2", "the vocoder", scale_matters=False)


def test_a_voice_is_found_by_name_by_folder_and_by_default(tmp_path):
    write_voice(tmp_path / "ann")
    write_voice(tmp_path / "bob", default=True)
    (tmp_path / "shared" / "tacotron2").mkdir(parents=True)
    assert [voice.name for voice in list_voices(tmp_path)] == ["bob", "ann"]
    assert find_voice(None, tmp_path).name == "bob"
    ann = find_voice("ann", tmp_path)
    assert ann == find_voice(str(tmp_path / "ann"))
    assert ann.taco.resolve() == tmp_path / "shared" / "tacotron2"
    assert ann.vocoder == tmp_path / "ann" / "hifigan"
    with pytest.raises(UserError, match=r"'eve'.*bob, ann"):
        find_voice("eve", tmp_path)


def test_a_voice_selects_its_speaker_of_a_shared_tacotron2(tmp_path, monkeypatch):
    write_voice(tmp_path / "ann", speaker="ann")
    shared = SimpleNamespace(for_speaker=lambda name: f"the model for {name}")
    monkeypatch.setattr(voices, "load_tacotron2", lambda path, device: shared)
    assert load_voice_tacotron2(find_voice("ann", tmp_path)) == "the model for ann"


def test_a_voice_without_a_speaker_refuses_a_shared_tacotron2(tmp_path, monkeypatch):
    write_voice(tmp_path / "ann")
    shared = SimpleNamespace(config=SimpleNamespace(speakers=("ann", "bob")))
    monkeypatch.setattr(voices, "load_tacotron2", lambda path, device: shared)
    with pytest.raises(UserError, match=r"voice\.json.*--speaker.*ann, bob"):
        load_voice_tacotron2(find_voice("ann", tmp_path))


@pytest.mark.parametrize(
    ("values", "words"),
    [({"license": None}, "license"), ({"default": "yes"}, "default"), ({"speaker": 3}, "speaker")],
)
def test_an_incomplete_voice_is_refused_by_field(tmp_path, values, words):
    write_voice(tmp_path / "ann", **values)
    with pytest.raises(UserError, match=words):
        list_voices(tmp_path)


def test_a_voice_with_the_former_spelling_of_license_is_read(tmp_path):
    write_voice(tmp_path / "old")
    text = (tmp_path / "old" / VOICE_FILE).read_text().replace('"license"', '"licence"')
    (tmp_path / "old" / VOICE_FILE).write_text(text)
    assert find_voice(str(tmp_path / "old")).license == "CC0"


def test_every_voice_states_its_license_and_provenance():
    for voice in list_voices():
        described = voice.describe()
        assert all(text in described for text in (voice.name, voice.language, voice.license))
        assert voice.provenance in described and len(voice.provenance) > 20
    assert (ROOT / "voices").is_dir()
