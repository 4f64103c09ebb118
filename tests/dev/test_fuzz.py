"""Readers accept or refuse damaged files and unusual text; `dev/fuzz.py` tries many more of them."""

import os
import signal

import numpy as np
import pytest
from helpers import load_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, Reader, read_one

fuzz = load_script("dev/fuzz.py")


@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_accepted_or_refused_and_nothing_else(tmp_path, name):
    reader = READERS[name]

    @settings(
        max_examples=20, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(reader.prepare(tmp_path))
    def check(data):
        assert read_one(reader, tmp_path, data) in ("accepted", "refused")

    check()


def test_crashes_hangs_and_too_much_memory_are_failures(tmp_path, monkeypatch):
    def crash(path):
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(path):
        while True:
            pass

    def allocate(path):
        np.ones(1 << 29)

    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.3)
    for number, read in enumerate((crash, hang, allocate, lambda path: 1 / 0)):
        reader = Reader("a.txt", read, lambda folder: st.just(b"x"))
        monkeypatch.setitem(READERS, "bad", reader)
        folder = tmp_path / str(number)
        folder.mkdir()
        result = fuzz.run_in_process("bad", folder, 0.2, 0)
        assert result.counts["failed"] > 0 and result.failures
        assert [path.read_bytes() for path in folder.glob("*.failed")] == [b"x"]
