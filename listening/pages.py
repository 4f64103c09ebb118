"""Blind listening tests: one self-contained page per test, and a key that identifies its sounds.

- "mos": each sound is rated from 1 (bad) to 5 (excellent), without a reference.
- "mushra": all versions of a clip are rated from 0 to 100 next to the recording (ITU-R BS.1534), with the
  hidden recording and a low-pass filtered anchor among them.
- "abx": the listener decides whether X is A or B, for each pair of neighboring systems.
"""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import signal

from common.errors import UserError
from common.files import atomic_write
from corpus.audio import read_audio
from corpus.manifest import Clip
from evaluation import ANCHOR
from evaluation.cache import digest, write_json
from evaluation.report import flac, template
from evaluation.systems import System

PAGE, KEY = "listening_test.html", "listening_test_key.json"
ANCHOR_CUTOFF = 3500.0  # Hz, ITU-R BS.1534-3, section 5.1
LEVEL = 10 ** (-26 / 20)  # active RMS of all sounds, where their peaks permit it
PEAK = 0.95
REPEATS = 2  # trials that are presented twice, to check the listener's consistency


class ListeningTest:
    """Collects the sounds and trials of a test under identifiers that do not reveal the systems."""

    def __init__(self, kind: str, systems: list[System], clips: list[Clip], seed: int):
        self.kind, self.systems, self.clips, self.seed = kind, systems, clips, seed
        self.recording = next((system.name for system in systems if system.is_recording), None)
        if len(clips) < 2 or len(systems) < 2:
            raise UserError("a listening test needs 2 systems and 2 clips, one of which is used for training")
        self.random = random.Random(seed)
        self.id = digest(kind, seed, [(s.name, str(c.path)) for s in systems for c in clips])[:12]
        self.sounds: dict[str, str] = {}  # identifier to data: URI
        self.trials: list[dict] = []
        self.key = {"kind": kind, "test": self.id, "sounds": {}, "trials": {}}
        build = {"mos": self.mos_trials, "abx": self.abx_trials, "mushra": self.mushra_trials}[kind]
        for clip in clips:
            build(clip, self.add_sounds(clip), "training" if clip is clips[0] else "test")
        counted = [trial for trial in self.trials if not trial["training"]]
        for trial in self.random.sample(counted, min(REPEATS, len(counted))):
            self.add_trial(trial, "repeat", of=trial["id"], x=trial.get("x"))

    def add_sounds(self, clip: Clip) -> dict[str, str]:
        """Add all versions of a clip at equal loudness, and return their identifiers by name of system."""
        stem = clip.path.stem
        audio = {system.name: read_audio(system.wavs[stem])[:2] for system in self.systems}
        if self.recording:
            recording, rate = audio[self.recording]
            low_pass = signal.butter(8, ANCHOR_CUTOFF, fs=rate, output="sos")
            audio[ANCHOR] = signal.sosfiltfilt(low_pass, recording).astype(np.float32), rate
        level = min(
            LEVEL, *(PEAK * active_level(*sound) / np.abs(sound[0]).max() for sound in audio.values())
        )
        identifiers = {}
        for name, (samples, rate) in audio.items():
            identifier = f"{self.random.getrandbits(48):012x}"
            self.sounds[identifier] = flac(samples * (level / active_level(samples, rate)), rate)
            self.key["sounds"][identifier] = {"system": name, "clip": stem}
            identifiers[name] = identifier
        return identifiers

    def add_trial(self, trial: dict, role: str, **about) -> None:
        identifier = f"{self.random.getrandbits(48):012x}"
        self.trials.append(trial | {"id": identifier, "training": role == "training"})
        self.key["trials"][identifier] = {"role": role} | about

    def mos_trials(self, clip: Clip, sounds: dict[str, str], role: str) -> None:
        for system in self.systems[:1] if role == "training" else self.systems:
            self.add_trial({"sounds": [sounds[system.name]], "text": clip.transcript}, role)

    def mushra_trials(self, clip: Clip, sounds: dict[str, str], role: str) -> None:
        reference = sounds.get(self.recording)
        trial = {"sounds": list(sounds.values()), "reference": reference, "text": clip.transcript}
        self.add_trial(trial, role)

    def abx_trials(self, clip: Clip, sounds: dict[str, str], role: str) -> None:
        pairs = [(above.name, below.name) for above, below in pairwise(self.systems)]
        if self.recording and role == "test":
            pairs.append((self.recording, ANCHOR))  # an obvious difference, which reveals inattention
        for pair in pairs[:1] if role == "training" else pairs:
            x = self.random.choice(pair)
            trial = {"sounds": [sounds[name] for name in pair], "x": sounds[x], "text": clip.transcript}
            self.add_trial(trial, "check" if ANCHOR in pair else role, pair=pair, x=sounds[x])

    def save(self, folder: Path) -> None:
        """Write the page for the listeners, and the key for `--ratings`, which listeners must not see."""
        data = {"kind": self.kind, "test": self.id, "seed": self.seed}
        data |= {"sounds": self.sounds, "trials": self.trials}
        with atomic_write(folder / PAGE) as temporary:
            temporary.write_text(
                template(Path(__file__).with_name("listening.html.j2")).render(test=data), encoding="utf-8"
            )
        write_json(folder / KEY, self.key)


def active_level(audio: np.ndarray, sampling_rate: int) -> float:
    """Return the RMS over the frames of 20 ms within 40 dB of the loudest, which excludes pauses."""
    size = max(1, sampling_rate // 50)
    frames = audio[: max(1, len(audio) // size) * size].reshape(-1, min(size, len(audio)))
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return max(1e-5, float(np.sqrt(power[power >= 1e-4 * power.max()].mean())))


def write_listening_test(
    kind: str, systems: list[System], clips: list[Clip], folder: Path, max_clips: int = 12, seed: int = 0
) -> Path:
    """Write a test on clips distributed evenly over the test set, and return the path of its page.

    Raises UserError for fewer than 2 systems or clips.
    """
    chosen = np.linspace(0, len(clips) - 1, min(max_clips, len(clips))).round().astype(int)
    ListeningTest(kind, systems, [clips[index] for index in chosen], seed).save(folder)
    return folder / PAGE
