"""Compare vocoders and text-to-speech systems on a test set: a table of metrics, and a page with players.

With `--taco_weights`, Tacotron 2 reads each transcript once and all vocoders receive the same mels. With
`--copy_synthesis`, they receive the recordings' mels, and the result is compared with the recordings sample
by sample. Audio and values are cached: a repeated command computes only what is missing. Under `torchrun` or
`accelerate launch`, the processes share the clips, and each uses its own GPU.
"""

import sys

from common.parser import build_parser, parse_options
from evaluation.options import EvaluateOptions, named_folders

if __name__ == "__main__":  # answer --help and mistakes before the imports that take seconds
    build_parser("evaluate.py", __doc__, EvaluateOptions).parse_args()

from common.errors import UserError, report_user_errors
from evaluation import BUILT_IN_NAMES, report
from evaluation.comparison import Comparison, named_vocoders
from listening.pages import write_listening_test
from listening.ratings import add_ratings
from training.loaders import limited_workers
from training.processes import Processes


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(EvaluateOptions, "evaluate.py", __doc__, arguments)
    processes = Processes()
    models = options.checkpoint_file, options.finetuned_checkpoint_file
    vocoders = named_vocoders(*models, options.device, options.mixed_precision)
    comparison = Comparison(
        options.output_dir,
        tacotron2=options.taco_weights,
        vocoders=vocoders,
        folders=named_folders(options.system, {*BUILT_IN_NAMES, *vocoders}),
        is_copy_synthesis=options.copy_synthesis,
        sampling_rate=options.sampling_rate,
        seed=options.seed,
        num_workers=limited_workers(options.num_workers),
        device=options.device,
        mixed_precision=options.mixed_precision,
    )
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        work = (
            options.path_to_manifest,
            options.input_wavs_dir,
            options.max_clips,
            options.metrics,
            options.recognizer,
        )
        if processes.count > 1:  # fill the cache, from which the main process then makes the table
            with processes.stopping_together():
                comparison.run(*work, slice(processes.index, None, processes.count))
            if not processes.is_main:
                return
        table = comparison.run(*work)
        if options.listening_test:
            clips, seed = options.report_clips, options.seed
            print(
                write_listening_test(
                    options.listening_test, table.systems, table.clips, options.output_dir, clips, seed
                )
            )
        if options.ratings:
            table = add_ratings(table, options.ratings, options.output_dir)
        report.save(table, options.output_dir, options.report_clips, options.report_audio)
    except OSError as error:
        raise UserError(f"can't write to {options.output_dir}: {error}; use another --output_dir") from error
    except KeyboardInterrupt:
        print("interrupted; the same command continues from here", file=sys.stderr)
        raise
    print(table.to_markdown())
    print(options.output_dir / "report.html")


if __name__ == "__main__":
    main()
