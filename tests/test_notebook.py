"""inference.ipynb, executed from top to bottom in its own kernel, then with changed settings."""

import base64
import copy
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import ROOT, repository_address, small_generator

from checkpoint import save_model

nbformat = pytest.importorskip("nbformat", reason="needs jupyter: pip install jupyter")
nbclient = pytest.importorskip("nbclient", reason="needs jupyter: pip install jupyter")
pytest.importorskip("ipykernel", reason="needs jupyter: pip install jupyter")

NOTEBOOK = ROOT / "inference.ipynb"
# Number of players in each cell with audio.
PLAYERS = {
    "voice": 2,
    "recording": 1,
    "griffin-lim": 1,
    "hifigan": 1,
    "finetuned": 1,
    "forced": 2,
    "speech": 3,
}
PICTURES = ["voice", "recording", "griffin-lim", "hifigan", "finetuned", "waveform", "forced", "text"]
ROWS = ("Griffin-Lim", "HiFi-GAN", "HiFi-GAN, fine-tuned", "Recordings")


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


class Reader:
    """Executes cells by name in one kernel, with text replacements if given."""

    def __init__(self, client):
        self.client = client
        self.numbers = {cell.id: number for number, cell in enumerate(client.nb.cells)}
        self.sources = {cell.id: cell.source for cell in client.nb.cells}

    def run(self, *names: str, changes: dict[str, str] | None = None) -> dict[str, list]:
        """Return the cells' outputs. Raises CellExecutionError if a cell fails."""
        outputs = {}
        for name in names:
            cell = self.client.nb.cells[self.numbers[name]]
            cell.source = self.sources[name]
            for old, new in (changes or {}).items():
                assert old in "".join(self.sources[name] for name in names), f"the notebook lacks {old!r}"
                cell.source = cell.source.replace(old, new)
            outputs[name] = self.client.execute_cell(cell, self.numbers[name]).outputs
        return outputs


@contextmanager
def start_reader(notebook, folder: Path, home: Path) -> Iterator[Reader]:
    """Start a kernel in a folder."""
    client = nbclient.NotebookClient(
        copy.deepcopy(notebook), timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            patch.setenv(variable, str(home / variable))
        patch.setenv("https_proxy", "http://127.0.0.1:9")  # no network
        patch.setenv("HF_HUB_OFFLINE", "1")
        with client.setup_kernel():
            yield Reader(client)


@pytest.fixture(scope="module")
def reader(committed, tmp_path_factory):
    with start_reader(committed, ROOT, tmp_path_factory.mktemp("home")) as reader:
        yield reader


@pytest.fixture(scope="module")
def executed(reader, committed, tmp_path_factory):
    """The outputs of all cells of a run with two clips."""
    output = tmp_path_factory.mktemp("notebook")
    code = [cell.id for cell in committed.cells if cell.cell_type == "code"]
    changes = {"NUM_CLIPS = 7": "NUM_CLIPS = 2", '"demo/notebook"': repr(str(output))}
    return reader.run(*code, changes=changes)


def audio_in(outputs: list) -> list[np.ndarray]:
    """Return the audio of all players in a cell's outputs."""
    found = []
    for output in outputs:
        html = output.get("data", {}).get("text/html", "")
        for encoded in re.findall(r'src="data:audio/[\w-]+;base64,([^"]+)"', html):
            audio, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)))
            assert rate == 22050
            found.append(audio)
    return found


def pictures_in(outputs: list) -> int:
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)


def text_of(outputs: list) -> str:
    """Return all text in the outputs, without audio and pictures."""
    texts = []
    for output in outputs:
        data = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
        texts += [output.get("text", ""), output.get("evalue", ""), *map(str, data.values())]
    return re.sub(r"base64,[^\"]+", "", "\n".join(texts))


def check_stages(outputs: dict[str, list]) -> None:
    """Assert that all stages have audio and pictures, the tables exist, and there are no warnings."""
    for name, count in PLAYERS.items():
        players = audio_in(outputs[name])
        assert len(players) == count, name
        for audio in players:
            assert 0.5 < len(audio) / 22050 < 10.0 and np.abs(audio).max() > 0.05, name
    assert {name for name in PICTURES if not pictures_in(outputs[name])} == set()
    table = next(output["data"]["text/markdown"] for output in outputs["table"])
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:6]] == list(ROWS)
    assert "DistillMOS" in table.splitlines()[0]
    for name in ("crosswise", "per-clip"):
        assert "<table" in text_of(outputs[name])
    everything = "\n".join(map(text_of, outputs.values()))
    assert not re.search("Warning|Traceback", everything), everything


def test_the_notebook_runs_from_top_to_bottom_without_a_network(executed):
    check_stages(executed)


def test_outside_of_the_repository_the_first_cell_clones_it_and_the_voice_speaks(committed, tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    (tmp_path / "empty").mkdir()
    (tmp_path / "home").mkdir()
    with start_reader(committed, tmp_path / "empty", tmp_path / "home") as reader:
        address = {repository_address(): ROOT.as_uri()}
        outputs = reader.run("install", "voice", changes=address)
    assert (tmp_path / "empty" / "hifi-gan" / "voices").is_dir() and not outputs["install"]
    assert len(audio_in(outputs["voice"])) == 2


def test_an_edited_sentence_is_spoken(reader, executed):
    sentence = re.search('TEXT = "(.+)"', reader.sources["text"])[1]
    again = reader.run("text", "speech")
    assert all(map(np.array_equal, audio_in(again["speech"]), audio_in(executed["speech"])))
    other = reader.run("text", "speech", changes={sentence: "It is 8 o'clock. Who is there?"})
    assert "eight o'clock" in text_of(other["text"])
    assert pictures_in(other["text"]) == 2  # one attention per sentence
    assert len(audio_in(other["speech"])) == 3
    for before, after in zip(audio_in(executed["speech"]), audio_in(other["speech"]), strict=True):
        assert len(before) != len(after)


def test_the_settings_accept_another_vocoder_and_other_clips(reader, executed, espeak_corpus, tmp_path):
    import prep_splits

    prep_splits.main(["--path_to_ljspeech", str(espeak_corpus), "--path_to_save", str(tmp_path)])
    generator = small_generator(mel_scale="ln")  # like official models, unlike the voice
    save_model(tmp_path / "mine", generator.config, generator=generator)
    changes = {
        '"docs/clips/metadata.csv"': repr(str(tmp_path / "train_metadata.csv")),
        '"pretrained/ljspeech"': repr(str(tmp_path / "mine")),
    }
    outputs = reader.run("settings", "setup", "clips", "recording", "hifigan", changes=changes)
    assert len(audio_in(outputs["recording"])) == len(audio_in(outputs["hifigan"])) == 1
    assert not np.array_equal(audio_in(outputs["hifigan"])[0], audio_in(executed["hifigan"])[0])


def test_the_notebook_is_committed_with_the_outputs_of_one_run(committed):
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    check_stages({cell.id: cell.outputs for cell in code})
    assert NOTEBOOK.stat().st_size < 2e6


def test_the_notebook_contains_no_paths_of_a_machine(committed):
    outputs = [output for cell in committed.cells for output in cell.get("outputs", [])]
    written = text_of(outputs) + "\n".join(cell.source for cell in committed.cells)
    assert re.findall(r"/(?:home|root|Users|tmp|work|usr|opt)/\S*|\b[A-Z]:\\\S*|site-packages", written) == []
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    assert committed.metadata.kernelspec.name == "python3"
    assert {name for cell in committed.cells for name in cell.metadata} == set()


def test_files_written_by_the_notebook_are_ignored_by_git(committed):
    settings = next(cell.source for cell in committed.cells if cell.id == "settings")
    folder = re.search(r'OUTPUT = Path\("(\w+)/', settings)[1]
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()
