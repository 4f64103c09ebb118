import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from helpers import RATE, voice
from scipy import stats

from common.errors import UserError
from corpus.audio import write_wav
from corpus.manifest import Clip
from evaluation.systems import RECORDINGS, System
from evaluation.table import Table
from listening import KINDS, ratings
from listening import pages as listening
from listening.pages import ANCHOR, KEY, active_level, write_listening_test

NAMES = ("Griffin-Lim", "HiFi-GAN", RECORDINGS)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[list[System], list[Clip]]:
    """Three systems and four clips; Griffin-Lim is much quieter than the others."""
    folder = tmp_path_factory.mktemp("wavs")
    systems = []
    for number, name in enumerate(NAMES):
        wavs = {f"clip{index}": folder / name / f"clip{index}.wav" for index in range(4)}
        for index, path in enumerate(wavs.values()):
            write_wav(path, (0.05 if number == 0 else 1.0) * voice(0.4, seed=10 * number + index), RATE)
        systems.append(System(name, wavs, is_recording=name == RECORDINGS))
    clips = [
        Clip(str(path), 8820, 1.0, f"Text of {stem} </script>") for stem, path in systems[-1].wavs.items()
    ]
    return systems, clips


def make(compared, folder: Path, kind: str, seed: int = 0) -> tuple[dict, dict, str]:
    """Return the test's data, its key and its page."""
    page = write_listening_test(kind, *compared, folder, seed=seed).read_text(encoding="utf-8")
    (data,) = re.findall(r"^const test = (.*);$", page, re.MULTILINE)
    return json.loads(data), json.loads((folder / KEY).read_text(encoding="utf-8")), page


def export(folder: Path, test: dict, listener: str, answer) -> Path:
    """Write the ratings of a listener who answers `answer(trial, sound)` for each sound to be rated."""
    given = []
    for trial in test["trials"]:
        for sound in trial["sounds"]:
            value = answer(trial, sound)
            if value is not None:
                given.append({"trial": trial["id"], "sound": sound, "value": value})
    path = folder / f"{listener}.json"
    path.write_text(
        json.dumps({"test": test["test"], "listener": listener, "ratings": given}), encoding="utf-8"
    )
    return path


def table_of(compared) -> Table:
    return Table(*compared, [], {})


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_valid_loads_nothing_and_names_no_system(compared, tmp_path, kind):
    test, key, page = make(compared, tmp_path, kind)
    (policy,) = re.findall(r"Content-Security-Policy\" content=\"([^\"]+)", page)
    assert policy.startswith("default-src 'none'")
    assert not any(name in page for name in (*NAMES, ANCHOR, "clip1.wav"))
    assert page.count("</script>") == 1
    assert {sound["system"] for sound in key["sounds"].values()} == {*NAMES, ANCHOR}
    assert sum(trial["training"] for trial in test["trials"]) == 1
    if node := shutil.which("node"):
        script = tmp_path / "page.js"
        script.write_text(page.partition("<script>")[2].partition("</script>")[0], encoding="utf-8")
        checked = subprocess.run([node, "--check", script], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_the_same_seed_makes_the_same_test_and_another_seed_another(compared, tmp_path):
    first = make(compared, tmp_path / "a", "mos", seed=1)
    assert make(compared, tmp_path / "b", "mos", seed=1) == first
    assert make(compared, tmp_path / "c", "mos", seed=2)[0]["test"] != first[0]["test"]


def test_all_versions_of_a_clip_are_equally_loud(compared, tmp_path, monkeypatch):
    levels = []
    monkeypatch.setattr(
        listening, "flac", lambda audio, rate: levels.append(active_level(audio, rate)) or "data:,"
    )
    make(compared, tmp_path, "mos")
    assert len(levels) == 16
    for start in range(0, 16, 4):
        np.testing.assert_allclose(levels[start : start + 4], levels[start], rtol=1e-3)


def test_the_level_of_speech_does_not_depend_on_pauses():
    speech = voice(1.0)
    paused = np.concatenate([np.zeros(RATE), speech, np.zeros(RATE)]).astype(np.float32)
    assert active_level(paused, RATE) == pytest.approx(active_level(speech, RATE), rel=0.02)
    assert active_level(np.zeros(RATE, np.float32), RATE) > 0


QUALITY = {"Griffin-Lim": 2, "HiFi-GAN": 4, RECORDINGS: 5, ANCHOR: 1}


def test_means_intervals_and_agreement_of_mos_ratings(compared, tmp_path):
    test, key, _ = make(compared, tmp_path, "mos")
    random = np.random.default_rng(0)
    noise = {(name, sound): random.integers(-1, 1) for name in "abc" for sound in key["sounds"]}

    def listener(name: str) -> Path:
        def answer(trial, sound):
            return int(QUALITY[key["sounds"][sound]["system"]] + noise[name, sound])

        return export(tmp_path, test, name, answer)

    table = ratings.add_ratings(table_of(compared), [listener(name) for name in "abc"], tmp_path)
    sounds = {(s["system"], s["clip"]): sound for sound, s in key["sounds"].items()}
    for row, system in enumerate(table.systems):
        expected = [
            np.mean(
                [QUALITY[system.name] + noise[name, sounds[system.name, f"clip{index}"]] for name in "abc"]
            )
            for index in (1, 2, 3)
        ]  # the first clip is for training
        interval = table.cells[row][0].interval
        assert interval.mean == pytest.approx(np.mean(expected)) and interval.count == 3
        bootstrap = stats.bootstrap((expected,), np.mean, method="percentile", n_resamples=10_000, rng=0)
        assert interval[1:3] == pytest.approx(bootstrap.confidence_interval)
    given = np.array(
        [
            [QUALITY[n] + noise[name, sounds[n, f"clip{index}"]] for n in NAMES for index in (1, 2, 3)]
            for name in "abc"
        ]
    )
    others = [np.delete(given, index, axis=0).mean(axis=0) for index in range(3)]
    agreement = np.mean(
        [stats.spearmanr(own, other).statistic for own, other in zip(given, others, strict=True)]
    )
    assert any(f"others {agreement:.2f}" in note for note in table.notes)
    assert "MOS: 3 listeners." in table.notes


def test_listeners_who_fail_a_hidden_check_are_removed_and_named(compared, tmp_path):
    test, key, _ = make(compared, tmp_path, "mos")
    quality = lambda trial, sound: QUALITY[key["sounds"][sound]["system"]]  # noqa: E731
    repeated = {trial for trial, about in key["trials"].items() if about["role"] == "repeat"}
    paths = [
        export(tmp_path, test, "careful", quality),
        export(tmp_path, test, "deaf", lambda trial, sound: 6 - quality(trial, sound)),
        export(tmp_path, test, "fickle", lambda trial, sound: 1 if trial["id"] in repeated else 5),
    ]
    table = ratings.add_ratings(table_of(compared), paths, tmp_path)
    assert [row[0].interval.mean for row in table.cells] == [2, 4, 5]
    (note,) = [note for note in table.notes if "removed" in note]
    assert note.startswith("MOS: 1 listener")
    assert (
        "deaf rated the recordings 1.0" in note and "fickle changed ratings" in note and "careful" not in note
    )


def test_mushra_rates_all_versions_and_leaves_the_anchor_out_of_the_table(compared, tmp_path):
    test, key, _ = make(compared, tmp_path, "mushra")
    assert all(
        len(trial["sounds"]) == 4 and trial["reference"] in trial["sounds"] for trial in test["trials"]
    )
    path = export(tmp_path, test, "one", lambda trial, sound: 20 * QUALITY[key["sounds"][sound]["system"]])
    table = ratings.add_ratings(table_of(compared), [path], tmp_path)
    assert [row[0].interval.mean for row in table.cells] == [40, 80, 100]
    assert table.columns[0].title == "MUSHRA" and "listener with" not in " ".join(table.notes)


def test_abx_counts_correct_answers_and_removes_inattentive_listeners(compared, tmp_path):
    test, _, _ = make(compared, tmp_path, "abx")

    def right(trial, sound):
        return 1 if sound == trial["x"] else None

    def wrong(trial, sound):
        return None if sound == trial["x"] else 1

    paths = [export(tmp_path, test, "keen", right), export(tmp_path, test, "asleep", wrong)]
    notes = ratings.add_ratings(table_of(compared), paths, tmp_path).notes
    assert notes[0].startswith("ABX: 1 listener; removed: asleep recognized 0 of 3 obvious differences")
    p_value = stats.binomtest(3, 3, alternative="greater").pvalue
    assert f"ABX, Griffin-Lim and HiFi-GAN: X recognized in 3 of 3 trials (p = {p_value:.3f})." in notes


def answer_by_keyboard(tab, kind: str, key: dict) -> None:
    """Listen to the current item, answer it by the quality of its sounds, and go to the next one."""
    trial = tab.evaluate("current()")
    name = lambda sound: key["sounds"][sound]["system"]  # noqa: E731
    if kind == "mos":
        keys = [" ", str(QUALITY[name(trial["sounds"][0])])]
    elif kind == "abx":
        keys = ["a", "b", "x", str(1 + trial["sounds"].index(trial["x"]))]
    else:  # PageUp and PageDown move the slider by 10 from 50
        moves = {
            "Griffin-Lim": ["PageDown"],
            "HiFi-GAN": ["PageUp"] * 3,
            RECORDINGS: ["End"],
            ANCHOR: ["Home"],
        }
        keys = ["r"]
        for number, sound in enumerate(trial["sounds"], start=1):
            keys += [str(number), *moves[name(sound)]]
    assert tab.evaluate("element('next').disabled")
    for pressed in keys:
        tab.press(pressed)
    tab.wait_for("player.duration > 0.3 && (player.currentTime > 0 || player.ended)")
    assert not tab.evaluate("element('next').disabled")
    tab.press("Enter")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_in_a_browser_by_keyboard_survives_a_reload_and_is_aggregated(compared, tmp_path, kind):
    test, key, _ = make(compared, tmp_path, kind)
    items = len(test["trials"])
    with chromium(tmp_path / "profile") as tab:
        page = (tmp_path / listening.PAGE).as_uri()
        tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
        tab.open(page, width=390)
        tab.type("Ann 1")
        tab.press("Enter")
        for _ in range(items // 2):
            answer_by_keyboard(tab, kind, key)
        before = tab.evaluate("[state.position, JSON.stringify(state.answers)]")
        assert before[0] == items // 2
        tab.open(page)
        assert tab.evaluate("element('name').value") == "Ann 1"
        tab.press("Enter")
        assert tab.evaluate("[state.position, JSON.stringify(state.answers)]") == before
        for _ in range(items - items // 2):
            answer_by_keyboard(tab, kind, key)
        tab.press("Enter")  # the link that saves the ratings has the focus
        exported = tmp_path / "downloads" / "ratings_Ann_1.json"
        for _ in range(100):
            if exported.exists():
                break
            time.sleep(0.1)
        assert {address for address in tab.requests if not address.startswith(("data:", "blob:"))} == {page}
        assert tab.errors == []
    table = ratings.add_ratings(table_of(compared), [exported], tmp_path)
    assert f"{kind.upper()}: 1 listener." in table.notes
    if kind == "abx":
        assert any("X recognized in 3 of 3 trials" in note for note in table.notes)
    else:
        means = {"mos": [2, 4, 5], "mushra": [40, 80, 100]}[kind]
        assert [row[0].interval.mean for row in table.cells] == means


def test_ratings_that_do_not_belong_to_the_test_are_user_errors(compared, tmp_path):
    test, _, _ = make(compared, tmp_path, "mos")
    good = export(tmp_path, test, "one", lambda trial, sound: 5)
    bad = tmp_path / "bad.json"
    bad.write_text("[1]", encoding="utf-8")
    other = export(tmp_path, test | {"test": "other"}, "two", lambda trial, sound: 5)
    for paths, message in (
        ([bad], "bad.json is not an export"),
        ([tmp_path / "missing.json"], "missing.json is not an export"),
        ([other], "two.json belongs to another listening test"),
        ([good, good], "already ratings of the listener one"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            ratings.add_ratings(table_of(compared), paths, tmp_path)
    with pytest.raises(UserError, match=f"there is no {KEY}"):
        ratings.add_ratings(table_of(compared), [good], tmp_path / "elsewhere")


def test_one_clip_is_too_few_for_a_test(compared, tmp_path):
    systems, clips = compared
    with pytest.raises(UserError, match="2 clips"):
        write_listening_test("mos", systems, clips[:1], tmp_path)
