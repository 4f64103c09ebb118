"""Clips with their transcripts, as items and in batches."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import RATE, voice
from runs import manifest_row, write_manifest

from common.errors import UserError
from corpus.audio import write_wav
from corpus.manifest import read_manifest
from mel import MelSpectrogram
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset
from text import END_ID, PAD_ID, decode
from training.samplers import EpochSampler

TEXTS = ["One.", "Twenty-two clips, no more?", 'He said: "No!"']
LENGTHS = [385, 5119, 5120]  # the shortest clip with a mel; one sample less than 20 hops; 20 hops


def make_manifest(folder: Path, lengths: list[int] = LENGTHS, texts: list[str] = TEXTS) -> Path:
    rows = []
    for number, (samples, text) in enumerate(zip(lengths, texts, strict=True)):
        wav = folder / f"clip{number}.wav"
        write_wav(wav, voice(samples / RATE, seed=number), RATE)
        rows.append(manifest_row(wav) | {"normalized_transcript": text})
    return write_manifest(folder / "train.csv", rows)


def rows_of(manifest: Path) -> list[dict]:
    with open(manifest, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    return make_manifest(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def dataset(manifest) -> TextMelDataset:
    return TextMelDataset(read_manifest(manifest, RATE), Tacotron2Config())


def test_the_frames_of_a_clip_are_its_whole_hops(dataset):
    assert [dataset[index]["mel"].shape for index in range(3)] == [(80, 1), (80, 19), (80, 20)]
    assert dataset.frames.tolist() == [1, 19, 20]


def test_the_frames_of_real_clips_are_their_whole_hops(shared):
    manifest = shared / "data" / "ljspeech-mini" / "metadata.csv"
    clips = read_manifest(manifest, RATE, manifest.parent / "wavs")
    dataset = TextMelDataset(clips, Tacotron2Config())
    for index, clip in enumerate(clips):
        frames = soundfile.info(clip.path).frames // 256
        assert dataset[index]["mel"].shape == (80, frames) and dataset.frames[index] == frames


def test_the_mel_is_computed_from_unscaled_audio(dataset):
    """The vocoder's pretraining, in contrast, scales clips to a peak of 0.95."""
    audio = torch.from_numpy(soundfile.read(dataset.clips[1].path, dtype="float32")[0])
    assert torch.equal(dataset[1]["mel"], MelSpectrogram(Tacotron2Config())(audio))
    assert dataset[1]["name"] == "clip1"


def test_the_tokens_are_those_of_the_text_and_the_end_symbol(dataset, manifest):
    assert [decode(dataset[index]["tokens"]) for index in range(2)] == ["one.", "twenty-two clips, no more?"]
    assert all(item["tokens"][-1] == END_ID for item in map(dataset.__getitem__, range(3)))
    without = TextMelDataset(dataset.clips, Tacotron2Config(end_symbol=False))
    assert all(torch.equal(without[index]["tokens"], dataset[index]["tokens"][:-1]) for index in range(3))


def test_an_item_does_not_depend_on_epoch_or_repetition(dataset):
    """Samplers use indices beyond the corpus to fill a step."""
    for key in ((0, 1), (5, 1), (0, 4)):
        assert torch.equal(dataset[key]["mel"], dataset[1]["mel"])


@pytest.mark.parametrize("text", ["", "  ", "... !"])
def test_a_clip_without_words_is_named(tmp_path, text):
    clips = read_manifest(make_manifest(tmp_path, texts=["One.", text, "Two."]), RATE)
    with pytest.raises(UserError, match=r"1 clips of .* have no words in their normalized_transcript.*clip1"):
        TextMelDataset(clips, Tacotron2Config())


def test_a_clip_too_short_for_a_mel_is_named(tmp_path):
    clips = read_manifest(make_manifest(tmp_path, lengths=[5000, 5000, 384]), RATE)
    with pytest.raises(UserError, match=r"fewer than 385 samples.* clip2"):
        TextMelDataset(clips, Tacotron2Config())


def test_the_speaker_of_a_clip_is_its_index_in_the_configuration(manifest, dataset):
    rows = [
        row | {"speaker": name} for row, name in zip(rows_of(manifest), ["bob", "ann", "bob"], strict=True)
    ]
    clips = read_manifest(write_manifest(manifest.with_name("speakers.csv"), rows), RATE)
    both = TextMelDataset(clips, Tacotron2Config(speakers=("ann", "bob")))
    assert [both[index]["speaker"] for index in range(3)] == [1, 0, 1]
    assert both.collate([both[1], both[2]])["speakers"].tolist() == [0, 1]
    assert dataset.collate([dataset[1], dataset[2]])["speakers"].tolist() == [0, 0]
    wanted = r"2 clips of .* have a speaker that the model lacks, .* clip0; .* ann, eve"
    with pytest.raises(UserError, match=wanted):
        TextMelDataset(clips, Tacotron2Config(speakers=("ann", "eve")))


@pytest.mark.parametrize("settings", [{}, {"mel_scale": "ln"}, {"max_scaled_abs": 1.0}])
def test_a_batch_is_padded_to_its_longest_with_silence_and_the_pad_symbol(dataset, settings):
    dataset = TextMelDataset(dataset.clips, Tacotron2Config(**settings))
    items = [dataset[index] for index in (1, 0, 2)]
    batch = dataset.collate(items)
    longest = max(len(item["tokens"]) for item in items)
    assert batch["tokens"].shape == (3, longest) and batch["tokens"].dtype == torch.long
    assert batch["mel"].shape == (3, 80, 20) and batch["mel"].dtype == torch.float32
    assert batch["token_lengths"].tolist() == [len(item["tokens"]) for item in items]
    assert batch["mel_lengths"].tolist() == [19, 1, 20]
    assert batch["name"] == ["clip1", "clip0", "clip2"]
    for row, item in enumerate(items):
        tokens, frames = len(item["tokens"]), item["mel"].shape[1]
        assert torch.equal(batch["tokens"][row, :tokens], item["tokens"])
        assert torch.equal(batch["mel"][row, :, :frames], item["mel"])
        assert (batch["tokens"][row, tokens:] == PAD_ID).all()
        assert (batch["mel"][row, :, frames:] == dataset.config.silence).all()


def draw_lengths(clips: int = 1000) -> list[int]:
    """Return lengths of one to ten seconds, distributed as in a corpus of sentences."""
    return np.random.default_rng(0).integers(86, 861, clips).tolist()


def batches_of(sampler: EpochSampler, size: int, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert {key[0] for key in keys} == {epoch} and len(keys) == len(sampler)
    indices = [index for _, index in keys]
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def padding_share(batches: list[list[int]], lengths: list[int]) -> float:
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
    return 1 - sum(lengths[index] for batch in batches for index in batch) / padded


def test_an_epoch_contains_each_clip_once_except_for_an_incomplete_batch():
    lengths, left_over = draw_lengths(1003), set()
    sampler = EpochSampler(1003, 16, seed=1, lengths=lengths)
    for epoch in range(3):
        batches = batches_of(sampler, 16, epoch)
        used = [index for batch in batches for index in batch]
        assert len(batches) == 62 and len(set(used)) == len(used) == 62 * 16
        left_over |= set(range(1003)) - set(used)
    assert len(left_over) > 11  # different in each epoch


def test_batches_of_similar_lengths_have_little_padding():
    lengths = draw_lengths()
    at_random = batches_of(EpochSampler(1000, 16, seed=1), 16)
    alike = batches_of(EpochSampler(1000, 16, seed=1, lengths=lengths), 16)
    assert padding_share(at_random, lengths) > 0.35
    assert padding_share(alike, lengths) < 0.05


def test_batches_differ_between_epochs_and_are_not_ordered_by_length():
    lengths = draw_lengths()
    sampler = EpochSampler(1000, 16, seed=1, lengths=lengths)
    first, second = (batches_of(sampler, 16, epoch) for epoch in (0, 1))
    assert not {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    longest = [max(lengths[index] for index in batch) for batch in first]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.4
    # within a pool, sorted batches would become longer and longer
    assert 0.3 < np.mean(np.diff(longest) > 0) < 0.7


def test_the_order_depends_only_on_seed_and_epoch():
    lengths = draw_lengths()
    sampler = EpochSampler(1000, 16, seed=1, lengths=lengths)
    wanted = batches_of(sampler, 16, epoch=3)
    batches_of(sampler, 16, epoch=0)
    assert batches_of(sampler, 16, epoch=3) == wanted
    assert batches_of(EpochSampler(1000, 16, seed=1, lengths=lengths), 16, epoch=3) == wanted
    assert batches_of(EpochSampler(1000, 16, seed=2, lengths=lengths), 16, epoch=3) != wanted


def test_no_process_always_gets_the_shortest_clips_of_a_batch():
    lengths = draw_lengths()
    batches = batches_of(EpochSampler(1000, 16, seed=1, lengths=lengths, processes=2), 16)
    alone = batches_of(EpochSampler(1000, 16, seed=1, lengths=lengths), 16)
    assert [sorted(batch) for batch in batches] == [sorted(batch) for batch in alone]
    first, second = (
        np.mean([lengths[index] for batch in batches for index in batch[half]])
        for half in (slice(8), slice(8, None))
    )
    sorted_halves = [
        np.mean([lengths[index] for b in alone for index in b[half]]) for half in (slice(8), slice(8, None))
    ]
    assert abs(first - second) < 0.2 * abs(sorted_halves[0] - sorted_halves[1])


def test_nor_does_one_get_them_if_batches_are_accumulated():
    lengths, difference = draw_lengths(), {}
    for parts in (1, 2):
        sampler = EpochSampler(1000, 16, seed=1, lengths=lengths, processes=2, parts=parts)
        used = np.array([lengths[index] for batch in batches_of(sampler, 16) for index in batch])
        # as Accelerate divides them: batch, part, process, clip
        first, second = used.reshape(-1, 2, 2, 4).mean(axis=(0, 1, 3))
        difference[parts] = abs(first - second)
    assert difference[2] < 0.25 * difference[1]


def test_a_corpus_smaller_than_a_step_is_repeated_with_similar_lengths():
    lengths = [10, 900, 11, 901, 12]
    (batch,) = batches_of(EpochSampler(5, 16, seed=1, lengths=lengths), 16)
    assert len(batch) == 16 and {index % 5 for index in batch} == set(range(5))
    assert sorted(lengths[index % 5] for index in batch) == [lengths[index % 5] for index in batch]


def test_a_transcript_of_digits_has_words(tmp_path):
    manifest = make_manifest(tmp_path, [5120], ["1984."])
    dataset = TextMelDataset(read_manifest(manifest, RATE), Tacotron2Config())
    assert decode(dataset[0]["tokens"]) == "nineteen eighty-four."
