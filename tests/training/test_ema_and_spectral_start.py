"""The average of the generator's weights, and a start without discriminators. Whole runs of a small model."""

import shutil

import pytest
import torch
from runs import error_line, metrics, repeatable, train_here
from safetensors.torch import load_file
from torch import nn

from checkpoint import load_generator
from training.optimization import WeightAverage

EMA = {"ema_decay": 0.9, "training_epochs": 2}


def generator(checkpoint, name="generator"):
    return load_file(checkpoint / f"{name}.safetensors")


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_average_follows_the_weights_with_a_growing_decay():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average = WeightAverage(model, decay=0.3)
    expected = model.weight.detach().clone()
    for step in range(6):
        nn.init.normal_(model.weight)
        average.update(model, step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(average.model.weight, expected)
    assert not average.model.weight.requires_grad and model.weight.requires_grad


@pytest.fixture(scope="module")
def averaged(small_corpus, tmp_path_factory):
    return train_here(small_corpus, tmp_path_factory.mktemp("averaged") / "run", **EMA)


def test_the_average_is_the_model_and_training_is_the_same_without_it(averaged, small_corpus, tmp_path):
    plain = train_here(small_corpus, tmp_path / "plain", training_epochs=2)
    checkpoint = averaged / "final_checkpoint"
    assert same(generator(checkpoint, "generator_raw"), generator(plain / "final_checkpoint"))
    assert not same(generator(checkpoint), generator(checkpoint, "generator_raw"))
    mel = torch.zeros(1, 80, 10)
    with torch.no_grad():
        raw, mean = (load_generator(run / "final_checkpoint")(mel) for run in (plain, averaged))
    assert not torch.equal(raw, mean)
    # only the validation differs, which uses the average
    assert [r["gen_loss"] for r in metrics(averaged, "train")] == [
        r["gen_loss"] for r in metrics(plain, "train")
    ]
    assert metrics(averaged, "val")[-1] != metrics(plain, "val")[-1]


def test_a_run_with_an_average_resumes_exactly(averaged, small_corpus, tmp_path):
    folder = tmp_path / "run"
    train_here(small_corpus, folder, **EMA, max_train_steps=6)
    train_here(small_corpus, folder, **EMA, resume_from_checkpoint="latest")
    for name in ("generator", "generator_raw", "mpd", "msd"):
        ended, expected = (generator(run / "final_checkpoint", name) for run in (folder, averaged))
        assert same(ended, expected), name
    assert repeatable(metrics(folder)) == repeatable(metrics(averaged))


def test_an_average_is_not_lost_by_resuming_without_it(averaged, small_corpus, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(averaged, folder)
    with pytest.raises(SystemExit) as stop:
        train_here(small_corpus, folder, training_epochs=3, resume_from_checkpoint="latest")
    assert stop.value.code == 2
    assert "without --ema_decay" in error_line(capsys.readouterr().err)


def test_a_run_can_start_to_average_when_it_resumes(small_corpus, tmp_path):
    folder = tmp_path / "run"
    train_here(small_corpus, folder, training_epochs=1)
    train_here(small_corpus, folder, **EMA, resume_from_checkpoint="latest")
    assert (folder / "final_checkpoint" / "generator_raw.safetensors").is_file()


def test_discriminators_start_after_the_spectral_steps_and_a_resume_keeps_that(small_corpus, tmp_path):
    settings = {"adversarial_start_steps": 5, "training_epochs": 2}
    whole = train_here(small_corpus, tmp_path / "whole", **settings)
    train_here(small_corpus, tmp_path / "parts", **settings, max_train_steps=4)
    start = tmp_path / "parts" / "final_checkpoint"
    untrained = train_here(small_corpus, tmp_path / "one", **settings, max_train_steps=1)
    for name in ("mpd", "msd"):
        assert same(generator(start, name), generator(untrained / "final_checkpoint", name)), name
    train_here(small_corpus, tmp_path / "parts", **settings, resume_from_checkpoint="latest")

    for name in ("generator", "mpd", "msd"):
        ended = (generator(tmp_path / run / "final_checkpoint", name) for run in ("whole", "parts"))
        assert same(*ended), name
    records = metrics(whole, "train")
    assert ["disc_loss" not in record for record in records] == [True] * 5 + [False] * 3
    assert ["stft_loss" in record for record in records] == [True] * 5 + [False] * 3
    for record in records[:5]:
        assert record["gen_loss"] == pytest.approx(45 * (record["mel_loss"] + 0.1 * record["stft_loss"]))
    assert records[4]["gen_loss"] < records[0]["gen_loss"]


def test_spectral_steps_accumulate_batches(small_corpus, tmp_path):
    settings = {"adversarial_start_steps": 9, "batch_size": 1, "gradient_accumulation_steps": 2}
    folder = train_here(small_corpus, tmp_path / "run", **settings, max_train_steps=2)
    assert len(metrics(folder, "train")) == 2
