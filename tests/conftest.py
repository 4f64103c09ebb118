import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# OpenMP's threads wait for each other by spinning: on cores that other programs use too, that is slower by
# orders of magnitude. Read when PyTorch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real speech and its transcripts, which developers have beside the repository and users don't."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    return folder


@pytest.fixture(scope="session")
def espeak_corpus(tmp_path_factory) -> Path:
    """Twelve spoken sentences in LJSpeech's layout, about a minute."""
    pytest.importorskip("espeakng_loader")
    from helpers import load_script

    make_corpus = load_script("scripts/make_corpus.py").make_corpus
    return make_corpus(tmp_path_factory.mktemp("espeak_corpus"), num_clips=12).parent


@pytest.fixture(scope="session")
def formula(shared):
    """The module that makes the weights and inputs to which the numbers in ../shared/reference belong."""
    spec = importlib.util.spec_from_file_location("formula", shared / "reference" / "formula.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference(shared):
    """`reference(name)` gives the arrays that the official implementations put out."""
    return lambda name: dict(np.load(shared / "reference" / f"{name}.npz"))


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> Path:
    """`train.csv` of 8 clips and `test.csv` of 2, of half a second or less."""
    from runs import make_corpus

    return make_corpus(tmp_path_factory.mktemp("small_corpus"))
