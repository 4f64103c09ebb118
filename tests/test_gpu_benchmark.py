"""`benchmarks/gpu.py` on the CPU, with small sizes and without the compiled variants, which take minutes."""

import json

import pytest
from runs import as_own_process

from benchmarks import gpu


def test_the_gpu_benchmark_measures_and_checks_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "check_resume", lambda bench: None)  # tested with complete runs elsewhere
    monkeypatch.setattr(gpu, "SECONDS_TO_COMPILE", 1e9)
    output = tmp_path / "results" / "gpu.json"
    with as_own_process():
        gpu.main(["--cpu", f"--output={output}"])
    result = json.loads(output.read_text())
    assert (
        all(check["difference"] <= check["limit"] for check in result["checks"]) and len(result["checks"]) > 8
    )
    found = {(record["task"], record["variant"]): record for record in result["measurements"]}
    for task in ("train V1", "train Tacotron 2"):
        for variant in ("float32", "TF32", "bf16"):
            assert found[task, variant]["frames_per_second"] > 0
        assert found[task, "bf16 compiled"]["problem"] == "no time left"
    assert 0 < found["train V1", "bf16"]["share_of_peak"] < 1
    assert found["vocode v3", "TF32, batch 1"]["times_real_time"] > 0


def test_a_failed_check_is_named_and_sets_the_exit_status(tmp_path, monkeypatch):
    parts = ("check_mel", "vocoding", "check_resume", "tacotron2_decoding")
    parts += ("vocoder_training", "tacotron2_training")
    for name in parts:
        monkeypatch.setattr(gpu, name, lambda bench: None)
    monkeypatch.setattr(gpu, "check_mel", lambda bench: bench.check("mel", float("nan"), 1e-3))
    with pytest.raises(SystemExit, match="failed: mel"):
        gpu.main(["--cpu", f"--output={tmp_path / 'gpu.json'}"])


def test_nothing_is_measured_without_time(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "check_resume", lambda bench: None)
    output = tmp_path / "gpu.json"
    with as_own_process():
        gpu.main(["--cpu", "--minutes=0", f"--output={output}"])
    problems = [record["problem"] for record in json.loads(output.read_text())["measurements"]]
    assert problems == ["no time left"] * len(problems) and len(problems) > 10
