"""Mistakes on the command line and in files: one line on stderr and exit status 2, without a traceback."""

import json
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import RATE, small_config, small_generator, voice
from runs import as_own_process, command_line, error_line, make_corpus
from safetensors.torch import load_file

import app
import checkpoint.__main__
import evaluate
import inference
import prep_splits
import save_taco_mels
import tacotron2.train
import train
from checkpoint import save_model, write_model
from corpus.audio import write_wav
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2

SMALL_TACOTRON2 = {
    name: 8 for name in Tacotron2Config.__dataclass_fields__ if name.endswith(("_dim", "_n_filters"))
}
CONFIG, TACOTRON2_CONFIG = small_config().to_dict(), Tacotron2Config(**SMALL_TACOTRON2).to_dict()
VOICE = dict.fromkeys(("title", "language", "license", "provenance", "taco", "vocoder"), "nowhere")
MANIFEST = "file_path,normalized_transcript,duration,samples,peak\n"
DEEP = "[" * 100_000
WAV = struct.pack(
    "<4sI4s4sIHHIIHH4sI", b"RIFF", 2036, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 2000
)
NPY = b"\x93NUMPY\x01\x00v\x00"
HUGE_NPY = b"{'descr': '<f4', 'fortran_order': False, 'shape': (80, 99999999999), }"

# Contents of files, by their path in the folder {in}.
FILES = {
    "deep.json": DEEP,
    "list.json": "[1]",
    "zeros.json": "\0\0",
    "utf16.json": '{"seed": 1}'.encode("utf-16"),
    "digits.json": f'{{"batch_size": {"9" * 5000}}}',
    "nan.json": '{"learning_rate": NaN}',
    "inf.json": '{"learning_rate": 1e999}',
    "word.json": '{"batch_size": "many"}',
    "bool.json": '{"seed": true}',
    "flag.json": '{"finetune": "false"}',
    "object.json": '{"seed": {}}',
    "number.json": '{"path_to_pretrained_weights": 3}',
    "rates.json": json.dumps(CONFIG | {"upsample_rates": "8822"}),
    "nested.json": json.dumps(CONFIG | {"upsample_rates": [[8, 8], 2, 2]}),
    "true.json": json.dumps(CONFIG | {"upsample_rates": [True, 256, 1, 1]}),
    "melgan.json": json.dumps(CONFIG | {"generator": "melgan"}),
    "header.csv": MANIFEST,
    "empty.csv": "",
    "zero.csv": f"{MANIFEST}\0,a,1,1,1\n",
    "long.csv": f"{MANIFEST}{'x' * 5000}.wav,a,1,22050,1\n",
    "field.csv": f"{MANIFEST}{'x' * 200_000}.wav,a,1,22050,1\n",
    "negative.csv": f"{MANIFEST}a.wav,a,0.2,-4410,0.5\n",
    "infinite.csv": f"{MANIFEST}a.wav,a,inf,4410,0.5\n",
    "folder.csv": f"{MANIFEST}.,a,0.2,4410,0.5\n",
    "quote.csv": f'{MANIFEST}"a.wav,a,0.2,4410,0.5\n',
    "latin1.csv": MANIFEST.encode() + b"\xe9.wav,a,1,1,1\n",
    "commas.csv": f"{MANIFEST},\n",
    "filelist.txt": "a|b|c\n",
    "empty.txt": "",
    "binary.txt": b"\xff\xfe\0",
    "no_ipa.txt": "nevada\n",
    "ipa.txt": "nevada nəˈvɑːdə%\n",
    "junk.onnx": b"junk",
    "model.json": "{}",
    "pickle/g_1": b"\x80\x02c__builtin__\neval\n",
    "pickle/config.json": json.dumps(CONFIG),
    "hop/config.json": json.dumps(CONFIG | {"hop_size": 300}),
    "huge/config.json": json.dumps(CONFIG | {"upsample_initial_channel": 65536}),
    "bands/config.json": json.dumps(CONFIG | {"num_mels": 64}),
    "text/config.json": json.dumps(CONFIG | {"sampling_rate": "22050"}),
    "null/config.json": json.dumps(CONFIG | {"n_fft": None}),
    "vocos/config.json": json.dumps(CONFIG | {"generator": "vocos", "vocos_dim": 4}),
    "transformers/config.json": json.dumps(CONFIG | {"model_in_dim": "x", "upsample_rates": 3}),
    "yaml/config.yaml": "feature_extractor: [1]\n",
    "frames/config.json": json.dumps(TACOTRON2_CONFIG | {"frames_per_step": 2}),
    "symbols/config.json": json.dumps(TACOTRON2_CONFIG | {"num_symbols": 10**6}),
    "voice_list/voice.json": "[]",
    "voice_deep/voice.json": DEEP,
    "voice_null/voice.json": json.dumps(VOICE | {"taco": None}),
    "voice_nowhere/voice.json": json.dumps(VOICE),
    "voice_zero/voice.json": json.dumps(VOICE | {"vocoder": "a\0b"}),
    "truncated/a.wav": WAV + b"\0" * 1000,
    "rate/a.wav": WAV[:24] + struct.pack("<I", 1) + WAV[28:] + b"\0" * 2000,
    "channels/a.wav": WAV[:22] + b"\0\0" + WAV[24:] + b"\0" * 2000,
    "flac/a.flac": b"fLaC" + b"\0" * 50,
    "words/a.wav": "hello",
    "mel_huge/a.npy": NPY + HUGE_NPY.ljust(117) + b"\n",
    "mel_token/a.npy": NPY + b"(" * 117 + b"\n",
    "mel_safetensors/a.safetensors": b"\xff" * 100,
    "record/config.json": DEEP,
    "lj/metadata.csv": "c0|A|A\nc1|B|B\n",
    "lj_binary/metadata.csv": b"\xff\xfe\0\n",
    "lj_up/metadata.csv": "../x|a|a\n",
    "lj_pipes/metadata.csv": "a|b|c|d\n",
    "lj_long/metadata.csv": f"{'x' * 5000}|a|a\n",
    "lj_binary/wavs/c.wav": b"",
    "lj_up/wavs/c.wav": b"",
    "model.onnx": b"",
    "lj_pipes/wavs/c.wav": b"",
    "lj_long/wavs/c.wav": b"",
    "ratings/r.json": DEEP,
}
MELS = {
    "mel_nan/a.npy": np.full((80, 20), np.nan, np.float32),
    "mel_text/a.npy": np.full((80, 20), "x"),
    "mel_complex/a.npy": np.zeros((80, 20), np.complex64),
    "mel_4d/a.npy": np.zeros((1, 1, 80, 20), np.float32),
    "mel_scale/a.npy": np.full((80, 20), -90, np.float32),
}
TENSORS = {
    "mel_number/a.pt": {"a": 1},
    "mel_sparse/a.pt": torch.zeros(80, 20).to_sparse(),
    "mel_expanded/a.pt": torch.zeros(1, dtype=torch.float64).expand(80, 2**50),
}

# Command | words in the message. {in} is the folder of FILES.
CASES = """
train --learning_rate 1e999 | learning_rate finite number
train --learning_rate -0.0 | learning_rate positive
train --learning_rate 0,0002 | learning_rate 0,0002
train --batch_size 1000000000000000000000 | batch_size at most
train --batch_size 1e3 | batch_size 1e3
train --lr_decay 1.5 | lr_decay at most 1
train --seed 4294967296 | seed 4294967295
train --segment_size 2147483392 | segment_size at most
train --n_fft 1073741824 | n_fft at most 8192
train --num_mels 1000000 | num_mels at most
train --sampling_rate 1000000000 | sampling_rate at most
train --upsample_initial_channel 268435456 | upsample_initial_channel at most
train --mpd_periods 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 | mpd_periods at most 16
train --resblock_dilation_sizes "__import__('os')" | ((1,3,5)
train --resblock_dilation_sizes "((1,3.5),)" | ((1,3,5)
train --resblock_dilation_sizes "((1,-3),)" | resblock_dilation_sizes positive
train --discriminators mrd --mrd_resolutions "(1024,120,600)" | mrd_resolutions
train --discriminators mrd --mrd_resolutions "((2147483648,1,600),)" | mrd_resolutions at most
train --discriminators mpd mpd | discriminators twice
train --beta1 1 | beta1 less than 1
train --max_scaled_abs inf | max_scaled_abs finite
train --fmax nan | fmax finite
train --mixed_precision fp8 | mixed_precision fp8
train --keep_checkpoints 0 | keep_checkpoints
train --experiment_name a/../.. | experiment_name folder inside
train --working_directory "" | working_directory empty
train --working_directory {in}/{long} | File name too long
train --path_to_train_manifest {in} | can't read the manifest
train --path_to_train_manifest "" | path_to_train_manifest empty
train --path_to_val_manifest nowhere.csv | nowhere.csv
train --path_to_train_manifest {wavs}/a.wav | can't read the manifest
train --path_to_pretrained_weights nowhere | nowhere
train --path_to_pretrained_weights {wavs}/a.wav | wavs config.json
train --path_to_pretrained_weights {taco} | taco
train --finetune --path_to_saved_mels {wavs}/a.wav | no folder
train --path_to_saved_mels {wavs} | --finetune
train --config {in}/deep.json | deep.json
train --config {in}/list.json | list.json object
train --config {in}/zeros.json | zeros.json
train --config {in}/utf16.json | utf16.json
train --config {in}/digits.json | digits.json
train --config {in}/nan.json | learning_rate finite
train --config {in}/inf.json | learning_rate finite
train --config {in}/bool.json | seed True
train --config {in}/flag.json | finetune true or false
train --config {in}/object.json | seed wrong type
train --config {in}/rates.json | upsample_rates list
train --config {in}/nested.json | upsample_rates integer
train --config {in}/true.json | upsample_rates integer
train --config {in}/melgan.json | melgan hifigan
train --config {in} | can't read
train --path_to_train_manifest {in}/header.csv | no clips
train --path_to_train_manifest {in}/empty.csv | empty.csv
train --path_to_train_manifest {in}/zero.csv | zero.csv
train --path_to_train_manifest {in}/long.csv | long.csv
train --path_to_train_manifest {in}/negative.csv | negative.csv
train --path_to_train_manifest {in}/infinite.csv | infinite.csv
train --path_to_train_manifest {in}/folder.csv | folder.csv
train --path_to_train_manifest {in}/quote.csv | quote.csv
train --path_to_train_manifest {in}/latin1.csv | latin1.csv
train --path_to_train_manifest {in}/commas.csv | commas.csv
train --path_to_train_manifest {in}/filelist.txt | --input_wavs_dir
train --path_to_train_manifest {in}/filelist.txt --input_wavs_dir {in}/nowhere | filelist.txt
tacotron2 --language klingon --text_input phonemes | klingon
tacotron2 --language "" | language
tacotron2 --speakers "" | speakers empty
tacotron2 --speakers a a | speakers twice
tacotron2 --encoder_kernel_size 4 | encoder_kernel_size odd
tacotron2 --min_learning_rate 1 | min_learning_rate
tacotron2 --frames_per_step 1000000 | frames_per_step
tacotron2 --encoder_embed_dim 7 | even
tacotron2 --save_audio_gen {wavs}/a.wav | a.wav file
tacotron2 --learning_rate nan | learning_rate finite
tacotron2 --path_to_pretrained_weights {model} | tacotron2.safetensors
inference --denoising_strength nan | denoising_strength finite
inference --denoising_strength much | denoising_strength much
inference --text a --seed 1e3 | seed 1e3
inference --text a --seed 4294967296 | seed 4294967295
inference --text "" | nothing to say
inference --text "...!?" | nothing to say
inference --text_file {in} | can't read the text
inference --text_file {in}/empty.txt | nothing to say
inference --text_file {in}/binary.txt | UTF-8
inference --text_file "" | text_file empty
inference --text a --voice nobody | nobody espeak
inference --text a --voice "" | no voice
inference --text a --lexicon {in}/no_ipa.txt | no IPA
inference --text a --lexicon {in}/ipa.txt | % IPA symbol
inference --text a --lexicon {in}/binary.txt | UTF-8
inference --text a --device abacus | device abacus cpu
inference --text a --device "" | device cpu
inference --text a --device meta | device meta
inference --vocoder griffin_lim --device abacus | device abacus
inference --checkpoint_file {in}/junk.onnx | junk.onnx
inference --checkpoint_file {in}/nowhere.onnx | nowhere.onnx
inference --checkpoint_file {in}/model.json | model.json
inference --checkpoint_file "" | checkpoint_file empty
inference --checkpoint_file {in}/pickle/g_1 | g_1
inference --checkpoint_file {in}/hop | hop_size is 300
inference --checkpoint_file {in}/huge | does not fit
inference --checkpoint_file {in}/not_finite | finite
inference --checkpoint_file {in}/integers | torch.int32
inference --checkpoint_file {in}/bands | does not fit
inference --checkpoint_file {in}/text | sampling_rate integer
inference --checkpoint_file {in}/null | n_fft integer
inference --checkpoint_file {in}/vocos | does not fit
inference --checkpoint_file {in}/transformers | upsample_rates list
inference --checkpoint_file {in}/yaml | config.yaml
inference --output_dir {wavs}/a.wav | a.wav
inference --output_dir "" | output_dir empty
inference --stream --plot | --stream
inference --text a --voice {in}/voice_list | voice.json object
inference --text a --voice {in}/voice_deep | voice.json
inference --text a --voice {in}/voice_null | voice.json taco
inference --text a --voice {in}/voice_nowhere | nowhere
inference --text a --voice {in}/voice_zero | voice_zero
inference --text a --taco_weights {in}/frames | does not fit
inference --text a --taco_weights {in}/symbols | num_symbols
inference --input_wavs_dir {in}/truncated | truncated 1000 2000
inference --input_wavs_dir {in}/rate | 1 Hz
inference --input_wavs_dir {in}/channels | a.wav
inference --input_wavs_dir {in}/flac | a.flac
inference --input_wavs_dir {in}/words | a.wav
inference --input_mels_dir {in}/mel_nan | finite
inference --input_mels_dir {in}/mel_text | type
inference --input_mels_dir {in}/mel_complex | complex
inference --input_mels_dir {in}/mel_4d | shape
inference --input_mels_dir {in}/mel_scale | mel_scale
inference --input_mels_dir {in}/mel_huge | a.npy
inference --input_mels_dir {in}/mel_token | a.npy
inference --input_mels_dir {in}/mel_safetensors | a.safetensors
inference --input_mels_dir {in}/mel_number | no arrays
inference --input_mels_dir {in}/mel_sparse | no arrays
inference --input_mels_dir {in}/mel_expanded | a.pt
evaluate --copy_synthesis --max_clips 0 | max_clips at least 1
evaluate --copy_synthesis --report_clips -1 | report_clips at least 0
evaluate --copy_synthesis --sampling_rate 0 | sampling_rate at least 1
evaluate --copy_synthesis --num_workers 1.5 | num_workers integer
evaluate --copy_synthesis --seed nan | seed integer
evaluate --copy_synthesis --device abacus | device abacus
evaluate --copy_synthesis --path_to_manifest "" | path_to_manifest empty
evaluate --copy_synthesis --output_dir {wavs}/a.wav | a.wav
evaluate --copy_synthesis --checkpoint_file {in}/nowhere | nowhere
evaluate --system a={wavs} --sampling_rate 16000 | 16000
prep --dataset "" | dataset
prep --path_to_ljspeech {in}/nowhere | nowhere
prep --path_to_ljspeech {in}/lj --test_split_pct nan | test_split_pct finite
prep --path_to_ljspeech {in}/lj --test_split_pct 1 | test_split_pct less than 1
prep --path_to_ljspeech {in}/lj --test_split_pct 1% | test_split_pct number
prep --path_to_ljspeech {in}/lj --max_duration 0 | max_duration positive
prep --path_to_ljspeech {in}/lj --max_duration nan | max_duration finite
prep --path_to_ljspeech {in}/lj --max_duration 0.01 | rejected.csv
prep --path_to_ljspeech {in}/lj --sampling_rate 0 | sampling_rate at least
prep --path_to_ljspeech {in}/lj --seed x | seed integer
prep --path_to_ljspeech {in}/lj --path_to_save {wavs}/a.wav | a.wav
prep --path_to_ljspeech {in}/lj --path_to_save "" | path_to_save empty
prep --path_to_ljspeech {in}/lj --path_to_save {wavs}/a.wav/x | a.wav
prep --path_to_ljspeech {in}/lj_binary | rejected.csv
prep --path_to_ljspeech {in}/lj_up | rejected.csv
prep --path_to_ljspeech {in}/lj_pipes | rejected.csv
prep --path_to_ljspeech {in}/lj_long | rejected.csv
mels --taco_weights {model} | tacotron2.safetensors
mels --batch_size 0 | batch_size at least 1
mels --device abacus | device cpu
mels --mel_scale bark | bark
mels --hop_size 128 | hop_size
mels --path_to_save {wavs}/a.wav | a.wav
mels --path_to_save {in}/record | config.json
mels --path_to_manifest | path_to_manifest
checkpoint convert {model} {in}/new --to onnx | onnx
checkpoint convert {in}/nowhere {in}/new --to project | nowhere
checkpoint convert {in}/model.onnx {in}/new --to project | model.onnx export
checkpoint convert {model} {wavs} --to project | is there already
checkpoint convert {model} {wavs}/a.wav/x --to project | a.wav
checkpoint convert {taco} {in}/new --to project --speaker x | no speaker
checkpoint convert {taco} {in}/new --to official | --to project
checkpoint convert "" {in}/new --to project | source empty
checkpoint export --checkpoint_file {model} --output {in}/x.bin | .onnx
checkpoint export --checkpoint_file {model} --output {wavs} | .onnx
checkpoint export --voice nobody --output {in}/new | nobody
checkpoint export --output {in}/x.onnx | --checkpoint_file
checkpoint | command
app --port 0 | port at least 1
app --host "" | host address
app --port http | port integer
app --delete_after 0 | delete_after at least 1
app --checkpoint_file {in}/nowhere | nowhere
app --device abacus | device abacus
""".strip().splitlines()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path | str]:
    """Write all files; return the folders by the names that CASES uses."""
    root = tmp_path_factory.mktemp("bad")
    corpus = make_corpus(root / "corpus")
    save_model(root / "model", small_config(), generator=small_generator())
    config = Tacotron2Config(**SMALL_TACOTRON2)
    save_model(root / "taco", config, tacotron2=Tacotron2(config))
    for name, contents in FILES.items():
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    for name, array in MELS.items():
        (root / "in" / name).parent.mkdir(exist_ok=True)
        np.save(root / "in" / name, array)
    for name, tensors in TENSORS.items():
        (root / "in" / name).parent.mkdir(exist_ok=True)
        torch.save(tensors, root / "in" / name)
    for name in ("hop", "huge", "bands", "text", "null", "vocos", "transformers"):
        (root / "in" / name / "generator.safetensors").symlink_to(root / "model" / "generator.safetensors")
    weights = load_file(root / "model" / "generator.safetensors")
    changed = {"not_finite": lambda tensor: tensor / 0, "integers": torch.Tensor.int}
    for name, change in changed.items():
        state = {key: change(tensor) for key, tensor in weights.items()}
        (root / "in" / name).mkdir(exist_ok=True)
        write_model(root / "in" / name, small_config(), {"generator": state})
    for name in ("frames", "symbols"):
        (root / "in" / name / "tacotron2.safetensors").symlink_to(root / "taco" / "tacotron2.safetensors")
    for name in ("wavs/a.wav", "in/a.wav", "in/lj/wavs/c0.wav", "in/lj/wavs/c1.wav"):
        write_wav(root / name, voice(0.2), RATE)
    folders = {name: root / name for name in ("in", "wavs", "model", "taco")}
    return folders | {"root": root, "corpus": corpus, "long": "x" * 300}


def command(script: str, flags: list[str], folders: dict) -> tuple:
    """Return a script's main function and its arguments: `flags` after valid ones, which they override."""
    root, corpus = folders["root"], folders["corpus"]
    manifests = [
        "--path_to_train_manifest",
        corpus / "train.csv",
        "--path_to_val_manifest",
        corpus / "test.csv",
    ]
    run = [
        "--experiment_name",
        "run",
        "--working_directory",
        root / "runs",
        *manifests,
        "--max_train_steps",
        1,
    ]
    test_clips = ["--path_to_manifest", corpus / "test.csv"]
    speaks = any(flag.startswith("--text") for flag in flags)
    inputs = [] if speaks or "--input" in " ".join(flags) else ["--input_wavs_dir", folders["wavs"]]
    models = {"--checkpoint_file": folders["model"]} | ({"--taco_weights": folders["taco"]} if speaks else {})
    given = [item for name, path in models.items() if name not in flags for item in (name, path)]
    inputs += [] if "--voice" in flags else given
    main, valid = {
        "train": (train.main, command_line(corpus, root / "run", max_train_steps=1)),
        "tacotron2": (tacotron2.train.main, [*run, "--num_workers", 0]),
        "inference": (inference.main, ["--output_dir", root / "out", *inputs]),
        "evaluate": (evaluate.main, ["--output_dir", root / "evaluation", *test_clips]),
        "prep": (prep_splits.main, ["--path_to_save", root / "splits"]),
        "mels": (
            save_taco_mels.main,
            [
                *test_clips,
                "--path_to_save",
                root / "mels",
                "--taco_weights",
                folders["taco"],
                "--num_workers",
                0,
            ],
        ),
        "checkpoint": (checkpoint.__main__.main, []),
        "app": (app.main, []),
    }[script]
    return main, [*map(str, valid), *flags]


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_exit_status_2(folders, capsys, monkeypatch, case):
    text, _, words = case.rpartition(" | ")
    script, *flags = shlex.split(text)
    main, arguments = command(script, [flag.format(**folders) for flag in flags], folders)
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit) as stop, as_own_process():
        main(arguments)
    assert stop.value.code == 2
    line = error_line(capsys.readouterr().err)
    assert all(word in line for word in words.split()), line
    assert line.isprintable() and len(line) < 2500
