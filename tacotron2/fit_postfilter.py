"""Add a post-filter to a Tacotron 2: `python -m tacotron2.fit_postfilter …`.

The model speaks sentences, and the filter is designed to raise the modulation spectrum of their mels towards
that of recordings (see `tacotron2.postfilter`). It takes a minute and no training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audio import read_audio
from checkpoint import DEVICE, load_tacotron2, write_model
from manifest import Clip, read_manifest
from synthesis.inputs import read_text
from tacotron2.config import odd
from tacotron2.mel import MelSpectrogram
from tacotron2.model import Tacotron2
from tacotron2.postfilter import design_kernel, modulation_spectrum
from tacotron2.speak import speak_sentences
from training.parser import build_parser, select
from utils import SEED, UserError, atomic_write, check_options, option, report_user_errors


@dataclass(frozen=True, kw_only=True)
class FitPostfilterOptions:
    """Options of `tacotron2.fit_postfilter`."""

    taco_weights: Path = option(help="Tacotron 2 model: a folder or a file")
    speaker: str | None = option(None, "speaker whose filter is fitted, for a model with several")
    path_to_manifest: Path = option(help="manifest of recordings of the speaker")
    input_wavs_dir: Path | None = option(
        None, "folder of the clips named in official filelists (id|text|text)"
    )
    text_file: Path | None = option(
        None, "sentences to speak, one per line, best such as the model was not trained on; default: the "
        "transcripts of the manifest",
    )  # fmt: skip
    path_to_save: Path = option(help="new folder for the model with its post-filter")
    taps: int = option(17, "length of the filter in frames", check=odd)
    strength: float = option(
        0.6, "exponent of the gain: 0 changes nothing, 1 reaches the recordings' power", minimum=0, maximum=2
    )
    limit: float = option(2.0, "largest gain of an amplitude before the exponent", minimum=1)
    seed: int = option(0, "seed of the prenet's dropout", **SEED)
    device: str | None = option(None, "cpu, cuda, cuda:1, ...; default: a GPU if there is one", **DEVICE)

    def __post_init__(self):
        check_options(self, "--")


def recorded_mels(clips: Sequence[Clip], mel: MelSpectrogram) -> Iterator[Tensor]:
    """Yield the mels (num_mels, T) of recordings."""
    for clip in clips:
        audio, _, _ = read_audio(clip.file)
        yield mel(torch.from_numpy(audio))


def spoken_mels(model: Tacotron2, texts: Sequence[str], seed: int) -> list[Tensor]:
    """Return the mels (num_mels, T) of spoken sentences, without those on which the attention fails.

    Raises UserError if it fails on all of them.
    """
    spoken = speak_sentences(model, list(texts), seed)
    if not (good := [utterance.mel for utterance in spoken if not utterance.problem]):
        raise UserError(
            f"the attention fails on every sentence ({spoken[0].problem}); train the model longer"
        )
    return good


def with_postfilter(model: Tacotron2, index: int, mean: Tensor, kernel: Tensor) -> Tacotron2:
    """Return a copy of a model with a post-filter, `mean` (num_mels,) and `kernel` (num_mels, taps).

    `index` is the speaker's. Other speakers keep a filter of the same length, and lose one of another length.
    """
    taps = kernel.shape[1]
    result = Tacotron2(replace(model.config, postfilter_taps=taps)).eval()
    same_length = model.config.postfilter_taps == taps
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if same_length or not name.startswith("postfilter.")
    }
    result.load_state_dict(state, strict=same_length)
    result.postfilter.mean[index], result.postfilter.kernel[index] = mean, kernel
    return result


def fit_postfilter(options: FitPostfilterOptions) -> str:
    """Fit a filter, write the model and return the message for the user."""
    target = options.path_to_save
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; name a new or empty folder")
    model = load_tacotron2(options.taco_weights)
    speakers = model.config.speakers
    if speakers and options.speaker is None:
        raise UserError(f"{options.taco_weights} has several speakers; add --speaker: {', '.join(speakers)}")
    speaking = model.for_speaker(options.speaker) if options.speaker else model
    # spoken without the filter that it may have
    speaking.config = replace(speaking.config, postfilter_taps=0)

    clips = read_manifest(options.path_to_manifest, model.config.sampling_rate, options.input_wavs_dir)
    clips = [clip for clip in clips if options.speaker is None or clip.speaker in ("", options.speaker)]
    if not clips:
        raise UserError(f"{options.path_to_manifest} has no clip of the speaker {options.speaker}")
    texts = [clip.transcript for clip in clips]
    if options.text_file:
        texts = [line for line in read_text(options.text_file).splitlines() if line.strip()]

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    mean, recorded = modulation_spectrum(recorded_mels(clips, MelSpectrogram(model.config)))
    _, spoken = modulation_spectrum(spoken_mels(speaking.to(device), texts, options.seed))
    kernel = design_kernel(recorded, spoken, options.taps, options.strength, options.limit)
    index = speakers.index(options.speaker) if options.speaker else 0
    result = with_postfilter(model.cpu(), index, mean, kernel)
    with atomic_write(target) as temporary:
        temporary.mkdir()
        write_model(temporary, result.config, {"tacotron2": result.state_dict()})
    return f"post-filter of {len(clips)} recordings and {len(texts)} sentences, in {target}"


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    parser = build_parser("tacotron2.fit_postfilter", __doc__.splitlines()[0], FitPostfilterOptions)
    options = FitPostfilterOptions(**select(FitPostfilterOptions, vars(parser.parse_args(arguments))))
    print(fit_postfilter(options))


if __name__ == "__main__":
    main()
