"""Everything that reads input, each with a strategy of damaged files, for `dev/fuzz.py` and tests."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from damaged_files import (
    LONG_TEXTS,
    NUMBERS,
    TEXTS,
    changed_bytes,
    changed_json,
    changed_lines,
    changed_npy,
    changed_pickle,
    changed_safetensors,
    changed_wav,
)
from hypothesis import strategies as st

import train
from checkpoint import load_generator, load_tacotron2, read_config, write_model
from checkpoint.formats.official import official_weights
from checkpoint.formats.onnx import OnnxGenerator
from checkpoint.voices import find_voice
from common.errors import UserError, message_for_user
from common.parser import read_run_settings
from config import HiFiGANConfig
from corpus.audio import inspect_clip, read_audio, write_wav
from corpus.manifest import Clip, read_manifest
from corpus.saved_mels import SavedMels
from listening.ratings import abx_notes, agreement, failed_check, mean_opinions, read_key, read_ratings
from model import Generator
from synthesis.inputs import load_audio_mel, load_mel
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2
from text import encode_texts, read_lexicon, split_text
from train import VocoderOptions

SMALL = {
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1, 3),),
    "vocos_dim": 8,
    "vocos_intermediate_dim": 8,
    "vocos_num_layers": 1,
}
SMALL_TACOTRON2 = {
    name: 8 for name in Tacotron2Config.__dataclass_fields__ if name.endswith(("_dim", "_n_filters"))
}


@dataclass
class Reader:
    """The name of the file that is changed, a function that reads it, and the strategy of its contents.

    `prepare` writes the folder's other files and returns the strategy.
    """

    file: str
    read: Callable[[Path], object]
    prepare: Callable[[Path], st.SearchStrategy[bytes]]


def small_config(**values) -> HiFiGANConfig:
    return HiFiGANConfig(**SMALL | values)


def with_model(kind: str, change: str) -> Callable[[Path], st.SearchStrategy[bytes]]:
    """Return a function that writes a small model and returns changes of its configuration or weights."""

    def prepare(folder: Path) -> st.SearchStrategy[bytes]:
        config = small_config() if kind == "generator" else Tacotron2Config(**SMALL_TACOTRON2)
        model = Generator(config) if kind == "generator" else Tacotron2(config)
        write_model(folder, config, {kind: model.state_dict()})
        if change == "config":
            return changed_json(config.to_dict())
        return changed_safetensors((folder / f"{kind}.safetensors").read_bytes())

    return prepare


def official_pickle(folder: Path) -> st.SearchStrategy[bytes]:
    config = small_config(mel_scale="ln")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return changed_pickle({"generator": official_weights(Generator(config))})


def nvidia_pickle(folder: Path) -> st.SearchStrategy[bytes]:
    values = {"config": {**SMALL, "upsample_rates": [8, 8, 2, 2]}, "train_setup": {"mel_fmax": 8000.0}}
    return changed_pickle(values | {"generator": official_weights(Generator(small_config()))})


def foreign_tacotron2_pickle(folder: Path) -> st.SearchStrategy[bytes]:
    state = Tacotron2(Tacotron2Config(**SMALL_TACOTRON2)).state_dict()
    state = {key.replace(".conv.", ".0.conv.").replace(".norm.", ".1."): state[key] for key in state}
    return changed_pickle({"state_dict": state | {"embedding.weight": torch.zeros(148, 8)}})


def vocos_yaml(folder: Path) -> st.SearchStrategy[bytes]:
    mel = {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"}
    parts = {
        "feature_extractor": {"class_path": "vocos.MelSpectrogramFeatures", "init_args": mel},
        "backbone": {
            "class_path": "vocos.VocosBackbone",
            "init_args": {"input_channels": 100, "dim": 8, "intermediate_dim": 8, "num_layers": 1},
        },
        "head": {
            "class_path": "vocos.ISTFTHead",
            "init_args": {"dim": 8, "n_fft": 1024, "hop_length": 256, "padding": "center"},
        },
    }
    return changed_json(parts)  # JSON is YAML


def transformers_json(folder: Path) -> st.SearchStrategy[bytes]:
    values = {"model_in_dim": 80, "architectures": ["SpeechT5HifiGan"], "leaky_relu_slope": 0.1}
    sizes = {"upsample_rates": [4, 4, 4, 4], "upsample_kernel_sizes": [8, 8, 8, 8], "sampling_rate": 16000}
    return changed_json(values | sizes | {"upsample_initial_channel": 16})


def onnx_metadata(folder: Path) -> st.SearchStrategy[bytes]:
    """Return ONNX models whose metadata, written by `checkpoint export`, is changed."""
    import onnx

    kind = onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Identity", ["mel"], ["audio"])
    ends = [[onnx.helper.make_tensor_value_info(name, kind, ["B", 80, "T"])] for name in ("mel", "audio")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "test", *ends),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    )

    def with_metadata(config: bytes) -> bytes:
        metadata = {"sampling_rate": "22050", "hop_size": "256", "num_mels": "80", "mel_scale": "db"}
        onnx.helper.set_model_props(model, metadata | {"config": config.decode(errors="replace")})
        return model.SerializeToString()

    return changed_json(small_config().to_dict()).map(with_metadata)


def manifest(folder: Path) -> st.SearchStrategy[bytes]:
    write_wav(folder / "a.wav", np.zeros(5120), 22050)
    lines = [
        "file_path,normalized_transcript,duration,samples,peak,speaker",
        *["a.wav,Text,0.232200,5120,0.5,x"] * 3,
    ]
    return changed_lines(lines, ",")


def filelist(folder: Path) -> st.SearchStrategy[bytes]:
    write_wav(folder / "a.wav", np.zeros(5120), 22050)
    return changed_lines(["a|Text|text", "a.wav|Text", "a"], "|")


def saved_mel(folder: Path) -> st.SearchStrategy[bytes]:
    (folder / "config.json").write_text(json.dumps(HiFiGANConfig().to_dict()))
    write_wav(folder / "a.wav", np.sin(np.arange(5120) / 9), 22050)
    return changed_npy()


def read_saved_mels(folder: Path) -> None:
    SavedMels(folder, HiFiGANConfig(), [Clip(str(folder / "a.wav"), 5120, 0.5, "Text")])


def audio_file(form: str, subtype: str | None = None) -> Callable[[Path], st.SearchStrategy[bytes]]:
    def prepare(folder: Path) -> st.SearchStrategy[bytes]:
        stream = io.BytesIO()
        soundfile.write(stream, np.sin(np.arange(6000) / 9), 22050, format=form, subtype=subtype)
        changed = changed_bytes(stream.getvalue())
        return changed | changed_wav() if form == "WAV" else changed

    return prepare


def read_clip(path: Path) -> None:
    inspect_clip(path)
    read_audio(path, 100, 1000)
    load_audio_mel(path, HiFiGANConfig())


def read_text_file(path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    sentences = [piece.text for piece in split_text(text, Tacotron2Config())]
    for text_input in ("characters", "phonemes"):
        encode_texts(sentences, Tacotron2Config(text_input=text_input))


def run_settings(folder: Path) -> st.SearchStrategy[bytes]:
    return changed_json(
        {"batch_size": 16, "learning_rate": 0.0002, "adam_b1": "0.8", "seed": 1234, "num_workers": 4}
    )


def read_options(path: Path) -> None:
    required = ("working_directory", "path_to_train_manifest", "path_to_val_manifest")
    values = dict.fromkeys(required, path.parent) | {"experiment_name": "run"}
    VocoderOptions(**values | read_run_settings(path, VocoderOptions))


def flags(folder: Path) -> st.SearchStrategy[bytes]:
    """Return command lines of `train.py` in JSON, with flags and values of any kind."""
    names = st.sampled_from(sorted(VocoderOptions.__dataclass_fields__ | HiFiGANConfig.__dataclass_fields__))
    values = (
        NUMBERS.map(str) | st.sampled_from(["", "none", "((1,3),)", "a/../..", "cpu"]) | st.text(max_size=9)
    )
    pairs = st.tuples(names.map("--{}".format), values.filter(lambda text: not text.startswith("-h")))
    required = [f"--{name}=x" for name in ("experiment_name", "working_directory")]
    required += ["--path_to_train_manifest=x", "--path_to_val_manifest=x"]
    return st.lists(pairs, max_size=4).map(lambda drawn: json.dumps([*required, *sum(drawn, ())]).encode())


def read_flags(path: Path) -> None:
    try:
        train.parse_arguments(json.loads(path.read_text()))
    except SystemExit as stop:
        assert stop.code == 2
        raise UserError("refused by argparse") from stop


def voice(folder: Path) -> st.SearchStrategy[bytes]:
    texts = ("title", "language", "license", "provenance")
    return changed_json(
        dict.fromkeys(texts, "x") | {"taco": "t", "vocoder": "v", "speaker": "s", "default": True}
    )


def listening_test(change: str) -> Callable[[Path], st.SearchStrategy[bytes]]:
    sounds = {f"s{number}": {"system": f"system{number % 2}", "clip": "a"} for number in range(4)}
    trials = {"t1": {"role": "test"}, "t2": {"role": "repeat", "of": "t1"}, "t3": {"role": "training"}}
    ratings = [{"trial": f"t{number % 3 + 1}", "sound": f"s{number}", "value": number} for number in range(4)]
    files = {
        "key.json": {"kind": "mos", "test": "x", "sounds": sounds, "trials": trials},
        "ratings.json": {"listener": "anna", "test": "x", "ratings": ratings},
    }

    def prepare(folder: Path) -> st.SearchStrategy[bytes]:
        for name, values in files.items():
            (folder / name).write_text(json.dumps(values))
        return changed_json(files[change])

    return prepare


def read_listening_test(path: Path) -> None:
    key = read_key(path.parent / "key.json")
    listeners = read_ratings([path.parent / "ratings.json"], key)
    for listener in listeners:
        failed_check(listener, key)
    if key["kind"] == "abx":
        abx_notes(listeners, key)
    else:
        agreement(listeners, key), mean_opinions(listeners, key)


def lexicon(folder: Path) -> st.SearchStrategy[bytes]:
    return changed_lines(["# words", "nevada\tnəˈvɑːdə", "tomato\ttəˈmɑːtəʊ"], "\t")


def text_file(folder: Path) -> st.SearchStrategy[bytes]:
    return (
        (TEXTS | LONG_TEXTS)
        .map(lambda text: text.encode(errors="surrogatepass"))
        .flatmap(lambda data: st.just(data) | changed_bytes(data))
    )


def mel_reader(suffix: str) -> Reader:
    def prepare(folder: Path) -> st.SearchStrategy[bytes]:
        mel = torch.zeros(80, 20)
        if suffix == ".pt":
            return changed_pickle({"mel": mel})
        if suffix == ".npy":
            return changed_npy()
        stream = io.BytesIO()
        np.savez_compressed(stream, mel=mel.numpy())
        return changed_bytes(stream.getvalue())

    return Reader(f"a{suffix}", lambda path: load_mel(path, HiFiGANConfig()), prepare)


def of_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: read(path.parent)


READERS = {
    "config.json": Reader("config.json", of_folder(load_generator), with_model("generator", "config")),
    "generator.safetensors": Reader(
        "generator.safetensors", load_generator, with_model("generator", "weights")
    ),
    "Tacotron 2 config.json": Reader(
        "config.json", of_folder(load_tacotron2), with_model("tacotron2", "config")
    ),
    "tacotron2.safetensors": Reader(
        "tacotron2.safetensors", load_tacotron2, with_model("tacotron2", "weights")
    ),
    "official generator": Reader("g_00000001", load_generator, official_pickle),
    "NVIDIA generator": Reader("hifigan_gen_checkpoint_1.pt", load_generator, nvidia_pickle),
    "NVIDIA Tacotron 2": Reader("nvidia.pt", load_tacotron2, foreign_tacotron2_pickle),
    "Vocos config.yaml": Reader("config.yaml", of_folder(read_config), vocos_yaml),
    "transformers config.json": Reader("config.json", of_folder(read_config), transformers_json),
    "ONNX metadata": Reader("a.onnx", OnnxGenerator, onnx_metadata),
    "voice.json": Reader("voice.json", lambda path: find_voice(str(path.parent)).describe(), voice),
    "flags of train.py": Reader("flags.json", read_flags, flags),
    "JSON of --config": Reader("run.json", read_options, run_settings),
    "manifest": Reader("a.csv", lambda path: read_manifest(path, 22050), manifest),
    "filelist": Reader("a.txt", lambda path: read_manifest(path, 22050, path.parent), filelist),
    "mel .npy": mel_reader(".npy"),
    "mel .npz": mel_reader(".npz"),
    "mel .pt": mel_reader(".pt"),
    "saved mels": Reader("a.npy", of_folder(read_saved_mels), saved_mel),
    "WAV": Reader("a.wav", read_clip, audio_file("WAV")),
    "FLAC": Reader("a.flac", read_clip, audio_file("FLAC")),
    "Ogg": Reader("a.ogg", read_clip, audio_file("OGG")),
    "MP3": Reader("a.mp3", read_clip, audio_file("MP3")),
    "text": Reader("a.txt", read_text_file, text_file),
    "lexicon": Reader("a.txt", read_lexicon, lexicon),
    "listening test key": Reader("key.json", read_listening_test, listening_test("key.json")),
    "ratings": Reader("ratings.json", read_listening_test, listening_test("ratings.json")),
}


def read_one(reader: Reader, folder: Path, data: bytes) -> str:
    """Return "accepted" or "refused". Raises what the reader raises, other than UserError."""
    path = folder / reader.file
    path.write_bytes(data)
    try:
        reader.read(path)
        return "accepted"
    except (UserError, OSError) as error:
        if not message_for_user(error):
            raise
        return "refused"
