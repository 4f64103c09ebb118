"""Models and voices pulled from, and pushed to, a local server with the Hub's API."""

import base64
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
import torch
from helpers import RATE, ROOT, small_config, small_generator, voice
from runs import SMALL_MODEL, command_line

from checkpoint import HubGenerator, save_model
from checkpoint.pretrained import load_discriminators
from corpus.audio import write_wav
from generators.build import Discriminators

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

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.path.endswith("/create"):
                values = json.loads(body)
                return self.answer(json.dumps({"url": f"{endpoint}/me/{values['name']}"}).encode())
            if "/preupload/" in self.path:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.answer(json.dumps({"files": files}).encode())
            if "/commit/" in self.path:
                name = "/".join(self.path.split("/")[3:5])
                folder = tmp_path / "hub" / name
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        path = folder / line["value"]["path"]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(base64.b64decode(line["value"]["content"]))
                answer = {"commitUrl": f"{endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT}
                return self.answer(json.dumps(answer).encode())
            return self.answer(b'{"errors": [], "warnings": []}')  # of /api/validate-yaml

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    yield os.environ | settings | {"HF_TOKEN": "hf_test"}
    server.shutdown()


PROGRAM = """
import importlib, json, sys
from helpers import call
commands = json.loads(sys.argv[1])
done = [call(importlib.import_module(name).main, *arguments, cwd=".") for name, *arguments in commands]
print(json.dumps([(one.returncode, one.stdout, one.stderr) for one in done]))
"""
INFER, CONVERT = "inference", ("checkpoint.__main__", "convert")


def run(folder: Path, environment: dict, *commands: list) -> list[tuple[int, str, str]]:
    """Run commands, each a module's name and arguments; return the status, stdout and stderr of each.

    In one process, but not in this one, where the Hub's client has read its settings from the environment.
    """
    environment = environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    words = json.dumps([list(map(str, command)) for command in commands])
    command = [sys.executable, "-c", PROGRAM, words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_voice_and_a_vocoder_are_pulled_by_the_names_of_their_repositories(hub, tmp_path):
    repository = tmp_path / "hub" / "me" / "my-voice"
    for source, name in (("tacotron2", "tacotron2"), ("espeak/hifigan", "hifigan")):
        shutil.copytree(ROOT / "voices" / source, repository / name)
    values = json.loads((ROOT / "voices" / "espeak" / "voice.json").read_text())
    (repository / "voice.json").write_text(json.dumps(values | {"taco": "tacotron2"}))
    shutil.copytree(repository / "hifigan", tmp_path / "hub" / "me" / "vocoder")

    write_wav(tmp_path / "test_files" / "a.wav", voice(0.2), RATE)
    *done, (status, _, error) = run(
        tmp_path, hub,
        [INFER, "--text", "Hi.", "--voice", "me/my-voice", "--output_dir", "pulled"],
        [INFER, "--text", "Hi.", "--voice", "espeak", "--output_dir", "bundled"],
        [INFER, "--checkpoint_file", "me/vocoder"],
        [INFER, "--checkpoint_file", "me/nothing"],
    )  # fmt: skip
    assert [one[0] for one in done] == [0, 0, 0], done
    audio = [soundfile.read(tmp_path / name / "speech.wav")[0] for name in ("pulled", "bundled")]
    np.testing.assert_array_equal(*audio)
    assert (tmp_path / "generated_files" / "a_generated.wav").is_file()
    assert status == 2 and "there is no me/nothing" in error and "Traceback" not in error


def save_vocoder(folder: Path) -> Discriminators:
    torch.manual_seed(1)
    discriminators = Discriminators(small_config())
    generator = small_generator()
    save_model(folder, generator.config, generator=generator, **dict(discriminators.named_children()))
    return discriminators


def test_fine_tuning_continues_with_the_discriminators_of_a_pushed_vocoder(hub, tmp_path, small_corpus):
    discriminators = save_vocoder(tmp_path / "model")
    write_wav(tmp_path / "test_files" / "a.wav", voice(0.2), RATE)
    flags = ["--to", "hub", "--discriminators", "--push_to_hub", "me/vocoder", "--license", "mit"]
    done = run(
        tmp_path, hub, [*CONVERT, "model", "folder", *flags], [INFER, "--checkpoint_file", "me/vocoder"]
    )
    assert [one[0] for one in done] == [0, 0] and f"/commit/{COMMIT}" in done[0][1], done
    pushed = {path.name for path in (tmp_path / "hub" / "me" / "vocoder").iterdir()}
    weights = {f"{name}.safetensors" for name in ("generator", "mpd", "msd")}
    assert pushed == {"README.md", "config.json", *weights}

    pulled = {path.name for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert pulled == {"generator.safetensors"}  # speaking needs no discriminators

    settings = {"path_to_pretrained_weights": "me/vocoder", "learning_rate": 1e-12, "max_train_steps": 1}
    flags = command_line(small_corpus, tmp_path / "run", **dict.fromkeys(SMALL_MODEL), **settings)
    environment = hub | {"ACCELERATE_USE_CPU": "true"}
    ((status, out, error),) = run(tmp_path, environment, ["train", *flags])
    assert status == 0 and "msd.safetensors" in out, error
    trained, found = load_discriminators(
        small_config(), tmp_path / "run" / "final_checkpoint" / "generator.safetensors"
    )
    assert set(found) == {"mpd", "msd"}
    mpd = trained.mpd.discriminators[0].convs[0].weight
    assert torch.allclose(mpd, discriminators.mpd.discriminators[0].convs[0].weight, atol=1e-6)


def test_a_pushed_voice_says_the_same_when_it_is_pulled(hub, tmp_path):
    shutil.copytree(ROOT / "voices", tmp_path / "voices")
    flags = ["--to", "hub", "--push_to_hub", "me/speaker"]
    ((status, out, error),) = run(tmp_path, hub, [*CONVERT, tmp_path / "voices" / "espeak", "folder", *flags])
    assert status == 0 and "does not state: license" in out, error
    shutil.rmtree(tmp_path / "voices")  # a pushed voice needs no other folder
    pushed = tmp_path / "hub" / "me" / "speaker"
    names = {"LICENSE", "README.md", "tacotron2", "vocoder", "voice.json"}
    assert {path.name for path in pushed.iterdir()} == names
    values = json.loads((pushed / "voice.json").read_text())
    card = (pushed / "README.md").read_text()
    assert all(values[name] in card for name in ("title", "provenance", "license"))
    names = {"pulled.wav": "me/speaker", "bundled.wav": "espeak"}
    commands = ([INFER, "--text", "Hi.", "--voice", names[name], "--output", name] for name in names)
    done = run(tmp_path, hub, *commands)
    assert [one[0] for one in done] == [0, 0], done
    audio = [soundfile.read(tmp_path / name)[0] for name in names]
    np.testing.assert_allclose(*audio, atol=1e-3)


def test_push_to_hub_saves_discriminators_on_request(tmp_path):
    discriminators = save_vocoder(tmp_path / "model")
    generator = HubGenerator.from_pretrained(tmp_path / "model", discriminators=True)
    generator.save_pretrained(tmp_path / "saved")  # what push_to_hub uploads
    found = load_discriminators(generator.config, tmp_path / "saved" / "generator.safetensors")[0]
    for key, tensor in discriminators.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key
    HubGenerator.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "alone")
    assert not (tmp_path / "alone" / "mpd.safetensors").exists()


def test_what_cannot_be_pushed_is_refused_in_one_line(hub, tmp_path):
    save_vocoder(tmp_path / "model")
    (tmp_path / "model" / "mpd.safetensors").unlink()
    (tmp_path / "model" / "msd.safetensors").unlink()
    cases = {
        "holds no discriminators": ["model", "out", "--to", "hub", "--discriminators"],
        "applies to --to hub": ["model", "out", "--to", "official", "--push_to_hub", "me/model"],
        "is a voice; use --to hub": [ROOT / "voices" / "espeak", "out", "--to", "project"],
        "can't upload": ["model", "folder", "--to", "hub", "--push_to_hub", "me/model"],
    }
    environment = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = run(tmp_path, environment, *([*CONVERT, *arguments] for arguments in cases.values()))
    for words, (status, _, error) in zip(cases, done, strict=True):
        assert status == 2 and words in error and error.count("\n") == 1, error
    assert not (tmp_path / "out").exists()
