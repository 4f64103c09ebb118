"""What `hubconf.py` returns: the models with the calls and mels of NVIDIA's entry points of `torch.hub`."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from checkpoint import load_generator, read_tacotron2_config
from checkpoint.formats.nvidia import train_setup
from checkpoint.voices import Voice, load_voice_tacotron2
from common.errors import UserError
from synthesis.denoiser import Denoiser
from synthesis.speech import load_text_to_speech
from tacotron2.speak import frame_limits
from text import PAD_ID, encode_texts


def autocast(device: torch.device, model_math: str) -> torch.autocast:
    """Return the context for NVIDIA's `model_math`; a CPU computes in float32 in any case."""
    return torch.autocast(device.type, torch.float16, enabled=model_math == "fp16" and device.type != "cpu")


class HubVocoder(nn.Module):
    """A generator for natural-log mels: (B, num_mels, T) -> (B, 1, T * hop_size)."""

    def __init__(self, path: Path, model_math: str = "fp32"):
        super().__init__()
        self.generator, self.model_math = load_generator(path), model_math
        self.config = self.generator.config

    def forward(self, mel: Tensor) -> Tensor:
        with autocast(mel.device, self.model_math):
            return self.generator(self.config.from_ln(mel))


def load_vocoder(path: Path, model_math: str = "fp32") -> tuple[HubVocoder, dict, Denoiser]:
    """Return a vocoder, NVIDIA's dictionary of its mel settings, and its denoiser."""
    vocoder = HubVocoder(path, model_math)
    return vocoder, train_setup(vocoder.config), Denoiser(vocoder.generator)


class HubTacotron2(nn.Module):
    """A voice's Tacotron 2 with natural-log mels and NVIDIA's `infer`."""

    def __init__(self, voice: Voice, model_math: str = "fp32"):
        super().__init__()
        self.model, self.model_math = load_voice_tacotron2(voice), model_math
        self.setup = train_setup(self.model.config)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None, seed: int = 0):
        """Speak padded tokens (B, L) with their lengths (B,); see `infer`."""
        config, device = self.model.config, next(self.parameters()).device
        if lengths is None:
            lengths = torch.full((len(tokens),), tokens.shape[1])
        tokens, lengths, limits = tokens.to(device), lengths.to(device), frame_limits(config, lengths.cpu())
        with autocast(device, self.model_math):
            speech = self.model.infer(tokens, lengths, limits, seed)
        return config.to_ln(speech.mel.float()), speech.frames, speech.attention

    def infer(self, tokens: Tensor, lengths: Tensor | None = None, seed: int = 0):
        """Return mels (B, num_mels, T), their lengths (B,) in frames and the attention (B, steps, L).

        `seed` determines the prenet's dropout. Each sentence gets one attempt, unlike in `HubVoice`.
        """
        return self(tokens, lengths, seed)


class TextProcessing:
    """Text to the tokens of a voice's Tacotron 2."""

    def __init__(self, voice: Voice):
        self.config = read_tacotron2_config(voice.taco)

    def prepare_input_sequence(
        self, texts: list[str] | str, cpu_run: bool = True, batch_size: int | None = None
    ):
        """Return padded tokens (B, L) and their lengths (B,), in the order of the texts, or of a single one.

        With `batch_size`, return a list of dictionaries with the keys `text` and `text_lens` instead, as
        NVIDIA's page for HiFi-GAN expects. The tokens are on the CPU for any `cpu_run`: `infer` moves them.
        Raises UserError if there are no texts.
        """
        texts = [texts] if isinstance(texts, str) else texts
        if not len(texts):
            raise UserError("there are no texts; pass a list with at least one")
        if batch_size:
            starts = range(0, len(texts), batch_size)
            batches = [self.prepare_input_sequence(texts[start : start + batch_size]) for start in starts]
            return [{"text": tokens, "text_lens": lengths} for tokens, lengths in batches]
        tokens = [torch.tensor(ids) for ids in encode_texts(texts, self.config)]
        return pad_sequence(tokens, True, PAD_ID), torch.tensor([len(ids) for ids in tokens])


class HubVoice:
    """Text of any length to its audio (samples,), sentence by sentence and with repeated attempts."""

    def __init__(self, voice: Voice, device: torch.device | str = "cpu"):
        self.tts = load_text_to_speech(voice, device)
        self.sampling_rate = self.tts.sampling_rate

    def __call__(self, text: str, seed: int = 0) -> Tensor:
        return torch.from_numpy(self.tts.synthesize(text, seed))
