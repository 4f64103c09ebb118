"""A comparison from start to end: speech or copy synthesis by every system, and its measurement."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checkpoint import read_tacotron2_config
from common.errors import UserError
from corpus.manifest import Clip, read_manifest
from evaluation.measuring import evaluate
from evaluation.metrics import DEFAULT_RECOGNIZER
from evaluation.systems import (
    System,
    architecture_name,
    folder_system,
    griffin_lim_system,
    recorded_mels,
    recordings,
    spoken_mels,
    vocoder_system,
)
from evaluation.table import Table
from evaluation.workers import Workers
from mel import MelConfig, check_same_mel
from synthesis.vocoder import load_vocoder


@dataclass
class Comparison:
    """The systems of a comparison and the folder of its results.

    With `tacotron2`, the vocoders receive its mels of the transcripts, and otherwise those of the recordings.
    Griffin-Lim is added unless only `folders` are compared, and the recordings are the last row.

    Attributes:
        output_dir: the folder of audio, values and results.
        tacotron2: a Tacotron 2 checkpoint.
        vocoders: vocoders by name.
        folders: folders of audio made elsewhere, by name.
        is_copy_synthesis: whether the audio is aligned in time with the recordings.
        sampling_rate: of the clips in Hz, if no model determines it.
        seed: of Tacotron 2's dropout.
        mixed_precision: of the vocoders.
    """

    output_dir: Path
    tacotron2: Path | None = None
    vocoders: dict[str, Path] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    is_copy_synthesis: bool = False
    sampling_rate: int = 22050
    seed: int = 0
    num_workers: int = 0
    device: str = "cpu"
    mixed_precision: str = "no"

    def run(
        self,
        manifest: Path,
        wavs_dir: Path | None = None,
        max_clips: int | None = None,
        metrics: Sequence[str] | None = None,
        recognizer: str = DEFAULT_RECOGNIZER,
        share: slice = slice(None),
    ) -> Table:
        """Make the audio that is not cached, measure it, and return the table.

        `share` selects some of the clips, so that several processes can fill the cache together. Raises
        UserError if clips, models or folders are unusable.
        """
        mel_config = self.mel_config()
        clips = read_test_clips(manifest, mel_config.sampling_rate, wavs_dir, max_clips)
        clips = clips[share] or clips[:1]  # with fewer clips than processes, some repeat the first
        others = [folder_system(name, folder, clips) for name, folder in self.folders.items()]
        with Workers(self.num_workers) as workers:
            made, notes = self.synthesize(clips, mel_config, workers)
            return evaluate(
                [*made, *others, recordings(clips)],
                clips,
                self.output_dir / "values",
                metrics,
                self.is_copy_synthesis,
                workers,
                self.device,
                notes,
                recognizer,
            )

    def mel_config(self) -> MelConfig:
        """Return the mel settings of Tacotron 2, or else of the vocoders. Raises UserError if they differ.

        Loads the vocoders, so that an unusable one is reported before Tacotron 2 speaks for minutes.
        """
        configs = {
            name: load_vocoder(path, self.device, self.mixed_precision).config
            for name, path in self.vocoders.items()
        }
        if self.tacotron2:
            speaker = read_tacotron2_config(self.tacotron2)
            for name, config in configs.items():
                names = str(self.tacotron2), str(self.vocoders[name])
                check_same_mel(speaker, config, *names, scale_matters=False)
            return speaker
        rates = {config.sampling_rate for config in configs.values()}
        if len(rates) > 1:
            raise UserError(
                f"the vocoders have sampling rates of {' and '.join(map(str, sorted(rates)))} Hz; compare "
                "vocoders with the same rate"
            )
        return next(iter(configs.values()), MelConfig(sampling_rate=self.sampling_rate))

    def synthesize(
        self, clips: list[Clip], mel_config: MelConfig, workers: Workers
    ) -> tuple[list[System], Sequence[str]]:
        """Return the systems whose audio is made here, and notes on it."""
        if self.tacotron2:
            mels = self.output_dir / "mels"
            source = spoken_mels(self.tacotron2, clips, mels, self.device, self.seed)
        elif self.vocoders or not self.folders:
            source = recorded_mels(clips)
        else:
            return [], ()
        wavs = self.output_dir / "wavs"
        made = [griffin_lim_system(source, mel_config, wavs / "griffin_lim", workers)]
        for name, path in self.vocoders.items():
            folder = wavs / re.sub(r"\W+", "_", name.lower().replace("-", "")).strip("_")
            made.append(vocoder_system(name, path, source, folder, self.device, self.mixed_precision))
        return made, source.notes


def named_vocoders(
    checkpoint: Path | None, finetuned: Path | None, device: str = "cpu", mixed_precision: str = "no"
) -> dict[str, Path]:
    """Return a vocoder and its fine-tuned version by the name of their row. Raises UserError if unusable."""
    named = {}
    for path, ending in ((checkpoint, ""), (finetuned, ", fine-tuned")):
        if path:
            named[architecture_name(load_vocoder(path, device, mixed_precision).config) + ending] = path
    return named


def read_test_clips(
    manifest: Path, sampling_rate: int, wavs_dir: Path | None = None, max_clips: int | None = None
) -> list[Clip]:
    """Return the first clips of a manifest. Raises UserError if two have the same file name."""
    clips = read_manifest(manifest, sampling_rate, wavs_dir)[:max_clips]
    stem, count = Counter(clip.path.stem for clip in clips).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} clips of {manifest} have the name {stem}; rename or remove all but one")
    return clips
