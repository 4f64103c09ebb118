"""Compare systems on a test set: `python evaluate.py …` makes a table of figures, and a page to listen to.

From text, Tacotron 2 speaks each clip's transcript once, and every vocoder makes audio of the same mels. In
copy synthesis they get the recordings' mels, and can be held against the recordings sample by sample. What
was made and measured is kept, with a fingerprint of all that it depends on: the same command again does only
what is missing.
"""

import signal
import sys
from collections import Counter
from pathlib import Path

import torch

from checkpoint import read_tacotron2_config
from dataset import Clip, read_manifest
from evaluation.measuring import METRIC, evaluate
from evaluation.report import COLUMNS, Table
from evaluation.systems import (
    FINETUNED,
    HIFIGAN,
    READY_MADE,
    folder_system,
    griffin_lim_system,
    recordings,
    spoken_mels,
    true_mels,
    vocoder_system,
)
from evaluation.workers import Workers
from synthesis.vocoder import load_vocoder
from tacotron2.mel import MelConfig, check_same_mel
from utils import ArgumentParser, UserError, available_cores, check_seed, report_user_errors

# The command line.


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument("--path_to_manifest", type=Path, required=True, help="the test clips")
    parser.add_argument("--input_wavs_dir", type=Path, help="where the clips of an official filelist lie")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("generated_evaluation"),
        help="for table.md, table.csv, clips.csv, report.html, and what they are made of",
    )  # fmt: skip
    group = parser.add_argument_group("systems, the rows of the table; ground truth is the last")
    group.add_argument("--taco_weights", type=Path, help="a Tacotron 2: it speaks the clips' transcripts")
    group.add_argument("--checkpoint_file", type=Path, help="a vocoder, as inference.py takes it")
    group.add_argument("--finetuned_checkpoint_file", type=Path, help="the vocoder after fine-tuning")
    group.add_argument(
        "--copy_synthesis", action="store_true",
        help="vocoders get the recordings' mels, and systems are compared with the recordings in time",
    )  # fmt: skip
    group.add_argument(
        "--system", action="append", default=[], metavar="NAME=DIR",
        help="one more row: a folder of wavs named after the clips; as often as you like",
    )  # fmt: skip
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--metrics", nargs="+", choices=list(COLUMNS), metavar="METRIC",
        help=f"of {', '.join(COLUMNS)}; by default those that fit",
    )  # fmt: skip
    group.add_argument("--max_clips", type=int, help="only the first so many clips of the manifest")
    group.add_argument("--report_clips", type=int, default=12, help="clips to hear in report.html")
    group.add_argument("--seed", type=int, default=0, help="of Tacotron 2's dropout")
    group.add_argument(
        "--sampling_rate", type=int, default=22050, help="of the clips in Hz, where no model says it"
    )
    group.add_argument(
        "--num_workers", type=int, default=available_cores(), help="processes; with 0 there is just the one"
    )
    group.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    return parser


def check_arguments(args) -> dict[str, Path]:
    """The folders of --system by their names. Raises UserError for flags that don't go together."""
    check_seed(args.seed)
    vocoders = args.checkpoint_file or args.finetuned_checkpoint_file
    if args.copy_synthesis and args.taco_weights:
        raise UserError("--taco_weights speaks text, --copy_synthesis takes the true mels; leave one out")
    if vocoders and not (args.taco_weights or args.copy_synthesis):
        raise UserError(
            "a vocoder needs mels: add --taco_weights for those of a Tacotron 2, or --copy_synthesis for the "
            "recordings' own"
        )
    if not (args.taco_weights or args.copy_synthesis or args.system):
        raise UserError(
            "there is nothing to compare: name --taco_weights and --checkpoint_file, or --copy_synthesis, or "
            "--system NAME=DIR"
        )
    for name, least in (("max_clips", 1), ("report_clips", 0), ("num_workers", 0), ("sampling_rate", 1)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UserError(f"--{name} is {value}; it must be at least {least}")
    if args.num_workers > available_cores():
        print(f"--num_workers {args.num_workers} is more than the {available_cores()} cores: using these")
        args.num_workers = available_cores()
    aligned = [n for n in args.metrics or () if n in METRIC and METRIC[n].needs == "aligned reference"]
    if aligned and not args.copy_synthesis:
        raise UserError(
            f"--metrics {aligned[0]} compares with the recording sample by sample, which speech from text "
            "can't be; leave it out, or take --copy_synthesis"
        )
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"can't use --device {args.device}: {error}") from error

    folders = {}
    for text in args.system:
        name, equals, folder = (part.strip() for part in text.partition("="))
        if not (name and equals and folder):
            raise UserError(f"--system {text!r} is not NAME=DIR, such as --system 'WaveNet=wavs/wavenet'")
        if name in folders or name in READY_MADE:
            raise UserError(f"two rows would be called {name!r}; give --system {text!r} another name")
        folders[name] = Path(folder)
    return folders


def read_clips(args, sampling_rate: int) -> list[Clip]:
    clips = read_manifest(args.path_to_manifest, sampling_rate, args.input_wavs_dir)[: args.max_clips]
    stem, count = Counter(clip.path.stem for clip in clips).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} clips of {args.path_to_manifest} are called {stem}; keep or rename one")
    return clips


def compare(args, folders: dict[str, Path]) -> Table:
    """Make the audio that is to be made, and measure all."""
    paths = {HIFIGAN: args.checkpoint_file, FINETUNED: args.finetuned_checkpoint_file}
    paths = {name: path for name, path in paths.items() if path}
    mel = common_mel_config(args, paths)
    clips = read_clips(args, mel.sampling_rate)
    others = [folder_system(name, folder, clips) for name, folder in folders.items()]
    systems, notes = [], ()
    with Workers(args.num_workers) as workers:
        if args.taco_weights or paths or not others:
            if args.taco_weights:
                mels = args.output_dir / "mels"
                source = spoken_mels(args.taco_weights, clips, mels, args.device, args.seed)
            else:
                source = true_mels(clips)
            notes, wavs = source.notes, args.output_dir / "wavs"
            systems.append(griffin_lim_system(source, mel, wavs / "griffin_lim", workers))
            for name, path in paths.items():
                folder = wavs / name.lower().replace("-", "").replace(" ", "_")
                systems.append(vocoder_system(name, path, source, folder, args.device))
        return evaluate(
            [*systems, *others, recordings(clips)],
            clips,
            args.output_dir / "values",
            args.metrics,
            args.copy_synthesis,
            workers,
            args.device,
            notes,
        )


def common_mel_config(args, paths: dict[str, Path]) -> MelConfig:
    """The settings of Griffin-Lim's mel: Tacotron 2's, or the first vocoder's. Raises UserError for a misfit.

    The vocoders are loaded for it, so that one that can't be is told before Tacotron 2 speaks for minutes.
    """
    configs = {name: load_vocoder(path, args.device).config for name, path in paths.items()}
    if args.taco_weights:
        speaker = read_tacotron2_config(args.taco_weights)
        for name, config in configs.items():
            check_same_mel(speaker, config, str(args.taco_weights), str(paths[name]), scale_matters=False)
        return speaker
    rates = {config.sampling_rate for config in configs.values()}
    if len(rates) > 1:
        raise UserError(
            f"the vocoders make audio of {' and '.join(map(str, sorted(rates)))} Hz; compare two of one rate"
        )
    return next(iter(configs.values()), MelConfig(sampling_rate=args.sampling_rate))


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    folders = check_arguments(args)
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        table = compare(args, folders)
        table.save(args.output_dir, args.report_clips)
    except OSError as error:
        raise UserError(f"can't write to {args.output_dir}: {error}; name another --output_dir") from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(table.to_markdown())
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    main()
