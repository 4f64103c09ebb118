"""The systems that are compared: vocoders on the same mels, audio made elsewhere, and the recordings."""

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from checkpoint import load_tacotron2, weights_fingerprint
from common.errors import UserError
from common.files import atomic_write, find_file
from config import HiFiGANConfig
from corpus.audio import AUDIO_SUFFIXES, read_audio, write_wav
from corpus.manifest import Clip
from evaluation import GRIFFIN_LIM, RECORDINGS
from evaluation.cache import code_of, digest, keep, kept, sha256
from evaluation.workers import Workers
from mel import MelConfig, MelSpectrogram, convert_mel_scale, griffin_lim
from synthesis.vocoder import load_vocoder, vocode
from tacotron2.speak import speak

# (resblock, upsample_initial_channel) of the variants of the HiFi-GAN paper
VARIANTS = {("1", 512): "V1", ("1", 128): "V2", ("2", 256): "V3"}
# File names of inference.py: <clip><ending>.wav
ENDINGS = ("", "_generated", "_generated_e2e")


@dataclass(frozen=True)
class System:
    """A row of the table: its name and, by name of clip, its audio files.

    `timings` has the seconds of computation and the device, for audio that was made here.
    """

    name: str
    wavs: dict[str, Path]
    timings: dict[str, tuple[float, str]] = field(default_factory=dict)
    is_recording: bool = False

    @property
    def main_device(self) -> str:
        """The device on which most clips were made; speeds on different devices are not averaged."""
        return Counter(device for _, device in self.timings.values()).most_common(1)[0][0]


@dataclass(frozen=True)
class MelSource:
    """The vocoders' input: a fingerprint for each clip, by name, and a function that returns its mels.

    `mels(name, config)` returns, for each sentence, a mel (num_mels, T) in the scale of `config` and the
    duration in seconds of the pause that follows. `notes` are sentences to show below the table.
    """

    fingerprints: dict[str, str]
    mels: Callable[[str, MelConfig], list[tuple[Tensor, float]]]
    notes: tuple[str, ...] = ()


def architecture_name(config: HiFiGANConfig) -> str:
    """Return the name of a vocoder's architecture, for its row."""
    if config.generator == "vocos":
        return "Vocos"
    if config.fusion == "misr":
        return "MISRNet"
    if config.gen_istft_n_fft:
        return "HiFi-GAN (iSTFT)"
    variant = VARIANTS.get((config.resblock, config.upsample_initial_channel), "")
    return f"HiFi-GAN {variant}".rstrip()


def recordings(clips: list[Clip]) -> System:
    """Return the clips themselves as a system."""
    return System(RECORDINGS, {clip.path.stem: clip.path for clip in clips}, is_recording=True)


def folder_system(name: str, folder: Path, clips: list[Clip]) -> System:
    """Return audio made elsewhere as a system: `<clip>.wav`, or files named by inference.py.

    Raises UserError if the folder or the audio of a clip is missing.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} for --system {name}; name one as NAME=DIR")
    wavs = {}
    for clip in clips:
        names = (folder / f"{clip.path.stem}{ending}.wav" for ending in ENDINGS)
        wavs[clip.path.stem] = next(filter(None, (find_file(name, AUDIO_SUFFIXES) for name in names)), None)
    if missing := [stem for stem, path in wavs.items() if path is None]:
        shown = ", ".join(f"{stem}.wav" for stem in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise UserError(
            f"{folder} of --system {name} lacks {len(missing)} of the {len(clips)} test clips: {shown}; add "
            "them, or use a manifest without them"
        )
    return System(name, wavs)


def recorded_mels(clips: list[Clip]) -> MelSource:
    """Return the mels of the recordings, for copy synthesis."""
    paths = {clip.path.stem: clip.path for clip in clips}

    def mels(name: str, config: MelConfig) -> list[tuple[Tensor, float]]:
        audio, sampling_rate, _ = read_audio(paths[name])
        if sampling_rate != config.sampling_rate or len(audio) < config.min_samples:
            raise UserError(
                f"{paths[name]} has {len(audio)} samples at {sampling_rate} Hz; the vocoder needs at least "
                f"{config.min_samples} at {config.sampling_rate} Hz: leave the clip out"
            )
        return [(MelSpectrogram(config)(torch.from_numpy(audio)), 0.0)]

    return MelSource({name: digest("recording", sha256(path)) for name, path in paths.items()}, mels)


def spoken_mels(path: Path, clips: list[Clip], folder: Path, device: str = "cpu", seed: int = 0) -> MelSource:
    """Return the mels that the Tacotron 2 at `path` predicts from the transcripts, cached in `folder`.

    A model of several speakers speaks each clip with the clip's speaker. Raises UserError if a transcript has
    no words, or if the model lacks a speaker.
    """
    if silent := [clip.path.stem for clip in clips if not any(map(str.isalnum, clip.transcript))]:
        raise UserError(
            f"{len(silent)} clips have no words in their normalized_transcript, the first {silent[0]}; add "
            "the words to the manifest, or use --copy_synthesis"
        )
    model = load_tacotron2(path, device)
    speakers = model.config.speakers
    if stranger := next((clip for clip in clips if speakers and clip.speaker not in speakers), None):
        raise UserError(
            f"{path} has the speakers {', '.join(speakers)}, but {stranger.path.stem} has "
            f"{stranger.speaker or 'none'}; add or correct the column speaker of the manifest, or reduce "
            f"the model to one: python -m checkpoint convert {path} FOLDER --to project --speaker NAME"
        )
    made_with = [code_of(__name__), weights_fingerprint(model), model.config.to_dict()]
    fingerprints = {}
    for clip in clips:
        read = [clip.transcript, seed] + ([clip.speaker] if speakers else [])
        fingerprints[clip.path.stem] = digest("spoken", *made_with, *read)
    records = {name: kept(folder / f"{name}.npz", fingerprint) for name, fingerprint in fingerprints.items()}
    missing = [clip for clip in clips if records[clip.path.stem] is None]
    for clip in tqdm(missing, desc="Tacotron 2", unit="clip", disable=None):
        one_voice = model.for_speaker(clip.speaker) if speakers else model
        start = time.perf_counter()
        utterances = speak(one_voice, clip.transcript, seed)
        about = {
            "seconds": time.perf_counter() - start,
            "pauses": [utterance.pause for utterance in utterances],
            "problem": "; ".join(utterance.problem for utterance in utterances if utterance.problem),
        }
        mels = [utterance.mel.numpy() for utterance in utterances]
        name = clip.path.stem
        records[name] = keep(
            folder / f"{name}.npz", fingerprints[name], partial(save_arrays, arrays=mels), about
        )

    def mels(name: str, config: MelConfig) -> list[tuple[Tensor, float]]:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays = [torch.from_numpy(file[f"arr_{number}"]) for number in range(len(file.files))]
        converted = [convert_mel_scale(mel, model.config, config) for mel in arrays]
        return list(zip(converted, records[name]["pauses"], strict=True))

    notes = ()
    if failed := [name for name, record in records.items() if record["problem"]]:
        shown = "; ".join(f"{name}: {records[name]['problem']}" for name in failed[:3])
        notes = (
            f"Tacotron 2 failed on {len(failed)} of the {len(clips)} clips ({shown}"
            f"{'; …' if len(failed) > 3 else ''}); they are included in the means.",
        )
    return MelSource(fingerprints, mels, notes)


def save_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def griffin_lim_system(source: MelSource, config: MelConfig, folder: Path, workers: Workers) -> System:
    """Return the baseline without weights, its audio cached in `folder`. Each worker uses one core."""
    config = MelConfig.from_dict(config.to_dict())  # without a model's other settings
    made_with = digest("griffin_lim", code_of(__name__), config.to_dict())

    def make(names: list[str]) -> Iterator[tuple[str, np.ndarray, float]]:
        tasks = ((name, config, source.mels(name, config)) for name in names)
        yield from workers.run(griffin_lim_clip, tasks)

    device = f"one thread of {processor_name()}" if workers.count else device_name("cpu")
    return made_here(GRIFFIN_LIM, source, made_with, make, folder, config.sampling_rate, device)


def griffin_lim_clip(
    task: tuple[str, MelConfig, list[tuple[Tensor, float]]],
) -> tuple[str, np.ndarray, float]:
    name, config, mels = task
    griffin_lim(mels[0][0][:, :8], config, iterations=1)  # the first call imports and compiles
    return name, *timed(partial(griffin_lim, config=config), mels, config)


def vocoder_system(
    name: str,
    path: Path,
    source: MelSource,
    folder: Path,
    device: str = "cpu",
    mixed_precision: str = "no",
) -> System:
    """Return a vocoder's audio, cached in `folder`. `path` is in any form that inference.py reads."""
    vocoder = load_vocoder(path, device, mixed_precision)
    config = vocoder.config
    # the weights of a checkpoint, as its file may change while they do not; an .onnx file as a whole
    weights = weights_fingerprint(vocoder) if isinstance(vocoder, nn.Module) else sha256(path)
    made_with = digest("vocoder", code_of(__name__), weights, config.to_dict())

    def audio_of(mel: Tensor) -> np.ndarray:
        return np.concatenate(list(vocode(vocoder, mel, device)))

    def make(names: list[str]) -> Iterator[tuple[str, np.ndarray, float]]:
        for number, clip in enumerate(names):
            mels = source.mels(clip, config)
            if number == 0:
                audio_of(mels[0][0])  # the first call allocates memory and chooses algorithms
            yield clip, *timed(audio_of, mels, config)

    return made_here(name, source, made_with, make, folder, config.sampling_rate, device_name(device))


def timed(
    audio_of: Callable[[Tensor], np.ndarray], mels: list[tuple[Tensor, float]], config: MelConfig
) -> tuple[np.ndarray, float]:
    """Return the audio of a clip, sentences joined with their pauses, and the seconds of computation."""
    start = time.perf_counter()
    parts = []
    for mel, pause in mels:
        parts += [audio_of(mel), np.zeros(round(pause * config.sampling_rate), dtype=np.float32)]
    return np.concatenate(parts[:-1]), time.perf_counter() - start


def made_here(
    name: str,
    source: MelSource,
    made_with: str,
    make: Callable[[list[str]], Iterator[tuple[str, np.ndarray, float]]],
    folder: Path,
    sampling_rate: int,
    device: str,
) -> System:
    """Return the system whose audio is made by `make`, called only for clips that are not in `folder`."""
    wavs = {clip: folder / f"{clip}.wav" for clip in source.fingerprints}
    fingerprints = {clip: digest(made_with, of_mel) for clip, of_mel in source.fingerprints.items()}
    records = {clip: kept(path, fingerprints[clip]) for clip, path in wavs.items()}
    missing = [clip for clip, record in records.items() if record is None]
    for clip, audio, seconds in tqdm(
        make(missing) if missing else (), total=len(missing), desc=name, unit="clip", disable=None
    ):
        about = {"seconds": seconds, "device": device}
        records[clip] = keep(
            wavs[clip],
            fingerprints[clip],
            partial(write_wav, audio=audio, sampling_rate=sampling_rate),
            about,
        )
    timings = {clip: (record["seconds"], record["device"]) for clip, record in records.items()}
    return System(name, wavs, timings)


def device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} threads of {processor_name()}" if threads > 1 else f"one thread of {processor_name()}"


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
