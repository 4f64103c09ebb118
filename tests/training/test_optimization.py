"""Steps of both trainers and what surrounds them: counts, means, logs, checkpoints, shares of processes.

Everything is called directly; other tests do the same with whole runs.
"""

import copy
import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers import voice
from runs import as_own_process, command_line, train_here
from tacotron2_runs import flags
from torch import nn

from common.errors import UserError
from losses import multi_resolution_stft_loss
from mel import MelSpectrogram
from tacotron2.train import Tacotron2Trainer
from tacotron2.train import parse_arguments as parse_tacotron2
from train import VocoderTrainer, parse_arguments
from training.checkpoints import Checkpoints, Progress, write_progress
from training.loaders import (
    clips_per_step,
    continue_epoch,
    validation_loader,
    warn_of_other_batch_size,
)
from training.metrics_log import MetricsLog
from training.optimization import SkippedSteps, frozen, skip_unless_finite
from training.processes import cores_per_process, make_accelerator
from training.run import MAX_NON_FINITE_IN_A_ROW, TrainingRun
from training.run_log import RunLog
from training.samplers import EpochSampler
from training.values import StepMeans, WeightedMeans

NAN, INF = torch.tensor(torch.nan), torch.tensor(torch.inf)


def process(index: int, count: int = 2) -> SimpleNamespace:
    """Return what the code asks an Accelerator about one of several processes."""
    return SimpleNamespace(
        process_index=index, num_processes=count, is_main_process=index == 0, trackers=[], print=print
    )


def test_skipped_steps_in_a_row_are_counted_from_the_last_step_that_was_not_skipped():
    steps, one = SkippedSteps(torch.device("cpu"), total=3, in_a_row=2), torch.tensor(1.0)
    seen = []
    for norms in ([one, NAN], [INF, one], [one, one], [-INF, NAN], [one]):
        steps.add(norms)
        seen.append(steps.read())
    assert seen == [(4, 3), (5, 4), (5, 0), (6, 1), (6, 0)]


@pytest.mark.parametrize("norm", [NAN, INF])
def test_a_step_with_a_norm_that_is_not_finite_is_skipped(norm):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    before = model.weight.detach().clone()
    for value in (norm, torch.tensor(1.0)):
        assert torch.equal(model.weight, before)
        model(torch.ones(1, 2)).sum().backward()
        skip_unless_finite(SimpleNamespace(scaler=None, optimizer=optimizer), value)
        optimizer.step()
    assert not torch.equal(model.weight, before)


def test_weights_are_frozen_within_the_block_only():
    model = nn.Linear(2, 2)
    with frozen(model):
        assert not model.weight.requires_grad
    assert model.weight.requires_grad


def test_the_optimizers_have_the_official_settings(small_corpus, tmp_path):
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run"))
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
    for optimizer in (trainer.gen_optimizer, trainer.disc_optimizer):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"]) == (0.0002, (0.8, 0.99))
        assert (group["weight_decay"], group["eps"], group["amsgrad"]) == (0.01, 1e-8, False)


def test_the_values_of_a_step_are_the_means_of_its_batches():
    values = StepMeans(2)
    values.add(loss=torch.tensor(1.0, requires_grad=True))
    values.add(loss=torch.tensor(4.0))
    values.add_once(norm=torch.tensor(7.0))
    assert values.means == {"loss": 2.5, "norm": 7.0} and not values.means["loss"].requires_grad


def test_means_over_clips_are_weighted_and_leave_out_what_is_missing():
    means = WeightedMeans("loss", "rest", "none")
    means.add(3, loss=torch.tensor(1.0), rest=None)
    means.add(1, loss=5.0, rest=2.0)
    accelerator = SimpleNamespace(device="cpu", reduce=lambda tensor, reduction: tensor)
    result = means.of_all_processes(accelerator)
    assert (result["loss"], result["rest"]) == (2.0, 2.0) and np.isnan(result["none"])


def test_frames_per_second_are_those_of_all_processes_since_the_last_log(tmp_path, monkeypatch):
    clock = iter((10.0, 12.0, 12.0, 16.0, 16.0))
    monkeypatch.setattr("training.run_log.time.perf_counter", lambda: next(clock))
    accelerator = process(0)
    accelerator.reduce = lambda tensor, reduction: tensor
    options = SimpleNamespace(folder=tmp_path, console_out_iters=1, wandb_log_iters=1, log_wandb=True)
    log = RunLog(accelerator, options, None)
    for step, frames in enumerate((100, torch.tensor(300)), 1):
        log.add_frames(frames)
        log.log_step({"loss": torch.tensor(1.0)}, 0.1, Progress(step=step))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["frames_per_second"] for record in records] == [2 * 100 / 2, 2 * 300 / 4]
    assert [record["step"] for record in records] == [0, 1]


def test_each_log_has_the_steps_of_its_own_interval(tmp_path):
    tracked, accelerator = [], process(0)
    accelerator.reduce = lambda tensor, reduction: tensor
    accelerator.trackers = [SimpleNamespace(log=lambda values, step: tracked.append(step))]
    options = SimpleNamespace(folder=tmp_path, console_out_iters=2, wandb_log_iters=3, log_wandb=True)
    log = RunLog(accelerator, options, None)
    for step in range(7):
        if log.is_due(step):
            log.log_step({"loss": torch.tensor(1.0)}, 0.1, Progress(step=step + 1))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 2, 4, 6] and tracked == [0, 3, 6]


def test_without_a_tracker_no_step_waits_for_its_interval(tmp_path):
    options = SimpleNamespace(folder=tmp_path, console_out_iters=4, wandb_log_iters=3)
    options.log_wandb = options.log_tensorboard = False
    log = RunLog(process(0), options, None)
    assert [step for step in range(9) if log.is_due(step)] == [0, 4, 8]


def test_values_that_are_not_finite_are_null_in_the_log(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 0, "nan": torch.nan, "up": torch.inf, "down": -torch.inf})
    assert json.loads(log.path.read_text()) == {"step": 0, "nan": None, "up": None, "down": None}


def test_the_log_of_a_resumed_run_loses_the_steps_that_are_repeated(tmp_path):
    kept = []
    for keep_last_validation in (True, False):
        log = MetricsLog(tmp_path / "metrics.jsonl")
        for step, split in ((0, "train"), (0, "val"), (1, "train"), (1, "val"), (2, "train")):
            log.append({"step": step, "split": split})
        log.drop_later(2, keep_last_validation)
        records = [json.loads(line) for line in log.path.read_text().splitlines()]
        kept.append([(record["step"], record["split"]) for record in records])
        log.path.unlink()
    assert kept[0] == [(0, "train"), (0, "val"), (1, "train"), (1, "val")]
    assert kept[1] == kept[0][:-1]


def checkpoints(folder: Path, **progress: Progress) -> Checkpoints:
    """Write checkpoints that have only their progress; return what handles those of the folder."""
    for name, values in progress.items():
        (folder / name).mkdir(parents=True)
        write_progress(folder / name, values, SimpleNamespace())
    handler = Checkpoints.__new__(Checkpoints)
    handler.folder, handler.accelerator = folder, SimpleNamespace(print=lambda message: None)
    return handler


def test_checkpoints_with_more_steps_than_the_resumed_one_are_set_aside(tmp_path):
    steps = {"checkpoint_1": 4, "checkpoint_2": 8, "last_checkpoint": 9}
    handler = checkpoints(tmp_path, **{name: Progress(step=step) for name, step in steps.items()})
    handler.set_aside_later(8)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint_1", "checkpoint_2", "set_aside"}
    assert (tmp_path / "set_aside" / "last_checkpoint_step_9").is_dir()


def test_a_checkpoint_that_is_set_aside_replaces_none_that_was_before(tmp_path):
    for _ in range(3):
        checkpoints(tmp_path, checkpoint_2=Progress(step=8)).set_aside_later(4)
    name = "checkpoint_2_step_8"
    assert {path.name for path in (tmp_path / "set_aside").iterdir()} == {
        name, f"{name}_again", f"{name}_again_again"
    }  # fmt: skip


@pytest.mark.parametrize(("skipped", "removed"), [(0, True), (1, False)])
def test_no_checkpoint_is_removed_while_steps_are_skipped(tmp_path, skipped, removed):
    handler = checkpoints(tmp_path, checkpoint_1=Progress(step=4))
    handler.accelerator.save_state, handler._step_of_last = lambda folder: Path(folder).mkdir(), None
    progress = Progress(step=8, non_finite_in_a_row=skipped)
    handler._write("checkpoint_2", progress, SimpleNamespace(keep_checkpoints=1))
    assert (tmp_path / "checkpoint_2").is_dir() and (tmp_path / "checkpoint_1").exists() != removed


def test_the_newest_checkpoints_are_kept(tmp_path):
    names = [f"checkpoint_{epoch}" for epoch in (2, 9, 10, 11)]
    checkpoints(
        tmp_path, **dict.fromkeys(names, Progress()), final_checkpoint=Progress()
    )._remove_all_but_newest(2)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint_10",
        "checkpoint_11",
        "final_checkpoint",
    }


def test_a_folder_with_a_run_is_opened_only_to_resume(tmp_path):
    handler = checkpoints(tmp_path, checkpoint_1=Progress(step=4))
    with pytest.raises(UserError, match="already contains a run"):
        handler._open(resume=False)
    handler._open(resume=True)
    handler.lock.release()


def test_a_run_ends_after_too_many_skipped_steps_and_names_the_checkpoint_before_them(tmp_path):
    later = Progress(step=60, non_finite_in_a_row=9)
    checkpoints(tmp_path, checkpoint_1=Progress(step=40), checkpoint_2=later)
    run = SimpleNamespace(folder=tmp_path, progress=Progress(non_finite_in_a_row=MAX_NON_FINITE_IN_A_ROW))
    TrainingRun._check_skipped_steps(run)
    run.progress.non_finite_in_a_row += 1
    with pytest.raises(UserError, match=rf"51 steps in a row .* is {tmp_path}/checkpoint_1\."):
        TrainingRun._check_skipped_steps(run)


def test_the_lowest_value_of_the_metric_is_the_best():
    saved = []
    run = SimpleNamespace(
        progress=Progress(), options=SimpleNamespace(best_metric="loss"), save=saved.append,
        log=SimpleNamespace(
            write=lambda *args: None, show_epoch=lambda *args: None, restart_clock=lambda: None
        ),
        total_steps=9,
    )  # fmt: skip
    since = []
    for value in (3.0, 2.0, 2.0, np.nan, 1.0):
        TrainingRun.finish_validation(run, {"loss": value})
        since.append(run.progress.validations_since_best)
    assert since == [0, 0, 1, 2, 0] and run.progress.best_value == 1.0
    assert saved == ["best_checkpoint"] * 3


def test_checkpoints_are_saved_every_so_many_steps():
    saved = []
    run = SimpleNamespace(
        progress=Progress(), options=SimpleNamespace(checkpoint_steps=3), clips_per_step=2,
        _skipped=SimpleNamespace(add=lambda norms: None), validation_is_due=False,
        log=SimpleNamespace(
            add_frames=lambda frames: None, is_due=lambda step: False, show_step=lambda: None
        ),
        save=lambda name: saved.append((name, run.progress.step, run.progress.clips_in_epoch)),
    )  # fmt: skip
    for _ in range(7):
        TrainingRun.finish_step(run, {}, 8, 0.1)
    assert saved == [("last_checkpoint", 3, 6), ("last_checkpoint", 6, 12)]


def test_checkpoints_are_saved_every_so_many_epochs():
    saved = []
    run = SimpleNamespace(
        progress=Progress(is_validated=False), options=SimpleNamespace(checkpoint_epochs=2),
        save=saved.append, _epoch_is_complete=True,
    )  # fmt: skip
    for _ in range(5):
        run.progress.clips_in_epoch = 8
        TrainingRun.finish_epoch(run)
        assert run.progress.clips_in_epoch == 0
    assert saved == ["checkpoint_2", "checkpoint_4"]


def test_last_checkpoint_tells_that_its_epoch_is_validated():
    """Otherwise a run that is killed after an epoch would be validated again when it resumes."""
    for is_validated, expected in ((True, ["last_checkpoint", "checkpoint_2"]), (False, ["checkpoint_2"])):
        saved = []
        run = SimpleNamespace(
            progress=Progress(is_validated=is_validated), options=SimpleNamespace(checkpoint_epochs=2),
            save=saved.append, _epoch_is_complete=True,
        )  # fmt: skip
        for _ in range(2):
            TrainingRun.finish_epoch(run)
        assert saved == expected


def test_a_run_ends_after_patience_validations_without_progress():
    run = TrainingRun.__new__(TrainingRun)
    run.options = SimpleNamespace(max_train_steps=None, patience=2, training_epochs=9)
    for progress, ends in (
        (Progress(validations_since_best=1), False),
        (Progress(validations_since_best=2), True),
        (Progress(epoch=9), True),
        (Progress(epoch=8), False),
    ):
        run.progress = progress
        assert run.is_finished == ends


def test_the_last_validation_stays_in_the_log_if_an_uninterrupted_run_has_it():
    def keeps(
        validated: bool, regular: bool, finished: bool, interval: int | None, clips: int, whole: bool = False
    ) -> bool:
        return TrainingRun._keeps_last_validation.fget(SimpleNamespace(
            progress=Progress(is_validated=validated, clips_in_epoch=clips), is_finished=finished,
            options=SimpleNamespace(validation_steps=interval), _validates_within_epochs=regular,
            _epoch_is_complete=whole,
        ))  # fmt: skip

    assert keeps(True, False, False, None, 0)  # after an epoch
    assert keeps(
        True, False, False, None, 8, whole=True
    )  # in best_checkpoint, saved before the epoch is counted
    assert not keeps(True, False, False, None, 4)  # at --max_train_steps, which was raised since
    assert keeps(True, False, True, None, 4)  # at --max_train_steps
    assert keeps(True, True, False, 5, 4)  # after --validation_steps
    assert not keeps(True, False, False, 5, 0)  # which replace those after epochs
    assert not keeps(False, True, True, 5, 0)


def test_epochs_done_include_the_completed_part_of_the_current_one():
    run = SimpleNamespace(
        progress=Progress(epoch=3, clips_in_epoch=6), steps_per_epoch=4, clips_per_step=2
    )  # fmt: skip
    assert TrainingRun.epochs_done.fget(run) == 3.75


@pytest.mark.parametrize(
    ("official", "words"),
    [
        (None, None),
        (4, None),
        (8, "use --batch_size 4"),
        (2, "use --batch_size 1"),
        (1, "clips per update\n"),
    ],
)
def test_another_official_batch_size_is_reported_with_ours_for_the_same_updates(capsys, official, words):
    accelerator, options = process(0, count=2), SimpleNamespace(batch_size=2, gradient_accumulation_steps=1)
    accelerator.print, options.config = print, "v1.json"
    warn_of_other_batch_size(accelerator, options, official)
    said = capsys.readouterr().err
    assert words in said if words else said == ""


def test_processes_validate_different_clips_and_all_of_them():
    dataset, options = list(range(5)), SimpleNamespace(num_workers=0)
    shares = [
        torch.cat(list(validation_loader(process(index), options, dataset))).tolist() for index in (0, 1)
    ]
    assert shares == [[0, 2, 4], [1, 3]]


def test_an_update_has_the_clips_of_all_batches_of_all_processes():
    options = SimpleNamespace(batch_size=3, gradient_accumulation_steps=5)
    assert clips_per_step(process(0, count=2), options) == 30


def test_the_processes_of_a_machine_divide_its_cores(monkeypatch):
    monkeypatch.setattr("training.processes.available_cores", lambda: 8)
    for processes, cores in ((1, 8), (3, 2), (16, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert cores_per_process() == cores


def test_a_loader_continues_an_epoch_after_the_clips_that_were_used():
    sampler = EpochSampler(8, 2, seed=0)
    whole = list(sampler)
    loader = SimpleNamespace(
        set_epoch=sampler.set_epoch, batch_sampler=SimpleNamespace(sampler=sampler, batch_sampler=None)
    )
    del loader.batch_sampler.batch_sampler
    continue_epoch(loader, epoch=0, clips=4)
    assert list(sampler) == whole[4:]
    continue_epoch(loader, epoch=1, clips=0)
    assert len(list(sampler)) == 8 and {epoch for epoch, _ in sampler} == {1}


def test_dropout_differs_between_processes_and_steps_and_repeats_with_the_seed():
    drawn = []
    for seed, step, index in [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (1, 0, 0)]:
        trainer = SimpleNamespace(options=SimpleNamespace(seed=seed), accelerator=process(index))
        Tacotron2Trainer.seed_dropout(trainer, step)
        drawn.append(torch.rand(8).tolist())
    assert drawn.pop() == drawn[0]
    assert len({tuple(values) for values in drawn}) == 4


def test_two_steps_are_those_of_a_plain_implementation_of_the_papers_equations(small_corpus, tmp_path):
    """Losses, gradients, weights, and their average. Without spectral norm, which counts forward passes.

    The weights of the losses are such that each contributes to the gradient, whose norm is above 1.
    """
    settings = {"discriminators": ["mpd"], "ema_decay": 0.5, "segment_size": 2048, "learning_rate": 0.01}
    settings |= {"lambda_mel": 0.1, "lambda_feature_mapping": 10}
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run", **settings))
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
        generator, judge = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminators.mpd)
        average = copy.deepcopy(generator)
        decay = {"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.01}
        gen_optimizer = torch.optim.AdamW(generator.parameters(), **decay)
        disc_optimizer = torch.optim.AdamW(judge.parameters(), **decay)
        to_mel, for_loss = MelSpectrogram(config), MelSpectrogram(replace(config, fmax=None))
        real = torch.from_numpy(np.stack([voice(0.1, seed=seed)[:2048] for seed in (1, 2)]))

        for step, share in enumerate((1 / 10, 2 / 11)):
            values = trainer.step([{"audio": real}], step)

            generated = generator(to_mel(real))
            real_scores, generated_scores = judge(real[:, None])[0], judge(generated.detach())[0]
            pairs = zip(real_scores, generated_scores, strict=True)
            disc_loss = sum(((1 - r) ** 2).mean() + (g**2).mean() for r, g in pairs)
            disc_optimizer.zero_grad()
            disc_loss.backward()
            disc_norm = torch.nn.utils.get_total_norm([p.grad for p in judge.parameters()])
            disc_optimizer.step()

            (_, real_maps), (scores, maps) = judge(real[:, None]), judge(generated)
            flat = zip(chain(*real_maps), chain(*maps), strict=True)
            matching = sum((r.detach() - g).abs().mean() for r, g in flat)
            mel_loss = (for_loss(real[:, None]) - for_loss(generated)).abs().mean()
            adversarial = sum(((1 - score) ** 2).mean() for score in scores)
            gen_optimizer.zero_grad()
            (adversarial + 10 * matching + 0.1 * mel_loss).backward()
            gen_norm = torch.nn.utils.get_total_norm([p.grad for p in generator.parameters()])
            gen_optimizer.step()
            with torch.no_grad():
                for mean, weight in zip(average.parameters(), generator.parameters(), strict=True):
                    mean.mul_(share).add_(weight, alpha=1 - share)

            expected = {"disc_loss": disc_loss, "adversarial_loss": adversarial, "mel_loss": mel_loss}
            expected |= {"disc_grad_norm": disc_norm, "gen_grad_norm": gen_norm}
            expected |= {"feature_matching_loss": matching, "mel_loss_ln": mel_loss * 12.5 * np.log(10) / 20}
            for name, value in expected.items():
                torch.testing.assert_close(
                    values[name], value.detach().float(), rtol=1e-3, atol=1e-5, msg=name
                )
        for ours, theirs in (
            (trainer.gen_optimizer, gen_optimizer),
            (trainer.disc_optimizer, disc_optimizer),
        ):
            pairs = zip(
                ours.state_dict()["state"].values(), theirs.state_dict()["state"].values(), strict=True
            )
            means = [(one["exp_avg"].norm(), other["exp_avg"].norm()) for one, other in pairs]
            torch.testing.assert_close(*torch.tensor(means).T, rtol=1e-2, atol=1e-4)  # gradients as they are
    for ours, theirs in ((trainer.generator, generator), (trainer.average.model, average)):
        for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4, msg=name)


def test_a_step_before_the_discriminators_is_on_mel_and_stft_losses_only(small_corpus, tmp_path):
    settings = {
        "discriminators": ["mpd"],
        "adversarial_start_steps": 1,
        "segment_size": 2048,
        "lambda_mel": 3,
    }
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run", **settings))
    real = torch.from_numpy(np.stack([voice(0.1, seed=seed)[:2048] for seed in (1, 2)]))
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
        judge = copy.deepcopy(trainer.discriminators.state_dict())
        generated = copy.deepcopy(trainer.generator)(MelSpectrogram(config)(real))
        values = trainer.step([{"audio": real}], 0)
        assert all(torch.equal(judge[name], now) for name, now in trainer.discriminators.state_dict().items())
        assert "disc_loss" in trainer.step([{"audio": real}], 1)
    for_loss = MelSpectrogram(replace(config, fmax=None))
    mel = (for_loss(real[:, None]) - for_loss(generated)).abs().mean()
    stft = multi_resolution_stft_loss(real[:, None], generated)
    expected = {"mel_loss": mel, "stft_loss": stft, "gen_loss": 3 * (mel + 0.1 * stft)}
    expected["mel_loss_ln"] = mel * 12.5 * np.log(10) / 20
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value.detach().float(), rtol=1e-4, atol=1e-5, msg=name)


def test_accumulated_batches_are_like_one_and_exchange_gradients_with_the_last(
    small_corpus, tmp_path, monkeypatch
):
    exchanged, backward = [], Accelerator.backward

    def recorded(accelerator, loss):
        exchanged.append(accelerator.sync_gradients)
        backward(accelerator, loss)

    monkeypatch.setattr(Accelerator, "backward", recorded)
    real, found = torch.from_numpy(np.stack([voice(0.1, seed=seed)[:2048] for seed in range(4)])), []
    for count in (1, 2):
        settings = {"discriminators": ["mpd"], "gradient_accumulation_steps": count}
        options, config = parse_arguments(command_line(small_corpus, tmp_path / "run", **settings))
        with as_own_process():
            trainer = VocoderTrainer(make_accelerator(options), options, config)
            found.append(trainer.step([{"audio": part} for part in real.chunk(count)]))
    # one batch for discriminators and generator, then two for each
    assert exchanged == [True, True, False, True, False, True]
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_step_that_is_not_finite_changes_neither_the_generator_nor_the_discriminators(
    small_corpus, tmp_path
):
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run", discriminators=["mpd"]))
    real = torch.from_numpy(np.stack([voice(0.1, seed=seed)[:2048] for seed in (1, 2)]))
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
        for audio, is_finite in ((real, True), (real * torch.nan, False), (real, True)):
            before = [copy.deepcopy(model.state_dict()) for model in trainer.models.values()]
            values = trainer.step([{"audio": audio}])
            assert values["disc_grad_norm"].isfinite() == values["gen_grad_norm"].isfinite() == is_finite
            for model, weights in zip(trainer.models.values(), before, strict=True):
                unchanged = [torch.equal(weights[name], now) for name, now in model.state_dict().items()]
                assert all(unchanged) if not is_finite else not any(unchanged)


def test_a_step_of_tacotron_2_is_clipped_and_leaves_no_trace_if_it_is_not_finite(
    small_corpus, tmp_path, monkeypatch
):
    """Not in the weights, and not in the statistics of batch norm, where NaN would stay."""
    clipped, adam = [], torch.optim.Adam.step

    def measured(optimizer, *args, **kwargs):
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        clipped.append(torch.nn.utils.get_total_norm(gradients).item())
        return adam(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", measured)
    settings = {"guided_attention_weight": 5.0, "guided_attention_steps": 1}
    options, config = parse_tacotron2(flags(small_corpus, tmp_path / "run", **settings))
    torch.manual_seed(0)
    batch = {"tokens": torch.randint(3, 29, (2, 9)), "token_lengths": torch.tensor([9, 4])}
    batch |= {"mel": torch.randn(2, 80, 14), "mel_lengths": torch.tensor([14, 7]), "speakers": torch.zeros(2)}
    with as_own_process():
        trainer = Tacotron2Trainer(make_accelerator(options, broadcast_buffers=True), options, config)
        for step, mel in enumerate((10 * batch["mel"], batch["mel"] * torch.nan, batch["mel"])):
            before = copy.deepcopy(trainer.model.state_dict())
            values = trainer.step([batch | {"mel": mel}], step)
            assert ("attention_loss" in values) == (step < 1)
            norm = values["grad_norm"]
            now = trainer.model.state_dict()
            changed = {name for name in before if not torch.equal(before[name], now[name])}
            if norm.isfinite():
                assert norm > 1.5 and clipped[-1] == pytest.approx(1, rel=1e-3)
                assert any("running_mean" in name for name in changed) and "embedding.weight" in changed
            else:
                assert changed == set()


def test_the_learning_rate_of_tacotron_2_is_constant_and_then_decays_exponentially():
    options = SimpleNamespace(
        learning_rate=0.01, min_learning_rate=1e-5, start_decay_epochs=2, training_epochs=4,
        adam_eps=1e-7, weight_decay=0.1,
    )  # fmt: skip
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    trainer = SimpleNamespace(options=options, optimizer=optimizer)
    rates = [Tacotron2Trainer.set_learning_rate(trainer, epochs) for epochs in (0, 2, 3, 4, 5)]
    assert rates == pytest.approx([0.01, 0.01, (0.01 * 1e-5) ** 0.5, 1e-5, 1e-5])
    (group,) = optimizer.param_groups
    assert (group["lr"], group["eps"], group["weight_decay"]) == (rates[-1], 1e-7, 0.1)


@pytest.mark.parametrize("start", [None, 4, 5])
def test_the_learning_rate_of_tacotron_2_is_constant_without_epochs_to_decay_in(start):
    options = SimpleNamespace(
        learning_rate=0.01, min_learning_rate=1e-5, start_decay_epochs=start, training_epochs=4,
        adam_eps=1e-6, weight_decay=0.0,
    )  # fmt: skip
    trainer = SimpleNamespace(options=options, optimizer=SimpleNamespace(param_groups=[{}]))
    assert {Tacotron2Trainer.set_learning_rate(trainer, epochs) for epochs in (0, 4, 5)} == {0.01}


def test_tacotron_2_speaks_at_most_twice_as_long_as_the_recording():
    limits, batch = [], {name: torch.zeros(3, 1) for name in ("tokens", "token_lengths", "mel_lengths")}
    batch |= {"mel": torch.zeros(3, 80, 50), "speakers": torch.zeros(3)}
    trainer = SimpleNamespace(options=SimpleNamespace(seed=1), model=SimpleNamespace())
    trainer.model.infer = lambda tokens, lengths, limit, seed, speakers: limits.append((len(tokens), limit))
    Tacotron2Trainer.speak(trainer, batch, slice(1, 2))
    assert limits == [(1, 100)]


def test_a_validation_of_tacotron_2_counts_clips_alike_and_speaks_a_few_of_them(monkeypatch):
    losses = iter((1.0, 4.0, 9.0))
    monkeypatch.setattr("tacotron2.train.validation_loader", lambda *args: None)
    monkeypatch.setattr(
        "tacotron2.train.tacotron2_losses",
        lambda *args: dict.fromkeys(("loss", "mel_loss", "gate_loss"), next(losses)),
    )
    inputs = dict.fromkeys(("tokens", "token_lengths", "mel", "mel_lengths", "speakers"))
    batches = [inputs | {"name": ["clip"] * clips} for clips in (3, 2, 1)]
    spoken, accelerator = [], process(1)
    accelerator.device, accelerator.reduce = "cpu", lambda tensor, reduction: tensor
    model = nn.Identity()
    model.forward = lambda *inputs: None
    trainer = SimpleNamespace(
        accelerator=accelerator, model=model, config=None, options=SimpleNamespace(seed=1, batch_size=3),
        measure_attention=lambda *args: {},
        free_mel_difference=lambda output, batch, row: spoken.append((len(batch["name"]), row)) or 2.0,
    )  # fmt: skip
    run = SimpleNamespace(validation_batches=lambda loader: batches)
    values = Tacotron2Trainer.validate(trainer, SimpleNamespace(frames=None, collate=None), run)
    assert values["val_loss"] == values["val_mel_loss"] == pytest.approx((3 * 1 + 2 * 4 + 9) / 6)
    assert spoken == [(3, 0), (3, 1), (3, 2), (2, 0)] and values["free_mel_difference"] == 2.0


def test_four_validated_clips_are_sent_to_the_trackers(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("common.plots.plot_mels", lambda mels, config: None)
    monkeypatch.setattr("common.plots.render", lambda figure: "picture")
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run"))
    sent, audio = {}, torch.from_numpy(voice(0.05)[None, :1024])
    run = SimpleNamespace(
        validation_batches=lambda loader: ({"audio": audio, "name": [f"clip{n}"]} for n in range(6)),
        log_clips=sent.update,
    )  # fmt: skip
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
        trainer.accelerator.trackers = ["tracker"]
        trainer.validate([audio], run)
    assert list(sent) == ["clip0", "clip1", "clip2", "clip3"] and sent["clip0"][1] == "picture"


def test_the_frames_of_a_step_are_those_of_all_its_batches(small_corpus, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(RunLog, "add_frames", lambda log, frames: counted.append(frames))
    settings = {"batch_size": 2, "gradient_accumulation_steps": 3, "segment_size": 2048}
    train_here(small_corpus, tmp_path / "run", **settings, max_train_steps=1, discriminators=["mpd"])
    assert counted == [3 * 2 * 2048 / 256]


def test_the_learning_rate_of_an_epoch_is_decayed_once_per_epoch_before_it(small_corpus, tmp_path):
    options, config = parse_arguments(command_line(small_corpus, tmp_path / "run", lr_decay=0.5))
    with as_own_process():
        trainer = VocoderTrainer(make_accelerator(options), options, config)
    assert [trainer.set_learning_rate(epoch) for epoch in (0, 1, 3)] == [2e-4, 1e-4, 0.25e-4]
