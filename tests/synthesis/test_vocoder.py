"""Vocoders in mixed precision, and copy synthesis."""

import shutil

import numpy as np
import pytest
import torch
from helpers import RATE, small_generator, speech_mel, voice
from torch import nn

from checkpoint import load_generator, save_model
from common.errors import UserError
from config import HiFiGANConfig
from generators.build import build_generator
from synthesis.vocoder import compile_generator, copy_synthesis, load_vocoder, use_mixed_precision, vocode

VARIANTS = {
    "v1": {},
    "istft": {"upsample_rates": (8, 8), "upsample_kernel_sizes": (16, 16), "gen_istft_n_fft": 16},
    "match": {"match_mel": True, "mel_scale": "ln"},
    "vocos": {"generator": "vocos", "vocos_dim": 32, "vocos_intermediate_dim": 64, "vocos_num_layers": 2},
}


def make_generator(variant: str):
    torch.manual_seed(0)
    settings = {"gen_istft_hop_size": 4} if variant == "istft" else {}
    if variant != "vocos":
        return small_generator(**VARIANTS[variant], **settings).fold_weight_norm()
    return build_generator(HiFiGANConfig(**VARIANTS[variant])).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_bf16_is_close_to_float32_and_is_used_in_all_layers_but_the_last(variant):
    generator, mel = make_generator(variant), speech_mel(40)
    expected = generator(mel)
    dtypes = {}
    for name, module in generator.named_modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.ConvTranspose1d | torch.nn.Linear):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: dtypes.update({name: output.dtype})
            )
    audio = use_mixed_precision(generator, "bf16")(mel)
    assert audio.dtype == torch.float32 and audio.shape == expected.shape
    error, level = (audio - expected).norm(), expected.norm()
    assert 0 < error < 0.05 * level
    for name, dtype in dtypes.items():
        kept = name.startswith("head") or (variant in ("v1", "match") and name.startswith("fusions.3"))
        assert dtype == (torch.float32 if kept else torch.bfloat16), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_head_computes_in_float32_in_training_with_bf16(variant):
    generator = make_generator(variant).train()
    layer = generator.head.out if variant == "vocos" else generator.head.conv_post
    dtypes = []
    layer.register_forward_hook(lambda _, inputs, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        audio = generator(speech_mel(40))
    assert dtypes == [torch.float32]
    assert not torch.equal(audio, audio.bfloat16().float())  # samples are not rounded
    audio.square().mean().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stream_in_bf16_has_the_length_of_the_whole(variant):
    generator, mel = use_mixed_precision(make_generator(variant), "bf16"), speech_mel(60)[0]
    chunks = list(vocode(generator, mel, chunk_frames=16))
    assert len(chunks) > 2
    assert sum(map(len, chunks)) == 60 * 256 and all(chunk.dtype == np.float32 for chunk in chunks)


@torch.inference_mode()
def test_packed_layers_of_vocos_compute_the_same_in_float32():
    generator, mel = make_generator("vocos"), speech_mel(40, batch=2)
    expected = generator(mel)
    torch.testing.assert_close(use_mixed_precision(generator, "no")(mel), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_float32_audio_of_hifigan_is_bit_identical_to_that_of_the_plain_model():
    generator, mel = make_generator("v1"), speech_mel(40)
    expected = generator(mel)
    assert torch.equal(use_mixed_precision(generator, "no")(mel), expected)


LENGTHS = (40, 7, 61)


@torch.inference_mode()
def test_a_compiled_generator_makes_the_same_audio_at_any_length(monkeypatch):
    """With all of the compiler but the code that it writes, which the test of Vocos runs."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda *args, **settings: compile_module(*args, **settings, backend="aot_eager")
    )
    generator = small_generator(
        upsample_rates=(16, 16), upsample_kernel_sizes=(32, 32), resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
    )  # fmt: skip
    mels = [speech_mel(frames) for frames in LENGTHS]
    expected = [generator(mel) for mel in mels]
    compile_generator(generator)
    for mel, audio in zip(mels, expected, strict=True):
        torch.testing.assert_close(generator(mel), audio, rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_vocos_makes_the_same_audio_at_any_length(tmp_path):
    """Its linear layers are packed for the CPU, which the compiler could not trace."""
    sizes = {"vocos_dim": 32, "vocos_intermediate_dim": 64, "vocos_num_layers": 1}
    generator = small_generator(generator="vocos", **sizes)
    save_model(tmp_path / "model", generator.config, generator=generator)
    loaded = load_vocoder(tmp_path / "model")
    compile_generator(loaded)
    for frames in LENGTHS:
        mel = speech_mel(frames)
        torch.testing.assert_close(loaded(mel), generator(mel), rtol=0, atol=1e-4)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        use_mixed_precision(small_generator(), "fp16", "cpu")


def test_a_vocoder_is_loaded_in_the_requested_precision(tmp_path):
    generator = small_generator(seed=1)
    save_model(tmp_path / "model", generator.config, generator=generator)
    assert load_vocoder(tmp_path / "model").conv_pre.weight.dtype == torch.float32
    assert load_vocoder(tmp_path / "model", "cpu", "bf16").conv_pre.weight.dtype == torch.bfloat16
    assert load_vocoder(tmp_path / "model", "cpu", "bf16").head.conv_post.weight.dtype == torch.float32


def test_copy_synthesis_keeps_the_length_to_the_frame(tmp_path):
    generator = small_generator()
    save_model(tmp_path / "model", generator.config, generator=generator)
    audio = voice(0.5)
    copied = copy_synthesis(load_generator(tmp_path / "model"), audio)
    assert len(copied) == int(0.5 * RATE) // 256 * 256 and np.isfinite(copied).all()
