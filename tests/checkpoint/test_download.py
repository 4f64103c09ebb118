"""Models and voices pulled from a local server with the Hub's API."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import RATE, ROOT, voice

from corpus.audio import write_wav

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path):
    """Serve the folders of tmp_path/hub as repositories; yield the environment of a client."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = self.path.partition("?")[0].strip("/").split("/")
            folder = tmp_path / "hub" / "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            if parts[0] == "api" and folder.is_dir():
                names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
                tree = [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
                    for name, path in names.items()
                ]
                info = {"id": folder.name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                return self.answer(json.dumps(tree if "tree" in parts else info).encode())
            file = folder / "/".join(parts[4:])
            return self.answer(file.read_bytes()) if parts[2:3] == ["resolve"] else self.send_error(404)

        do_HEAD = do_GET

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    yield os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    server.shutdown()


def infer(folder: Path, environment: dict, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "inference.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_voice_and_a_vocoder_are_pulled_by_the_names_of_their_repositories(hub, tmp_path):
    repository = tmp_path / "hub" / "me" / "my-voice"
    for source, name in (("tacotron2", "tacotron2"), ("espeak/hifigan", "hifigan")):
        shutil.copytree(ROOT / "voices" / source, repository / name)
    values = json.loads((ROOT / "voices" / "espeak" / "voice.json").read_text())
    (repository / "voice.json").write_text(json.dumps(values | {"taco": "tacotron2"}))
    shutil.copytree(repository / "hifigan", tmp_path / "hub" / "me" / "vocoder")

    done = infer(tmp_path, hub, "--text", "Hi.", "--voice", "me/my-voice", "--output_dir", "pulled")
    assert done.returncode == 0, done.stderr
    infer(tmp_path, hub, "--text", "Hi.", "--voice", "espeak", "--output_dir", "bundled")
    audio = [soundfile.read(tmp_path / name / "speech.wav")[0] for name in ("pulled", "bundled")]
    np.testing.assert_array_equal(*audio)

    write_wav(tmp_path / "test_files" / "a.wav", voice(0.2), RATE)
    done = infer(tmp_path, hub, "--checkpoint_file", "me/vocoder")
    assert done.returncode == 0 and (tmp_path / "generated_files" / "a_generated.wav").is_file(), done.stderr

    done = infer(tmp_path, hub, "--checkpoint_file", "me/nothing")
    assert done.returncode == 2 and "there is no me/nothing" in done.stderr and "Traceback" not in done.stderr
