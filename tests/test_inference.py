import os
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import RATE, ROOT, call, save_official, small_generator, speech_mel, voice
from safetensors.torch import save_file

import inference
from checkpoint import load_generator, save_model
from config import HiFiGANConfig
from corpus.audio import to_pcm, write_wav
from mel import MelSpectrogram
from synthesis.denoiser import Denoiser


def run(*flags: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "inference.py"), *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An untrained vocoder whose output is loud enough to differ from silence."""
    generator = small_generator(seed=1)
    with torch.no_grad():
        generator.head.conv_post.parametrizations.weight.original0.fill_(3.0)
    folder = tmp_path_factory.mktemp("model") / "small"
    save_model(folder, generator.config, generator=generator)
    return folder


@torch.inference_mode()
def vocoded(model: Path, audio: np.ndarray) -> np.ndarray:
    """Return the model's output for the mel of this audio as 16-bit samples."""
    generator = load_generator(model)
    generated = generator(MelSpectrogram(generator.config)(torch.from_numpy(audio))[None])[0, 0].numpy()
    return np.rint(generated.astype(np.float64) * 32768).clip(-32768, 32767).astype(np.int16)


def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert soundfile.info(path).subtype == "PCM_16"
    return samples


def assert_close(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_the_bare_command_turns_test_files_into_generated_files(model, tmp_path):
    (tmp_path / "test_files").mkdir()
    clips = {"one": voice(0.4), "two.b": voice(0.3, seed=1)}
    for stem, samples in clips.items():
        write_wav(tmp_path / "test_files" / f"{stem}.wav", samples, RATE)
    (tmp_path / "test_files" / "notes.txt").write_text("not a clip")
    done = run("--checkpoint_file", model, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "2 files in generated_files\n"
    made = sorted(path.name for path in (tmp_path / "generated_files").iterdir())
    assert made == ["one_generated.wav", "two.b_generated.wav"]
    for stem in clips:
        original, _ = soundfile.read(tmp_path / "test_files" / f"{stem}.wav", dtype="float32")
        generated = read(tmp_path / "generated_files" / f"{stem}_generated.wav")
        assert len(generated) == len(original) // 256 * 256
        assert np.abs(generated).max() > 100
        assert_close(generated, vocoded(model, original))


def test_saved_mels_become_generated_files_from_mel(tmp_path):
    generator = small_generator(seed=2, mel_scale="ln")
    checkpoint = save_official(tmp_path / "official", generator.config, generator=generator)
    folder = tmp_path / "test_mel_files"
    folder.mkdir()
    mel = speech_mel(30)[0]
    np.save(folder / "flat.npy", mel)
    np.save(folder / "boxed.npy", mel[None])
    np.save(folder / "double.npy", mel.double())
    flags = ("--checkpoint_file", checkpoint, "--input_mels_dir", "test_mel_files")
    done = call(inference.main, *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = {path.name: read(path) for path in (tmp_path / "generated_files_from_mel").iterdir()}
    assert sorted(made) == [f"{stem}_generated_e2e.wav" for stem in ("boxed", "double", "flat")]
    with torch.inference_mode():
        expected = np.rint(generator(mel[None])[0, 0].double().numpy() * 32768).astype(np.int16)
    for samples in made.values():
        assert_close(samples, expected)


def test_the_published_model_reproduces_the_published_clip(shared, reference, tmp_path):
    expected = reference("lj_v2")
    (tmp_path / "wavs").mkdir()
    wav = f"{expected['clip']}.wav"
    (tmp_path / "wavs" / wav).symlink_to(shared / "data" / "ljspeech-mini" / "wavs" / wav)
    checkpoint = shared / "pretrained" / "LJ_V2" / "generator_v2"
    inference.main(
        [
            f"--checkpoint_file={checkpoint}",
            f"--input_wavs_dir={tmp_path / 'wavs'}",
            f"--output_dir={tmp_path / 'out'}",
        ]
    )
    generated = read(tmp_path / "out" / f"{expected['clip']}_generated.wav")
    np.testing.assert_allclose(generated / 32768, expected["audio"].ravel(), atol=2e-4)


# In this process, for there is much to ask: `main` is all that the command runs.


@pytest.fixture
def infer(model, tmp_path, capsys):
    """Return a function that runs `main` with the model and tmp_path/out: (exit status, stdout, stderr)."""

    def infer(*flags: str | Path, checkpoint: Path = model):
        arguments = ["--checkpoint_file", checkpoint, "--output_dir", tmp_path / "out", *flags]
        try:
            inference.main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return infer


@pytest.fixture
def wavs(tmp_path) -> Path:
    (tmp_path / "wavs").mkdir()
    return tmp_path / "wavs"


@pytest.fixture
def mels(tmp_path) -> Path:
    (tmp_path / "mels").mkdir()
    return tmp_path / "mels"


def test_output_dir_is_created(infer, wavs, tmp_path):
    write_wav(wavs / "a.wav", voice(0.1), RATE)
    deep = tmp_path / "some" / "where"
    status, out, _ = infer("--input_wavs_dir", wavs, "--output_dir", deep)
    assert (status, out) == (0, f"1 files in {deep}\n")
    assert [path.name for path in deep.iterdir()] == ["a_generated.wav"]


def test_resampling_and_downmixing_are_reported(infer, model, wavs, tmp_path):
    original = voice(0.5)
    write_wav(wavs / "plain.wav", original, RATE)
    soundfile.write(wavs / "both.flac", np.stack([voice(0.5, 16000), 0.5 * voice(0.5, 16000)], axis=1), 16000)
    sides = np.stack([0.5 * original, 1.5 * original], axis=1)
    soundfile.write(wavs / "stereo.wav", sides, RATE, subtype="FLOAT")
    status, out, err = infer("--input_wavs_dir", wavs)
    assert (status, out) == (0, f"3 files in {tmp_path / 'out'}\n")
    both, stereo = err.splitlines()  # standard output may be audio
    assert both.startswith("both.flac: ") and "2 channels" in both and "16000 Hz to 22050 Hz" in both
    assert stereo.startswith("stereo.wav: ") and "2 channels" in stereo and "Hz" not in stereo
    assert_close(read(tmp_path / "out" / "stereo_generated.wav"), vocoded(model, original))
    resampled = read(tmp_path / "out" / "both_generated.wav")
    assert len(resampled) == int(0.5 * RATE) // 256 * 256


def test_the_input_is_never_rescaled(infer, model, wavs, tmp_path):
    for name, level in (("quiet", 0.05), ("loud", 2.5)):
        soundfile.write(wavs / f"{name}.wav", level * voice(0.3), RATE, subtype="FLOAT")
    infer("--input_wavs_dir", wavs)
    for name, level in (("quiet", 0.05), ("loud", 2.5)):
        expected = vocoded(model, np.float32(level) * voice(0.3))
        assert_close(read(tmp_path / "out" / f"{name}_generated.wav"), expected)


def test_the_output_is_never_rescaled(infer, wavs, tmp_path, monkeypatch):
    write_wav(wavs / "a.wav", voice(0.1), RATE)
    for level in (0.01, 0.5, 1.0, 1.7):
        ramp = np.linspace(-level, level, 2048, dtype=np.float32)
        monkeypatch.setattr(inference, "vocode", lambda *_, ramp=ramp: np.split(ramp, [700]))
        infer("--input_wavs_dir", wavs)
        written = read(tmp_path / "out" / "a_generated.wav") / 32768
        np.testing.assert_allclose(written, ramp.clip(-1, 32767 / 32768), atol=0.51 / 32768)


def test_plot_saves_the_mels_next_to_the_audio(infer, mels, tmp_path):
    np.save(mels / "a.npy", np.zeros((80, 20), np.float32))
    status, _, err = infer("--input_mels_dir", mels, "--plot")
    assert (status, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_generated_e2e.png",
        "a_generated_e2e.wav",
    ]


LN, DB, LOG10 = (HiFiGANConfig(mel_scale=scale) for scale in ("ln", "db", "log10"))


@torch.inference_mode()
def spoken(model: Path, mel: torch.Tensor) -> np.ndarray:
    """Return the model's output for a mel (80, frames) in its own scale as 16-bit samples."""
    return to_pcm(load_generator(model)(mel[None])[0, 0].numpy())


def test_a_mel_is_the_same_in_every_file_format(infer, model, mels, tmp_path):
    mel = DB.from_ln(speech_mel(20))  # (1, 80, 20)
    np.save(mels / "npy.npy", mel[0].numpy())
    np.savez(mels / "npz.npz", mel[0].numpy())
    np.savez_compressed(mels / "npz_of_several.npz", mel=mel.numpy(), frames=np.arange(20))
    torch.save(mel, mels / "pt.pt")
    torch.save({"mel": mel[0].double(), "text": "a", "speaker": torch.zeros(3)}, mels / "pt_of_several.pt")
    torch.save({"spectrogram": mel[0]}, mels / "pt_of_another_name.pt")
    save_file({"mel": mel[0].contiguous(), "f0": torch.zeros(20)}, mels / "tensors.safetensors")
    status, out, err = infer("--input_mels_dir", mels)
    assert (status, err) == (0, "")
    assert out.startswith("7 files")
    expected = spoken(model, mel[0])
    assert np.abs(expected).max() > 100
    for path in mels.iterdir():
        assert_close(read(tmp_path / "out" / f"{path.stem}_generated_e2e.wav"), expected)


@pytest.mark.parametrize("config", [LN, LOG10], ids=lambda config: config.mel_scale)
def test_mels_of_another_scale_are_converted_to_the_vocoders_scale(infer, model, mels, tmp_path, config):
    in_ln = speech_mel(20)[0]
    np.save(mels / "a.npy", config.from_ln(in_ln).numpy())
    status, _, err = infer("--input_mels_dir", mels, "--mel_scale", config.mel_scale)
    assert (status, err) == (0, "")
    generated = read(tmp_path / "out" / "a_generated_e2e.wav")
    assert_close(generated, spoken(model, DB.from_ln(in_ln)))
    assert np.abs(generated.astype(int) - spoken(model, in_ln)).max() > 100


def test_decibels_are_converted_for_a_vocoder_of_natural_logarithms(infer, mels, tmp_path):
    generator = small_generator(mel_scale="ln")
    checkpoint = save_official(tmp_path / "official", generator.config, generator=generator)
    in_ln = speech_mel(20)[0]
    np.save(mels / "a.npy", DB.from_ln(in_ln).numpy())
    assert infer("--input_mels_dir", mels, "--mel_scale", "db", checkpoint=checkpoint)[0] == 0
    assert_close(read(tmp_path / "out" / "a_generated_e2e.wav"), spoken(checkpoint, in_ln))


def test_transposed_mels_are_read_with_the_flag(infer, model, mels, tmp_path):
    mel = DB.from_ln(speech_mel(80))[0]  # as many frames as bands: only the flag distinguishes them
    np.save(mels / "flat.npy", mel.T.numpy())
    np.save(mels / "boxed.npy", mel.T[None].numpy())
    assert infer("--input_mels_dir", mels, "--transposed")[0] == 0
    for stem in ("flat", "boxed"):
        assert_close(read(tmp_path / "out" / f"{stem}_generated_e2e.wav"), spoken(model, mel))


def test_implausible_mels_are_refused_with_the_numbers(infer, mels, tmp_path):
    def error_for(mel, *flags):
        np.save(mels / "a.npy", np.asarray(mel, dtype=np.float32))
        result = infer("--input_mels_dir", mels, *flags)
        assert not list((tmp_path / "out").glob("*")), "something was written all the same"
        return result

    in_ln = speech_mel(20)[0]
    assert_reported(error_for(np.zeros((100, 20))), "a.npy", "(100, 20)", "(80, frames)", "80 bands")
    assert_reported(error_for(in_ln.T), "(20, 80)", "--transposed")
    assert_reported(error_for(in_ln, "--transposed"), "(80, 20)", "(frames, 80)", "omit --transposed")
    low = f"{in_ln.min():.2f}"
    assert_reported(error_for(in_ln), "a.npy", low, "scale db", "-5.74", "6.08", "--mel_scale")
    assert_reported(error_for(DB.from_ln(in_ln) + 20), "scale db", "6.08")
    assert_reported(
        error_for(np.full((80, 20), -30.0), "--mel_scale", "ln"), "-30.00", "scale ln", "-14.01", "3.00"
    )


def test_files_without_a_single_mel_are_refused_by_name(infer, mels):
    def error_for(*words):
        assert_reported(infer("--input_mels_dir", mels), *words)
        for path in mels.iterdir():
            path.unlink()

    np.savez(mels / "a.npz", one=np.zeros((80, 20)), other=np.zeros((80, 20)))
    error_for("a.npz", "one", "other", "`mel`")
    torch.save({"text": "a"}, mels / "a.pt")
    error_for("a.pt", "no arrays")
    torch.save({"mel": Path("code")}, mels / "a.pt")  # unpickling it would run code
    error_for("a.pt", "is refused", "run code")
    for suffix in (".npz", ".pt", ".safetensors"):
        (mels / f"a{suffix}").write_bytes(b"no mel at all" * 10)
        error_for(f"a{suffix}", "is refused" if suffix == ".pt" else "can't read")
    for suffix in (".npy", ".npz"):
        with open(mels / f"a{suffix}", "wb") as file:
            (np.save if suffix == ".npy" else np.savez)(file, np.zeros((80, 20), np.float32))
    error_for("a.npy", "a.npz", "same name")


def test_a_stream_on_standard_output_contains_the_samples_of_the_wavs(model, infer, mels, tmp_path):
    for stem, frames in (("a", 150), ("b", 20)):
        np.save(mels / f"{stem}.npy", DB.from_ln(speech_mel(frames))[0].numpy())
    assert infer("--input_mels_dir", mels)[0] == 0
    wavs = [read(tmp_path / "out" / f"{stem}_generated_e2e.wav") for stem in ("a", "b")]
    command = [sys.executable, str(ROOT / "inference.py"), "--checkpoint_file", str(model)]
    command += ["--input_mels_dir", str(mels), "--stream", "--output_dir", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"2 files written\n")
    samples = np.frombuffer(done.stdout, "<i2")
    assert len(samples) == 170 * 256
    assert_close(samples, np.concatenate(wavs))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mels", "out"]


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that breaks")
def test_a_closed_player_ends_a_stream_without_a_message(model, mels, tmp_path):
    np.save(mels / "a.npy", DB.from_ln(speech_mel(2000)).numpy())
    command = [sys.executable, str(ROOT / "inference.py"), "--checkpoint_file", str(model)]
    command += ["--input_mels_dir", str(mels), "--stream", "--output_dir", "-"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(2)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--stream --output_dir - > /dev/full", "standard output; check"),
        ("--stream --output_dir - >&-", "standard output is closed"),
        ("--output a.wav > /dev/full", "standard output; check"),
        ("--output a.wav 2>&-", None),
    ],
)
def test_unusual_standard_streams_are_one_line_at_most(model, mels, tmp_path, flags, error):
    np.save(mels / "a.npy", DB.from_ln(speech_mel(20)).numpy())
    command = f"{sys.executable} {ROOT / 'inference.py'} --checkpoint_file {model} --input_mels_dir {mels} "
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    words = ["bash", "-c", command + flags]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (tmp_path / "a.wav").exists() == ("a.wav" in flags)
    if error:
        assert_reported((done.returncode, done.stdout, done.stderr), error)
    else:
        assert (done.returncode, done.stdout) == (0, "a.wav\n")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that refuses files")
def test_an_output_that_cannot_be_written_is_one_line(model, mels):
    np.save(mels / "a.npy", DB.from_ln(speech_mel(20)).numpy())
    flags = ["--checkpoint_file", str(model), "--input_mels_dir", str(mels), "--output", "/proc/a.wav"]
    done = call(inference.main, *flags)
    assert_reported((done.returncode, done.stdout, done.stderr), "/proc/a.wav", "check the path")


def test_a_streamed_file_equals_the_file_written_at_once(infer, model, mels, tmp_path):
    mel = DB.from_ln(speech_mel(150))
    np.save(mels / "a.npy", mel.numpy())
    assert infer("--input_mels_dir", mels, "--stream")[0] == 0
    assert_close(read(tmp_path / "out" / "a_generated_e2e.wav"), spoken(model, mel[0]))


def test_a_stream_is_written_while_it_is_computed(infer, mels, monkeypatch):
    np.save(mels / "a.npy", DB.from_ln(speech_mel(300)).numpy())
    events, vocode, pcm = [], inference.vocode, inference.to_pcm

    def listened(*arguments):
        for chunk in vocode(*arguments):
            events.append("made")
            yield chunk

    monkeypatch.setattr(inference, "vocode", listened)
    monkeypatch.setattr(inference, "to_pcm", lambda chunk: events.append("written") or pcm(chunk))
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO()))
    assert infer("--input_mels_dir", mels, "--stream", "--output_dir", "-")[0] == 0
    assert events == ["made", "written"] * (len(events) // 2) and len(events) >= 8


@torch.inference_mode()
def test_denoising_strength_applies_the_denoiser(infer, model, mels, tmp_path):
    mel = DB.from_ln(speech_mel(20))
    np.save(mels / "a.npy", mel.numpy())
    generator = load_generator(model)
    audio, made = generator(mel)[0, 0], {}
    for strength in (0.0, 0.005, 0.5):
        assert infer("--input_mels_dir", mels, "--denoising_strength", strength)[0] == 0
        made[strength] = read(tmp_path / "out" / "a_generated_e2e.wav")
        assert_close(made[strength], to_pcm(Denoiser(generator)(audio, strength).numpy()))
    assert np.abs(made[0.5].astype(int) - made[0.0]).max() > 10


def test_flags_that_conflict_with_streaming_are_user_errors(infer, mels):
    np.save(mels / "a.npy", np.zeros((80, 20), np.float32))
    assert_reported(
        infer("--input_mels_dir", mels, "--stream", "--denoising_strength", 0.1), "--stream", "whole"
    )
    assert_reported(infer("--input_mels_dir", mels, "--stream", "--plot"), "--stream", "--plot")
    assert_reported(infer("--input_mels_dir", mels, "--output_dir", "-"), "--output_dir -", "--stream")
    assert_reported(infer("--input_mels_dir", mels, "--denoising_strength", -0.1), "-0.1", "at least 0")
    for strength in ("nan", "inf", "much"):
        error_for = infer("--input_mels_dir", mels, "--denoising_strength", strength)
        assert_reported(error_for, "--denoising_strength", strength, "number")
    assert_reported(infer("--input_mels_dir", mels, "--mel_scale", "log2"), "log2", "log10")


def test_bf16_changes_little_and_fp16_needs_a_gpu(infer, mels, tmp_path):
    np.save(mels / "a.npy", DB.from_ln(speech_mel(40)).numpy())
    made = {}
    for precision in ("no", "bf16"):
        status, _, err = infer("--input_mels_dir", mels, "--mixed_precision", precision, "--device", "cpu")
        assert (status, err) == (0, "")
        made[precision] = read(tmp_path / "out" / "a_generated_e2e.wav").astype(float)
    error = np.linalg.norm(made["bf16"] - made["no"])
    assert 0 < error < 0.05 * np.linalg.norm(made["no"])
    refused = infer("--input_mels_dir", mels, "--mixed_precision", "fp16", "--device", "cpu")
    assert_reported(refused, "fp16", "GPU", "bf16")


def test_the_voices_are_listed_with_license_and_provenance():
    done = call(inference.main, "--list_voices")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ("espeak", "(default)", "license", "provenance", "language"))


def test_an_unknown_voice_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        inference.main(["--text", "Well.", "--voice", "nobody"])
    assert_reported((stop.value.code, *capsys.readouterr()), "nobody", "espeak")


def test_a_speaker_of_a_tacotron_2_with_several_is_chosen_by_name(tmp_path, capsys):
    arguments = ["--text", "Well.", "--taco_weights", str(ROOT / "voices" / "tacotron2")]
    arguments += ["--vocoder", "griffin_lim", "--device", "cpu", "--output_dir"]
    for speaker, words in (
        ([], ["--speaker", "espeak, ljspeech"]),
        (["--speaker", "eve"], ["'eve'", "espeak"]),
    ):
        with pytest.raises(SystemExit) as stop:
            inference.main([*arguments, str(tmp_path / "refused"), *speaker])
        assert_reported((stop.value.code, *capsys.readouterr()), *words)
    spoken = []
    for speaker in ("espeak", "ljspeech"):
        inference.main([*arguments, str(tmp_path / speaker), "--speaker", speaker])
        spoken.append(read(tmp_path / speaker / "speech.wav"))
    assert min(map(len, spoken)) > 22050 / 5 and not np.array_equal(*spoken)


def test_output_names_one_wav_or_flac_file_and_speed_shortens_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--text", "Well, well.", "--vocoder", "griffin_lim", "--device", "cpu"]
    for more in (
        ["--output", "deep/a.wav"],
        ["--speed", "2", "--output", "b.flac"],
        ["--stream", "--output", "c.flac"],
    ):
        inference.main(flags + more)
        assert capsys.readouterr().out == f"{more[-1]}\n"
    assert [soundfile.info(path).format for path in ("deep/a.wav", "b.flac", "c.flac")] == [
        "WAV",
        "FLAC",
        "FLAC",
    ]
    plain, fast, streamed = (soundfile.info(path).frames for path in ("deep/a.wav", "b.flac", "c.flac"))
    assert fast * 2 == pytest.approx(plain, rel=0.02) and streamed == plain
    assert not Path("generated_speech").exists()


def test_speech_in_the_default_folder_never_replaces_an_earlier_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for text in ("Well.", "Good.", "Yes."):
        inference.main(["--text", text, "--vocoder", "griffin_lim", "--device", "cpu"])
    written = [Path("generated_speech") / f"speech{number}.wav" for number in ("", "_2", "_3")]
    assert capsys.readouterr().out.split() == list(map(str, written))
    assert len({path.read_bytes() for path in written}) == 3


def test_output_is_refused_for_several_inputs_or_another_format(infer, model, mels, tmp_path, capsys):
    def refused(*flags):
        with pytest.raises(SystemExit) as stop:
            inference.main(list(map(str, ["--checkpoint_file", model, "--input_mels_dir", mels, *flags])))
        return stop.value.code, *capsys.readouterr()

    np.save(mels / "a.npy", DB.from_ln(speech_mel(20)).numpy())
    single = tmp_path / "single.flac"
    inference.main(list(map(str, ["--checkpoint_file", model, "--input_mels_dir", mels, "--output", single])))
    assert capsys.readouterr().out == f"{single}\n" and soundfile.info(single).frames == 20 * 256
    np.save(mels / "b.npy", DB.from_ln(speech_mel(20)).numpy())
    assert_reported(refused("--output", tmp_path / "x.wav"), "--output", "2 inputs", "--output_dir")
    assert_reported(refused("--output", tmp_path / "x.ogg"), "x.ogg", ".flac")
    assert_reported(infer("--input_mels_dir", mels, "--output", "x.wav"), "--output", "--output_dir")
    assert_reported(refused("--speed", "1.5"), "--speed", "--text")
    assert infer("--input_mels_dir", mels)[1] == f"2 files in {tmp_path / 'out'}\n"
    assert infer("--input_mels_dir", mels)[1].endswith("2 of them in place of earlier ones\n")


def test_an_input_is_never_overwritten(infer, model, wavs, tmp_path):
    write_wav(wavs / "take.wav", voice(0.3), RATE)
    before = (wavs / "take.wav").read_bytes()
    link = tmp_path / "link.wav"
    link.symlink_to(wavs / "take.wav")
    for output in (wavs / "take.wav", link):
        flags = ("--checkpoint_file", model, "--input_wavs_dir", wavs, "--output", output)
        done = call(inference.main, *flags)
        assert_reported((done.returncode, done.stdout, done.stderr), "is an input")
    assert (wavs / "take.wav").read_bytes() == before
    again = ("--input_wavs_dir", wavs, "--output_dir", wavs)
    assert infer(*again)[0] == 0
    assert_reported(infer(*again), "take_generated.wav is an input")


@pytest.mark.parametrize(
    ("flags", "lost"),
    [
        (("--text_file", "a.srt", "--timestamps", "a.srt", "--output", "b.wav"), "a.srt"),
        (("--text", "Well.", "--lexicon", "a.json", "--timestamps", "./a.json"), "a.json"),
        (("--text_file", "a.wav", "--output_dir", "."), "a.wav"),
    ],
)
def test_the_text_and_the_lexicon_are_never_overwritten(tmp_path, flags, lost):
    (tmp_path / lost).write_text("well wɛl", encoding="utf-8")
    done = call(inference.main, "--voice", "espeak", "--device", "cpu", *flags, cwd=tmp_path)
    assert_reported((done.returncode, done.stdout, done.stderr), lost, "is an input")
    assert (tmp_path / lost).read_text(encoding="utf-8") == "well wɛl"


def test_a_text_is_read_from_standard_input(tmp_path):
    command = [sys.executable, ROOT / "inference.py", "--voice", "espeak", "--text_file", "-"]
    spoken = []
    for text in ("\ufeffWell.\n", "Something that is longer.\n"):
        done = subprocess.run(command, cwd=tmp_path, input=text.encode(), capture_output=True)
        assert done.returncode == 0, done.stderr
        spoken.append(read(tmp_path / done.stdout.decode().strip()))
    assert len(spoken[0]) < len(spoken[1])
    assert {path.name for path in (tmp_path / "generated_speech").iterdir()} == {"speech.wav", "speech_2.wav"}


def test_integers_in_a_file_of_floats_are_refused(infer, wavs):
    soundfile.write(wavs / "a.wav", voice(0.3) * 32768, RATE, subtype="FLOAT")
    assert_reported(infer("--input_wavs_dir", wavs), "a.wav", "between -1 and 1", "32768")


def test_an_onnx_file_is_accepted_as_checkpoint_for_files_and_streams(infer, model, mels, tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    from checkpoint.export.vocoder import export_onnx

    export_onnx(load_generator(model), tmp_path / "model.onnx")
    in_ln = speech_mel(150)[0]
    np.save(mels / "a.npy", in_ln.T.numpy())
    flags = ("--input_mels_dir", mels, "--mel_scale", "ln", "--transposed")
    for more in ((), ("--stream",)):
        status, _, err = infer(*flags, *more, checkpoint=tmp_path / "model.onnx")
        assert (status, err) == (0, "")
        made = read(tmp_path / "out" / "a_generated_e2e.wav")
        expected = spoken(model, DB.from_ln(in_ln))
        assert np.abs(made.astype(int) - expected).max() <= 4  # 1e-4 of full scale


def assert_reported(result: tuple[int, str, str], *words: str) -> None:
    status, _, err = result
    assert status == 2, err
    assert err.startswith("inference.py: error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert all(word in err for word in words), err


@pytest.fixture(autouse=True)
def script_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["inference.py"])


def test_a_user_error_on_the_command_line_is_one_line_and_exit_status_2(model, mels, tmp_path):
    np.save(mels / "a.npy", np.full((80, 20), np.nan, np.float32))
    done = run("--checkpoint_file", model, "--input_mels_dir", mels, cwd=tmp_path)
    assert_reported((done.returncode, done.stdout, done.stderr), "a.npy", "not finite")


def test_a_file_that_is_not_a_checkpoint_is_a_user_error(infer, tmp_path, wavs):
    write_wav(wavs / "a.wav", voice(0.1), RATE)
    (tmp_path / "g_00000001").write_bytes(b"\x80\x02 nothing")
    assert_reported(infer(checkpoint=tmp_path / "g_00000001"), "config.json")
    path = save_official(tmp_path / "official", small_generator().config, generator=small_generator())
    path.write_bytes(path.read_bytes()[:3000])
    assert_reported(infer("--input_wavs_dir", wavs, checkpoint=path), "g_02500000", "complete")


def test_folders_without_input_are_user_errors(infer, wavs, mels, tmp_path):
    assert_reported(infer("--input_wavs_dir", wavs), str(wavs), ".wav")
    assert_reported(infer("--input_mels_dir", mels), str(mels), ".npy")
    assert_reported(infer("--input_wavs_dir", tmp_path / "nowhere"), "there is no folder", "nowhere")


def test_mels_with_the_wrong_number_of_bands_are_reported_with_both_numbers(infer, mels):
    for shape in ((64, 20), (20, 80), (2, 80, 20), (80,), (80, 0)):
        np.save(mels / "a.npy", np.zeros(shape, np.float32))
        assert_reported(infer("--input_mels_dir", mels), "a.npy", str(shape), "(80, frames)")


def test_unreadable_mels_are_user_errors(infer, mels):
    np.save(mels / "a.npy", np.zeros((80, 20), np.float32))
    whole = (mels / "a.npy").read_bytes()
    for contents in (b"", b"text", whole[:50], whole[:-4]):
        (mels / "a.npy").write_bytes(contents)
        assert_reported(infer("--input_mels_dir", mels), "a.npy")
    np.save(mels / "a.npy", np.array([{"a": 1}]), allow_pickle=True)
    assert_reported(infer("--input_mels_dir", mels), "a.npy")
    for bad in (np.nan, np.inf):
        np.save(mels / "a.npy", np.full((80, 20), bad, np.float32))
        assert_reported(infer("--input_mels_dir", mels), "a.npy", "not finite")


def test_unusable_wavs_are_user_errors(infer, wavs):
    path = wavs / "a.wav"
    for contents in (b"", b"RIFF", b"no audio at all" * 100):
        path.write_bytes(contents)
        assert_reported(infer("--input_wavs_dir", wavs), "a.wav")
    write_wav(path, np.zeros(384), RATE)
    assert_reported(infer("--input_wavs_dir", wavs), "a.wav", "384", "385")
    soundfile.write(path, np.full(4000, np.nan), RATE, subtype="FLOAT")
    assert_reported(infer("--input_wavs_dir", wavs), "a.wav", "not finite")


def test_conflicting_and_unknown_flags_are_user_errors(infer, wavs, mels):
    assert_reported(
        infer("--input_wavs_dir", wavs, "--input_mels_dir", mels), "--input_wavs_dir", "not allowed"
    )
    assert_reported(infer("--input_wavs_dir", "test_files", "--input_mels_dir", mels), "not allowed")
    assert_reported(infer("--input_wavs", wavs), "--input_wavs")
    assert_reported(infer("--device", "abacus"), "abacus")


def test_an_impossible_output_folder_is_a_user_error(infer, wavs):
    write_wav(wavs / "a.wav", voice(0.1), RATE)
    assert_reported(infer("--input_wavs_dir", wavs, "--output_dir", wavs / "a.wav"), "a.wav", "--output_dir")


def test_vocoding_and_training_do_not_need_torchaudio():
    program = "import sys; sys.modules['torchaudio'] = None; import inference, train"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_speech_and_copies_need_only_the_packages_of_requirements_speak(tmp_path):
    speak, rest = ((ROOT / f"requirements{name}.txt").read_text() for name in ("-speak", ""))
    assert "torch>=" in speak and "-r requirements-speak.txt" in rest
    missing = [
        "accelerate",
        "av",
        "datasets",
        "huggingface_hub",
        "librosa",
        "matplotlib",
        "pyarrow",
        "scipy",
        "wandb",
    ]
    assert not [name for name in missing if name in speak]
    write_wav(tmp_path / "wavs" / "clip.wav", voice(0.3, rate=16000), 16000)
    program = f"""
import sys
sys.modules.update(dict.fromkeys({missing!r}))
import inference
inference.main(["--text", "Hi.", "--voice", "espeak", "--output_dir", "speech"])
vocoder = {str(ROOT / "voices/espeak/hifigan")!r}
inference.main(["--input_wavs_dir", "wavs", "--checkpoint_file", vocoder, "--output_dir", "copies"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "speech" / "speech.wav").is_file() and list((tmp_path / "copies").iterdir())
