"""dev/torture.py with few kills: dev/LOG.md has the result of 200."""

import re
import subprocess
import sys

from helpers import ROOT


def test_killed_and_broken_runs_end_like_an_undisturbed_run(tmp_path):
    command = [sys.executable, "dev/torture.py", "--kills", "2", "--report", str(tmp_path / "report.md")]
    command += ["--faults", "killed worker"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "report.md").read_text()
    assert "| kills | 2 |" in report and "| kills of python train.py | 1 |" in report
    assert int(re.search(r"equal the undisturbed run \| (\d+)", report)[1]) >= 1
    worker = report.splitlines()[-1]
    assert re.fullmatch(
        r"\| killed worker \| 2 \| a process that reads clips was killed.*\| 0 \| yes \|", worker
    )
