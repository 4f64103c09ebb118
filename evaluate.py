"""Compare vocoders and text-to-speech systems on a test set: a table of metrics, and a page with players.

With `--taco_weights`, Tacotron 2 reads each transcript once and all vocoders receive the same mels. With
`--copy_synthesis`, they receive the recordings' mels, and the result is compared with the recordings sample
by sample. Audio and values are cached: a repeated command computes only what is missing. Under `torchrun` or
`accelerate launch`, the processes share the clips, and each uses its own GPU.
"""

import argparse
import signal
import sys
from pathlib import Path

from checkpoint import DEVICE
from common.errors import UserError, report_user_errors
from common.options import SEED, ArgumentParser, checked
from evaluation import report
from evaluation.comparison import Comparison
from evaluation.metrics import METRICS
from evaluation.recognition import DEFAULT_RECOGNIZER
from evaluation.systems import FINETUNED, HIFIGAN, READY_MADE
from evaluation.table import COLUMNS
from listening.pages import KINDS, write_listening_test
from listening.ratings import add_ratings
from synthesis.vocoder import MIXED_PRECISIONS
from training.processes import Processes, cores_per_process


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument("--path_to_manifest", type=Path, required=True, help="manifest of the test clips")
    parser.add_argument("--input_wavs_dir", type=Path, help="folder of the clips of an official filelist")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("generated_evaluation"),
        help="folder of table.md, table.csv, clips.csv, report.html, and the cached audio and values",
    )  # fmt: skip
    group = parser.add_argument_group("systems (the rows of the table, in this order, then the recordings)")
    group.add_argument("--taco_weights", type=Path, help="Tacotron 2 that reads the transcripts")
    group.add_argument("--checkpoint_file", type=Path, help="vocoder, in any form that inference.py reads")
    group.add_argument("--finetuned_checkpoint_file", type=Path, help="vocoder after fine-tuning")
    group.add_argument(
        "--copy_synthesis", action="store_true",
        help="vocoding of the recordings' mels, and metrics that need audio aligned with the recordings",
    )  # fmt: skip
    group.add_argument(
        "--system", action="append", default=[], metavar="NAME=DIR",
        help="another system: a folder of audio files named after the clips; can be repeated",
    )  # fmt: skip
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--metrics", nargs="+", choices=list(COLUMNS), metavar="METRIC",
        help=f"columns of the table: {', '.join(COLUMNS)}; by default all that apply",
    )  # fmt: skip
    group.add_argument(
        "--recognizer", default=DEFAULT_RECOGNIZER,
        help="Whisper model of the word error rate: a name such as tiny.en or small.en, a repository on the "
        "Hugging Face Hub, or a folder",
    )  # fmt: skip
    group.add_argument(
        "--max_clips", type=checked(int, minimum=1), help="number of clips, from the start of the manifest"
    )
    group.add_argument(
        "--report_clips", type=checked(int, minimum=0), default=12, help="number of clips in report.html"
    )
    group.add_argument(
        "--seed", type=checked(int, **SEED), default=0,
        help="seed of Tacotron 2's dropout and of the listening test",
    )  # fmt: skip
    group.add_argument(
        "--sampling_rate", type=checked(int, minimum=1), default=22050,
        help="sampling rate of the clips in Hz, without a model",
    )  # fmt: skip
    group.add_argument(
        "--num_workers", type=checked(int, minimum=0), default=cores_per_process(),
        help="number of worker processes; 0 runs everything in the main process",
    )  # fmt: skip
    group.add_argument(
        "--device", type=checked(str, **DEVICE), help="cpu, cuda, cuda:1, …; default: a GPU if there is one"
    )
    group.add_argument(
        "--mixed_precision", choices=list(MIXED_PRECISIONS), default="no", help="precision of the vocoders"
    )
    group = parser.add_argument_group("listening tests")
    group.add_argument(
        "--listening_test", choices=KINDS,
        help="type of a blind test of the systems, written to listening_test.html in --output_dir with "
        "--report_clips clips; keep listening_test_key.json, which identifies its sounds, from listeners",
    )  # fmt: skip
    group.add_argument(
        "--ratings", type=Path, nargs="+", metavar="JSON",
        help="files exported by the listeners of a test in --output_dir, added to the table",
    )  # fmt: skip
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for values out of range and flags that exclude each other."""
    check_systems(args)
    if args.num_workers > cores_per_process():
        print(f"--num_workers {args.num_workers} exceeds the {cores_per_process()} cores; using these")
        args.num_workers = cores_per_process()
    aligned = [n for n in args.metrics or () if n in METRICS and METRICS[n].needs == "aligned reference"]
    if aligned and not args.copy_synthesis:
        raise UserError(
            f"--metrics {aligned[0]} needs audio aligned with the recordings, which speech from text is not; "
            "remove it, or use --copy_synthesis"
        )


def check_systems(args: argparse.Namespace) -> None:
    if args.copy_synthesis and args.taco_weights:
        raise UserError("--taco_weights and --copy_synthesis are two sources of mels; remove one")
    if args.taco_weights or args.copy_synthesis:
        return
    if args.checkpoint_file or args.finetuned_checkpoint_file:
        raise UserError(
            "a vocoder needs mels: add --taco_weights, or --copy_synthesis for the recordings' mels"
        )
    if not args.system:
        raise UserError(
            "there is nothing to compare; add --taco_weights and --checkpoint_file, --copy_synthesis, or "
            "--system NAME=DIR"
        )


def named_folders(texts: list[str]) -> dict[str, Path]:
    """Return the folders of `--system NAME=DIR` by name. Raises UserError for another form or a used name."""
    folders = {}
    for text in texts:
        name, _, folder = (part.strip() for part in text.partition("="))
        if not (name and folder):
            raise UserError(f"--system {text!r} is not NAME=DIR, such as --system 'WaveNet=wavs/wavenet'")
        if name in folders or name in READY_MADE:
            raise UserError(f"--system {text!r}: there is already a row {name!r}; use another name")
        folders[name] = Path(folder)
    return folders


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    processes = Processes()
    args.device = args.device or processes.device
    check_arguments(args)
    vocoders = {HIFIGAN: args.checkpoint_file, FINETUNED: args.finetuned_checkpoint_file}
    comparison = Comparison(
        args.output_dir,
        tacotron2=args.taco_weights,
        vocoders={name: path for name, path in vocoders.items() if path},
        folders=named_folders(args.system),
        is_copy_synthesis=args.copy_synthesis,
        sampling_rate=args.sampling_rate,
        seed=args.seed,
        num_workers=args.num_workers,
        device=args.device,
        mixed_precision=args.mixed_precision,
    )
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        work = args.path_to_manifest, args.input_wavs_dir, args.max_clips, args.metrics, args.recognizer
        if processes.count > 1:  # fill the cache, from which the main process then makes the table
            with processes.stopping_together():
                comparison.run(*work, slice(processes.index, None, processes.count))
            if not processes.is_main:
                return
        table = comparison.run(*work)
        if args.listening_test:
            clips, seed = args.report_clips, args.seed
            print(
                write_listening_test(
                    args.listening_test, table.systems, table.clips, args.output_dir, clips, seed
                )
            )
        if args.ratings:
            table = add_ratings(table, args.ratings, args.output_dir)
        report.save(table, args.output_dir, args.report_clips)
    except OSError as error:
        raise UserError(f"can't write to {args.output_dir}: {error}; use another --output_dir") from error
    except KeyboardInterrupt:
        print("interrupted; the same command continues from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(table.to_markdown())
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    main()
