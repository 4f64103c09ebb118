"""`--compile`: compiled networks train like others, resume exactly, and are saved under the same names."""

import pytest
import tacotron2_runs
import torch
from runs import metrics, train_here
from safetensors.torch import load_file
from torch import nn

VOCOS = {"generator": "vocos", "vocos_dim": 16, "vocos_intermediate_dim": 16, "vocos_num_layers": 1}
VOCOS |= {"mpd_periods": [2], "discriminators": ["mpd"], "training_epochs": 2}


@pytest.fixture(autouse=True)
def forget_compiled_code():
    yield
    torch._dynamo.reset()


def assert_close(compiled: list[dict], plain: list[dict], names: tuple[str, ...], rel: float) -> None:
    assert len(compiled) == len(plain)
    for one, other in zip(compiled, plain, strict=True):
        assert [one[name] for name in names] == pytest.approx([other[name] for name in names], rel=rel)


def test_all_networks_are_compiled_once_per_turn_and_without_graph_breaks(
    small_corpus, tmp_path, monkeypatch
):
    """With the compiler's first half only, which records graphs and guards."""
    graphs = []

    def record(graph, inputs):
        graphs.append(graph)
        return graph

    def compile_first_half(module):
        module._compiled_call_impl = torch.compile(module._call_impl, backend=record, fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", compile_first_half)
    compiled = train_here(small_corpus, tmp_path / "compiled", compile=True, **VOCOS)
    # the generator; the discriminators in their own turn, for real audio and for generated audio
    assert len(graphs) == 4
    plain = train_here(small_corpus, tmp_path / "plain", **VOCOS)
    assert_close(metrics(compiled, "train"), metrics(plain, "train"), ("gen_loss", "disc_loss"), 1e-5)
    assert_close(metrics(compiled, "val"), metrics(plain, "val"), ("val_mel_loss",), 1e-4)


def test_a_compiled_vocoder_resumes_exactly(small_corpus, tmp_path, monkeypatch):
    """With all of the compiler but the code that it writes, which takes minutes."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend="aot_eager"))
    settings = {**VOCOS, "adversarial_start_steps": 100, "ema_decay": 0.9}  # the generator alone, for speed
    plain = train_here(small_corpus, tmp_path / "plain", **settings)
    settings["compile"] = True
    whole = train_here(small_corpus, tmp_path / "whole", **settings)
    assert_close(metrics(whole, "train"), metrics(plain, "train"), ("gen_loss",), 1e-4)

    parts = train_here(small_corpus, tmp_path / "parts", max_train_steps=5, **settings)
    train_here(small_corpus, parts, resume_from_checkpoint="latest", **settings)
    for name in ("generator", "generator_raw"):
        one, other = (load_file(run / f"final_checkpoint/{name}.safetensors") for run in (whole, parts))
        assert one.keys() == load_file(plain / f"final_checkpoint/{name}.safetensors").keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_the_decoder_step_is_compiled_once_for_all_lengths(small_corpus, tmp_path, monkeypatch):
    graphs, compile_function = [], torch.compile

    def record(graph, inputs):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda step: compile_function(step, backend=record, fullgraph=True))
    plain = tacotron2_runs.train_here(small_corpus, tmp_path / "plain", training_epochs=1)
    compiled = tacotron2_runs.train_here(small_corpus, tmp_path / "compiled", training_epochs=1, compile=True)
    assert len(graphs) <= 4  # for the first step and the others, for the first length and for any
    assert_close(metrics(compiled, "train"), metrics(plain, "train"), ("loss",), 1e-5)
