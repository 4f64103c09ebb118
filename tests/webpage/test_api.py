"""app.py as a server: OpenAI's client, curl and clients that misbehave, against the process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
import soundfile
from forked import Forked
from helpers import ROOT, call

from app import main

pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

TEXT = "Good morning. How are you?"
LONG = "The harbour was quiet when the first boats came home. " * 40


@contextmanager
def server(folder, *flags: str, host: str = "127.0.0.1"):
    """Run app.py and yield its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [
        sys.executable,
        str(ROOT / "app.py"),
        "--host",
        host,
        "--port",
        port,
        "--device",
        "cpu",
        *flags,
    ]
    environment = os.environ | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while not answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.3)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert "Traceback" not in (folder / "log").read_text()


def answers(address: str) -> bool:
    try:
        return health(address)["status"] == "ok"
    except urllib.error.URLError:
        return False


def health(address: str) -> dict:
    with urllib.request.urlopen(f"{address}/health", timeout=10) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(folder):
    # a gradio that can't be imported: the API does without it
    (folder / "gradio.py").write_text("raise ImportError('gradio')")
    os.environ["PYTHONPATH"] = str(folder)
    with server(folder, "--api_only", "--api_key", "a secret") as (address, _):
        del os.environ["PYTHONPATH"]
        yield address


@pytest.fixture
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="a secret", max_retries=0, timeout=120)


def speak(client, text: str = TEXT, kind: str = "wav", voice: str = "espeak", **options) -> bytes:
    return client.audio.speech.create(
        model="tts-1", input=text, voice=voice, response_format=kind, **options
    ).content


def test_four_formats_contain_the_same_speech(client):
    wav, rate = soundfile.read(BytesIO(speak(client)))
    assert rate == 22050 and 1.0 < len(wav) / rate < 5.0 and np.abs(wav).max() > 0.05
    flac, _ = soundfile.read(BytesIO(speak(client, kind="flac")))
    np.testing.assert_array_equal(flac, wav)
    mp3, rate = soundfile.read(BytesIO(speak(client, kind="mp3")))
    assert soundfile.info(BytesIO(speak(client, kind="mp3"))).format == "MP3"
    assert len(mp3) / rate == pytest.approx(len(wav) / 22050, rel=0.05)
    pcm = np.frombuffer(speak(client, kind="pcm"), "<i2")
    assert len(pcm) / 24000 == pytest.approx(len(wav) / 22050, rel=0.001)
    assert np.abs(pcm).max() / 32768 == pytest.approx(np.abs(wav).max(), rel=0.05)


def test_speed_and_the_names_of_openais_voices_are_understood(client):
    plain, fast = (soundfile.read(BytesIO(speak(client, speed=speed)))[0] for speed in (1.0, 2.0))
    assert len(fast) * 2 == pytest.approx(len(plain), rel=0.02)
    default, human = (speak(client, "Good day.", voice=voice) for voice in ("alloy", "ljspeech"))
    assert default == human != speak(client, "Good day.", voice="espeak")
    assert [model.id for model in client.models.list()] == ["tts-1"]


def test_a_sentence_that_fails_is_named_on_the_servers_stderr(client, folder):
    alphabet = ", ".join("abcdefghijklmnopqrstuvwxyzabcdefg")
    speak(client, alphabet, voice="alloy")
    assert f"{alphabet!r} did not come out well in 6 attempts" in (folder / "log").read_text()


@pytest.mark.parametrize("kind", ["wav", "pcm"])
def test_speech_is_streamed_while_it_is_computed(client, address, kind):
    started = time.monotonic()
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", input=LONG[:270], voice="espeak", response_format=kind
    ) as response:
        busy = []
        for _ in response.iter_bytes(4096):
            busy.append((health(address)["requests"], time.monotonic() - started))
    assert busy[0][0] == 1, "the first bytes arrived after the last sentence was computed"
    assert busy[0][1] < busy[-1][1]


def test_ten_at_once_are_all_served_with_their_own_text(client):
    texts = [f"Visitor number {number}." for number in range(10)]
    with ThreadPoolExecutor(10) as visitors:
        together = list(visitors.map(lambda text: speak(client, text), texts))
    assert together[3] == speak(client, texts[3]) and together[7] == speak(client, texts[7])
    assert len(set(together)) == 10


def test_impossible_requests_are_refused_in_one_line(client):
    for options, words in (
        ({"text": "word " * 4000}, ("20,000 characters", "4,096")),
        ({"text": " ... "}, ("nothing to say",)),
        ({"text": ""}, ("nothing to say",)),
        ({"voice": "nobody"}, ("'nobody'", "espeak", "ljspeech")),
        ({"voice": str(ROOT / "voices" / "espeak")}, ("no voice",)),
        ({"kind": "opus"}, ("response_format", "mp3, wav, flac, pcm")),
        ({"speed": 9.0}, ("speed", "at most 4")),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            speak(client, **options)
        message = caught.value.body["message"]
        assert all(word in message for word in words) and "\n" not in message, message


def test_a_body_that_is_no_object_or_too_large_is_refused(address):
    for body, status in ((b"{", 400), (b"[]", 400), (b'{"input": 3}', 400), (b" " * (1 << 21), 413)):
        request = urllib.request.Request(f"{address}/v1/audio/speech", body)
        request.add_header("Authorization", "Bearer a secret")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == status
        assert json.load(caught.value)["error"]["type"] == "invalid_request_error"


def test_other_routes_and_methods_have_errors_that_openais_client_reads(client, address):
    assert client.models.retrieve("tts-1") == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match=r"Not Found.*GET /v1/models/nothing"):
        client.models.retrieve("nothing")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}/v1/audio/speech", timeout=60)
    assert caught.value.code == 405 and caught.value.headers["Allow"] == "POST"
    assert "Method Not Allowed" in json.load(caught.value)["error"]["message"]


def test_a_fault_of_the_server_has_an_error_that_openais_client_reads():
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from webpage.api import Api

    class Broken:
        voices = ("espeak",)

        def text_to_speech(self, voice: str, speed: float):
            raise RuntimeError("out of memory")

        def next_step(self, steps):
            return next(steps, None)

    application = Starlette(routes=Api(Broken()).routes)
    with TestClient(application, raise_server_exceptions=False) as client:
        response = client.post("/v1/audio/speech", json={"input": TEXT, "voice": "espeak"})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    message = response.json()["error"]["message"]
    assert "log" in message and "out of memory" not in message


@pytest.mark.parametrize("key", ["geheimnisträger", " secret", "secret\n", ""])
def test_a_key_that_no_header_can_contain_is_a_user_error(key):
    done = call(main, HIFIGAN_API_KEY=key)
    assert done.returncode == 2 and "api_key" in done.stderr and done.stderr.count("\n") == 1


def test_a_wrong_key_is_refused(address):
    for header in ("Bearer wrong", "Bearer ä", "a secret", "Basic a secret"):
        request = urllib.request.Request(f"{address}/v1/models")
        request.add_header("Authorization", header.encode().decode("latin-1"))
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == 401
    request.add_header("Authorization", "bearer a secret")  # the case of the scheme does not matter
    assert urllib.request.urlopen(request, timeout=60).status == 200
    with pytest.raises(openai.AuthenticationError, match="key"):
        speak(openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0))


def connect(address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))


def request_speech(connection: socket.socket, text: str, kind: str = "wav") -> None:
    """Send a request, whose answer is not read."""
    body = json.dumps({"input": text, "voice": "espeak", "response_format": kind}).encode()
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a secret\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


@pytest.mark.parametrize("kind", ["pcm", "mp3"])
def test_a_client_that_hangs_up_frees_its_place(client, address, kind):
    connection = connect(address)
    request_speech(connection, LONG, kind)
    while not health(address)["requests"]:
        time.sleep(0.05)
    connection.close()
    deadline = time.monotonic() + 60
    while health(address)["requests"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(speak(client, "Good day.")) > 10_000


def test_clients_that_do_not_read_take_no_ones_place():
    from starlette.requests import Request

    from webpage.api import MAX_WAITING, Api
    from webpage.models import Models

    async def next_of_one_more() -> bytes:
        api = Api(Models([], "cpu", any_path=False))
        request = Request({"type": "http"}, receive=asyncio.Event().wait)
        clients = [api.in_turn(request, iter([b"first", b"second"])) for _ in range(MAX_WAITING + 1)]
        return [await anext(client) for client in clients][-1]  # none asks for its second part

    assert asyncio.run(next_of_one_more()) == b"first"


def test_more_requests_than_the_queue_holds_are_refused(address):
    body = json.dumps({"input": "Good day.", "voice": "espeak", "response_format": "pcm"}).encode()

    def status(_) -> int:
        request = urllib.request.Request(f"{address}/v1/audio/speech", body)
        request.add_header("Authorization", "Bearer a secret")
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status if response.read() else 0
        except urllib.error.HTTPError as error:
            return error.code

    with ThreadPoolExecutor(40) as visitors:
        statuses = list(visitors.map(status, range(40)))
    assert set(statuses) == {200, 503} and statuses.count(200) >= 20
    assert health(address)["requests"] == 0


def test_ctrl_c_during_a_request_ends_the_server_at_once_with_one_line(tmp_path):
    with server(tmp_path, "--api_only") as (address, process):
        connection = connect(address)  # kept: without a reference, it would be closed
        request_speech(connection, LONG)
        deadline = time.monotonic() + 60
        while not health(address)["requests"] and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == 0
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["app.py: stopped"]


@pytest.mark.parametrize("host", ["no such host", "256.1.1.1"])
def test_a_host_that_does_not_exist_is_a_user_error(host):
    done = call(main, "--host", host)
    assert done.returncode == 2 and host in done.stderr and done.stderr.count("\n") == 1
    assert "choose another --host" in done.stderr


def test_an_address_of_ipv6_is_shown_as_in_a_browser(tmp_path):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"needs IPv6: {error}")
    with server(tmp_path, "--api_only", host="::1") as (address, _):
        assert f"http://[::1]:{address.rpartition(':')[2]}/" in (tmp_path / "log").read_text()


def test_a_port_in_use_is_a_user_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        process = Forked(main, ["--api_only", "--port", port])
        _, error = process.communicate(120)
    assert process.returncode == 2 and f"127.0.0.1:{port}" in error and error.count("\n") == 1
