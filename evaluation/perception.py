"""Metrics that predict how listeners rate a clip: UTMOS, DistillMOS and PESQ."""

import contextlib
import io
import sys
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch
from torch import nn

from common.errors import UserError
from evaluation.inputs import Unavailable, at_16_khz, audible, optional_package, paired
from evaluation.utmos import Score

# The ITU's code for P.862 writes beyond its arrays if a clip has more than 50 utterances, and crashes the
# process. Utterances and the pauses between them last at least 0.2 s, so a clip of this length has fewer.
PESQ_LONGEST = 20.0  # seconds


def utmos(audio: np.ndarray, sampling_rate: int, device: str = "cpu") -> float:
    """Mean opinion score (naturalness) predicted by UTMOS22's strong learner: 1 to 5, higher is better.

    For clips of at least 0.1 s. Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022"
    (2022); see `evaluation/utmos.py` for the weights.
    """
    audio = audible(audio)
    try:
        return utmos_scorer(device).calculate_wav(audio, sampling_rate)
    except UserError as error:
        raise Unavailable(str(error)) from error


@lru_cache(maxsize=1)
def utmos_scorer(device: str) -> Score:
    """Return a scorer that stays in memory for the following clips."""
    return Score(device=device)


def distillmos(audio: np.ndarray, sampling_rate: int, device: str = "cpu") -> float:
    """Mean opinion score predicted by DistillMOS: 1 to 5, higher is better.

    At 16 kHz; for a clip longer than 7.68 s, the mean over overlapping windows. Stahl and Gamper,
    "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment"
    (2025). The weights are in the package `distillmos`.
    """
    audio = at_16_khz(audible(audio), sampling_rate)
    model = distillmos_model(device)
    with torch.inference_mode():
        return float(model(torch.from_numpy(audio).to(device)[None]))


@lru_cache(maxsize=1)
def distillmos_model(device: str) -> nn.Module:
    """Return the DistillMOS network in eval mode. Raises Unavailable if the package is missing."""
    with torchaudio_optional():
        package = optional_package("distillmos", hint=" xls-r-sqa")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
        model = package.ConvTransformerSQAModel()
    return model.to(device).eval()


@contextlib.contextmanager
def torchaudio_optional():
    """Provide an empty module `torchaudio` to an import unless the real one is loaded.

    distillmos uses it only to read files on its command line, and it cannot be imported with every build of
    PyTorch.
    """
    if "torchaudio" in sys.modules:
        yield
        return
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]


def pesq_wideband(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """Perceptual evaluation of speech quality, wideband (MOS-LQO): 1.04 to 4.64, higher is better.

    At 16 kHz, by the package `pesq`, a wrapper of the ITU's code, which first aligns the two clips in level
    and time. For clips of 0.25 s to 20 s. ITU-T P.862.2 (2007).
    """
    pesq = optional_package("pesq", "; its installation needs a C compiler and Python's headers")
    audio, reference = paired(audio, reference, sampling_rate)
    audio = audible(audio)
    seconds = len(audio) / sampling_rate
    if seconds > PESQ_LONGEST:
        raise Unavailable(f"the clip lasts {seconds:.1f} s; PESQ supports up to {PESQ_LONGEST:.0f} s")
    clips = (at_16_khz(clip, sampling_rate) for clip in (reference, audio))
    try:
        return float(pesq.pesq(16000, *clips, "wb"))
    except pesq.BufferTooShortError as error:
        raise Unavailable("the clip is shorter than the 0.25 s that PESQ needs") from error
    except pesq.NoUtterancesError as error:
        raise Unavailable("PESQ finds no utterance in the clip") from error
