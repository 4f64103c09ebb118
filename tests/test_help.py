"""Scripts answer --help and mistakes on the command line before they import what takes seconds."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

SLOW = {
    "accelerate", "gradio", "huggingface_hub", "librosa", "matplotlib", "pandas", "pyarrow", "safetensors",
    "scipy", "sklearn", "torch", "transformers",
}  # fmt: skip


@pytest.mark.parametrize("flag, status", [("--help", 0), ("--no_such_flag", 2)])
@pytest.mark.parametrize("script", ["app.py", "evaluate.py", "inference.py"])
def test_help_and_unknown_flags_import_no_slow_package(script, flag, status):
    command = [sys.executable, "-X", "importtime", script, flag]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    imported = set(re.findall(r"^import time:.*\| +(\w+)", done.stderr, re.MULTILINE))
    assert done.returncode == status
    assert "common" in imported and "argparse" in imported
    assert imported & SLOW == set()
