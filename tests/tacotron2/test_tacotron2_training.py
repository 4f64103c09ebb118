"""`python -m tacotron2.train`: complete runs of a small model from the command line."""

import csv
import errno
import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from forked import Forked, fork_two
from forked import complete as complete_forked
from helpers import RATE, call
from runs import (
    LAUNCH_ONE,
    has_done,
    kill_group,
    manifest_row,
    metrics,
    repeatable,
    wait_until,
    write_manifest,
)
from safetensors.torch import load_file
from tacotron2_runs import MODULE, TINY, complete, flags, keep_state, main, refused, train_here
from torch import Tensor

from checkpoint import load_tacotron2, read_tacotron2_config, save_model
from checkpoint.__main__ import main as checkpoint_main
from common.parallel import available_cores
from mel import MelConfig
from tacotron2.config import Tacotron2Config
from tacotron2.losses import tacotron2_losses
from tacotron2.measures import MEASURES
from tacotron2.model import Tacotron2, TeacherForced
from tacotron2.train import VALIDATION_LOSSES, Tacotron2Trainer, parse_arguments
from training.run import TrainingRun

EPOCHS, STEPS_PER_EPOCH = 4, 4  # 8 clips in batches of 2
SETTINGS = {"training_epochs": EPOCHS, "learning_rate": 0.01, "start_decay_epochs": 2}

TRAIN_KEYS = {
    "loss", "mel_before_loss", "mel_after_loss", "gate_loss", "mel_loss", "grad_norm", "learning_rate",
    "frames_per_second", "skipped_steps",
}  # fmt: skip
VAL_KEYS = {*VALIDATION_LOSSES, *MEASURES, "free_mel_difference"}


def weights(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "tacotron2.safetensors")


def different_weights(first: Path, second: Path) -> list[str]:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(scope="module")
def corpus(small_corpus, tmp_path_factory) -> Path:
    """The clips of `small_corpus` with transcripts."""
    folder = tmp_path_factory.mktemp("spoken")
    texts = [
        "a",
        "Oh.",
        "Is it?",
        "No, not yet!",
        "Five of them.",
        "Once more: go.",
        "(Well) then",
        "It's on.",
    ]
    texts += ["All is well.", "Read it again."]
    wavs = sorted((small_corpus / "wavs").iterdir())
    rows = [
        manifest_row(wav) | {"normalized_transcript": text} for wav, text in zip(wavs, texts, strict=True)
    ]
    write_manifest(folder / "train.csv", rows[:8])
    write_manifest(folder / "test.csv", rows[8:])
    return folder


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> Path:
    """A run that was not interrupted."""
    return train_here(corpus, tmp_path_factory.mktemp("finished") / "run", **SETTINGS)


def test_the_log_has_a_line_for_each_step_and_each_validation(finished):
    records = metrics(finished)
    wanted = []
    for epoch in range(EPOCHS):
        steps = range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH)
        wanted += [("train", step, epoch) for step in steps] + [("val", steps[-1], epoch)]
    assert [(record["split"], record["step"], record["epoch"]) for record in records] == wanted
    for record in records:
        keys = TRAIN_KEYS if record["split"] == "train" else VAL_KEYS
        assert record.keys() == keys | {"step", "epoch", "split"}
        # clips of one sound have no pause
        assert all(np.isfinite(record[name]) for name in keys - {"attention_rest"})


def test_the_losses_fall_and_the_attention_measures_are_fractions(finished):
    train, val = metrics(finished, "train"), metrics(finished, "val")
    assert np.mean([r["loss"] for r in train[-4:]]) < 0.8 * np.mean([r["loss"] for r in train[:4]])
    assert val[-1]["val_loss"] < 0.9 * val[0]["val_loss"]
    assert val[-1]["val_mel_loss"] < val[0]["val_mel_loss"]
    for name in ("attention_sharpness", "attention_skipped", "attention_repeated"):
        assert all(0 <= record[name] <= 1 for record in val)
    assert all(record["free_mel_difference"] > 0 for record in val)


def test_the_logged_losses_add_up_to_the_total_loss(finished):
    for record in metrics(finished, "train"):
        parts = record["mel_before_loss"] + record["mel_after_loss"] + record["gate_loss"]
        assert record["loss"] == pytest.approx(parts, rel=1e-5)


def test_the_learning_rate_is_constant_and_then_decays_exponentially(finished):
    steps = np.arange(EPOCHS * STEPS_PER_EPOCH) / STEPS_PER_EPOCH
    way = np.clip((steps - 2) / (EPOCHS - 2), 0, 1)
    wanted = 0.01 * (1e-5 / 0.01) ** way
    rates = [record["learning_rate"] for record in metrics(finished, "train")]
    assert rates == pytest.approx(wanted.tolist(), rel=1e-9)
    assert rates[:9] == [0.01] * 9 and rates[12] == pytest.approx((0.01 * 1e-5) ** 0.5)


def test_checkpoints_can_be_loaded_for_inference(finished):
    names = {path.name for path in finished.iterdir() if path.is_dir()}
    assert names == {*(f"checkpoint_{epoch}" for epoch in range(1, 5)), "final_checkpoint", "generated"}
    model = load_tacotron2(finished / "checkpoint_1")
    assert model.config == Tacotron2Config(**TINY)
    assert model.infer(torch.tensor([[3, 4, 5, 1]]), max_frames=5).mel.shape[:2] == (1, 80)
    assert different_weights(finished / "checkpoint_4", finished / "final_checkpoint") == []
    first, last = weights(finished / "checkpoint_1"), weights(finished / "final_checkpoint")
    assert [name for name in first if torch.equal(first[name], last[name])] == []


def test_each_validation_saves_a_plot_and_audio_of_the_first_clip(finished):
    names = {f"epoch_000{epoch}_clip8.{kind}" for epoch in range(1, 5) for kind in ("png", "wav")}
    assert {path.name for path in (finished / "generated").iterdir()} == names
    audio, rate = soundfile.read(finished / "generated" / "epoch_0001_clip8.wav")
    assert rate == RATE and len(audio) % 256 == 0 and np.isfinite(audio).all()


def test_a_filelist_of_real_speech_trains_with_guided_attention(espeak_corpus, tmp_path):
    """LJSpeech's metadata.csv is such a filelist.

    Three frames per step, with clips that are not whole steps.
    """
    metadata = espeak_corpus / "metadata.csv"
    test = tmp_path / "test.csv"
    test.write_text(metadata.read_text().splitlines()[0] + "\n")
    folder = train_here(
        espeak_corpus, tmp_path / "run", training_epochs=2, batch_size=4, learning_rate=0.01,
        path_to_train_manifest=metadata, path_to_val_manifest=test, input_wavs_dir=espeak_corpus / "wavs",
        frames_per_step=3, guided_attention_weight=5.0, save_audio_gen=tmp_path / "heard",
    )  # fmt: skip
    records = metrics(folder, "train")
    assert len(records) == 6 and records[-1]["loss"] < 0.9 * records[0]["loss"]
    for record in records:
        parts = record["mel_before_loss"] + record["mel_after_loss"] + record["gate_loss"]
        assert record["loss"] == pytest.approx(parts + 5 * record["attention_loss"], rel=1e-5)
    assert len(list((tmp_path / "heard").iterdir())) == 4 and not (folder / "generated").exists()


def test_the_readmes_command_runs(corpus, tmp_path):
    """With small sizes, a home without a login, and fewer cores than workers."""
    command = shlex.split("""
        --experiment_name tacotron2 --run_name tacotron2_trainer --working_directory work_dir
        --save_audio_gen work_dir/save_gen --path_to_train_manifest TRAIN_CSV --path_to_val_manifest TEST_CSV
        --training_epochs 1 --console_out_iters 5 --wandb_log_iters 5 --checkpoint_epochs 25 --batch_size 64
        --learning_rate 0.001 --min_learning_rate 1e-5 --start_decay_epochs 150
        --sampling_rate 22050 --num_mels 80 --n_fft 1024 --window_size 1024 --hop_size 256 --min_db -100
        --max_scaled_abs 4 --fmin 0 --fmax 8000 --num_workers 32 --log_wandb
    """)
    places = {"work_dir": tmp_path, "TRAIN_CSV": corpus / "train.csv", "TEST_CSV": corpus / "test.csv"}
    command = [str(places.get(word, word)) for word in command]
    command[command.index("work_dir/save_gen")] = str(tmp_path / "save_gen")
    command += [word for name, size in TINY.items() for word in (f"--{name}", str(size))]
    nothing = {name: None for name in os.environ if name.startswith(("WANDB_", "XDG_"))}
    said = complete([*LAUNCH_ONE, *MODULE], command, **nothing | {"HOME": str(tmp_path / "home")})
    if available_cores() < 32:
        assert said.count(f"--num_workers 32 is more than the {available_cores()} cores here") == 1
    assert "No Weights & Biases login: logging offline" in said
    run = tmp_path / "tacotron2"
    (offline,) = run.glob("wandb/offline-run-*")
    assert len(list(offline.glob("files/media/audio/audio/*.wav"))) == 1
    assert len(list(offline.glob("files/media/images/mel_and_attention/*.png"))) == 1
    assert {path.suffix for path in (tmp_path / "save_gen").iterdir()} == {".png", ".wav"}
    assert [record["learning_rate"] for record in metrics(run, "train")] == [0.001]
    assert load_tacotron2(run / "final_checkpoint").config == Tacotron2Config(**TINY)


def assert_ended_alike(run: Path, finished: Path) -> None:
    assert repeatable(metrics(run)) == repeatable(metrics(finished))
    assert different_weights(run / "final_checkpoint", finished / "final_checkpoint") == []


def test_killed_and_stopped_runs_end_as_if_never_interrupted(corpus, finished, tmp_path, monkeypatch):
    """Including dropout and the statistics of batch norm."""
    folder = tmp_path / "run"
    again = {**SETTINGS, "resume_from_checkpoint": "latest"}
    process = Forked(main, flags(corpus, folder, checkpoint_steps=3, num_workers=1, **again))
    wait_until(has_done(folder, 5), process, seconds=300)
    kill_group(process)
    done = len(metrics(folder, "train"))
    assert done < EPOCHS * STEPS_PER_EPOCH, "the machine is too busy for this test"

    stop_after, finish_step = min(done + 1, 14), TrainingRun.finish_step

    def finish_step_and_stop(run, *args):
        finish_step(run, *args)
        if run.progress.step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(TrainingRun, "finish_step", finish_step_and_stop)
        train_here(corpus, folder, **again)
    assert stop.value.code == 128 + signal.SIGTERM
    progress = json.loads((folder / "last_checkpoint" / "progress.json").read_text())
    assert progress["step"] == stop_after
    train_here(corpus, folder, **again)
    assert_ended_alike(folder, finished)


def test_a_run_resumes_within_an_epoch_with_another_batch_size(corpus, tmp_path):
    """The learning rate depends on the epochs done, which the new number of steps does not change."""
    folder = tmp_path / "run"
    settings = {**SETTINGS, "training_epochs": 2, "start_decay_epochs": 0}
    train_here(corpus, folder, **settings, max_train_steps=6)  # one and a half epochs
    train_here(corpus, folder, **settings, batch_size=4, resume_from_checkpoint="latest")
    rates = [record["learning_rate"] for record in metrics(folder, "train")]
    wanted = [0.01 * (1e-5 / 0.01) ** (epochs / 2) for epochs in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)]
    assert rates == pytest.approx(wanted, rel=1e-9)


@pytest.mark.skipif(available_cores() < 2, reason="two processes")
def test_two_processes_have_identical_models_and_resume(corpus, tmp_path):
    """Including batch norm statistics, which each process computes from its own batches."""
    settings = {"training_epochs": 2, "learning_rate": 0.01}

    whole = tmp_path / "whole"
    said = complete_forked(fork_two(keep_state, [tmp_path, *flags(corpus, whole, **settings)]))
    assert said.count("2 steps per epoch") == 1, said
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    saved = weights(whole / "final_checkpoint")
    for name, tensor in saved.items():
        assert torch.equal(states[0][name], tensor) and torch.equal(states[1][name], tensor), name
    assert len(metrics(whole, "train")) == 4 and len(metrics(whole, "val")) == 2

    resumed = tmp_path / "resumed"
    settings["resume_from_checkpoint"] = "latest"
    for steps in (3, None):  # into the second epoch, and to the end
        complete_forked(fork_two(main, flags(corpus, resumed, **settings, max_train_steps=steps)))
    assert different_weights(resumed / "final_checkpoint", whole / "final_checkpoint") == []
    assert repeatable(metrics(resumed)) == repeatable(metrics(whole))


def losses(config: Tacotron2Config, output: TeacherForced, batch: dict) -> dict[str, float]:
    parts = tacotron2_losses(output, batch, config, guided_attention_weight=1.0)
    return {name: value.item() for name, value in parts.items()}


@pytest.mark.parametrize("frames_per_step", [1, 2])
def test_losses_ignore_padding(frames_per_step):
    """The losses are means over the frames of a long and a short clip, whatever the padding contains."""
    config = Tacotron2Config(**TINY, decoder_prenet_dropout_p=0.0, frames_per_step=frames_per_step)
    torch.manual_seed(0)
    model = Tacotron2(config).eval()
    tokens, token_lengths = torch.randint(3, 29, (2, 9)), torch.tensor([9, 4])
    mel, mel_lengths = torch.randn(2, 80, 14), torch.tensor([14, 7])  # 7 is not a multiple of 2

    def of(rows: slice, frames: int, letters: int) -> dict[str, float]:
        batch = {"tokens": tokens[rows, :letters], "token_lengths": token_lengths[rows]}
        batch |= {"mel": mel[rows, :, :frames], "mel_lengths": mel_lengths[rows]}
        with torch.no_grad():
            return losses(config, model(*batch.values()), batch)

    first = of(slice(0, 2), 14, 9)
    tokens[1, 4:], mel[1, :, 7:] = 7, 100.0
    assert of(slice(0, 2), 14, 9) == pytest.approx(first, rel=1e-5)

    long, short = of(slice(0, 1), 14, 9), of(slice(1, 2), 7, 4)
    by_frames = {"mel_before_loss", "mel_after_loss", "mel_loss"}
    steps = {1: (14, 7), 2: (7, 4)}[frames_per_step]
    for name in by_frames | {"gate_loss", "attention_loss"}:
        shares = (14, 7) if name in by_frames else steps
        assert first[name] == pytest.approx(np.average([long[name], short[name]], weights=shares), rel=1e-5)


def test_each_mel_loss_is_that_of_its_mel_and_power():
    config, lengths = Tacotron2Config(**TINY), torch.tensor([5, 3])
    batch = {"mel": torch.zeros(2, 80, 5), "mel_lengths": lengths, "token_lengths": torch.tensor([2, 2])}
    before, after = torch.full((2, 80, 5), 2.0), torch.full((2, 80, 5), -3.0)
    output = TeacherForced(before, after, torch.zeros(2, 5), torch.full((2, 5, 2), 0.5))
    found = losses(config, output, batch)
    assert (found["mel_before_loss"], found["mel_after_loss"], found["mel_loss"]) == (4.0, 9.0, 3.0)


def test_the_gate_target_is_1_only_at_the_last_step():
    config = Tacotron2Config(**TINY)
    lengths = torch.tensor([5, 3])
    batch = {"mel": torch.zeros(2, 80, 5), "mel_lengths": lengths, "token_lengths": torch.tensor([2, 2])}
    attention, silence = torch.full((2, 5, 2), 0.5), torch.zeros(2, 80, 5)
    gate = torch.full((2, 5), -20.0)
    gate[0, 4] = gate[1, 2] = 20.0
    gate[1, 3:] = 20.0  # the padding has no effect
    right = losses(config, TeacherForced(silence, silence, gate, attention), batch)["gate_loss"]
    gate[1, 2], gate[1, 1] = -20.0, 20.0
    wrong = losses(config, TeacherForced(silence, silence, gate, attention), batch)["gate_loss"]
    assert right < 1e-6 and wrong == pytest.approx((5 * 20 + 20) / 8, rel=1e-3)


def test_a_pretrained_model_provides_its_sizes_and_flags_override_them(corpus, finished, tmp_path):
    start_from = finished / "final_checkpoint"
    own_sizes = dict.fromkeys(TINY)
    arguments = flags(corpus, tmp_path, **own_sizes, path_to_pretrained_weights=start_from)
    assert parse_arguments(arguments)[1] == read_tacotron2_config(start_from)
    config = parse_arguments([*arguments, "--decoder_dropout_p", "0.3", "--attention_dim", "10"])[1]
    assert (config.decoder_dropout_p, config.attention_dim, config.attention_rnn_dim) == (0.3, 10, 24)


def test_training_starts_from_a_pretrained_model(corpus, finished, tmp_path, capsys):
    start_from = finished / "final_checkpoint"
    settings = dict.fromkeys(TINY) | {"path_to_pretrained_weights": start_from, "learning_rate": 1e-12}
    settings |= {"min_learning_rate": 1e-12, "weight_decay": 0.0, "training_epochs": 1, "max_train_steps": 1}
    folder = train_here(corpus, tmp_path / "run", **settings)
    assert f"Pretrained: Tacotron 2 from {start_from}" in capsys.readouterr().out
    ours, theirs = weights(folder / "final_checkpoint"), weights(start_from)
    for name in ours:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-9, msg=name)
    line = refused(capsys, corpus, tmp_path / "other", **settings | {"attention_dim": 10})
    assert "(8, 4) in the file and (10, 4) in the model" in line and "flags for the sizes" in line
    line = refused(capsys, corpus, tmp_path / "other", **settings, mel_scale="ln")
    assert f"mel_scale is db in {start_from} but ln in this run" in line


def test_a_pretrained_model_of_phonemes_is_refused_for_characters(corpus, tmp_path, capsys):
    """Although its embedding has enough rows, which belong to other symbols."""
    config = Tacotron2Config(**TINY, text_input="phonemes")
    save_model(tmp_path / "phonemes", config, tacotron2=Tacotron2(config))
    settings = dict.fromkeys(TINY) | {"path_to_pretrained_weights": tmp_path / "phonemes"}
    line = refused(capsys, corpus, tmp_path / "run", **settings, text_input="characters")
    assert "phonemes reads phonemes, and this run characters; leave out --text_input" in line


def test_settings_of_a_foreign_models_weights_are_kept(corpus, tmp_path):
    """Such a model has texts without an end symbol and computes in natural logarithms."""
    torch.manual_seed(0)
    config = Tacotron2Config(**TINY, end_symbol=False, inner_mel_scale="ln")
    save_model(tmp_path / "other", config, tacotron2=Tacotron2(config))
    settings = dict.fromkeys(TINY) | {"path_to_pretrained_weights": tmp_path / "other", "training_epochs": 1}
    folder = train_here(corpus, tmp_path / "run", **settings, max_train_steps=1)
    assert load_tacotron2(folder / "final_checkpoint").config == config
    assert config.mel_scale == MelConfig().mel_scale == "db"


@pytest.fixture(scope="module")
def two_speakers(corpus, tmp_path_factory) -> tuple[Path, Path]:
    """A corpus of two speakers, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("two_speakers")
    for name in ("train.csv", "test.csv"):
        rows = list(csv.DictReader((corpus / name).read_text().splitlines()))
        rows = [row | {"speaker": ("ann", "bob")[number % 2]} for number, row in enumerate(rows)]
        write_manifest(folder / name, rows)
    run = train_here(folder, folder / "run", training_epochs=1, speakers=["ann", "bob"])
    return folder, run / "final_checkpoint"


START = dict.fromkeys(TINY) | {"training_epochs": 1, "max_train_steps": 1}


def test_one_voice_of_several_speakers_is_learned_with_a_warning(corpus, two_speakers, tmp_path, capsys):
    settings = {"training_epochs": 1, "max_train_steps": 1}
    for number, (manifests, names) in enumerate(
        [(two_speakers[0], None), (two_speakers[0], ["ann", "bob"]), (corpus, None)]
    ):
        train_here(manifests, tmp_path / str(number), **settings, speakers=names)
        warning = f"{manifests / 'train.csv'} has 2 speakers (ann, bob), and the model learns one voice"
        assert (warning in capsys.readouterr().err) == (number == 0)


def test_a_full_disk_at_a_validation_does_not_end_the_run(corpus, tmp_path, monkeypatch, capsys):
    def savefig(figure, path, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    folder = train_here(corpus, tmp_path / "run", training_epochs=1, max_train_steps=1)
    assert (folder / "final_checkpoint" / "tacotron2.safetensors").is_file()
    assert len(metrics(folder, "val")) == 1
    assert f"can't write {folder / 'generated'}" in capsys.readouterr().err


def test_fine_tuning_a_model_of_several_speakers_keeps_them(two_speakers, tmp_path):
    manifests, several = two_speakers
    run = train_here(manifests, tmp_path / "run", path_to_pretrained_weights=several, **START)
    assert load_tacotron2(run / "final_checkpoint").config == read_tacotron2_config(several)


def test_several_speakers_start_with_the_voice_of_a_model_of_one(corpus, two_speakers, tmp_path):
    one = train_here(corpus, tmp_path / "one", training_epochs=1, max_train_steps=1) / "final_checkpoint"
    settings = START | {"path_to_pretrained_weights": one, "speakers": ["ann", "bob"]}
    settings |= {"learning_rate": 1e-12, "min_learning_rate": 1e-12, "weight_decay": 0.0}
    run = train_here(two_speakers[0], tmp_path / "run", **settings)
    model, start = load_tacotron2(run / "final_checkpoint"), load_tacotron2(one)
    for name in ("ann", "bob"):
        torch.testing.assert_close(model.for_speaker(name).embedding.weight, start.embedding.weight)


def test_a_model_of_one_speaker_starts_from_a_model_of_several(corpus, two_speakers, tmp_path, capsys):
    several = two_speakers[1]
    bob = ("convert", several, tmp_path / "bob", "--to", "project", "--speaker", "bob")
    assert call(checkpoint_main, *bob).returncode == 0
    settings = START | {"path_to_pretrained_weights": tmp_path / "bob"}
    settings |= {"learning_rate": 1e-12, "min_learning_rate": 1e-12, "weight_decay": 0.0}
    run = train_here(corpus, tmp_path / "run", **settings)  # a corpus without a column speaker
    model, expected = load_tacotron2(run / "final_checkpoint"), load_tacotron2(several).for_speaker("bob")
    assert model.config.speakers == ()
    torch.testing.assert_close(model.embedding.weight, expected.embedding.weight)

    settings = START | {"path_to_pretrained_weights": several}
    line = refused(capsys, corpus, tmp_path / "other", speakers=[], **settings)
    assert "are ann, bob, and those of this run none" in line and "checkpoint convert" in line
    line = refused(capsys, corpus, tmp_path / "other", **settings)
    assert "8 clips of" in line and "have no speaker in the manifest's column speaker" in line


def test_a_clip_without_words_is_named(corpus, tmp_path, capsys):
    rows = (corpus / "train.csv").read_text().replace("Is it?", "...")
    (tmp_path / "train.csv").write_text(rows)
    line = refused(capsys, corpus, tmp_path / "run", path_to_train_manifest=tmp_path / "train.csv")
    assert "1 clips of" in line and "have no words" in line and "clip2" in line


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"learning_rate": 1e-4, "min_learning_rate": 1e-3}, "--min_learning_rate is 0.001; it must be"),
        ({"min_learning_rate": 0}, "it must be positive"),
        ({"attention_location_kernel_size": 4}, "attention_location_kernel_size is 4; it must be odd"),
        ({"encoder_embed_dim": 15}, "encoder_embed_dim is 15; it must be even"),
        ({"decoder_dropout_p": 1.0}, "decoder_dropout_p is 1.0"),
        ({"frames_per_step": 0}, "frames_per_step is 0; it must be at least 1"),
        ({"batch_size": 0}, "--batch_size is 0"),
        ({"path_to_train_manifest": "nowhere.csv"}, "can't read the manifest nowhere.csv"),
        ({"path_to_pretrained_weights": "nowhere"}, "there is no nowhere"),
        ({"resume_from_checkpoint": "checkpoint_7"}, "checkpoint_7 is not a training checkpoint"),
    ],
)
def test_a_user_error_is_one_line(corpus, tmp_path, capsys, settings, words):
    assert words in refused(capsys, corpus, tmp_path / "run", **settings)


def test_a_checkpoint_of_another_model_is_refused_with_both_values(corpus, finished, tmp_path, capsys):
    settings = {"resume_from_checkpoint": finished / "checkpoint_1", "attention_dim": 10}
    line = refused(capsys, corpus, tmp_path / "run", **settings)
    assert "attention_dim was 8 and is now 10" in line


def test_a_run_does_not_overwrite_another(corpus, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    line = refused(capsys, corpus, finished, **SETTINGS)
    assert "--resume_from_checkpoint latest" in line and "--experiment_name" in line
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_resuming_a_finished_run_has_no_effect(corpus, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    train_here(corpus, folder, **SETTINGS, resume_from_checkpoint="latest")
    assert_ended_alike(folder, finished)


def test_a_non_finite_step_does_not_change_the_model(corpus, tmp_path, monkeypatch):
    step = Tacotron2Trainer.step

    def poisoned(trainer, batches, number):
        if number == 1:
            batches[0]["mel"][0, 0, 0] = torch.inf
        before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        values = step(trainer, batches, number)
        if number == 1:
            after = trainer.model.state_dict()
            assert [name for name in before if not torch.equal(before[name], after[name])] == []
        return values

    monkeypatch.setattr(Tacotron2Trainer, "step", poisoned)
    folder = train_here(corpus, tmp_path / "run", training_epochs=1)
    assert [record["skipped_steps"] for record in metrics(folder, "train")] == [0, 1, 1, 1]
    assert all(
        torch.isfinite(tensor.float()).all() for tensor in weights(folder / "final_checkpoint").values()
    )
    assert metrics(folder, "val")[-1]["val_loss"] is not None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight_decay": -1}, "--weight_decay is -1.0"),
        ({"adam_eps": -1}, "--adam_eps is -1.0"),
        ({"guided_attention_weight": -1}, "--guided_attention_weight is -1.0"),
        ({"guided_attention_weight": 5, "guided_attention_width": 0}, "--guided_attention_width is 0.0"),
        ({"start_decay_epochs": -3}, "--start_decay_epochs is -3"),
    ],
)
def test_invalid_training_options_are_refused(corpus, tmp_path, capsys, settings, words):
    assert words in refused(capsys, corpus, tmp_path / "run", **settings)


def test_a_model_that_diverges_is_validated(corpus, tmp_path):
    """Its weights are finite but its mels are not, so they have no difference, and their audio is silence."""
    folder = train_here(corpus, tmp_path / "run", learning_rate=1e30, training_epochs=1)
    (record,) = metrics(folder, "val")
    assert record["val_loss"] is None and record["free_mel_difference"] is None
    assert list((folder / "generated").glob("*.wav"))
