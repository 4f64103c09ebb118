import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import RATE, ROOT, voice

from common.errors import UserError
from common.files import atomic_write, is_occupied, recover_replaced
from common.parallel import available_cores
from corpus.audio import inspect_clip, read_audio, resample, write_wav


def test_a_file_appears_when_its_block_ends(tmp_path):
    target = tmp_path / "deep" / "er" / "file.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename is atomic only within a file system
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_only_the_old_content(tmp_path, error):
    (tmp_path / "file.txt").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").write_text("old")
    for name in ("file.txt", "folder", "new"):
        with pytest.raises(error), atomic_write(tmp_path / name) as temporary:
            if name == "folder":
                temporary.mkdir()
                temporary = temporary / "half.txt"
            temporary.write_text("half")
            raise error("stop")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["old.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder"]


def test_a_folder_is_replaced_atomically(tmp_path):
    for contents in ("first", "second"):
        with atomic_write(tmp_path / "folder") as temporary:
            (temporary / "sub").mkdir(parents=True)
            (temporary / "sub" / f"{contents}.txt").write_text(contents)
    assert [path.name for path in (tmp_path / "folder" / "sub").iterdir()] == ["second.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "original").mkdir()
    (tmp_path / "original" / "old").write_text("old")
    (tmp_path / "folder").symlink_to(tmp_path / "original")
    (tmp_path / "file").symlink_to(tmp_path / "original" / "old")
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("new")
    with atomic_write(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert (tmp_path / "file").read_text() == "new" and (tmp_path / "folder" / "new").exists()
    assert [path.read_text() for path in (tmp_path / "original").iterdir()] == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "original"]


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(tmp_path / "pipe") as temporary:
        temporary.write_text("through")
    assert os.read(reader, 100) == b"through" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


def test_a_folder_with_hidden_files_is_occupied(tmp_path):
    assert not is_occupied(tmp_path / "new") and not is_occupied(tmp_path)
    (tmp_path / ".DS_Store").touch()
    assert not is_occupied(tmp_path)
    (tmp_path / ".git").mkdir()
    assert is_occupied(tmp_path) and is_occupied(tmp_path / ".DS_Store")


def test_a_block_that_writes_nothing_keeps_the_old_content(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old.txt").write_text("old")
    for name in ("file.txt", "folder"):
        with pytest.raises(FileNotFoundError), atomic_write(tmp_path / name):
            pass
    recover_replaced(tmp_path)
    assert (tmp_path / "file.txt").read_text() == "old"
    assert (tmp_path / "folder" / "old.txt").read_text() == "old"


def test_a_folder_moved_aside_by_a_killed_process_is_restored(tmp_path):
    for name, files in (("checkpoint_1.replaced", "a"), ("done.replaced", "old"), ("done", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / files).touch()
    recover_replaced(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_1", "done"]
    assert (tmp_path / "checkpoint_1" / "a").is_file()
    assert (tmp_path / "done" / "new").is_file()


def test_a_kill_at_any_moment_leaves_a_complete_folder(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from common.files import atomic_write
number = 0
while True:
    with atomic_write({str(tmp_path / "folder")!r}) as temporary:
        temporary.mkdir()
        for part in range(5):
            (temporary / str(part)).write_text(str(number))
    number += 1
"""
    random = np.random.default_rng(0)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", program])
        while not (tmp_path / "folder" / "4").is_file() and not list(tmp_path.glob("*.replaced")):
            time.sleep(0.005)
        time.sleep(0.1 + 0.05 * random.random())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        recover_replaced(tmp_path)
        contents = {(tmp_path / "folder" / str(part)).read_text() for part in range(5)}
        assert len(contents) == 1
        assert not list(tmp_path.glob("*.replaced"))


def script(folder: Path, body: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    (folder / "tool.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from common.errors import UserError, report_user_errors\n"
        "from common.parser import ArgumentParser\n"
        f"@report_user_errors\ndef main():\n    {body}\nmain()\n"
    )
    command = [sys.executable, str(folder / "tool.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_a_user_error_is_one_line_and_status_2(tmp_path):
    done = script(tmp_path, "raise UserError('clip a.wav\\n  is empty')")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "tool.py: error: clip a.wav is empty\n")


def test_an_error_in_a_distributed_run_names_its_process(tmp_path):
    body = "raise UserError('x')"
    assert script(tmp_path, body, LOCAL_RANK="0").stderr == "tool.py: error: x\n"
    second = script(tmp_path, body, LOCAL_RANK="1")
    assert (second.returncode, second.stderr) == (2, "tool.py: error (in process 1): x\n")


def test_a_bug_keeps_its_traceback_and_its_status(tmp_path):
    done = script(tmp_path, "raise ValueError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert script(tmp_path, "pass").returncode == 0


def test_ctrl_c_ends_a_script_by_its_signal_and_without_a_traceback(tmp_path):
    done = script(tmp_path, "raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_error_of_a_module_has_its_name():
    command = [sys.executable, "-m", "tacotron2.train", "--path_to_train_manifest", "missing.csv"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("tacotron2.train: error: "), done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["required", "--steps"]),
        (["--steps", "many"], ["--steps", "'many'"]),
        (
            ["--steps", "1", "--step", "2"],
            ["unknown option --step (did you mean --steps?)"],
        ),  # not abbreviated
        (["--stesp=1"], ["unknown option --stesp (did you mean --steps?)"]),  # not "--steps is required"
        (["--steps", "1", "--weather", "fine"], ["unknown option --weather (see"]),
        (["--weather", "fine", "--step"], ["unknown option --weather, --step (did you mean --steps?) (see"]),
        (["--steps", "1", "many"], ["'many' belongs to no option"]),
        (["--steps", "1", "--", "many"], ["'many' belongs to no option"]),
        (["-steps", "1"], ["unknown option -steps (did you mean --steps?)"]),
    ],
)
def test_an_unknown_flag_is_one_line_and_exit_status_2(tmp_path, flags, words):
    body = (
        "parser = ArgumentParser(prog='tool.py'); "
        "parser.add_argument('--steps', type=int, required=True); parser.parse_args()"
    )
    done = script(tmp_path, body, *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("tool.py: error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't bind a process to cores")
def test_available_cores_respects_the_affinity_of_the_process():
    everything = os.sched_getaffinity(0)
    assert available_cores() == len(everything)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, everything)


def test_every_16_bit_value_survives_writing_and_reading(tmp_path):
    values = np.arange(-32768, 32768).astype(np.float32) / 32768
    write_wav(tmp_path / "a.wav", values, RATE)
    audio, rate, channels = read_audio(tmp_path / "a.wav")
    assert (rate, channels, audio.dtype) == (RATE, 1, np.float32)
    assert np.array_equal(audio, values)


def test_audio_is_rounded_and_clipped_at_1_but_not_rescaled(tmp_path):
    audio = np.array([0.6 / 32768, 0.4 / 32768, -0.6 / 32768, 0.5, 1.0, 1.5, -1.0, -7.0])
    write_wav(tmp_path / "a.wav", audio, 16000)
    stored, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate == 16000
    assert stored.tolist() == [1, 0, -1, 16384, 32767, 32767, -32768, -32768]


def test_a_wav_is_written_atomically(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(10), RATE)

    def chunks():
        yield np.ones(10)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_wav(tmp_path / "a.wav", chunks(), RATE)
    assert not read_audio(tmp_path / "a.wav")[0].any()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_reading_a_part_equals_slicing_the_whole_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, voice(1.0), RATE, subtype="PCM_16")
    whole, _, _ = read_audio(path)
    assert len(whole) == RATE
    for start, samples in ((0, 100), (12345, 4000), (RATE - 10, 10), (5, None)):
        stop = RATE if samples is None else start + samples
        assert np.array_equal(read_audio(path, start, samples)[0], whole[start:stop])
    assert len(read_audio(path, RATE - 10, 4000)[0]) == 10


def test_several_channels_are_averaged(tmp_path):
    sides = np.stack([voice(0.1), voice(0.1, seed=1), np.zeros(2205)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sides, RATE, subtype="FLOAT")
    audio, _, channels = read_audio(tmp_path / "a.wav")
    assert channels == 3
    np.testing.assert_allclose(audio, sides.mean(axis=1), atol=1e-7)


def test_unreadable_audio_is_named_in_the_error(tmp_path):
    (tmp_path / "text.wav").write_text("no audio at all")
    for name in ("nowhere.wav", "text.wav", "."):
        with pytest.raises(UserError, match=r"can't read audio from"):
            read_audio(tmp_path / name)


def test_reading_beyond_the_end_returns_no_samples(tmp_path):
    write_wav(tmp_path / "a.wav", np.zeros(100), RATE)
    assert len(read_audio(tmp_path / "a.wav", start=500, samples=10)[0]) == 0


def test_inspect_clip_returns_length_rate_channels_and_peak(tmp_path):
    audio = voice(15.0)  # more than one block
    audio[7 * RATE] = -0.75
    write_wav(tmp_path / "a.wav", audio, RATE)
    info = inspect_clip(tmp_path / "a.wav")
    assert (info.samples, info.sampling_rate, info.channels, info.problem) == (15 * RATE, RATE, 1, "")
    assert info.peak == 0.75
    soundfile.write(tmp_path / "b.flac", np.array([[0.5, -0.25]] * 100), 16000)
    info = inspect_clip(tmp_path / "b.flac")
    assert (info.samples, info.sampling_rate, info.channels, info.peak) == (100, 16000, 2, 0.5)


@pytest.mark.parametrize("last", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_reported_at_any_position(tmp_path, last):
    audio = np.append(voice(13.0), np.float32(last))
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    assert "not finite" in inspect_clip(tmp_path / "a.wav").problem
    soundfile.write(tmp_path / "a.wav", audio[::-1], RATE, subtype="FLOAT")
    assert "not finite" in inspect_clip(tmp_path / "a.wav").problem


def test_inspect_clip_reports_unusable_files_without_raising(tmp_path):
    write_wav(tmp_path / "none.wav", np.zeros(0), RATE)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio at all")
    soundfile.write(tmp_path / "cut.flac", voice(1.0), RATE)
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[:30])
    for name, problem in (
        ("nowhere.wav", "missing"),
        (".", "missing"),
        ("empty.wav", "file is empty"),
        ("none.wav", "0 samples"),
        ("text.wav", "can't be decoded"),
        ("cut.flac", "can't be decoded"),
    ):
        assert problem in inspect_clip(tmp_path / name).problem


def test_resampling_keeps_pitch_level_and_timing():
    fast, slow = (
        np.sin(2 * np.pi * 440 * np.arange(rate) / rate, dtype=np.float32) for rate in (44100, RATE)
    )
    resampled = resample(fast, 44100, RATE)
    assert resampled.shape == (RATE,) and resampled.dtype == np.float32
    np.testing.assert_allclose(resampled[500:-500], slow[500:-500], atol=2e-3)


def test_a_file_never_replaces_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "folder") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "kept"]
