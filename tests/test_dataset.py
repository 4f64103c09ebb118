import json
import ntpath
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from helpers import RATE, voice
from manifests import make_clips, write_manifest
from torch.utils.data import DataLoader

from common.errors import UserError
from corpus.audio import write_wav
from corpus.manifest import Clip, read_manifest
from corpus.saved_mels import SavedMels, distinct_depth, mel_name, shared_names
from dataset import SegmentDataset, UtteranceDataset
from mel import MelConfig, MelSpectrogram
from training.samplers import EpochSampler

CONFIG = MelConfig()
SEGMENT, HOP = 8192, 256
FRAMES = SEGMENT // HOP


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Sequence[Clip]:
    folder = tmp_path_factory.mktemp("corpus")
    rows = make_clips(folder, [1.0, 0.8, 1.3, 0.25, 0.5, 2.0, 0.7])
    return read_manifest(write_manifest(folder / "train.csv", rows), RATE)


@pytest.fixture
def ruler(tmp_path) -> tuple[list[Clip], Path]:
    """Clips whose sample i is i / 2**20 and mels whose frame i is i, so a slice reveals where it was cut."""
    clips = []
    for name, samples in (("long", 60 * HOP + 100), ("exact", 32 * HOP), ("short", 5 * HOP + 17)):
        path = tmp_path / "wavs" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.arange(samples, dtype=np.float32) / 2**20, RATE, subtype="FLOAT")
        (tmp_path / "mels").mkdir(exist_ok=True)
        frames = np.arange(samples // HOP, dtype=np.float32)
        np.save(tmp_path / "mels" / f"{name}.npy", np.tile(frames, (80, 1)))
        clips.append(Clip(str(path), samples, (samples - 1) / 2**20, "x"))
    return clips, tmp_path / "mels"


def start_in(clip: Clip, segment: torch.Tensor) -> int:
    """Return where a segment was cut from its clip scaled to a peak of 0.95; assert that it is a slice."""
    whole, _ = soundfile.read(clip.path, dtype="float32")
    whole = whole * np.float32(0.95 / clip.peak)
    for start in np.flatnonzero(np.isclose(whole, float(segment[0]), atol=1e-6)):
        if np.allclose(whole[start : start + len(segment)], segment, atol=1e-6):
            return int(start)
    raise AssertionError("the segment is no slice of its clip")


def test_a_segment_is_a_slice_of_its_clip_scaled_to_a_peak_of_0_95(corpus):
    dataset = SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)
    assert len(dataset) == len(corpus)
    starts = {}
    for index in (0, 1, 2, 5):
        for epoch in range(6):
            segment = dataset[epoch, index]["audio"]
            assert segment.shape == (SEGMENT,) and segment.dtype == torch.float32
            starts.setdefault(index, []).append(start_in(corpus[index], segment))
    assert all(len(set(drawn)) > 3 for drawn in starts.values())  # segments differ between epochs
    assert any(start % HOP for drawn in starts.values() for start in drawn)


def test_every_possible_start_is_drawn(tmp_path):
    rows = make_clips(tmp_path, [0.1])
    clip = read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE)[0]
    size = (clip.samples - 5) // HOP * HOP
    dataset = SegmentDataset([clip], CONFIG, size, seed=0)
    drawn = {start_in(clip, dataset[epoch, 0]["audio"]) for epoch in range(600)}
    assert {min(drawn), max(drawn)} == {0, clip.samples - size}


def test_a_short_clip_is_scaled_to_a_peak_of_0_95_and_padded_with_zeros(corpus):
    clip = corpus[3]
    assert clip.samples < SEGMENT
    segment = SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)[0, 3]["audio"]
    assert segment.shape == (SEGMENT,)
    assert start_in(clip, segment[: clip.samples]) == 0
    assert float(segment.abs().max()) == pytest.approx(0.95)
    assert not segment[clip.samples :].any()


def test_digital_silence_stays_silent(tmp_path):
    write_wav(tmp_path / "quiet.wav", np.zeros(10000), RATE)
    clip = Clip(str(tmp_path / "quiet.wav"), 10000, 0.0, "")
    assert not SegmentDataset([clip], CONFIG, SEGMENT, seed=0)[0, 0]["audio"].any()
    assert not UtteranceDataset([clip], CONFIG)[0]["audio"].any()


def batches(clips: list[Clip], workers: int, seed: int = 3, epoch: int = 1) -> torch.Tensor:
    dataset, sampler = SegmentDataset(clips, CONFIG, SEGMENT, seed), EpochSampler(len(clips), 2, seed)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers)
    return torch.stack([batch["audio"] for batch in loader])


def test_segments_do_not_depend_on_the_number_of_workers(corpus):
    alone = batches(corpus, workers=0)
    assert torch.equal(alone, batches(corpus, workers=2))
    assert not torch.equal(alone, batches(corpus, workers=0, epoch=2))
    assert not torch.equal(alone, batches(corpus, workers=0, seed=4))


def test_segments_do_not_depend_on_earlier_draws(corpus):
    dataset = SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)
    keys = [(epoch, index) for epoch in range(2) for index in range(len(corpus))]
    forwards = {key: dataset[key]["audio"] for key in keys}
    np.random.seed(5)
    torch.manual_seed(5)
    again = SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)
    for key in reversed(keys):
        assert torch.equal(again[key]["audio"], forwards[key])
    other_seed = SegmentDataset(corpus, CONFIG, SEGMENT, seed=1)
    assert not torch.equal(other_seed[0, 0]["audio"], forwards[0, 0])


def test_only_the_segment_is_read(corpus, monkeypatch):
    read, asked = soundfile.SoundFile.read, []

    def spy(file, frames=-1, *args, **how):
        asked.append((file.tell(), frames))
        return read(file, frames, *args, **how)

    monkeypatch.setattr(soundfile.SoundFile, "read", spy)
    monkeypatch.setattr(soundfile.SoundFile, "blocks", None)
    clip, segment = corpus[5], SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)[0, 5]["audio"]
    reads = list(asked)  # start_in reads the whole clip
    assert reads == [(start_in(clip, segment), SEGMENT)]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(("factor", "words"), [(0.5, "shorter"), (1.5, "longer")])
def test_a_clip_of_another_length_than_in_the_manifest_is_refused_when_it_is_read(
    tmp_path, suffix, factor, words
):
    path, audio = tmp_path / f"a{suffix}", voice(1.0) * np.float32(0.3)
    write_wav(path, audio, RATE)
    clip = Clip(str(path), len(audio), float(np.abs(audio).max()), "x")
    np.save(tmp_path / "a.npy", MelSpectrogram(CONFIG)(torch.from_numpy(audio)))
    mels = SavedMels(tmp_path, CONFIG, [clip])
    segments = SegmentDataset([clip], CONFIG, 2048, seed=0, saved_mels=mels)
    whole = UtteranceDataset([clip], CONFIG), UtteranceDataset([clip], CONFIG, mels)
    assert [len(dataset[0]["audio"]) for dataset in whole] == [len(audio) // HOP * HOP] * 2
    write_wav(path, np.resize(audio, int(factor * len(audio))), RATE)
    for dataset in whole:
        with pytest.raises(UserError, match=rf"a\{suffix} is {words} than its manifest states"):
            dataset[0]
    with pytest.raises(UserError, match=rf"a\{suffix} is {words} than its manifest states"):
        SavedMels(tmp_path, CONFIG, [clip])
    if suffix == ".wav":  # whose header states the length
        for epoch in range(10):
            with pytest.raises(UserError, match=f"{words} than its manifest states"):
                segments[epoch, 0]


def test_a_flac_file_without_a_stated_length_is_read(tmp_path):
    audio = voice(1.0) * np.float32(0.3)
    write_wav(tmp_path / "a.flac", audio, RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # with the next four bytes, the number of samples; files written to a pipe have 0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    peak = float(np.abs(audio).max()) + 1e-4
    for stated, words in ((len(audio), ""), (len(audio) // 2, "longer"), (2 * len(audio), "shorter")):
        whole = UtteranceDataset([Clip(str(tmp_path / "a.flac"), stated, peak, "x")], CONFIG)
        if words:
            with pytest.raises(UserError, match=f"{words} than its manifest states"):
                whole[0]
        else:
            assert len(whole[0]["audio"]) == len(audio) // HOP * HOP


def test_a_clip_that_is_louder_than_in_the_manifest_is_refused_when_it_is_scaled(tmp_path):
    audio = voice(1.0) * np.float32(0.9)
    write_wav(tmp_path / "a.wav", audio, RATE)
    peak = float(np.abs(audio).max())
    for stated in (round(peak, 3), 1.0, 32767.0, 0.0):  # the last ones by other programs
        clip = Clip(str(tmp_path / "a.wav"), len(audio), stated, "x")
        assert UtteranceDataset([clip], CONFIG)[0]["audio"].abs().max() <= 1
    clip = clip._replace(peak=peak / 3)
    for dataset, key in (
        (UtteranceDataset([clip], CONFIG), 0), (SegmentDataset([clip], CONFIG, 20480, seed=0), (0, 0)),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"a\.wav is louder than its manifest states; create"):
            dataset[key]


def test_a_segment_size_that_is_not_whole_frames_is_refused():
    for size in (8000, 256, 0):
        with pytest.raises(UserError, match=f"segment_size is {size}.* 256"):
            SegmentDataset([], CONFIG, size, seed=0)


def test_fine_tuning_segments_have_sample_aligned_audio_and_mel(ruler):
    clips, mels = ruler
    dataset = SegmentDataset(
        clips, CONFIG, SEGMENT, seed=0, saved_mels=SavedMels(mels, CONFIG, clips, check=False)
    )
    firsts = set()
    for epoch in range(200):
        item = dataset[epoch, 0]
        assert item["audio"].shape == (SEGMENT,)
        assert item["mel"].shape == (80, FRAMES) and item["mel"].dtype == torch.float32
        first = int(item["mel"][0, 0])
        assert torch.equal(item["mel"], torch.arange(first, first + FRAMES).float().expand(80, -1))
        assert torch.equal(item["audio"] * 2**20, torch.arange(first * HOP, first * HOP + SEGMENT).float())
        firsts.add(first)
    assert firsts == set(range(60 - FRAMES + 1))  # all positions, including the first and the last
    item = dataset[0, 1]
    assert torch.equal(item["audio"] * 2**20, torch.arange(SEGMENT).float())


def test_fine_tuning_pads_audio_and_mel_of_a_short_clip_with_silence(ruler):
    clips, mels = ruler
    dataset = SegmentDataset(
        clips, CONFIG, SEGMENT, seed=0, saved_mels=SavedMels(mels, CONFIG, clips, check=False)
    )
    item = dataset[0, 2]
    assert torch.equal(item["audio"][: 5 * HOP] * 2**20, torch.arange(5 * HOP).float())
    assert not item["audio"][5 * HOP :].any()
    assert torch.equal(item["mel"][0, :5], torch.arange(5).float())
    assert torch.equal(item["mel"][:, 5:], torch.full((80, FRAMES - 5), CONFIG.silence))


def test_a_slice_of_a_true_mel_equals_the_mel_of_the_audio_slice(corpus, tmp_path):
    clips, frontend = corpus[:3], MelSpectrogram(CONFIG)
    for clip in clips:
        whole, _ = soundfile.read(clip.path, dtype="float32")
        np.save(tmp_path / f"{clip.path.stem}.npy", frontend(torch.from_numpy(whole)))
    dataset = SegmentDataset(
        clips, CONFIG, SEGMENT, seed=0, saved_mels=SavedMels(tmp_path, CONFIG, clips, check=False)
    )
    for index in range(3):
        item = dataset[0, index]
        inside = slice(2, -2)  # at the ends, one mel is computed from reflected audio and the other is not
        torch.testing.assert_close(
            frontend(item["audio"])[:, inside], item["mel"][:, inside], rtol=0, atol=1e-3
        )


def test_mels_with_a_batch_dimension_are_read(ruler):
    clips, mels = ruler
    plain = SegmentDataset(
        clips, CONFIG, SEGMENT, seed=0, saved_mels=SavedMels(mels, CONFIG, clips, check=False)
    )[0, 0]
    for path in mels.iterdir():
        np.save(path, np.load(path)[None])
    again = SegmentDataset(
        clips, CONFIG, SEGMENT, seed=0, saved_mels=SavedMels(mels, CONFIG, clips, check=False)
    )[0, 0]
    assert torch.equal(plain["mel"], again["mel"]) and torch.equal(plain["audio"], again["audio"])


def test_names_of_mels_stay_in_their_folder():
    clips = [Clip(f"/corpora/{path}/wavs/x.wav", 1, 1.0, "") for path in ("a/../ann", "bob/b/..")]
    assert [mel_name(clip) for clip in clips] == ["x.npy", "x.npy"]
    assert shared_names(clips) == {"x.npy"} and distinct_depth(clips) == 3
    assert [mel_name(clip, 3) for clip in clips] == ["ann/wavs/x.npy", "bob/wavs/x.npy"]
    assert shared_names([clips[0], clips[0]._replace(file="/corpora/ann/wavs/x.wav")]) == set()


def test_mels_have_the_same_names_on_windows(monkeypatch):
    monkeypatch.setattr("corpus.saved_mels.os", SimpleNamespace(path=ntpath, sep="\\"))
    clip = Clip("C:\\corpus\\wavs/ann/x.wav", 100, 0.5, "")
    assert mel_name(clip) == "x.npy" and mel_name(clip, 2) == "ann\\x.npy"


def test_a_mel_of_the_wrong_size_is_reported_with_its_clip_and_both_sizes(ruler):
    clips, mels = ruler
    np.save(mels / "exact.npy", np.zeros((80, 33), np.float32))
    (mels / "short.npy").unlink()
    with pytest.raises(UserError) as error:
        SavedMels(mels, CONFIG, clips)
    message = str(error.value)
    assert "2 of 3 clips" in message and "long" not in message
    assert "exact (its mel is (80, 33), its audio needs (80, 32))" in message
    assert "short (no file" in message


@pytest.mark.parametrize(
    "contents",
    [b"", b"not numpy", np.lib.format.magic(1, 0) + b"\x10"],
    ids=["empty", "text", "cut header"],
)
def test_a_damaged_mel_is_named_in_the_error(ruler, contents):
    clips, mels = ruler
    (mels / "exact.npy").write_bytes(contents)
    with pytest.raises(UserError, match=r"can't read the mel .*exact\.npy"):
        SavedMels(mels, CONFIG, clips)


def test_truncated_and_pickled_mels_are_named_in_the_error(ruler):
    clips, mels = ruler
    whole = (mels / "exact.npy").read_bytes()
    (mels / "exact.npy").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"exact\.npy"):
        SavedMels(mels, CONFIG, clips)
    np.save(mels / "exact.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(UserError, match=r"exact\.npy"):
        SavedMels(mels, CONFIG, clips)


def test_a_folder_of_mels_with_other_settings_is_refused(ruler):
    clips, mels = ruler
    (mels / "config.json").write_text(json.dumps(MelConfig(mel_scale="ln", fmin=50.0).to_dict()))
    with pytest.raises(UserError) as error:
        SavedMels(mels, CONFIG, clips)
    assert "mel_scale is ln in the saved mels" in str(error.value) and "but db in" in str(error.value)
    assert "fmin is 50.0" in str(error.value)
    (mels / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    SavedMels(mels, CONFIG, clips, check=False)
    with pytest.raises(UserError, match="no folder"):
        SavedMels(mels / "nowhere", CONFIG, clips)


def test_an_utterance_contains_all_whole_frames_of_its_clip(corpus):
    dataset = UtteranceDataset(corpus, CONFIG)
    assert len(dataset) == len(corpus)
    for index, clip in enumerate(corpus):
        item = dataset[index]
        assert item["name"] == clip.path.stem
        assert len(item["audio"]) == clip.samples // HOP * HOP
        assert start_in(clip, item["audio"]) == 0


def test_fine_tuning_utterances_keep_their_level_and_have_the_saved_mel(ruler):
    clips, mels = ruler
    dataset = UtteranceDataset(clips, CONFIG, SavedMels(mels, CONFIG, clips, check=False))
    for index, clip in enumerate(clips):
        item, frames = dataset[index], clip.samples // HOP
        assert torch.equal(item["audio"] * 2**20, torch.arange(frames * HOP).float())
        assert torch.equal(item["mel"], torch.arange(frames).float().expand(80, -1))


def test_an_utterance_too_short_for_a_mel_is_named_in_the_error(tmp_path):
    rows = make_clips(tmp_path, [0.5, 300 / RATE])
    clips = read_manifest(write_manifest(tmp_path / "a.csv", rows), RATE)
    with pytest.raises(UserError, match="clip1 is shorter than 512 samples"):
        UtteranceDataset(clips, CONFIG)


def test_a_clip_replaced_at_another_rate_is_refused(tmp_path):
    clips = read_manifest(write_manifest(tmp_path / "a.csv", make_clips(tmp_path, [0.5])), RATE)
    write_wav(clips[0].path, voice(0.5), 2 * RATE)
    for read in (
        lambda: UtteranceDataset(clips, CONFIG)[0],
        lambda: SegmentDataset(clips, CONFIG, 8192, 0)[0, 0],
    ):
        with pytest.raises(UserError, match=f"is at {2 * RATE} Hz"):
            read()


def epoch_of(num_clips: int, batch: int, epoch: int = 0, seed: int = 0) -> list[tuple[int, int]]:
    sampler = EpochSampler(num_clips, batch, seed)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    return keys


@pytest.mark.parametrize(("num_clips", "batch"), [(16, 4), (19, 4), (7, 7), (1000, 16)])
def test_an_epoch_consists_of_full_batches_without_repeated_clips(num_clips, batch):
    keys = epoch_of(num_clips, batch, epoch=5)
    assert len(keys) == num_clips // batch * batch
    assert {epoch for epoch, _ in keys} == {5}
    indices = [index for _, index in keys]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(num_clips))
    assert indices != sorted(indices)


@pytest.mark.parametrize(("num_clips", "batch"), [(1, 1), (1, 4), (3, 8), (5, 16)])
def test_a_corpus_smaller_than_a_batch_fills_it_with_different_segments(num_clips, batch, corpus):
    indices = [index for _, index in epoch_of(num_clips, batch)]
    assert len(indices) == batch and len(set(indices)) == batch
    times = np.bincount([index % num_clips for index in indices])
    assert times.max() - times.min() <= 1
    dataset = SegmentDataset(corpus[:1], CONFIG, 2048, seed=0)
    assert not torch.equal(dataset[0, 0]["audio"], dataset[0, 1]["audio"])
    start_in(corpus[1], SegmentDataset(corpus, CONFIG, SEGMENT, seed=0)[0, len(corpus) + 1]["audio"])


def test_the_order_depends_only_on_seed_and_epoch():
    order = epoch_of(50, 4, epoch=2, seed=7)
    sampler = EpochSampler(50, 4, seed=7)
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        last = list(sampler)
    assert last == order == list(sampler)
    assert [i for _, i in order] != [i for _, i in epoch_of(50, 4, epoch=3, seed=7)]
    assert order != epoch_of(50, 4, epoch=2, seed=8)


@pytest.mark.parametrize(("batch", "rest"), [(4, 12), (8, 8), (5, 10)])
def test_an_epoch_continues_in_the_middle_with_whole_batches(batch, rest):
    sampler = EpochSampler(20, batch, seed=0)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.start_at(8)
    sampler.set_epoch(3)  # Accelerate's loaders call it at the start of each epoch
    assert list(sampler) == whole[8 : 8 + rest] and len(sampler) == rest
    sampler.start_at(0)
    assert list(sampler) == whole


def test_every_clip_is_used_within_a_few_epochs():
    assert {index for epoch in range(20) for _, index in epoch_of(19, 4, epoch)} == set(range(19))
