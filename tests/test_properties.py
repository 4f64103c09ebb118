"""Properties that hold for any input, with examples chosen by Hypothesis."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import RATE, voice
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.parser import build_parser, read_run_settings, select
from config import MEL_SCALES, HiFiGANConfig, MelConfig
from corpus.audio import inspect_clip, read_audio, write_wav
from tacotron2.config import Tacotron2Config
from text import INVENTORIES, clean, encode_texts, split_sentences
from train import VocoderOptions

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 16, 80, 256, 1024])
REQUIRED = {"experiment_name": "x", "working_directory": Path("x")}
REQUIRED |= dict.fromkeys(("path_to_train_manifest", "path_to_val_manifest"), Path("x.csv"))


@quick
@given(st.integers(0, 2043))
def test_a_wav_cut_at_any_byte_is_refused(tmp_path_factory, size):
    path = tmp_path_factory.getbasetemp() / "cut.wav"
    write_wav(path, voice(1.0)[:1000], RATE)
    path.write_bytes(path.read_bytes()[:size])
    assert inspect_clip(path).problem
    with pytest.raises(UserError, match=r"cut\.wav"):
        read_audio(path)


@quick
@given(st.dictionaries(st.sampled_from(sorted(HiFiGANConfig.__dataclass_fields__)), NUMBERS, max_size=2))
def test_a_configuration_that_is_accepted_survives_json(values):
    try:
        config = HiFiGANConfig.from_dict(values)
    except UserError:
        return
    assert HiFiGANConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@quick
@given(st.sampled_from(["learning_rate", "beta1", "lambda_mel", "batch_size", "seed"]), NUMBERS)
def test_a_value_is_valid_on_the_command_line_and_in_json_or_in_neither(tmp_path_factory, name, value):
    path = tmp_path_factory.getbasetemp() / "run.json"
    path.write_text(json.dumps({name: value}))
    flags = [item for field, value in REQUIRED.items() for item in (f"--{field}", str(value))]
    parser = build_parser("test", "Test.", VocoderOptions)
    found = []
    for read in (
        lambda: read_run_settings(path, VocoderOptions),
        lambda: select(VocoderOptions, vars(parser.parse_args([*flags, f"--{name}={value!r}"]))),
    ):
        try:
            found.append(getattr(VocoderOptions(**REQUIRED | read()), name))
        except (UserError, SystemExit):
            found.append(None)
    assert found[0] == found[1]


@settings(quick, max_examples=15)
@given(st.text(max_size=100))
def test_any_text_has_tokens_of_the_inventory(text):
    for text_input in ("characters", "phonemes"):
        (ids,) = encode_texts([text], Tacotron2Config(text_input=text_input))
        assert all(0 <= number < len(INVENTORIES[text_input]) for number in ids)


@quick
@given(st.text("abc. !?,;:\n\"'()-…", max_size=200))
def test_sentences_keep_every_letter_in_order(text):
    letters = [c for c in text if c.isalpha()]
    assert [c for sentence in split_sentences(text) for c in sentence if c.isalpha()] == letters


@quick
@given(st.text(max_size=60))
def test_normalized_text_does_not_change_again(text):
    once = clean(text)
    assert clean(once) == once


@quick
@given(st.sampled_from(MEL_SCALES), st.floats(-300, -1), st.floats(0.1, 100), st.floats(-11.5, 2))
def test_the_scale_of_a_mel_is_undone_exactly(scale, min_db, max_scaled_abs, value):
    config = MelConfig(mel_scale=scale, min_db=min_db, max_scaled_abs=max_scaled_abs)
    assert np.isclose(config.to_ln(config.from_ln(value)), value, rtol=1e-9, atol=1e-9)
