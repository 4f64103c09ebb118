"""Mels on disk for fine-tuning: one `.npy` file per clip, named after its audio file."""

import os
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from common.errors import UserError, one_line
from common.files import find_file
from common.parallel import map_in_threads
from corpus.manifest import Clip, read_segment
from corpus.mel_comparison import OTHER_AUDIO, OTHER_LEVEL, unlikely_mel_values, wrong_mel
from mel import MelConfig, check_same_mel

NUM_COMPARED = 20  # clips per manifest
NUM_COMPARED_CLOSELY = 3  # also with other settings of the mel, which takes tenths of a second per clip
NPY_HEADER = 128  # bytes before the values of a matrix in an .npy file


class SavedMels:
    """A folder of mels for fine-tuning: `<stem>.npy`, float32 (num_mels, frames) or (1, num_mels, frames).

    If clips in different folders have the same name, the mels are in folders too: `speaker/0001.npy` belongs
    to `…/speaker/0001.wav`. A `config.json` in the folder, with the settings of the mels, is compared with
    `config`. With `check`, raises UserError that names clips whose mel is missing, does not match the clip's
    length or, among about 20 of them, is not finite or not a mel of the clip's audio: see `wrong_mel`.
    """

    def __init__(self, folder: Path | str, config: MelConfig, *manifests: Sequence[Clip], check: bool = True):
        self.folder, self.config = Path(folder), config
        if not self.folder.is_dir():
            raise UserError(f"there is no folder {self.folder} of saved mels; correct --path_to_saved_mels")
        if (self.folder / "config.json").is_file():
            saved_with = MelConfig.from_file(self.folder / "config.json")
            check_same_mel(saved_with, config, f"the saved mels of {self.folder}", "the vocoder")
        first = manifests[0][0]
        depths = range(1, first.file.count(os.sep) + 1)
        found = (depth for depth in depths if (self.folder / mel_name(first, depth)).is_file())
        self.depth = next(found, 1)
        if check:
            self.check(manifests)

    def check(self, manifests: Sequence[Sequence[Clip]]) -> None:
        shared = shared_names(*manifests, depth=self.depth)
        problems = [f"{name} (two clips have this name, one mel)" for name in shared]
        problems += filter(None, map_in_threads(self.problem_with_file, chain(*manifests), chunk=100))
        problems = problems or self.problems_with_values(manifests)
        if problems:
            shown = ", ".join(problems[:5]) + (", …" if len(problems) > 5 else "")
            raise UserError(
                f"{len(problems)} of {sum(map(len, manifests))} clips have no fitting mel: {shown}; save "
                "them again from the same audio with the vocoder's mel settings"
            )

    def problem_with_file(self, clip: Clip) -> str:
        """Return why a clip's mel can't be used, judging by its size, or "". Opens files of other sizes."""
        expected = NPY_HEADER + 4 * self.config.num_mels * self.config.num_frames(clip.samples)
        try:
            size = os.stat(self.file(clip)).st_size
        except OSError:
            found = find_file(self.file(clip))
            near = f", but {found.name!a}, whose name differs" if found else ""
            return f"{clip.path.stem} (no file {self.file(clip)}{near})"
        return "" if size == expected else self.problem_with_shape(clip, self.open(clip))

    def problem_with_shape(self, clip: Clip, mel: np.ndarray) -> str:
        expected = (self.config.num_mels, self.config.num_frames(clip.samples))
        if mel.shape == expected:
            return ""
        return f"{clip.path.stem} (its mel is {mel.shape}, its audio needs {expected})"

    def problems_with_values(self, manifests: Sequence[Sequence[Clip]]) -> list[str]:
        """Open about 20 mels per manifest, and compare them with the mels of the audio."""
        problems, doubts, unrelated, levels = [], [], [], []
        sample = chain(*(clips[:: max(1, len(clips) // NUM_COMPARED)] for clips in manifests))
        for number, clip in enumerate(sample):
            mel = np.array(self.open(clip))
            if problem := self.problem_with_shape(clip, mel):
                problems.append(problem)
            elif not np.isfinite(mel).all():
                problems.append(f"{clip.path.stem} (its mel holds values that are not finite)")
            elif reason := self.compare_with_audio(clip, mel, number < NUM_COMPARED_CLOSELY):
                kinds = unrelated if reason == OTHER_AUDIO else problems
                kinds = levels if reason.startswith(OTHER_LEVEL) else kinds
                kinds.append(f"{clip.path.stem} (its mel {reason})")
            elif doubt := unlikely_mel_values(mel, self.config):
                doubts.append(f"{self.file(clip)} {doubt}")
        if doubts and not problems:
            warnings.warn(f"{doubts[0]}; is it in the vocoder's --mel_scale?", stacklevel=4)
        if levels and not problems:
            warnings.warn(f"{levels[0]}; the vocoder will learn to change the level", stacklevel=4)
        # a model may fail on a single clip; files are exchanged in pairs
        return problems + (unrelated if len(unrelated) > 1 else [])

    def compare_with_audio(self, clip: Clip, mel: np.ndarray, closely: bool) -> str:
        """Return what a mel seems to be instead of the mel of its clip, or ""."""
        audio = read_segment(clip, 0, clip.samples, self.config.sampling_rate)
        if len(audio) < self.config.min_samples:
            return ""
        return wrong_mel(mel.astype(np.float64), audio, self.config, closely)

    def file(self, clip: Clip) -> str:
        return os.path.join(self.folder, mel_name(clip, self.depth))

    def open(self, clip: Clip) -> np.ndarray:
        """Return the mel (num_mels, frames), mapped from the file so that only indexed parts are read."""
        try:
            mel = np.load(self.file(clip), mmap_mode="r", allow_pickle=False)
            if mel.dtype.kind != "f":
                raise ValueError(f"its values are of the type {mel.dtype}")
        except Exception as error:  # damaged files make NumPy raise many types of exception
            raise UserError(
                f"can't read the mel {self.file(clip)}: {one_line(error)}; save it again"
            ) from error
        return mel[0] if mel.ndim == 3 and mel.shape[0] == 1 else mel


def mel_name(clip: Clip, depth: int = 1) -> str:
    """Return the name of a clip's mel in its folder: the last `depth` parts of the clip's path."""
    file = plain_path(clip)
    start = len(file)
    for _ in range(depth):
        start = file.rfind(os.sep, 0, start)
    return os.path.splitext(file[start + 1 :])[0] + ".npy"


def plain_path(clip: Clip) -> str:
    file = clip.file.replace("/", os.sep)  # manifests have the same separator everywhere
    return os.path.abspath(file) if ".." in file else file  # abspath is slow


def distinct_depth(clips: Sequence[Clip]) -> int:
    """Return the smallest depth at which clips with different paths have mels with different names.

    Raises UserError if there is none.
    """
    for depth in range(1, max(plain_path(clip).count(os.sep) for clip in clips) + 2):
        if not (shared := shared_names(clips, depth=depth)):
            return depth
    raise UserError(f"two clips would both be saved as {min(shared)}; rename one")


def shared_names(*manifests: Sequence[Clip], depth: int = 1) -> set[str]:
    """Return the names in a folder of mels that clips with different paths share."""
    # hashes take less memory than a million names
    pairs = ((hash(mel_name(clip, depth)), hash(plain_path(clip))) for clip in chain(*manifests))
    pairs = np.fromiter(pairs, np.dtype((np.int64, 2)), sum(map(len, manifests)))
    distinct = np.unique(pairs, axis=0)
    names, counts = np.unique(distinct[:, 0], return_counts=True)
    shared = set(names[counts > 1].tolist())
    if not shared:
        return set()
    return {name for clip in chain(*manifests) if hash(name := mel_name(clip, depth)) in shared}
