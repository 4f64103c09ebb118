"""Speak with an exported voice, without PyTorch and without this repository.

    python -m checkpoint export --voice espeak --output espeak_onnx
    python speak_onnx.py espeak_onnx "Any sentence of yours." speech.wav

Needs numpy, onnxruntime, soundfile and, for voices that read phonemes, espeakng-loader. With the same seed it
produces the same audio as inference.py does in its first attempt at a sentence. Numbers and abbreviations are
read by espeak-ng; `text`, which needs no PyTorch either, normalizes them as in training.
"""

import argparse
import ctypes
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

MARKS = '[!"(),.:;?…—¡¿]'


class OnnxVoice:
    """An exported voice: `speak` maps text to audio at `config["sampling_rate"]`."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.encoder, self.decoder_step, self.postnet, self.vocoder = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder_step", "postnet", "vocoder")
        )

    def speak(self, text: str, seed: int = 0) -> np.ndarray:
        """Return the audio (samples,) of a text, with a pause after each sentence."""
        parts = []
        for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
            mel = self.speak_mel(self.tokens(sentence), seed)
            pause = self.config["pauses"].get(sentence[-1:], 0.05)
            silence = np.zeros(round(pause * self.config["sampling_rate"]), dtype=np.float32)
            parts += [self.vocoder.run(None, {"mel": mel})[0][0, 0], silence]
        return np.concatenate(parts[:-1])

    def tokens(self, sentence: str) -> np.ndarray:
        """Return the token IDs (1, L) of a sentence; symbols that the voice does not know are skipped."""
        is_ipa = self.config["text_input"] == "phonemes"
        text = phonemize(sentence, self.config["language"]) if is_ipa else sentence.lower()
        ids = [self.config["symbols"].index(symbol) for symbol in text if symbol in self.config["symbols"]]
        return np.array([ids + [1] * self.config["end_symbol"]])  # <end> is 1

    def speak_mel(self, tokens: np.ndarray, seed: int) -> np.ndarray:
        """Return the vocoder's mel (1, num_mels, frames) of tokens (1, L)."""
        config, length = self.config, tokens.shape[1]
        values, keys = self.encoder.run(None, {"tokens": tokens})
        state = {
            name: np.zeros([length if size == "L" else size for size in shape], dtype=np.float32)
            for name, shape in config["state"].items()
        }
        spoken = np.zeros((1, config["num_mels"] * config["frames_per_step"]), dtype=np.float32)
        base, per_token = config["limit_seconds"]
        limit = int((base + per_token * length) * config["sampling_rate"] / config["hop_size"])
        frames = []
        for _, keep in zip(
            range(max(1, limit // config["frames_per_step"])), dropout_masks(config, seed), strict=False
        ):
            inputs = {"frames": spoken, "keep": keep, "values": values, "keys": keys, **state}
            spoken, gate, *new_state = self.decoder_step.run(None, inputs)
            state = dict(zip(state, new_state, strict=True))
            frames.append(spoken)
            if gate[0] > config["gate_threshold"]:
                break
        mel = np.concatenate(frames).reshape(-1, config["num_mels"]).T[None]
        return self.postnet.run(None, {"mel": mel})[0]


def dropout_masks(config: dict, seed: int) -> Iterator[np.ndarray]:
    """Yield the prenet's dropout mask (1, layers, width) of each step, as PyTorch draws it from this seed."""
    random = np.random.RandomState(seed)
    while True:
        bits = random.randint(0, 2**32, (1, *config["prenet"]), dtype=np.uint32) & 0xFFFFFF
        yield (bits / 2**24 < 1 - config["prenet_dropout"]).astype(np.float32)


def phonemize(text: str, language: str) -> str:
    """Return espeak-ng's IPA of a text, with its punctuation."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = str(Path(espeakng_loader.get_data_path()).parent).encode()
    library.espeak_Initialize(2, 0, data, 0x8000)  # synchronous; no exit on errors
    library.espeak_SetVoiceByName(language.encode())
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    if language.startswith("en"):  # as `text.clean` normalizes it
        text = re.sub(r"\s*(--+|—)\s*", " - ", text.lower())
    pieces = re.split(rf"(\s*(?:--+|{MARKS})(?:{MARKS}|\s)*)", text)
    for index in range(0, len(pieces), 2):  # the punctuation is between them
        clauses, pointer = [], ctypes.c_char_p(pieces[index].encode())
        while pointer.value is not None:  # each call advances the pointer by one clause
            clauses.append(library.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2) or b"")  # UTF-8, IPA
        pieces[index] = re.sub(r"\([a-z0-9-]+\)|[\u200d_]", "", b" ".join(clauses).decode()).strip()
    return " ".join("".join(pieces).replace("--", "—").split())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speak with an exported voice, without PyTorch.")
    parser.add_argument("voice", type=Path, help="folder written by `python -m checkpoint export --voice`")
    parser.add_argument("text", help="text to speak")
    parser.add_argument("output", type=Path, help="WAV file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the prenet's dropout")
    args = parser.parse_args()
    try:
        voice = OnnxVoice(args.voice)
        audio = voice.speak(args.text, args.seed)
        soundfile.write(args.output, audio, voice.config["sampling_rate"])
    except Exception as error:  # those of ONNX Runtime have no common base class
        parser.exit(2, f"{parser.prog}: error: can't speak with {args.voice}: {error!r}\n")
