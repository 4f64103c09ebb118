"""Read damaged files and unusual text with everything that reads input: `python scripts/fuzz.py`.

A reader may accept an input or raise `UserError`. Other exceptions, crashes, more than 20 s of CPU time and
more than 2 GB of memory are failures: their inputs and tracebacks are written to --output_dir. Hypothesis
chooses the inputs, most of them valid files with a few changes. Needs requirements-dev.txt.
"""

import io
import json
import multiprocessing
import os
import re
import resource
import signal
import struct
import sys
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

if not __package__:  # run as `python scripts/fuzz.py`, which puts only scripts/ on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audio import inspect_clip, read_audio, write_wav
from checkpoint import load_generator, load_tacotron2, read_config, write_model
from checkpoint.official import official_weights
from checkpoint.voices import find_voice
from config import HiFiGANConfig
from dataset import SavedMels
from evaluation.ratings import abx_notes, agreement, failed_check, mean_opinions, read_key, read_ratings
from manifest import Clip, read_manifest
from model import Generator
from synthesis.inputs import load_audio_mel, load_mel
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2
from tacotron2.speak import split_text
from tacotron2.text import encode_texts, read_lexicon
from training.options import VocoderOptions
from training.parser import read_run_settings
from utils import (
    ArgumentParser,
    UserError,
    atomic_write,
    checked,
    message_for_user,
    report_user_errors,
)

MAX_SECONDS = 20  # CPU time per input
MAX_BYTES = 2 << 30  # memory in addition to that of the imports
SLICE_SECONDS = 60  # of one reader, before the next one takes its turn
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


# Inputs: valid ones with changes. A strategy draws the bytes of one file.

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**32, 2**63, 10**30, 1e308, 0.5, float("nan"), float("inf")]),
    st.integers(-3, 2000),
    st.floats(),
)
SCALARS = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=20))
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
CHUNKS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0" * 300]),
    st.sampled_from([b'"', b"\n", b"|", b",", b"[" * 5000, b"9" * 5000, b"\xed\xa0\x80", b"\xef\xbb\xbf"]),
)


@st.composite
def changed_bytes(draw, valid: bytes) -> bytes:
    """Return bytes with parts overwritten, inserted, deleted or repeated, most of them near the start."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 4, 8, 100, len(data)]))
        match draw(st.sampled_from(["overwrite", "insert", "delete", "repeat"])):
            case "overwrite":
                chunk = draw(CHUNKS)
                data[start : start + len(chunk)] = chunk
            case "insert":
                data[start:start] = draw(CHUNKS)
            case "delete":
                del data[start : start + size]
            case "repeat":
                data[start:start] = data[start : start + size]
    return bytes(data)


@st.composite
def changed_value(draw, valid):
    """Return parsed JSON with a few values replaced or deleted, at any depth."""
    value = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(0, 3))):
        parent, key = None, None
        place = value
        while isinstance(place, dict | list) and place and (parent is None or draw(st.booleans())):
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            parent, key = place, draw(st.sampled_from(keys))
            place = place[key]
        if parent is None:
            return draw(JUNK)
        if draw(st.integers(0, 4)):
            parent[key] = draw(JUNK)
        else:
            del parent[key]
    return value


def changed_json(valid) -> st.SearchStrategy[bytes]:
    values = changed_value(valid).map(lambda value: json.dumps(value).encode())
    return values | values.flatmap(changed_bytes)


@st.composite
def changed_lines(draw, lines: list[str], separator: str) -> bytes:
    """Return lines of a table with fields replaced and lines repeated or damaged."""
    rows = [line.split(separator) for line in lines]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(rows))
        texts = (
            st.text(max_size=10) | NUMBERS.map(str) | st.sampled_from(['"', "..", "/", "\0", "x" * 200_000])
        )
        row[draw(st.integers(0, len(row) - 1))] = draw(texts)
    text = draw(st.sampled_from(["\n", "\r\n"])).join(separator.join(row) for row in rows)
    return draw(changed_bytes(text.encode(errors="surrogatepass")))


@st.composite
def changed_npy(draw) -> bytes:
    """Return a .npy file with another header, or other bytes."""
    kinds = ["<f4", ">f8", "<f2", "|O", "<U4", "<c8", "|b1", "<M8[s]", "|V8", "<i8", "<f16", "", "f4,f4"]
    header = {
        "descr": draw(st.sampled_from(kinds)),
        "fortran_order": draw(st.booleans()),
        "shape": tuple(draw(st.lists(st.sampled_from([0, 1, 20, 80, -1, 2**31, 2**40, 2**62]), max_size=4))),
    }
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    body = np.full(draw(st.sampled_from([0, 1600, 1601])), draw(st.sampled_from([0, np.nan, 1e38])), "<f4")
    return draw(changed_bytes(stream.getvalue() + body.tobytes()))


@st.composite
def changed_safetensors(draw, valid: bytes) -> bytes:
    """Return a .safetensors file with a changed header, or other bytes."""
    (size,) = struct.unpack("<Q", valid[:8])
    header = json.dumps(draw(changed_value(json.loads(valid[8 : 8 + size])))).encode()
    data = struct.pack("<Q", len(header)) + header + valid[8 + size :]
    return draw(st.just(data) | changed_bytes(data) | changed_bytes(valid))


@st.composite
def changed_pickle(draw, contents: dict) -> bytes:
    """Return a file of torch.save with other values, in its old or new form, with a changed pickle."""
    contents = dict(contents)
    tensors = st.sampled_from(
        [
            torch.zeros(0), torch.zeros(()), torch.zeros(2, 3, 4), torch.tensor(float("nan")),
            torch.ones(3).bool(), torch.zeros(1).expand(2**40), torch.zeros(3, dtype=torch.complex64),
            torch.zeros(3).to_sparse(),
            torch.empty(3, device="meta"), torch.nn.Parameter(torch.zeros(3)), torch.zeros(3).half(),
            torch.Size([1]), {"a": torch.zeros(1)},
        ]
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        place, key = contents, draw(st.sampled_from(sorted(contents)))
        if isinstance(place[key], dict) and place[key] and draw(st.integers(0, 4)):
            place[key] = dict(place[key])
            place, key = place[key], draw(st.sampled_from(sorted(place[key])))
        place[key] = draw(tensors | JUNK)
    stream, is_zip = io.BytesIO(), draw(st.booleans())
    torch.save(contents, stream, _use_new_zipfile_serialization=is_zip)
    if not is_zip or draw(st.integers(0, 3)) == 0:
        return draw(changed_bytes(stream.getvalue()))
    repacked = io.BytesIO()  # with correct checksums, so that the pickle itself is read
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(repacked, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, draw(changed_bytes(data)) if name.endswith("data.pkl") else data)
    return repacked.getvalue()


@st.composite
def changed_wav(draw) -> bytes:
    """Return a WAV file with any numbers in its header."""
    u16, u32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
    width = draw(st.sampled_from([1, 2, 3, 4, 8]) | u16)
    rate, channels = draw(st.sampled_from([22050, 0, 1]) | u32), draw(st.sampled_from([1, 2, 0]) | u16)
    header = struct.pack(
        "<HHIIHH",
        draw(st.sampled_from([1, 3, 2, 6, 7, 17, 49, 0xFFFE]) | u16),
        channels,
        rate,
        draw(st.just(rate * channels * width % 2**32) | u32),
        draw(st.just(channels * width % 2**16) | u16),
        draw(st.just(width * 8 % 2**16) | u16),
    )
    body = draw(st.sampled_from([b"", b"\0" * 4000, bytes(range(256)) * 16]))
    sizes = [draw(st.just(len(body)) | u32), draw(st.just(36 + len(body)) | u32)]
    chunks = b"fmt " + struct.pack("<I", draw(st.just(16) | u32)) + header
    chunks += draw(st.just(b"") | st.builds(lambda n: b"LIST" + struct.pack("<I", n) + b"\0" * 8, u32))
    file = (
        b"RIFF"
        + struct.pack("<I", sizes[1])
        + b"WAVE"
        + chunks
        + b"data"
        + struct.pack("<I", sizes[0])
        + body
    )
    return draw(st.just(file) | changed_bytes(file))


WORDS = [
    "Dr.",
    "$1,234.56",
    "1/2",
    "3rd",
    "19:45",
    "1999-12-31",
    "U.S.A.",
    "e.g.",
    "[nəˈvɑːdə]",
    "10^-3",
    "№ 5",
]
WORDS += [
    "£5m",
    "5'10\"",
    "IV",
    "--",
    "…",
    "&amp;",
    "x" * 300,
    "9" * 400,
    "1,000" * 50,
    "(((",
    "🙂",
    "日本語",
    "é",
]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=60).map(" ".join)
LONG_TEXTS = st.tuples(TEXTS | st.text(max_size=5), st.sampled_from([1, 10, 300])).map(
    lambda t: t[0][:500] * t[1]
)


# Readers: each reads one file in a folder that is otherwise valid.


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


def read_onnx(path: Path) -> None:
    from checkpoint.onnx_generator import OnnxGenerator

    OnnxGenerator(path)


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
    return changed_npy()


def read_saved_mels(folder: Path) -> None:
    SavedMels(folder, HiFiGANConfig(), [Clip("a.wav", 5120, 0.5, "Text")])


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
    sentences = split_text(text)
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


def voice(folder: Path) -> st.SearchStrategy[bytes]:
    texts = ("title", "language", "licence", "provenance")
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
    "ONNX metadata": Reader("a.onnx", read_onnx, onnx_metadata),
    "voice.json": Reader("voice.json", lambda path: find_voice(str(path.parent)).describe(), voice),
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


# The run: each reader has a process of its own, so that a crash ends only its turn.


class Hang(BaseException):
    """An input took too much CPU time. Not an Exception, which a reader could catch."""


@dataclass
class Result:
    """Counts of inputs, the slowest one's CPU time in seconds, and tracebacks by the place of the error."""

    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    megabytes: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


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


def fuzz(reader: Reader, folder: Path, seconds: float, first_seed: int) -> Result:
    """Read inputs for some seconds."""
    result, inputs = Result(), reader.prepare(folder)
    deadline, number = time.monotonic() + seconds, first_seed

    def attempt(data: bytes) -> None:
        if time.monotonic() > deadline:
            return
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        try:
            outcome = read_one(reader, folder, data)
        except (Exception, Hang) as error:
            outcome = "failed"
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            if key not in result.failures:
                result.failures[key] = traceback.format_exc()[-5000:]
                (folder / f"{len(result.failures)}_{reader.file}.failed").write_bytes(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        result.counts[outcome] += 1
        result.slowest = max(result.slowest, time.process_time() - start)

    while time.monotonic() < deadline:
        run = given(inputs)(attempt)
        run = settings(
            max_examples=500, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(run)  # fmt: skip
        seed(number)(run)()
        number += 1
    result.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def run_in_process(name: str, folder: Path, seconds: float, first_seed: int) -> Result:
    """Run `fuzz` in a process with limits. If it dies, its last input and the signal are a failure."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    reader = READERS[name]

    def work() -> None:
        def stop(*_):
            raise Hang(f"more than {MAX_SECONDS} s")

        signal.signal(signal.SIGPROF, stop)
        used = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + MAX_BYTES,) * 2)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        send.send(vars(fuzz(reader, folder, seconds, first_seed)))

    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        if receive.poll(seconds + 10 * MAX_SECONDS):
            return Result(**receive.recv())
    except EOFError:
        pass
    process.kill()
    process.join()
    last = folder / reader.file
    if last.is_file():
        last.rename(folder / f"killed_{first_seed}_{reader.file}.failed")
    message = f"the process ended with status {process.exitcode}, or hung"
    return Result(Counter(failed=1), 0.0, 0.0, {f"status {process.exitcode}": message})


def add(total: Result, part: Result) -> None:
    total.counts += part.counts
    total.slowest, total.megabytes = max(total.slowest, part.slowest), max(total.megabytes, part.megabytes)
    total.failures |= part.failures


def table(results: dict[str, Result], minutes: float) -> str:
    lines = [f"{minutes:.0f} minutes.", ""]
    lines += [
        "| reader | inputs | accepted | refused | failed | slowest (s) | memory (MB) |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, result in results.items():
        counts = [result.counts.total(), *(result.counts[key] for key in ("accepted", "refused", "failed"))]
        numbers = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {name} | {numbers} | {result.slowest:.1f} | {result.megabytes:.0f} |")
    return "\n".join(lines) + "\n"


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(prog="fuzz.py", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=checked(float, above=0), default=10.0, help="duration of the run")
    parser.add_argument(
        "--readers", nargs="+", choices=READERS, default=list(READERS), help="readers to test"
    )
    parser.add_argument(
        "--output_dir", type=Path, default=Path("generated_fuzz"), help="folder of the results"
    )
    parser.add_argument("--seed", type=checked(int, minimum=0), default=0, help="seed of the inputs")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = {name: Result() for name in args.readers}
    start, number = time.monotonic(), args.seed
    while (left := 60 * args.minutes - (time.monotonic() - start)) > 0:
        for name, result in results.items():
            folder = args.output_dir / re.sub(r"\W+", "_", name).strip("_")
            folder.mkdir(parents=True, exist_ok=True)
            seconds = min(SLICE_SECONDS, left / len(results))
            add(result, run_in_process(name, folder, seconds, number))
            for index, text in enumerate(result.failures.values(), 1):
                (folder / f"failure_{index}.txt").write_text(text, encoding="utf-8")
        number += 1000
        with atomic_write(args.output_dir / "report.md") as temporary:
            temporary.write_text(table(results, (time.monotonic() - start) / 60), encoding="utf-8")
    print(table(results, (time.monotonic() - start) / 60))
    if failed := sum(result.counts["failed"] for result in results.values()):
        raise UserError(f"{failed} inputs failed; their files and tracebacks are in {args.output_dir}")


if __name__ == "__main__":
    main()
