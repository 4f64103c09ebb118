"""app.py: the page as a process, driven over HTTP as a browser drives it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
from browser import chromium
from forked import Forked
from helpers import RATE, ROOT, save_official, small_generator, voice

from app import main
from corpus.audio import write_wav
from text import phonemize

VOCODER, GRIFFIN_LIM = "vocoder of the voice", "Griffin-Lim"
DELETE_AFTER = 10  # seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Start app.py with a vocoder of the user's own and a report; return its address and its folder."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("page")
    generator = small_generator()
    own = save_official(folder / "own", generator.config, generator=generator)
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "runs" / "first" / "report.html").write_text("<h1>First & only</h1>", encoding="utf-8")
    (folder / "temporary").mkdir()
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, ROOT / "app.py", "--port", address.rpartition(":")[2], "--device", "cpu"]
    command += ["--checkpoint_file", own, "--evaluations", folder / "runs", "--delete_after", DELETE_AFTER]
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "HF_HUB_OFFLINE": "1"}
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        try:
            urllib.request.urlopen(address, timeout=30).read()
            break
        except urllib.error.URLError:
            time.sleep(0.5)
    yield address, folder
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert "Traceback" not in (folder / "log").read_text()
    assert list((folder / "temporary").glob("hifigan_page_*")) == []


@pytest.fixture
def connect(page, tmp_path):
    """Return a function that connects a visitor to the page."""
    from gradio_client import Client

    return lambda: Client(page[0], verbose=False, download_files=str(tmp_path / "downloads"))


def failure(client, *inputs, api_name: str) -> str:
    """Return the message with which the page rejects a request."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        client.predict(*inputs, api_name=api_name)
    return str(caught.value)


def test_a_text_arrives_sentence_by_sentence_and_then_whole(connect):
    job = connect().submit("Good morning. It costs <b>$5</b>!", "espeak", VOCODER, 0, api_name="/speak")
    pronunciation, html, path, status, pictures = job.result(timeout=300)
    assert pronunciation.splitlines()[0] == phonemize(["Good morning."])[0]
    players = [outputs[1].count("<audio") for outputs in job.outputs()]
    assert players == sorted(players) and set(players) == {0, 1, 2}
    assert html.count("data:audio/flac") == pictures.count("data:image/png") == 2
    assert job.outputs()[0][3].startswith("Loading Tacotron 2 of the voice espeak")
    assert "$5" in html and "<b>" not in html  # tags are not spoken
    audio, rate = soundfile.read(path)
    assert rate == RATE and 1.0 < len(audio) / rate < 8.0 and np.abs(audio).max() > 0.05
    assert status.startswith("2 sentences")


def test_every_vocoder_speaks_and_an_edited_pronunciation_is_heard(connect, page):
    client, paths = connect(), []
    own = str(page[1] / "own" / "g_02500000")
    pronunciation = client.predict("Good day.", "espeak", api_name="/pronounce")
    assert pronunciation == phonemize(["Good day."])[0]
    for vocoder in (VOCODER, GRIFFIN_LIM, own):
        paths.append(client.predict("Good day.", "espeak", vocoder, 0, api_name="/speak")[2])
    edited = client.predict(pronunciation, "espeak", VOCODER, 0, api_name="/speak_pronunciation")[2]
    sounds = [soundfile.read(path)[0] for path in [*paths, edited]]
    np.testing.assert_array_equal(sounds[0], sounds[3])
    assert not np.array_equal(sounds[0], sounds[1]) and not np.array_equal(sounds[0], sounds[2])


def test_impossible_requests_to_speak_get_a_message(connect):
    client = connect()
    for text, voice_name, vocoder, expected in (
        ("word " * 4000, "espeak", VOCODER, "20,000 characters; the page speaks at most 2,000"),
        ("  \n", "espeak", VOCODER, "nothing to say"),
        ("Hello.", "nobody", VOCODER, "no voice 'nobody'"),
        ("Hello.", "espeak", "no/such/folder", "no/such/folder"),
    ):
        assert expected in failure(client, text, voice_name, vocoder, 0, api_name="/speak")


def test_values_of_other_types_get_a_message(connect, page):
    client, well = connect(), ("Well.", "espeak", VOCODER, 0, 1.0)
    for place, value, expected in (
        (0, None, "text is None"),
        (0, "We\0ll.", "without zero bytes"),
        (1, ["espeak"], "voice is ['espeak']"),
        (2, 3, "vocoder is 3"),
        (3, "x", "seed is 'x'"),
        (4, "x", "speed is 'x'"),
        (4, 9.0, "speed is 9.0; it must be at least 0.25 and at most 4.0"),
    ):
        inputs = [*well[:place], value, *well[place + 1 :]]
        assert expected in failure(client, *inputs, api_name="/speak")
    assert "vocoders is None" in failure(client, None, None, api_name="/copy")
    assert "no results" in client.predict(["first"], api_name="/report")
    assert "Traceback" not in (page[1] / "log").read_text()


def test_a_clip_is_copied_measured_and_drawn(connect, tmp_path):
    from gradio_client import handle_file

    write_wav(tmp_path / "clip.wav", voice(1.0, 16000), 16000)
    vocoders = ["vocoder of espeak", GRIFFIN_LIM]
    html, metrics = connect().predict(handle_file(tmp_path / "clip.wav"), vocoders, api_name="/copy")
    assert html.count("data:audio/flac") == 3 and html.count("data:image/png") == 1
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1] for line in metrics.splitlines()[2:] if "|" in line
    }
    recording, hifigan, griffin_lim = map(float, rows["Mel L1 ↓"])
    assert recording == 0.0 < griffin_lim < 1.0 and hifigan > 0.0
    assert not any("UTMOS" in name for name in rows)


def test_unusable_uploads_get_a_message(connect, tmp_path):
    from gradio_client import handle_file

    (tmp_path / "text.wav").write_text("This is text.")
    (tmp_path / "empty.wav").touch()
    write_wav(tmp_path / "long.wav", np.zeros(21 * 8000, dtype=np.float32), 8000)
    write_wav(tmp_path / "short.wav", np.zeros(10, dtype=np.float32), 8000)
    client = connect()
    for name, expected in (
        ("text", "format is unknown"),
        ("empty", "choose a WAV"),
        ("long", "more than 20 s"),
        ("short", "0.00 s"),
    ):
        upload = handle_file(tmp_path / f"{name}.wav")
        message = failure(client, upload, [GRIFFIN_LIM], api_name="/copy")
        assert f"{name}.wav" in message and expected in message
    assert "choose a clip" in failure(client, None, [GRIFFIN_LIM], api_name="/copy")


def test_ten_visitors_at_once_are_all_served(connect, page):
    numbers = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    texts = [f"Visitor number {number}." for number in numbers]
    own = str(page[1] / "own" / "g_02500000")

    def visit(text: str) -> tuple:
        return connect().predict(text, "espeak", own, 0, api_name="/speak")

    with ThreadPoolExecutor(len(texts)) as visitors:
        results = list(visitors.map(visit, texts))
    assert [result[0] for result in results] == phonemize(texts)
    assert all(soundfile.info(result[2]).duration > 0.5 for result in results)


def test_uploads_are_deleted(connect, page, tmp_path):
    from gradio_client import handle_file

    (tmp_path / "unwanted.wav").write_text("This is text.")
    failure(connect(), handle_file(tmp_path / "unwanted.wav"), [GRIFFIN_LIM], api_name="/copy")
    uploads = page[1] / "temporary"
    assert list(uploads.rglob("unwanted.wav"))
    deadline = time.monotonic() + 4 * DELETE_AFTER
    while list(uploads.rglob("unwanted.wav")):
        assert time.monotonic() < deadline
        time.sleep(1.0)


def test_reports_of_evaluate_are_shown(connect):
    assert "&lt;h1&gt;First &amp; only&lt;/h1&gt;" in connect().predict("first", api_name="/report")
    assert "no results" in connect().predict("../own", api_name="/report")


SOUNDS = """Promise.all([...document.querySelectorAll("audio")].filter(a => a.currentSrc).map(async a => {
    const file = await (await fetch(a.currentSrc)).arrayBuffer();
    const audio = await new AudioContext({sampleRate: 22050}).decodeAudioData(file);
    return {duration: a.duration, peak: Math.max(...audio.getChannelData(0)), position: a.currentTime};
}))"""


def test_a_visitor_types_a_text_and_hears_it_in_a_browser_that_asks_no_other_server(page, tmp_path):
    with chromium(tmp_path / "profile") as tab:
        tab.open(page[0], width=390)
        tab.wait_for("!!document.querySelector('button.primary')")
        tab.evaluate(
            "document.querySelector('textarea').focus(); document.querySelector('textarea').select()"
        )
        tab.type("Good morning, visitor. How are you?")
        tab.wait_for("document.querySelector('textarea').value.startsWith('Good')")
        tab.click("button.primary", "Speak")
        tab.wait_for(
            "[...document.querySelectorAll('textarea')].some(e => /^2 sentences, .*failed/.test(e.value))"
        )
        tab.wait_for(
            "[...document.querySelectorAll('figure audio')].every(a => a.currentTime > 0)"
        )  # in turn
        tab.evaluate(
            "[...document.querySelectorAll('button')].find(e => e.innerText.includes('Whole')).click()"
        )
        sounds = tab.wait_for(f"{SOUNDS}.then(sounds => sounds.length == 3 && sounds)")
        *sentences, whole = sorted(sounds, key=lambda sound: sound["duration"])
        assert all(sound["duration"] > 0.5 and sound["peak"] > 0.1 for sound in sentences)
        pause = whole["duration"] - sum(sound["duration"] for sound in sentences)
        assert pause == pytest.approx(0.3, abs=0.01)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390  # nothing is cut off
        hosts = {urlsplit(url).netloc for url in tab.requests if not url.startswith(("data:", "blob:"))}
        assert hosts == {urlsplit(page[0]).netloc} and tab.errors == []


@pytest.mark.parametrize("width", [1400, 390])
def test_one_click_on_an_example_is_heard_and_seen_without_scrolling(page, tmp_path, width):
    with chromium(tmp_path / "profile") as tab:
        tab.open(page[0], width, 844)
        example = "[...document.querySelectorAll('button')].find(e => e.innerText.includes('Good morning!'))"
        tab.wait_for(f"!!{example}")
        tab.evaluate(f"{example}.click()")
        tab.wait_for("[...document.querySelectorAll('figure audio')].some(a => a.currentTime > 0)")
        top, bottom = tab.evaluate(
            "(r => [r.top, r.bottom])(document.querySelector('figure').getBoundingClientRect())"
        )
        assert 0 <= top < bottom <= 844
        assert tab.errors == []


def test_speech_is_measured_on_demand(connect):
    from gradio_client import handle_file

    client = connect()
    path = client.predict("Good morning.", "espeak", GRIFFIN_LIM, 0, api_name="/speak")[2]
    table = client.predict(handle_file(path), "Good morning.", api_name="/measure")
    assert "DistillMOS" in table and "WER" in table and "PESQ" not in table


def test_a_visitor_uploads_clips_and_hears_every_copy_in_a_browser(page, tmp_path):
    (tmp_path / "text.wav").write_text("This is text.")
    write_wav(tmp_path / "clip.wav", voice(1.0), RATE)
    with chromium(tmp_path / "profile") as tab:
        tab.open(page[0], width=390)
        tab.click("button[role=tab]", "Copy synthesis")
        tab.wait_for(
            "[...document.querySelectorAll('audio')].some(a => a.offsetParent && a.src)"
        )  # a first clip
        tab.evaluate("document.querySelector('button[aria-label=Clear]').click()")
        for name in ("text.wav", "clip.wav"):
            tab.wait_for("!!document.querySelector('input[type=file]')")
            tab.choose_file("input[type=file]", tmp_path / name)
            tab.wait_for("[...document.querySelectorAll('audio')].some(a => a.offsetParent && a.src)")
            tab.click("button.primary", "Copy")
            if name == "text.wav":
                tab.wait_for("document.body.innerText.includes('read the file')")
                tab.evaluate("document.querySelector('button[aria-label=Clear]').click()")
        tab.wait_for("document.querySelectorAll('figure audio').length >= 4")
        sounds = tab.evaluate(SOUNDS.replace('"audio"', '"figure audio"'))
        assert all(0.9 < sound["duration"] < 1.1 for sound in sounds)
        assert sum(sound["peak"] > 0.01 for sound in sounds) >= 3  # one vocoder has random weights
        assert tab.errors == []


def test_the_page_names_no_font_script_or_style_of_another_server(page):
    html = urllib.request.urlopen(page[0], timeout=60).read().decode()
    theme = urllib.request.urlopen(f"{page[0]}/theme.css", timeout=60).read().decode()
    assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//[^>]+", html) == []
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", html + theme) == []


def test_the_page_and_the_api_share_an_address(page):
    url, head = f"{page[0]}/v1/audio/speech", "Content-Type: application/json"
    wanted = '{"model": "tts-1", "input": "Any sentence of yours.", "voice": "ljspeech", '
    command = ["curl", "-s", url, "-H", head, "-d", wanted + '"response_format": "wav"}']
    done = subprocess.run(command, capture_output=True, timeout=120)
    audio, rate = soundfile.read(BytesIO(done.stdout))
    assert rate == RATE and 1.0 < len(audio) / rate < 3.0 and np.abs(audio).max() > 0.05
    command[-1] = '{"input": "Well.", "voice": "nobody"}'
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert "ljspeech" in json.loads(done.stdout)["error"]["message"]


def test_without_gradio_one_line_names_the_command_that_installs_it(tmp_path):
    (tmp_path / "gradio.py").write_text("raise ImportError(\"No module named 'gradio'\")")
    command, environment = [sys.executable, ROOT / "app.py"], os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install -r requirements-app.txt" in done.stderr


def test_ctrl_c_before_the_page_exists_ends_with_one_line(tmp_path):
    command, environment = [sys.executable, ROOT / "app.py"], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("hifigan_page_*")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.3)  # PyTorch is being imported
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "app.py: stopped\n"
    assert process.returncode == 0 and list(tmp_path.glob("hifigan_page_*")) == []


def test_a_port_in_use_is_a_user_error():
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = Forked(main, ["--port", port])
        _, error = process.communicate(240)
    assert process.returncode == 2 and f"127.0.0.1:{port}" in error and error.count("\n") == 1
