"""Add a post-filter to a Tacotron 2: `python scripts/fit_postfilter.py …`.

The model speaks sentences, and the filter is designed to raise the modulation spectrum of their mels towards
that of recordings (see `tacotron2.postfilter`). It takes a few minutes at most and no training.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

if not __package__:  # run as `python scripts/fit_postfilter.py`, which puts only scripts/ on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint import load_tacotron2, write_model
from common.errors import UserError, report_user_errors
from common.files import atomic_write, is_occupied
from common.options import Options, device_option, option, seed_option
from common.parser import parse_options
from corpus.manifest import Clip, read_manifest
from synthesis.inputs import load_audio_mel, read_text
from tacotron2.config import Tacotron2Config, odd
from tacotron2.model import Tacotron2
from tacotron2.postfilter import WINDOW, design_kernel, modulation_spectrum
from tacotron2.speak import speak_sentences

MAX_CLIPS = 1000  # a larger corpus is thinned out to between this number of clips and twice that


@dataclass(frozen=True, kw_only=True)
class FitPostfilterOptions(Options):
    """Options of `scripts/fit_postfilter.py`."""

    taco_weights: Path = option(help="Fit a filter for this Tacotron 2: a folder or a file")
    speaker: str | None = option(None, "Fit the filter of this speaker of a model with several")
    path_to_manifest: Path = option(help="Read recordings of the speaker in this manifest")
    input_wavs_dir: Path | None = option(
        None, "Read the clips of official filelists (id|text|text) in this folder"
    )
    text_file: Path | None = option(
        None, "Speak the sentences in this file, one per line, preferably not from its training; "
        "default: the transcripts of the manifest",
    )  # fmt: skip
    path_to_save: Path = option(help="Write the model with its post-filter into this new folder")
    taps: int = option(17, "Length of the filter in frames", check=odd, maximum=WINDOW - 1)
    strength: float = option(
        0.6, "Exponent of the gain: 0 changes nothing, 1 reaches the recordings' power up to the limit",
        minimum=0, maximum=2,
    )  # fmt: skip
    limit: float = option(2.0, "Limit of the gain of an amplitude, before the exponent", minimum=1)
    seed: int = seed_option(0, "the prenet's dropout")
    device: str = device_option()


def evenly_spaced(items: Sequence) -> Sequence:
    """Return at most 2 * MAX_CLIPS items, evenly spaced."""
    return items[:: max(1, len(items) // MAX_CLIPS)]


def mels_of_recordings(clips: Sequence[Clip], config: Tacotron2Config) -> Iterator[Tensor]:
    """Yield the mels (num_mels, T) of recordings, without those that are too short for a mel."""
    for clip in clips:
        if clip.samples >= config.min_samples:
            yield load_audio_mel(clip.path, config)


def mels_of_sentences(model: Tacotron2, texts: Sequence[str], seed: int) -> list[Tensor]:
    """Return the mels (num_mels, T) of spoken sentences, without those on which the attention fails.

    The model speaks without the post-filter that it may have. Raises UserError if it fails on all sentences.
    """
    model = copy.deepcopy(model)
    model.postfilter = None
    spoken = speak_sentences(model, list(texts), seed)
    if not (good := [utterance.mel for utterance in spoken if not utterance.problem]):
        raise UserError(
            f"the attention fails on every sentence ({spoken[0].problem}); train the model longer"
        )
    return good


def with_postfilter(model: Tacotron2, index: int, mean: Tensor, kernel: Tensor) -> Tacotron2:
    """Return a copy of a model with a post-filter, `mean` (num_mels,) and `kernel` (num_mels, taps).

    `index` is the speaker's. Other speakers keep their filters: the shorter ones are padded with zeros.
    """
    taps = max(kernel.shape[1], model.config.postfilter_taps)
    result = Tacotron2(replace(model.config, postfilter_taps=taps)).eval()
    learned = {name: tensor for name, tensor in model.state_dict().items() if "postfilter." not in name}
    result.load_state_dict(result.state_dict() | learned)
    if model.postfilter:
        result.postfilter.mean.copy_(model.postfilter.mean)
        result.postfilter.kernel.copy_(padded(model.postfilter.kernel, taps))
    result.postfilter.mean[index], result.postfilter.kernel[index] = mean, padded(kernel, taps)
    return result


def padded(kernel: Tensor, taps: int) -> Tensor:
    """Return impulse responses (..., n) padded with zeros on both sides to (..., taps)."""
    return F.pad(kernel, [(taps - kernel.shape[-1]) // 2] * 2)


def read_material(
    options: FitPostfilterOptions, config: Tacotron2Config
) -> tuple[Sequence[Clip], Sequence[str]]:
    """Return the recordings of the speaker and the sentences to speak."""
    clips = read_manifest(options.path_to_manifest, config.sampling_rate, options.input_wavs_dir)
    if options.speaker:
        clips = [clip for clip in clips if clip.speaker in ("", options.speaker)]
    elif len(names := {clip.speaker for clip in clips}) > 1:
        raise UserError(
            f"{options.path_to_manifest} has {len(names)} speakers, and the model has one; name a manifest "
            "of that speaker alone"
        )
    if not clips:
        raise UserError(f"{options.path_to_manifest} has no clip of the speaker {options.speaker}")
    clips = evenly_spaced(clips)
    if options.text_file is None:
        return clips, [clip.transcript for clip in clips]
    texts = [line for line in read_text(options.text_file).splitlines() if line.strip()]
    if not texts:
        raise UserError(f"{options.text_file} has no sentences; write one per line")
    return clips, texts


def fit_postfilter(options: FitPostfilterOptions) -> str:
    """Fit a filter, write the model and return the message for the user."""
    target = options.path_to_save
    if is_occupied(target):
        raise UserError(f"{target} is there already; name a new or empty folder")
    model = load_tacotron2(options.taco_weights)
    speakers = model.config.speakers
    if speakers and options.speaker is None:
        raise UserError(f"{options.taco_weights} has several speakers; add --speaker: {', '.join(speakers)}")
    speaking = model.for_speaker(options.speaker) if options.speaker else model
    clips, texts = read_material(options, model.config)

    mean, recorded = modulation_spectrum(mels_of_recordings(clips, model.config))
    mels = mels_of_sentences(speaking.to(options.device), texts, options.seed)
    _, spoken = modulation_spectrum(mels)
    kernel = design_kernel(recorded, spoken, options.taps, options.strength, options.limit)
    index = speakers.index(options.speaker) if options.speaker else 0
    result = with_postfilter(model.cpu(), index, mean, kernel)
    with atomic_write(target) as temporary:
        temporary.mkdir()
        write_model(temporary, result.config, {"tacotron2": result.state_dict()})
    return f"post-filter of {len(clips)} recordings and {len(mels)} sentences, in {target}"


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    print(
        fit_postfilter(parse_options(FitPostfilterOptions, "scripts/fit_postfilter.py", __doc__, arguments))
    )


if __name__ == "__main__":
    main()
