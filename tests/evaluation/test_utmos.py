import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import ROOT, call, voice
from torch import Tensor
from utmos_pytorch import UTMOSScoreTorch

from common.errors import UserError
from corpus import audio
from evaluation import utmos
from evaluation.utmos import (
    SAMPLING_RATE,
    Score,
    find_checkpoint,
    load_model,
    published_weights,
    sinc_resample,
)

FILE_NAME = "utmos22_strong_step7459_v1.pt"
VOICE = voice(0.6, SAMPLING_RATE)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the published tensors, written independently of the module under test."""
    shapes = {"domain_emb": (1, 128), "judge_emb": (1, 128), "wav2vec2.mask_emb": (768,)}

    def add(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    for index, kernel_size in enumerate((10, 3, 3, 3, 3, 2, 2)):
        conv = f"wav2vec2.feature_extractor.conv_layers.{index}.0.weight"
        shapes[conv] = (512, 512 if index else 1, kernel_size)
    add("wav2vec2.feature_extractor.conv_layers.0.2", 512)
    add("wav2vec2.layer_norm", 512)
    add("wav2vec2.post_extract_proj", 768, 512)
    shapes["wav2vec2.encoder.pos_conv.0.bias"] = (768,)
    shapes["wav2vec2.encoder.pos_conv.0.weight_g"] = (1, 1, 128)
    shapes["wav2vec2.encoder.pos_conv.0.weight_v"] = (768, 48, 128)
    add("wav2vec2.encoder.layer_norm", 768)
    for index in range(12):
        layer = f"wav2vec2.encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            add(f"{layer}.self_attn.{projection}", 768, 768)
        add(f"{layer}.fc1", 3072, 768)
        add(f"{layer}.fc2", 768, 3072)
        add(f"{layer}.self_attn_layer_norm", 768)
        add(f"{layer}.final_layer_norm", 768)
    for direction in ("", "_reverse"):
        shapes[f"blstm.weight_ih_l0{direction}"] = (2048, 1024)
        shapes[f"blstm.weight_hh_l0{direction}"] = (2048, 512)
        shapes[f"blstm.bias_ih_l0{direction}"] = shapes[f"blstm.bias_hh_l0{direction}"] = (2048,)
    add("projection.0", 2048, 1024)
    add("projection.2", 1, 2048)
    return shapes


def make_weights(seed: int = 0) -> dict[str, Tensor]:
    """Return random weights that keep the variance of activations, so that every layer affects the score."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in published_shapes().items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith((".weight", ".weight_g")) and len(shape) != 2:
            weights[name] = 1 + 0.1 * noise if "conv_layers" not in name else noise / math.sqrt(shape[-1])
        else:
            weights[name] = noise / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * noise
    for name in [name for name in weights if "conv_layers" in name and weights[name].dim() == 3]:
        weights[name] /= math.sqrt(weights[name].shape[1])
    return weights


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A file in the published form, deleted after the tests because it has 400 MB."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(make_weights(), path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def score(weights_file) -> Score:
    return Score(weights_file, device="cpu")


def test_the_scores_equal_those_of_the_reference(shared, reference, formula, tmp_path):
    wanted = reference("utmos")
    seed, samples = int(wanted["seed"]), int(wanted["samples_16k"])
    shapes = json.loads(str(wanted["keys"]))
    assert shapes == {name: list(shape) for name, shape in published_shapes().items()}
    path = tmp_path / FILE_NAME
    torch.save(formula.fill({name: torch.empty(shape) for name, shape in shapes.items()}, seed), path)
    score = Score(path, device="cpu")
    path.unlink()
    clip = shared / "data" / "ljspeech-mini" / "wavs" / f"{wanted['clip']}.wav"
    assert score.calculate_wav_file(clip) == pytest.approx(float(wanted["score_clip"][0]), abs=1e-5)
    tone = formula.audio(samples, seed, SAMPLING_RATE)[0]
    expected = float(wanted["score_formula_16k"][0])
    assert score.calculate_wav(tone, SAMPLING_RATE) == pytest.approx(expected, abs=1e-5)


def test_a_score_is_a_float_that_depends_on_the_audio(score):
    scores = {score.calculate_wav(voice(0.3, SAMPLING_RATE, seed), SAMPLING_RATE) for seed in range(3)}
    assert all(isinstance(value, float) for value in scores)
    assert len(scores) == 3


def test_autocast_and_global_settings_do_not_change_the_score(score):
    expected = score.calculate_wav(VOICE, SAMPLING_RATE)
    before = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert score.calculate_wav(VOICE, SAMPLING_RATE) == expected
    with torch.enable_grad():
        assert score.calculate_wav(VOICE, SAMPLING_RATE) == expected
    assert torch.backends.cudnn.allow_tf32 == before


def test_loading_draws_no_random_numbers_and_returns_a_model_in_eval_mode(weights_file):
    before = torch.random.get_rng_state()
    model = load_model(weights_file)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000])
def test_the_score_hardly_depends_on_the_sampling_rate(score, rate):
    clip = voice(0.6, 48000)  # its harmonics end at 4 kHz
    expected = score.calculate_wav(clip, 48000)
    other_voice = score.calculate_wav(voice(0.6, 48000, seed=2), 48000)
    difference = abs(score.calculate_wav(audio.resample(clip, 48000, rate), rate) - expected)
    assert difference < 0.2 * abs(other_voice - expected)


def tone(frequency: float, rate: int, seconds: float = 0.2) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", [11025, 15995, 22050, 44100, 48000])
def test_resampling_removes_frequencies_above_8_khz_and_keeps_the_others(rate):
    inside = slice(200, 3000)  # away from the ends, beyond which a tone is cut off
    assert np.abs(sinc_resample(tone(3000, rate), rate) - tone(3000, SAMPLING_RATE))[inside].max() < 0.01
    if rate > 20000:  # with linear interpolation, this tone would remain as an alias
        assert np.abs(sinc_resample(tone(10000, rate), rate))[inside].max() < 0.02


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_resampling_equals_torchaudios(rate):
    try:
        from torchaudio.functional import resample as original
    except (ImportError, OSError) as error:
        pytest.skip(f"torchaudio can't be imported: {error}")
    clip = voice(0.3, rate)
    expected = original(torch.from_numpy(clip), rate, SAMPLING_RATE).numpy()
    np.testing.assert_allclose(sinc_resample(clip, rate), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("samples", "rate"), [(1600, 16000), (2205, 22050), (2206, 22050), (4410, 44100), (400, 16000)]
)
def test_clips_of_100_ms_and_25_ms_have_a_score(score, samples, rate):
    assert math.isfinite(score.calculate_wav(voice(1.0, rate)[:samples], rate))


@pytest.mark.parametrize(("samples", "rate"), [(399, 16000), (549, 22050), (1, 48000), (0, 16000)])
def test_a_clip_that_is_too_short_is_refused_with_its_length(score, samples, rate):
    with pytest.raises(UserError, match=f"has {samples} samples at {rate} Hz, less than the 25 ms"):
        score.calculate_wav(np.zeros(samples, np.float32), rate)


PCM = (VOICE * 32767).astype(np.int16)

SAME_CLIP = {
    "a tensor": torch.from_numpy(PCM / np.float32(32768)),
    "of a generator": torch.from_numpy(PCM / np.float32(32768))[None, None].requires_grad_(),
    "float64": PCM / 32768,
    "a list": (PCM / 32768).tolist(),
    "int16": PCM,
    "an int16 tensor": torch.from_numpy(PCM),
    "int32": PCM.astype(np.int32) << 16,
    "one channel": PCM[None],
    "two channels": np.stack([PCM, PCM]),
    "channels that differ": np.stack([2 * PCM.astype(np.int32), 0 * PCM]) << 15,
    "soundfile's channels": np.stack([PCM, PCM], axis=1),
    "not contiguous": np.repeat(PCM, 2)[::2],
}


@pytest.mark.parametrize("kind", SAME_CLIP)
def test_the_score_does_not_depend_on_the_type_of_the_array(score, kind):
    expected = score.calculate_wav(PCM.astype(np.float32) / 32768, SAMPLING_RATE)
    if kind == "channels that differ":
        expected = score.calculate_wav(PCM.astype(np.float32) / 65536, SAMPLING_RATE)
    assert score.calculate_wav(SAME_CLIP[kind], SAMPLING_RATE) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.where(np.arange(1600) == 7, np.nan, 0.1), "not finite"),
        (np.where(np.arange(1600) == 7, np.inf, 0.1), "not finite"),
        (np.zeros((20, 1600)), r"\(20, 1600\)"),
        (np.zeros((2, 1, 1600)), r"\(2, 1, 1600\)"),
        (np.float32(0.1), r"shape \(\)"),
        (np.zeros(1600, np.int64), "int64"),
        (np.zeros(1600, np.complex64), "complex64"),
        (np.zeros(1600, bool), "bool"),
        ("clip.wav", "<U8"),
        (None, "object"),
    ],
)
def test_invalid_audio_is_refused_with_a_message(score, clip, message):
    with pytest.raises(UserError, match=message):
        score.calculate_wav(clip, SAMPLING_RATE)


@pytest.mark.parametrize("rate", [0, -16000, 22050.5, math.nan, math.inf])
def test_an_invalid_sampling_rate_is_refused(score, rate):
    with pytest.raises(UserError, match="can't have a sampling rate of"):
        score.calculate_wav(VOICE, rate)


def test_a_file_has_the_score_of_its_samples(score, tmp_path):
    clip = voice(0.4)
    soundfile.write(tmp_path / "mono.wav", clip, 22050, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.flac", np.stack([clip, clip], axis=1), 22050, subtype="PCM_24")
    expected = score.calculate_wav(clip, 22050)
    assert score.calculate_wav_file(tmp_path / "mono.wav") == expected
    assert score.calculate_wav_file(str(tmp_path / "stereo.flac")) == pytest.approx(expected, abs=1e-3)


def test_a_file_without_a_score_is_named(score, tmp_path):
    path = tmp_path / "clip.wav"
    for samples, message in (([np.nan] * 1600, "not finite"), ([0.1] * 10, "has 10 samples"), ([], "has 0")):
        soundfile.write(path, np.array(samples, np.float32), 16000, subtype="FLOAT")
        with pytest.raises(UserError, match=f"clip.wav.* {message}"):
            score.calculate_wav_file(path)
    path.write_text("not audio")
    with pytest.raises(UserError, match=r"can't read audio from .*clip\.wav"):
        score.calculate_wav_file(path)
    with pytest.raises(UserError, match=r"missing\.wav"):
        score.calculate_wav_file(tmp_path / "missing.wav")


def test_an_argument_takes_precedence_over_the_environment_variable(weights_file, monkeypatch):
    monkeypatch.setenv(utmos.CHECKPOINT_VARIABLE, str(weights_file))
    assert find_checkpoint() == weights_file
    with pytest.raises(UserError, match=r"there is no file other\.pt; download UTMOS's weights: https://"):
        find_checkpoint("other.pt")
    monkeypatch.setenv(utmos.CHECKPOINT_VARIABLE, "other.pt")
    with pytest.raises(UserError, match=r"there is no file other\.pt \(set in UTMOS_CHECKPOINT\)"):
        Score()
    assert find_checkpoint(weights_file) == weights_file


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "can't be read as a checkpoint"),
        (b"<html>Not Found</html>", "can't be read as a checkpoint|is refused"),
        ({"model": Path("code")}, "is refused: it is not a file of torch.save, or contains more"),
        ([torch.zeros(2)], "state dict"),
        ({"state_dict": {"domain_emb": torch.zeros(1, 128)}}, "state dict"),
        ({"domain_emb": torch.zeros(1, 128)}, "conv_layers.0.0.weight and 222 other tensors are missing"),
        (dict.fromkeys(published_shapes(), torch.zeros(1)), "does not fit UTMOS's strong learner: "),
    ],
)
def test_a_file_without_the_published_weights_is_refused(tmp_path, contents, message):
    path = tmp_path / "weights.pt"
    path.write_bytes(contents) if isinstance(contents, bytes) else torch.save(contents, path)
    with pytest.raises(UserError, match=message) as caught:
        Score(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_tensor_is_named(tmp_path):
    # expanded zeros use no space in a file
    state = {name: torch.zeros(1).expand(shape) for name, shape in published_shapes().items()}
    del state["blstm.weight_hh_l0"]
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(
        UserError, match=r"decoder_rnn\.weight_hh_l0 and 0 other tensors are missing; download"
    ):
        load_model(tmp_path / "weights.pt")


def test_the_file_of_utmos_pytorch_has_the_same_score(score, weights_file, tmp_path):
    path = tmp_path / "utmos_state_dict.pt"
    tables = {"feature_extractors.1.embedding.weight": (3, 128)}
    tables["output_layers.0.judge_embedding.weight"] = (3000, 128)
    state = published_weights(weights_file)
    assert tables.items() <= {name: tuple(tensor.shape) for name, tensor in state.items()}.items()
    torch.save(state | {"feature_extractors.0.ssl_model.final_proj.bias": torch.zeros(256)}, path)
    other = Score(path)
    assert other.calculate_wav(VOICE, SAMPLING_RATE) == score.calculate_wav(VOICE, SAMPLING_RATE)
    original = UTMOSScoreTorch(str(path))  # which ignores what does not fit
    path.unlink()
    assert original.score(torch.from_numpy(VOICE)).item() == pytest.approx(
        other.calculate_wav(VOICE, SAMPLING_RATE), abs=1e-5
    )


def test_a_truncated_file_is_refused(weights_file, tmp_path):
    with open(weights_file, "rb") as file:
        (tmp_path / "half.pt").write_bytes(file.read(1 << 20))
    with pytest.raises(UserError, match=r"half\.pt can't be read as a checkpoint.*is the file "):
        Score(tmp_path / "half.pt")


def test_the_device_is_the_callers_and_by_default_the_cpu(weights_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Score(weights_file).device.type == "cpu"


def test_an_unavailable_device_is_a_user_error(weights_file):
    for device in ("cuda:99", "nonsense"):
        with pytest.raises(UserError, match=f"can't use the device {device}"):
            Score(weights_file, device)


# python -m evaluation.utmos.


def run(*arguments, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "evaluation.utmos", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


def test_the_command_prints_a_score_for_each_file(score, weights_file, tmp_path):
    first, second = tmp_path / "first.wav", tmp_path / "second.wav"
    soundfile.write(first, voice(0.4), 22050)
    soundfile.write(second, voice(0.4, seed=1), 22050)
    done = run(first, second, "--device", "cpu", UTMOS_CHECKPOINT=str(weights_file))
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [path for path, _ in lines] == [str(first), str(second)]
    assert float(lines[0][1]) == pytest.approx(score.calculate_wav_file(first), abs=1e-3)


def test_without_a_network_the_message_states_the_file_and_where_to_put_it(tmp_path):
    soundfile.write(tmp_path / "clip.wav", voice(0.2), 22050)
    environment = {"HF_HOME": str(tmp_path), "UTMOS_CHECKPOINT": "", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = run(tmp_path / "clip.wav", **environment)
    assert done.returncode == 2 and done.stdout == ""
    message = done.stderr.splitlines()[-1]  # after the Hub's client's reports of its attempts
    assert message.startswith("evaluation.utmos: error: can't download UTMOS's weights: ")
    assert utmos.CHECKPOINT_URL in message and "set UTMOS_CHECKPOINT" in message
    assert "Traceback" not in done.stderr


def test_a_mistake_on_the_command_line_is_one_line(tmp_path):
    done = call(utmos.main, tmp_path / "missing.wav")
    assert done.returncode == 2 and done.stdout == ""
    assert (
        done.stderr
        == f"evaluation.utmos: error: there is no file {tmp_path}/missing.wav; expected audio files\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: FILE"),
        ([__file__, "--checkpoint", "missing.pt"], "there is no file missing.pt"),
    ],
)
def test_other_mistakes_on_the_command_line_are_user_errors(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        utmos.main(arguments)
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == "" and message in errors and errors.count("\n") == 1
