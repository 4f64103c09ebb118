import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import RATE, ROOT, call, voice

import inference
from checkpoint import load_generator, save_model
from checkpoint.__main__ import main
from checkpoint.export import vocoder as export
from checkpoint.formats.transformers import add_input_norm
from common.errors import UserError
from config import HiFiGANConfig
from corpus.audio import write_wav
from generators.build import build_generator
from model import Generator
from synthesis.inputs import load_audio_mel
from synthesis.vocoder import OnnxGenerator, compile_generator, load_vocoder

SHAPES = [(1, 1), (3, 1), (1, 7), (3, 7), (1, 100), (3, 100)]  # (B, T)

TINY = {
    "num_mels": 20,
    "upsample_initial_channel": 16,
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "resblock_kernel_sizes": (3, 7),
    "resblock_dilation_sizes": ((1, 3), (1, 3)),
}
RESIZE = {"upsampling": "resize", "upsample_kernel_sizes": (15, 15, 7)}
MISR = {"fusion": "misr", "resblock_dilation_sizes": (1, 3)}
ISTFT = {
    "upsample_rates": (8, 8),
    "upsample_kernel_sizes": (16, 16),
    "gen_istft_n_fft": 16,
    "gen_istft_hop_size": 4,
}
VOCOS = {"generator": "vocos", "vocos_dim": 16, "vocos_intermediate_dim": 32, "vocos_num_layers": 2}
VARIANTS = {
    "paper": {"mel_scale": "ln"},
    "resize": RESIZE | {"sampling_rate": 16000, "hop_size": 240, "upsample_rates": (8, 6, 5)},
    "misr": MISR,
    "istft": ISTFT,
    "istft alone": {
        "upsample_rates": (1,), "upsample_kernel_sizes": (1,),
        "gen_istft_n_fft": 512, "gen_istft_hop_size": 256,
    },
    "vocos": VOCOS,
    "vocos center": VOCOS | {"padding": "center", "mel_filters": "htk", "mel_scale": "ln", "min_db": -140.0},
    "all": MISR | ISTFT | {"upsampling": "resize", "upsample_kernel_sizes": (15, 15), "match_mel": True},
}  # fmt: skip


def make_checkpoint(folder: Path, **settings) -> Path:
    torch.manual_seed(0)
    config = HiFiGANConfig(**TINY | settings)
    save_model(folder, config, generator=build_generator(config))
    return folder


def assert_same_audio(generator: Generator, exported) -> None:
    for batch, frames in SHAPES:
        if generator.config.num_samples(frames) == 0:
            continue
        mel = torch.randn(batch, generator.config.num_mels, frames)
        with torch.inference_mode():
            expected, audio = generator(mel), exported(mel)
        assert audio.shape == expected.shape == (batch, 1, generator.config.num_samples(frames))
        assert torch.allclose(audio, expected, rtol=0, atol=1e-4 * expected.abs().amax().item())


def assert_refused(capsys, *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(["export", *map(str, arguments)])
    error = capsys.readouterr().err
    assert exit_info.value.code == 2 and error.count("\n") == 1
    return error


@pytest.fixture(scope="session")
def paper_checkpoint(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "paper", **VARIANTS["paper"])


@pytest.fixture(scope="session")
def onnx_file(paper_checkpoint) -> Path:
    needs_onnx()
    output = paper_checkpoint.parent / "paper.onnx"
    result = call(main, "export", "--checkpoint_file", paper_checkpoint, "--output", output)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1 and "differs from PyTorch by at most" in result.stdout
    assert result.stderr == ""
    return output


def needs_onnx() -> None:
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"exporting to ONNX needs {package}")


def test_onnx_and_torch_agree_at_any_length_and_batch_size(onnx_file, paper_checkpoint):
    assert_same_audio(load_generator(paper_checkpoint), OnnxGenerator(onnx_file))


@pytest.mark.parametrize("name", ["resize", "istft alone", "vocos", "vocos center", "all"])
def test_onnx_and_torch_agree_for_every_variant(tmp_path, name):
    needs_onnx()
    checkpoint = make_checkpoint(tmp_path / "model", **VARIANTS[name])
    main(["export", "--checkpoint_file", str(checkpoint), "--output", str(tmp_path / "model.onnx")])
    generator, exported = load_generator(checkpoint), OnnxGenerator(tmp_path / "model.onnx")
    assert exported.config == generator.config
    assert_same_audio(generator, exported)


def test_onnx_file_contains_its_metadata(onnx_file, paper_checkpoint):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    embedded = session.get_modelmeta().custom_metadata_map
    config = json.loads((paper_checkpoint / "config.json").read_text())
    assert json.loads(embedded["config"]) == config
    for name in ("sampling_rate", "hop_size", "num_mels", "mel_scale"):
        assert embedded[name] == str(config[name])
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("mel", ["batch", 20, "frames"])]
    assert [value.name for value in session.get_outputs()] == ["audio"]


def test_onnx_file_streams_like_the_generator(onnx_file, paper_checkpoint):
    exported, mel = OnnxGenerator(onnx_file), torch.randn(1, 20, 90)
    streamed = torch.cat(list(exported.stream(mel.split(13, dim=-1))), dim=-1)
    assert torch.allclose(streamed, load_generator(paper_checkpoint)(mel), atol=1e-5)


def test_inference_accepts_the_onnx_file_as_a_checkpoint(onnx_file, paper_checkpoint, tmp_path):
    (tmp_path / "mels").mkdir()
    np.save(tmp_path / "mels" / "hello.npy", np.random.default_rng(0).uniform(-9, -1, (20, 30)).astype("f4"))
    audios = []
    for checkpoint in (paper_checkpoint, onnx_file):
        out = tmp_path / checkpoint.name
        flags = ["--checkpoint_file", checkpoint, "--input_mels_dir", tmp_path / "mels", "--output_dir", out]
        result = call(inference.main, *flags, "--denoising_strength", 0.01, "--device", "cpu")
        assert result.returncode == 0, result.stderr
        audios.append(soundfile.read(out / "hello_generated_e2e.wav")[0])
    assert len(audios[0]) == 30 * 256 and np.abs(audios[0] - audios[1]).max() <= 1e-4


def test_mixed_precision_and_compile_are_refused_for_onnx_files(onnx_file):
    with pytest.raises(UserError, match="--mixed_precision applies to PyTorch models"):
        load_vocoder(onnx_file, "cpu", "bf16")
    with pytest.raises(UserError, match="--compile applies to PyTorch models"):
        compile_generator(load_vocoder(onnx_file))


@pytest.fixture
def recordings(tmp_path) -> Path:
    write_wav(tmp_path / "wavs" / "a.wav", voice(1.2), RATE)
    write_wav(tmp_path / "wavs" / "short.wav", voice(0.01), RATE)
    return tmp_path / "wavs"


@pytest.mark.parametrize("name", ["paper", "vocos", "all"])
def test_an_8_bit_file_is_close_to_the_model(tmp_path, capsys, recordings, name):
    needs_onnx()
    checkpoint, output = make_checkpoint(tmp_path / "model", **VARIANTS[name]), tmp_path / "int8.onnx"
    arguments = [
        "--checkpoint_file",
        checkpoint,
        "--output",
        output,
        "--int8",
        "--input_wavs_dir",
        recordings,
    ]
    main(["export", *map(str, arguments)])
    assert float(re.search(r"SNR (\d+\.\d) dB", capsys.readouterr().out)[1]) > 10
    exported, generator = OnnxGenerator(output), load_generator(checkpoint)
    assert exported.config == generator.config
    mel = load_audio_mel(recordings / "a.wav", generator.config)[None]
    with torch.inference_mode():
        expected, audio = generator(mel), exported(mel)
    assert 0 < (audio - expected).norm() < 0.3 * expected.norm()


def test_8_bit_exports_need_recordings_and_onnx(tmp_path, capsys, paper_checkpoint):
    base = ["--checkpoint_file", paper_checkpoint, "--output", tmp_path / "model.onnx"]
    (tmp_path / "empty").mkdir()
    cases = {
        "add --input_wavs_dir": [*base, "--int8"],
        "contains no audio": [*base, "--int8", "--input_wavs_dir", tmp_path / "empty"],
        "there is no folder": [*base, "--int8", "--input_wavs_dir", tmp_path / "nowhere"],
        "add --int8": [*base, "--input_wavs_dir", tmp_path / "empty"],
        "applies to ONNX files": [*base[:3], tmp_path / "model.pt2", "--int8"],
        "omit --input_wavs_dir": [
            "--voice", "espeak", "--output", tmp_path / "voice", "--int8", "--input_wavs_dir", tmp_path,
        ],
    }  # fmt: skip
    for words, arguments in cases.items():
        assert words in assert_refused(capsys, *arguments), words


@pytest.mark.parametrize("name", ["paper", "vocos", "all"])
def test_a_saved_torch_program_agrees_with_the_model(tmp_path, capsys, name):
    checkpoint, output = make_checkpoint(tmp_path / "model", **VARIANTS[name]), tmp_path / "model.pt2"
    main(["export", "--checkpoint_file", str(checkpoint), "--output", str(output)])
    assert "differs from PyTorch by at most" in capsys.readouterr().out
    extra_files = {"config": "", "hop_size": ""}
    program = torch.export.load(output, extra_files=extra_files)
    assert json.loads(extra_files["config"]) == json.loads((checkpoint / "config.json").read_text())
    assert extra_files["hop_size"] == "256"
    assert_same_audio(load_generator(checkpoint), program.module())


def test_a_disk_that_is_full_is_one_line(tmp_path):
    """In a process, because PyTorch's writer aborts it."""
    resource = pytest.importorskip("resource")
    checkpoint, output = make_checkpoint(tmp_path / "model"), tmp_path / "model.pt2"
    done = subprocess.run(
        [sys.executable, "-m", "checkpoint", "export", "--checkpoint_file", checkpoint, "--output", output],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and f"can't write {output}" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and not output.exists()


def test_other_suffixes_are_refused_before_the_export(tmp_path):
    flags = ("--checkpoint_file", tmp_path / "nowhere", "--output", tmp_path / "model.pb")
    result = call(main, "export", *flags)
    assert result.returncode == 2
    assert result.stderr == (f"checkpoint: error: --output {tmp_path}/model.pb must end in .onnx or .pt2\n")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_export_that_differs_from_torch_leaves_no_file(
    tmp_path, capsys, monkeypatch, paper_checkpoint, suffix
):
    if suffix == ".onnx":
        needs_onnx()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    out = tmp_path / "out"
    error = assert_refused(capsys, "--checkpoint_file", paper_checkpoint, "--output", out / f"model{suffix}")
    assert "differs from PyTorch's by" in error and "nothing is written" in error
    assert list(out.iterdir()) == []


def test_a_checkpoint_that_generates_no_audio_is_not_exported(tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "model")
    generator = load_generator(checkpoint)
    generator.conv_pre.bias[0] = torch.nan
    save_model(checkpoint, generator.config, generator=generator)
    output = tmp_path / "model.pt2"
    assert "not finite" in assert_refused(capsys, "--checkpoint_file", checkpoint, "--output", output)
    assert not output.exists()


def test_missing_packages_are_named(tmp_path, capsys, monkeypatch, paper_checkpoint):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    output = tmp_path / "model.onnx"
    error = assert_refused(capsys, "--checkpoint_file", paper_checkpoint, "--output", output)
    assert "pip install onnxruntime" in error or "pip install onnxscript onnxruntime" in error
    with pytest.raises(UserError, match="pip install onnxruntime"):
        OnnxGenerator(output)


def test_onnx_files_of_other_programs_are_refused(tmp_path, onnx_file):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    (tmp_path / "damaged.onnx").write_bytes(onnx_file.read_bytes()[:1000])
    for name, complaint in {
        "foreign": "`python -m checkpoint export` did not write it",
        "damaged": "can't be read",
        "absent": "no ",
    }.items():
        with pytest.raises(UserError, match=complaint):
            OnnxGenerator(tmp_path / f"{name}.onnx")


# Reads the mels of each SavedModel in its folder, as TensorFlow shapes them, and writes the audio.
TENSORFLOW_ALONE = """
import sys
from pathlib import Path
import numpy as np
sys.modules["torch"] = None  # importing it fails
import tensorflow as tf

for path in Path(sys.argv[1]).glob("*/mels.npz"):
    vocode = tf.saved_model.load(path.parent / "saved_model").signatures["serving_default"]
    audio = {name: vocode(tf.constant(mel))["audio"].numpy() for name, mel in np.load(path).items()}
    np.savez(path.with_name("audio.npz"), **audio)
"""


def needs_tensorflow() -> None:  # without importing it before PyTorch's parts
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow; see requirements-tensorflow.txt")


@pytest.fixture(scope="module")
def spoken_by_tensorflow(tmp_path_factory) -> Path:
    """A folder with a SavedModel of each variant, mels, and the audio that a process without PyTorch made."""
    needs_tensorflow()
    folder = tmp_path_factory.mktemp("tensorflow")
    for name, settings in VARIANTS.items():
        checkpoint = make_checkpoint(folder / name / "model", **settings)
        output = folder / name / "saved_model"
        main(["export", "--checkpoint_file", str(checkpoint), "--output", str(output), "--to", "tensorflow"])
        mels = {f"{batch} {frames}": torch.randn(batch, frames, 20) for batch, frames in [*SHAPES, (1, 1000)]}
        np.savez(folder / name / "mels.npz", **mels)
    command = [sys.executable, "-c", TENSORFLOW_ALONE, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_tensorflow_alone_runs_the_saved_model_like_torch(spoken_by_tensorflow, name):
    generator = load_generator(spoken_by_tensorflow / name / "model")
    config = json.loads((spoken_by_tensorflow / name / "saved_model" / "config.json").read_text())
    assert config == json.loads((spoken_by_tensorflow / name / "model" / "config.json").read_text())
    audio = np.load(spoken_by_tensorflow / name / "audio.npz")
    for key, mel in np.load(spoken_by_tensorflow / name / "mels.npz").items():  # (B, T, num_mels)
        expected = generator(torch.from_numpy(mel).transpose(1, 2)).transpose(1, 2).numpy()  # (B, samples, 1)
        assert audio[key].shape == expected.shape
        if expected.size:
            assert np.abs(audio[key] - expected).max() <= 1e-4 * np.abs(expected).max(), key


def test_the_normalization_of_mels_is_in_the_saved_model(tmp_path):
    needs_tensorflow()
    from checkpoint.export.tensorflow import export_tensorflow, load_tensorflow

    generator = load_generator(make_checkpoint(tmp_path / "model"))
    num_mels = generator.config.num_mels
    mean, scale = torch.randn(num_mels, 1), torch.rand(num_mels, 1) + 1
    add_input_norm(generator, {"conv_pre.0.mean": mean})
    generator.conv_pre[0].load_state_dict({"mean": mean, "scale": scale})
    export_tensorflow(generator, tmp_path / "saved_model")
    assert_same_audio(generator, load_tensorflow(tmp_path / "saved_model"))


def test_a_saved_model_is_refused_before_the_export(tmp_path, capsys, monkeypatch, paper_checkpoint):
    base = ["--checkpoint_file", paper_checkpoint, "--to", "tensorflow", "--output"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    cases = {
        "name a new or empty folder": [*base, tmp_path / "full"],
        "applies to ONNX files": [*base, tmp_path / "out", "--int8", "--input_wavs_dir", tmp_path],
        "exports vocoders": ["--voice", "espeak", "--to", "tensorflow", "--output", tmp_path / "out"],
    }
    for words, arguments in cases.items():
        assert words in assert_refused(capsys, *arguments), words
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install tensorflow" in assert_refused(capsys, *base, tmp_path / "out")
    assert not (tmp_path / "out").exists()
