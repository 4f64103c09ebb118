"""The official HiFi-GAN's command lines, in a folder with its files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import RATE, ROOT, save_official, small_config, small_generator, speech_mel, voice
from runs import as_own_process, metrics

import inference
import prep_splits
import train
from corpus.audio import write_wav
from generators.build import Discriminators
from mel import MelConfig, MelSpectrogram

OFFICIAL_CONFIG = {
    "resblock": "1", "num_gpus": 0, "batch_size": 2, "learning_rate": 0.0002, "adam_b1": 0.8, "adam_b2": 0.99,
    "lr_decay": 0.999, "seed": 1234, "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4],
    "upsample_initial_channel": 16, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]],
    "segment_size": 2048, "num_mels": 80, "num_freq": 1025, "n_fft": 1024, "hop_size": 256, "win_size": 1024,
    "sampling_rate": RATE, "fmin": 0, "fmax": 8000, "fmax_for_loss": None, "num_workers": 0,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
}  # fmt: skip
DISCRIMINATORS = ["--discriminator_channels", "32"]  # the official ones take seconds per step on a CPU


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Return a working directory with the files of the official repository's README."""
    names = [f"LJ001-{number:04d}" for number in range(4)]
    for number, name in enumerate(names):
        write_wav(tmp_path / "LJSpeech-1.1" / "wavs" / f"{name}.wav", voice(0.3, seed=number), RATE)
    lines = [f"{name}|Text.|Text.\n" for name in names]
    (tmp_path / "LJSpeech-1.1" / "training.txt").write_text("".join(lines[:3]))
    (tmp_path / "LJSpeech-1.1" / "validation.txt").write_text(lines[3])
    (tmp_path / "config_small.json").write_text(json.dumps(OFFICIAL_CONFIG))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> None:
    with as_own_process():
        train.main([*arguments, *DISCRIMINATORS])


def test_the_official_command_trains_and_repeated_continues(checkout):
    run("--config", "config_small.json", "--training_epochs", "1", "--stdout_interval=1")
    steps = [record["step"] for record in metrics(checkout / "cp_hifigan", "train")]
    assert steps and steps[0] == 0
    assert (checkout / "cp_hifigan" / "final_checkpoint" / "generator.safetensors").is_file()
    run("--config", "config_small.json", "--training_epochs", "2", "--stdout_interval=1")
    again = [record["step"] for record in metrics(checkout / "cp_hifigan", "train")]
    assert again == list(range(2 * len(steps)))


def test_fine_tuning_starts_from_the_checkpoints_in_its_folder_and_reads_ft_dataset(checkout, capsys):
    sizes = {"mel_scale": "ln", "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),)}
    config = small_config(**sizes)
    models = {"generator": small_generator(**sizes)} | dict(Discriminators(config).named_children())
    save_official(checkout / "LJ_V1", config, **models)
    (checkout / "ft_dataset").mkdir()
    mel = MelSpectrogram(MelConfig(mel_scale="ln"))
    for path in (checkout / "LJSpeech-1.1" / "wavs").iterdir():
        audio = torch.from_numpy(voice(0.3, seed=int(path.stem[-1])))
        np.save(checkout / "ft_dataset" / f"{path.stem}.npy", mel(audio)[None].numpy())
    official = ["--fine_tuning", "True", "--config", "config_small.json", "--checkpoint_path", "LJ_V1"]
    discriminators = ["--mpd_periods", "2", "3", "--msd_num_downsamples", "1"]
    run(*official, "--training_epochs", "1", *discriminators)
    assert "g_02500000" in capsys.readouterr().out
    assert (checkout / "LJ_V1" / "final_checkpoint").is_dir() and (
        checkout / "LJ_V1" / "g_02500000"
    ).is_file()


def test_official_names_select_the_bundled_configuration_and_our_command_lines_stay_as_they_are(checkout):
    options, config = train.parse_arguments(["--config", "config_v2.json", "--checkpoint_interval", "7"])
    assert (config.upsample_initial_channel, options.checkpoint_steps) == (128, 7)
    assert options.folder == Path("cp_hifigan") and not options.finetune
    options, _ = train.parse_arguments(["--config", "config_v1.json", "--fine_tuning", "False"])
    assert not options.finetune
    with pytest.raises(SystemExit):  # ours, without its other required flags
        train.parse_arguments(["--config", "config_v1.json", "--experiment_name", "x"])


def test_our_flags_with_an_equals_sign_keep_their_values(checkout):
    ours = {"--experiment_name": "mine", "--working_directory": "wd", "--path_to_train_manifest": "a.csv"}
    ours |= {"--path_to_val_manifest": "b.csv", "--min_db": "-90"}
    words = [f"{name}={value}" for name, value in ours.items()]
    options, config = train.parse_arguments([*words, "--checkpoint_interval", "7"])
    assert options.folder == Path("wd/mine") and options.checkpoint_steps == 7 and config.min_db == -90
    assert (options.path_to_train_manifest, options.path_to_val_manifest) == (Path("a.csv"), Path("b.csv"))


def test_inference_e2e_vocodes_test_mel_files(tmp_path):
    folder = save_official(
        tmp_path / "model", small_config(mel_scale="ln"), generator=small_generator(mel_scale="ln")
    )
    (tmp_path / "test_mel_files").mkdir()
    np.save(tmp_path / "test_mel_files" / "a.npy", speech_mel(20)[0].numpy())
    command = [
        sys.executable,
        str(ROOT / "inference_e2e.py"),
        "--checkpoint_file",
        str(folder),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "generated_files_from_mel" / "a_generated_e2e.wav").is_file()


@pytest.mark.parametrize(
    ("program", "command", "flag"),
    [
        (train, "-c configs/vocos.yaml", "--config"),  # Vocos
        (train, "--train-dumpdir dump/train --outdir exp", "--path_to_train_manifest"),  # ParallelWaveGAN
        (
            train,
            "--resume ckpt-100000 --train-dir ./dump/train/",
            "--resume_from_checkpoint",
        ),  # TensorFlowTTS
        (inference, "--checkpoint x.pkl --dumpdir dump --outdir sample", "--checkpoint_file"),
        (inference, "--model en_US-lessac-medium.onnx --output_file welcome.wav", "--voice"),  # Piper
        (inference, "--output-raw", "--stream"),
        (inference, "--cuda --hifigan x.pt -i devset10.tsv -o output", "--text_file"),  # NVIDIA
        (train, "--dataset-path data --training-files a.txt", "--path_to_train_manifest"),
        (prep_splits, "--language en-us --input-dir data --output-dir x", "--path_to_ljspeech"),
        (prep_splits, "--rootdir ./ljspeech --outdir ./dump_ljspeech", "--path_to_ljspeech"),
    ],
)
def test_flags_of_other_projects_are_answered_with_ours(checkout, capsys, program, command, flag):
    with pytest.raises(SystemExit) as stop:
        program.main(command.split())
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and f" (did you mean {flag}?)" in error


@pytest.mark.parametrize(
    ("path", "ours"),
    [("configs/vocos.yaml", "vocos"), ("conf/hifigan.v1.yaml", "v1"), ("config_misr_v1.yml", "misr_v1")],
)
def test_configurations_of_other_projects_are_answered_with_ours(checkout, capsys, path, ours):
    for exists in (False, True):
        if exists:
            (checkout / path).parent.mkdir(exist_ok=True)
            (checkout / path).write_text("model:\n  class_path: x\n")
        with pytest.raises(SystemExit) as stop:
            train.main(["--config", path])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        assert error.rstrip().endswith(f"did you mean configs/{ours}.json?")


def test_a_configuration_without_a_value_is_answered_as_such(capsys):
    with pytest.raises(SystemExit):
        train.main(["--config", "--finetune"])
    assert "argument --config: expected one argument" in capsys.readouterr().err


def test_a_text_without_its_flag_is_answered_with_the_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        inference.main(["This is a test."])
    error = capsys.readouterr().err
    assert (
        stop.value.code == 2 and error.count("\n") == 1 and "'This is a test.'" in error and "--text" in error
    )
