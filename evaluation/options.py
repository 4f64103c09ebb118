"""The options of `evaluate.py`."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.options import Options, device_option, mixed_precision_option, option, seed_option
from evaluation import BUILT_IN_NAMES
from evaluation.metrics import COLUMNS, DEFAULT_RECOGNIZER, METRICS
from listening import KINDS


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """Options of `evaluate.py`."""

    path_to_manifest: Path = option(help="Compare the clips of this manifest")
    input_wavs_dir: Path | None = option(
        None, "Read the clips of an official filelist (id|text|text) in this folder"
    )
    output_dir: Path = option(
        Path("generated_evaluation"), "Write table.md, table.csv, clips.csv and report.html, and cache audio "
        "and values, in this folder",
    )  # fmt: skip

    taco_weights: Path | None = option(
        None, "Speak the transcripts with this Tacotron 2",
        group="systems (the rows of the table, in this order, then the recordings)",
    )  # fmt: skip
    checkpoint_file: Path | None = option(None, "Compare this vocoder, in any form that inference.py reads")
    finetuned_checkpoint_file: Path | None = option(None, "Compare this vocoder, after fine-tuning")
    copy_synthesis: bool = option(
        False, "Vocode the recordings' mels, and compare the audio with the recordings sample by sample"
    )
    system: tuple[str, ...] = option(
        (), "Compare another system, a folder of audio files named after the clips; can be repeated",
        repeat=True, may_be_empty=True, metavar="NAME=DIR",
    )  # fmt: skip

    metrics: tuple[str, ...] | None = option(
        None, f"Columns of the table: {', '.join(COLUMNS)}; default: all that apply",
        choices=tuple(COLUMNS), metavar="METRIC", group="measurement",
    )  # fmt: skip
    recognizer: str = option(
        DEFAULT_RECOGNIZER, "Whisper model of the word error rate: a name such as tiny.en or small.en, a "
        "repository on the Hugging Face Hub, or a folder",
    )  # fmt: skip
    max_clips: int | None = option(None, "Number of clips, from the start of the manifest", minimum=1)
    report_clips: int = option(12, "Number of clips in report.html", minimum=0)
    report_audio: str = option(
        "flac", "Format of the audio in report.html: flac is exact, mp3 is a fifth of the size",
        choices=("flac", "mp3"),
    )  # fmt: skip
    seed: int = seed_option(0, "Tacotron 2's dropout and of the listening test")
    sampling_rate: int = option(22050, "Sampling rate of the clips in Hz, without a model", minimum=1)
    num_workers: int | None = option(
        None, "Number of worker processes; 0 runs everything in the main process; default: one per core",
        minimum=0,
    )  # fmt: skip
    device: str = device_option()
    mixed_precision: str = mixed_precision_option("no", "Precision of the vocoders")

    listening_test: str | None = option(
        None, "Write a blind test of the systems to listening_test.html in --output_dir, with --report_clips "
        "clips; keep listening_test_key.json, which identifies its sounds, from listeners",
        choices=KINDS, group="listening tests",
    )  # fmt: skip
    ratings: tuple[Path, ...] | None = option(
        None, "Add ratings to the table: files exported by the listeners of a test in --output_dir",
        metavar="JSON",
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.copy_synthesis and self.taco_weights:
            raise UserError("--taco_weights and --copy_synthesis are two sources of mels; remove one")
        has_mels = self.taco_weights or self.copy_synthesis
        if not has_mels and (self.checkpoint_file or self.finetuned_checkpoint_file):
            raise UserError(
                "a vocoder needs mels: add --taco_weights, or --copy_synthesis for the recordings' mels"
            )
        if not (has_mels or self.system):
            raise UserError(
                "there is nothing to compare; add --taco_weights and --checkpoint_file, --copy_synthesis, or "
                "--system NAME=DIR"
            )
        aligned = [n for n in self.metrics or () if n in METRICS and METRICS[n].needs == "aligned reference"]
        if aligned and not self.copy_synthesis:
            raise UserError(
                f"--metrics {aligned[0]} needs audio aligned with the recordings, which speech from text is "
                "not; remove it, or use --copy_synthesis"
            )
        named_folders(self.system, BUILT_IN_NAMES)


def named_folders(texts: Iterable[str], taken: Collection[str] = ()) -> dict[str, Path]:
    """Return the folders of `--system NAME=DIR` by name. Raises UserError if one is malformed or taken."""
    folders, taken = {}, {name.casefold() for name in taken}
    for text in texts:
        name, _, folder = (part.strip() for part in text.partition("="))
        if not (name and folder):
            raise UserError(f"--system {text!r} is not NAME=DIR, such as --system 'WaveNet=wavs/wavenet'")
        if name.casefold() in taken:
            raise UserError(f"--system {text!r}: there is already a row {name!r}; use another name")
        folders[name] = Path(folder)
        taken.add(name.casefold())
    return folders
