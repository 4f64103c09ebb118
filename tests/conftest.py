import contextlib
import importlib.util
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# OpenMP's threads wait for each other by spinning, which is slower by orders of magnitude on cores that
# other programs use. Read when PyTorch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # there are as many as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionfinish():
    """Kill the processes that a failed test has left (tests/forked.py): Python would wait for them."""
    for process in multiprocessing.active_children():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder with real speech and transcripts. Only developers have it, next to the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    return folder


@pytest.fixture(scope="session")
def espeak_corpus(tmp_path_factory) -> Path:
    """Twelve sentences spoken by espeak-ng, about a minute, in the layout of LJSpeech."""
    pytest.importorskip("espeakng_loader")
    from helpers import load_script

    make_corpus = load_script("scripts/make_corpus.py").make_corpus
    return make_corpus(tmp_path_factory.mktemp("espeak_corpus"), num_clips=12).parent


@pytest.fixture(scope="session")
def formula(shared):
    """The module that computes the weights and inputs of the reference outputs in ../shared/reference."""
    spec = importlib.util.spec_from_file_location("formula", shared / "reference" / "formula.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference(shared):
    """Return a function from a name to the outputs of the official implementation."""
    return lambda name: dict(np.load(shared / "reference" / f"{name}.npz"))


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> Path:
    """Eight training clips and two validation clips of at most 0.6 s."""
    from runs import make_corpus

    return make_corpus(tmp_path_factory.mktemp("small_corpus"))
