import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


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
    from scripts.make_corpus import make_corpus

    return make_corpus(tmp_path_factory.mktemp("espeak_corpus"), num_clips=12).parent
