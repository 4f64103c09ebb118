"""Entry points of `torch.hub.load`, named and called as on NVIDIA's page for HiFi-GAN.

    vocoder, setup, denoiser = torch.hub.load("<this repository>", "hifigan")
    tacotron2 = torch.hub.load("<this repository>", "tacotron2")
    utils = torch.hub.load("<this repository>", "text_processing")
    sequences, lengths = utils.prepare_input_sequence(["Any sentence of yours."])
    mel, _, _ = tacotron2.infer(sequences, lengths)
    audio = denoiser(vocoder(mel).squeeze(1), 0.005)

    voice = torch.hub.load("<this repository>", "voice")
    audio = voice("Any sentence of yours.")

Mels are natural logarithms, as NVIDIA's are, so vocoders and text-to-mel models of both can be combined.
"""

from pathlib import Path as _Path

from checkpoint.voices import find_voice as _find_voice
from synthesis import hub as _hub

_HIFIGAN_VOICE = "espeak"  # the voice of the first three entry points by default

dependencies = ["torch", "numpy", "safetensors", "tqdm", "num2words", "anyascii", "espeakng_loader"]


def hifigan(checkpoint=None, model_math="fp32"):
    """Return (vocoder, setup, denoiser).

    `vocoder` maps mels (B, num_mels, T) to audio (B, 1, T * hop_size), `setup` has the settings of the mels
    under NVIDIA's names, and `denoiser(audio, strength)` takes audio (B, samples). `checkpoint` is a folder
    or file of a vocoder in any format (default: that of the voice "espeak"). With `model_math="fp16"`, GPUs
    compute in half precision.
    """
    path = _Path(checkpoint) if checkpoint else _find_voice(_HIFIGAN_VOICE).vocoder
    return _hub.load_vocoder(path, model_math)


def tacotron2(voice=_HIFIGAN_VOICE, model_math="fp32"):
    """Return the Tacotron 2 of a voice, with NVIDIA's `infer`.

    `infer(tokens, lengths)` returns mels (B, num_mels, T), their lengths (B,) and the attention
    (B, steps, L). The attribute `setup` has the settings of the mels.
    """
    return _hub.HubTacotron2(_find_voice(voice), model_math)


def text_processing(voice=_HIFIGAN_VOICE, cmudict_path=None, heteronyms_path=None):
    """Return an object whose `prepare_input_sequence(texts)` returns tokens (B, L) and their lengths (B,).

    They suit the Tacotron 2 of the same voice. NVIDIA's dictionaries are not needed and not read.
    """
    return _hub.TextProcessing(_find_voice(voice))


def voice(name=None, device="cpu"):
    """Return a function from a text of any length to its audio (samples,) at the rate `.sampling_rate`.

    `name` is a voice's name or folder (default: the default voice).
    """
    return _hub.HubVoice(_find_voice(name), device)


def nvidia_fastpitch(*arguments, **options):
    """Raise NotImplementedError, which names Tacotron 2: there is no FastPitch."""
    raise NotImplementedError(
        "there is no FastPitch; load 'tacotron2', with tacotron2.setup, and call tacotron2(batch['text'])"
    )


def nvidia_waveglow(*arguments, **options):
    """Raise NotImplementedError, which names HiFi-GAN: there is no WaveGlow."""
    raise NotImplementedError(
        "there is no WaveGlow; load 'hifigan', and call vocoder(mel) instead of infer(mel)"
    )


# the names on NVIDIA's pages
nvidia_hifigan, nvidia_tacotron2 = hifigan, tacotron2
nvidia_tts_utils = nvidia_textprocessing_utils = text_processing
