"""Fingerprints of code: what a cached value was computed by."""

import importlib.metadata

import pytest

from evaluation import cache
from evaluation.cache import code_of


@pytest.fixture
def project(tmp_path):
    """Modules that import each other and packages, in every way that the project uses."""
    sources = {
        "top": "import math\nfrom package import part\nfrom rules import LIMIT\nimport numpy as np\n",
        "package/__init__": "",
        "package/part": "def f():\n    import soxr\n    from package.deep import g\n",
        "package/deep": "import top\noptional_package('faster_whisper.utils', package='faster-whisper')\n",
        "rules": "LIMIT = 1\n",
        "other": "import soundfile\n",
    }
    for name, text in sources.items():
        (tmp_path / name).with_suffix(".py").parent.mkdir(exist_ok=True)
        (tmp_path / name).with_suffix(".py").write_text(text)
    return tmp_path


def fingerprint(project) -> str:
    code_of.cache_clear()
    return code_of("top", project)


@pytest.mark.parametrize("name", ["top", "package/__init__", "package/part", "package/deep", "rules"])
def test_every_module_that_is_imported_directly_or_not_counts(project, name):
    before = fingerprint(project)
    assert fingerprint(project) == before
    path = (project / name).with_suffix(".py")
    path.write_text(path.read_text() + "x = 1\n")
    assert fingerprint(project) != before


def test_a_module_that_is_not_imported_does_not_count(project):
    before = fingerprint(project)
    (project / "other.py").write_text("x = 2\n")
    assert fingerprint(project) == before


@pytest.mark.parametrize(
    ("package", "counts"),
    [("numpy", True), ("soxr", True), ("faster-whisper", True), ("ctranslate2", True), ("soundfile", False)],
)
def test_the_versions_of_imported_packages_and_of_what_they_require_count(
    project, monkeypatch, package, counts
):
    before, version = fingerprint(project), importlib.metadata.version
    newer = lambda name: "99" if name == package else version(name)  # noqa: E731
    monkeypatch.setattr(cache.importlib.metadata, "version", newer)
    assert (fingerprint(project) != before) == counts


@pytest.mark.parametrize(
    ("module", "dependencies"),
    [
        ("evaluation.signal", {"mel", "corpus.audio", "evaluation.inputs"}),
        ("evaluation.recognition", {"text.numbers", "text.normalization"}),
        ("evaluation.systems", {"mel", "text.espeak", "tacotron2.speak", "synthesis.vocoder", "model"}),
    ],
)
def test_metrics_and_systems_depend_on_mel_text_and_networks(monkeypatch, module, dependencies):
    read, find = set(), cache.source_file
    monkeypatch.setattr(cache, "source_file", lambda name, root: read.add(name) or find(name, root))
    code_of.cache_clear()
    code_of(module)
    assert dependencies <= read


def test_a_record_without_a_hash_is_no_record(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"audio")
    (tmp_path / "a.json").write_text('{"made_with": "x"}')
    assert cache.kept(tmp_path / "a.wav", "x") is None
