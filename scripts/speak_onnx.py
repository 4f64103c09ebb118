"""Speak with an exported voice, without PyTorch.

    python -m checkpoint export --voice espeak --output espeak_onnx
    python scripts/speak_onnx.py espeak_onnx "Any sentence of yours." speech.wav

Needs numpy, onnxruntime, soundfile, num2words, anyascii and, for voices that read phonemes, espeakng-loader.
With the same seed it says the same as inference.py: sentences, numbers and repeated attempts are those of
`text` and `tacotron2.reading`, which need no PyTorch either.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.errors import UserError, one_line, report_user_errors
from common.files import atomic_write
from common.options import Options, option, seed_option
from common.parser import parse_options
from tacotron2.reading import READING_LIMITS, Failure, attention_problem, max_seconds
from text import encode_texts, split_text

MAX_ATTEMPTS = 6


class OnnxVoice:
    """An exported voice: `speak` maps text to audio at `config["sampling_rate"]`."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.encoder, self.decoder_step, self.postnet, self.vocoder = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder_step", "postnet", "vocoder")
        )

    def speak(self, text: str, seed: int = 0, speed: float = 1.0) -> np.ndarray:
        """Return the audio (samples,) of a text, with pauses between its sentences."""

        def silence(seconds: float) -> np.ndarray:
            return np.zeros(round(seconds / speed * self.config["sampling_rate"]), dtype=np.float32)

        parts = []
        for piece in split_text(text, SimpleNamespace(**self.config)):
            mel = change_speed(self.best_mel(piece.text, seed), piece.speed * speed)
            audio = self.vocoder.run(None, {"mel": mel})[0][0, 0]
            parts += [silence(piece.before), audio, silence(piece.after)]
        return np.concatenate(parts)

    def best_mel(self, sentence: str, seed: int) -> np.ndarray:
        """Return the vocoder's mel (1, num_mels, frames) of the first good attempt, or the best one."""
        tokens = np.array(encode_texts([sentence], SimpleNamespace(**self.config)))
        attempts = []
        for attempt in range(MAX_ATTEMPTS):
            attempts.append(self.speak_mel(tokens, seed + attempt))
            if attempts[-1][1] == Failure.NONE:
                break
        mel, failure, problem = min(attempts, key=lambda attempt: attempt[1])
        if failure:
            message = f"{sentence!r} did not come out well in {MAX_ATTEMPTS} attempts: {problem}"
            print(message, file=sys.stderr)
        return mel

    def speak_mel(self, tokens: np.ndarray, seed: int) -> tuple[np.ndarray, Failure, str]:
        """Return the vocoder's mel (1, num_mels, frames) of tokens (1, L), how it failed, and why."""
        config, length = self.config, tokens.shape[1]
        values, keys = self.encoder.run(None, {"tokens": tokens})
        state = {
            name: np.zeros([length if size == "L" else size for size in shape], dtype=np.float32)
            for name, shape in config["state"].items()
        }
        spoken = np.zeros((1, config["num_mels"] * config["frames_per_step"]), dtype=np.float32)
        seconds = max_seconds(config["text_input"], length)
        limit = int(seconds * config["sampling_rate"] / config["hop_size"])
        frames, attention, stopped = [], [], False
        for _, keep in zip(
            range(max(1, limit // config["frames_per_step"])), dropout_masks(config, seed), strict=False
        ):
            inputs = {"frames": spoken, "keep": keep, "values": values, "keys": keys, **state}
            spoken, gate, *new_state = self.decoder_step.run(None, inputs)
            state = dict(zip(state, new_state, strict=True))
            frames.append(spoken)
            attention.append(state["weights"][0])
            stopped = bool(gate[0] > config["gate_threshold"])
            if stopped:
                break
        seconds = config["frames_per_step"] * config["hop_size"] / config["sampling_rate"]
        problem = attention_problem(
            np.stack(attention), stopped, seconds, READING_LIMITS[config["text_input"]]
        )
        mel = np.concatenate(frames).reshape(-1, config["num_mels"]).T[None]
        return self.postnet.run(None, {"mel": mel})[0], Failure.of(problem, stopped), problem


def change_speed(mel: np.ndarray, speed: float) -> np.ndarray:
    """Return a mel (1, num_mels, frames) with its frames interpolated as in `synthesis.speed`."""
    frames = mel.shape[2]
    positions = (np.arange(max(1, round(frames / speed))) + 0.5) * speed - 0.5
    bands = [np.interp(positions, np.arange(frames), band) for band in mel[0]]
    return mel if speed == 1 else np.stack(bands)[None].astype(np.float32)


def dropout_masks(config: dict, seed: int) -> Iterator[np.ndarray]:
    """Yield the prenet's dropout mask (1, layers, width) of each step, as PyTorch draws it from this seed."""
    random = np.random.RandomState(seed)
    while True:
        bits = random.randint(0, 2**32, (1, *config["prenet"]), dtype=np.uint32) & 0xFFFFFF
        yield (bits / 2**24 < 1 - config["prenet_dropout"]).astype(np.float32)


def other_than_wav(path: Path) -> str | None:
    return None if Path(path).suffix.lower() == ".wav" else "a .wav file"


@dataclass(frozen=True, kw_only=True)
class SpeakOnnxOptions(Options):
    """Options of `scripts/speak_onnx.py`."""

    voice: Path = option(help="Folder written by `python -m checkpoint export --voice`", positional=True)
    text: str = option(help="Text to speak", positional=True)
    output: Path = option(help="Write this .wav file", positional=True, check=other_than_wav)
    seed: int = seed_option(0, "the prenet's dropout")
    speed: float = option(1.0, "Speak this many times as fast, at the same pitch", minimum=0.25, maximum=4)


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(SpeakOnnxOptions, "scripts/speak_onnx.py", __doc__.splitlines()[0], arguments)
    try:
        voice = OnnxVoice(options.voice)
    except Exception as error:  # those of ONNX Runtime have no common base class
        raise UserError(f"can't load the exported voice {options.voice}: {one_line(error)}") from error
    audio = voice.speak(options.text, options.seed, options.speed)
    try:
        with atomic_write(options.output) as temporary:
            soundfile.write(temporary, audio, voice.config["sampling_rate"], format="WAV")
    except soundfile.SoundFileError as error:
        raise UserError(f"can't write {options.output}: {one_line(error)}; name another file") from error


if __name__ == "__main__":
    main()
