"""--best_metric keeps the checkpoint with the lowest validation loss, and --patience ends a run."""

import json
import shutil

import pytest
import tacotron2_runs
from runs import error_line, metrics, repeatable, train_here
from safetensors.torch import load_file

RUN = {"training_epochs": 6, "best_metric": "val_mel_loss", "learning_rate": 0.5, "checkpoint_epochs": 1}


def progress_of(checkpoint) -> dict:
    return json.loads((checkpoint / "progress.json").read_text())


def lowest(folder) -> dict:
    return min(metrics(folder, "val"), key=lambda record: record["val_mel_loss"])


def test_the_best_checkpoint_has_the_weights_of_the_lowest_validation_loss(small_corpus, tmp_path):
    folder = train_here(small_corpus, tmp_path / "run", **RUN)
    best = lowest(folder)
    progress = progress_of(folder / "best_checkpoint")
    assert progress["step"] == best["step"] + 1
    assert progress["best_value"] == best["val_mel_loss"]
    epoch = progress_of(folder / "best_checkpoint")["epoch"] + 1
    kept, same = (
        load_file(folder / name / "generator.safetensors")
        for name in ("best_checkpoint", f"checkpoint_{epoch}" if epoch < 6 else "final_checkpoint")
    )
    assert all((kept[name] == same[name]).all() for name in kept)


def test_a_run_without_progress_ends_and_a_resume_knows_the_best_value(small_corpus, tmp_path):
    settings = {**RUN, "patience": 1}  # the learning rate is far too high: the loss soon rises
    whole = train_here(small_corpus, tmp_path / "whole", **settings)
    values = [record["val_mel_loss"] for record in metrics(whole, "val")]
    assert values[-1] >= min(values[:-1]) and values[:-1] == sorted(values[:-1], reverse=True)
    assert len(values) < 6

    parts = tmp_path / "parts"
    train_here(small_corpus, parts, **settings, max_train_steps=metrics(whole, "val")[0]["step"] + 1)
    shutil.rmtree(parts / "set_aside", ignore_errors=True)
    train_here(small_corpus, parts, **settings, resume_from_checkpoint="latest")
    assert repeatable(metrics(parts)) == repeatable(metrics(whole))
    assert progress_of(parts / "best_checkpoint")["step"] == progress_of(whole / "best_checkpoint")["step"]


def test_a_vocoder_without_adversarial_steps_is_not_the_best_of_a_run_with_them(small_corpus, tmp_path):
    run = {**RUN, "training_epochs": 2, "segment_size": 2048}
    alone = train_here(small_corpus, tmp_path / "alone", **run, adversarial_start_steps=1000)
    assert progress_of(alone / "best_checkpoint")["step"] == lowest(alone)["step"] + 1

    first = metrics(alone, "val")[0]["step"] + 1
    run |= {"adversarial_start_steps": first, "lambda_mel": 0.0, "patience": 1}  # so no step improves the mel
    folder = train_here(small_corpus, tmp_path / "run", **run, max_train_steps=first)
    assert progress_of(folder / "best_checkpoint")["step"] == first
    train_here(small_corpus, folder, **run, resume_from_checkpoint="latest")
    before, after = (record["val_mel_loss"] for record in metrics(folder, "val"))
    assert before < after == progress_of(folder / "best_checkpoint")["best_value"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"patience": 2}, "--patience needs --best_metric"),
        ({"best_metric": "val_loss"}, "a vocoder has val_mel_loss"),
        ({"segment_size": 1024, "adversarial_start_steps": 2}, "more than 1024 for the STFT loss"),
        ({"segment_size": 768, "discriminators": ["mrd"]}, "needs at least 905"),
    ],
)
def test_contradictions_are_refused(small_corpus, tmp_path, capsys, settings, words):
    with pytest.raises(SystemExit) as stop:
        train_here(small_corpus, tmp_path / "run", **settings)
    assert stop.value.code == 2
    assert words in error_line(capsys.readouterr().err)


def test_another_metric_starts_without_a_best_value(small_corpus, tmp_path):
    run = {"training_epochs": 1, "best_metric": "val_mel_loss"}
    folder = tacotron2_runs.train_here(small_corpus, tmp_path / "run", **run)
    mel_loss = progress_of(folder / "best_checkpoint")["best_value"]
    more = {"training_epochs": 2, "best_metric": "val_loss", "resume_from_checkpoint": "latest"}
    tacotron2_runs.train_here(small_corpus, folder, **more)
    best, last = progress_of(folder / "best_checkpoint"), metrics(folder, "val")[-1]
    assert best["best_metric"] == "val_loss" and best["best_value"] == last["val_loss"] > mel_loss


def test_a_run_that_ends_early_says_why(small_corpus, tmp_path, capsys):
    folder = train_here(small_corpus, tmp_path / "run", **{**RUN, "patience": 1})
    best = progress_of(folder / "best_checkpoint")["best_value"]
    assert f"1 validations without a lower val_mel_loss than {best}" in capsys.readouterr().out


def test_a_run_resumed_from_its_best_checkpoint_keeps_the_validation(small_corpus, tmp_path):
    run = {"training_epochs": 1, "best_metric": "val_mel_loss"}
    folder = train_here(small_corpus, tmp_path / "run", **run)
    [before] = metrics(folder, "val")
    for wanted in ("best_checkpoint", "latest"):
        again = {**run, "training_epochs": 2, "resume_from_checkpoint": wanted}
        train_here(small_corpus, folder, **again)
        assert metrics(folder, "val")[0] == before and len(metrics(folder, "val")) == 2
