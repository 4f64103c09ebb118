"""The options of `inference.py`."""

from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from common.errors import UserError
from common.options import (
    Options,
    check_mixed_precision,
    device_option,
    mixed_precision_option,
    option,
    seed_option,
)
from config import MEL_SCALES

SPEEDS = {"minimum": 0.25, "maximum": 4.0}  # OpenAI's limits


def other_than_timestamps(path: Path) -> str | None:
    return None if Path(path).suffix.lower() in (".srt", ".json") else "a .srt or .json file"


def other_than_audio(path: Path) -> str | None:
    return None if Path(path).suffix.lower() in (".wav", ".flac") else "a .wav or .flac file"


@dataclass(frozen=True, kw_only=True)
class InferenceOptions(Options):
    """Options of `inference.py`."""

    text: str | None = option(
        None, "Speak this English text of any length", metavar="TEXT", group="input (one of)"
    )
    text_file: Path | None = option(None, "Speak a text file in UTF-8; - is standard input")
    input_wavs_dir: Path | None = option(
        None, "Resynthesize the audio files in this folder; default: test_files"
    )
    input_mels_dir: Path | None = option(
        None, "Vocode the saved mels in this folder: .npy, .npz, .pt or .safetensors"
    )
    list_voices: bool = option(False, "Print the bundled voices and exit")
    lexicon: Path | None = option(
        None, "Read the IPA of words from this file, one word per line, for voices that read phonemes",
        group="about the input",
    )  # fmt: skip
    mel_scale: str | None = option(
        None, "Scale of the saved mels; default: the vocoder's scale", choices=MEL_SCALES
    )
    speed: float = option(1.0, "Speak this many times as fast, at the same pitch; pauses scale too", **SPEEDS)
    transposed: bool = option(False, "Read saved mels of shape (frames, num_mels)")

    voice: str | None = option(
        None, "Speak with this voice: a name or a folder; default: the default voice of --list_voices",
        group="models",
    )  # fmt: skip
    taco_weights: Path | None = option(None, "Use this Tacotron 2: a folder or a file; default: the voice's")
    speaker: str | None = option(
        None, "Speak as this speaker of a Tacotron 2 with several; default: the voice's"
    )
    checkpoint_file: Path | None = option(
        None, "Use this vocoder: a model folder or file, an official g_… file next to its config.json, or an "
        ".onnx file; default with text or --voice: the voice's",
    )  # fmt: skip
    vocoder: str = option(
        "hifigan", "Use the neural vocoder, or the Griffin-Lim baseline, which needs no checkpoint",
        choices=("hifigan", "griffin_lim"),
    )  # fmt: skip
    mixed_precision: str = mixed_precision_option(
        "no", "Precision of the models' layers; on a CPU, bf16 includes Tacotron 2's decoder"
    )
    compile: bool = option(
        False, "Compile the vocoder with torch.compile, which takes minutes and needs a C++ compiler on a CPU"
    )
    device: str = device_option()

    output_dir: Path | None = option(
        None, "Write into this folder; default: generated_files, generated_files_from_mel or "
        "generated_speech; with --stream, - is standard output", group="output",
    )  # fmt: skip
    output: Path | None = option(
        None, "Write this .wav or .flac file, replacing an existing one", check=other_than_audio
    )
    timestamps: Path | None = option(
        None, "Write the times of the spoken words to this .srt or .json file", check=other_than_timestamps
    )
    seed: int = seed_option(0, "Tacotron 2's prenet dropout")
    denoising_strength: float = option(
        0.0, "Subtract the vocoder's bias spectrum times this factor; typical values are 0.005 to 0.1",
        minimum=0,
    )  # fmt: skip
    stream: bool = option(False, "Write audio while it is generated; on standard output, as raw 16-bit PCM")
    plot: bool = option(
        False, "Plot the mels of each input and output, or each sentence's mel and attention, as PNG"
    )

    def __post_init__(self):
        super().__post_init__()
        self.require_one(
            "text", "text_file", "input_wavs_dir", "input_mels_dir", "list_voices", optional=True
        )
        self.require_one("output_dir", "output", optional=True)
        if self.list_voices:
            return
        if not (self.speaks or self.checkpoint_file or self.voice) and self.vocoder == "hifigan":
            raise UserError("--checkpoint_file is missing: name a vocoder, or use --vocoder griffin_lim")
        only_text = self.given("taco_weights", "speaker", "seed", "lexicon", "speed", "timestamps")
        if only_text and not self.speaks:
            raise UserError(f"{only_text[0]} requires text; add --text or --text_file")
        if self.speaks and (self.mel_scale or self.transposed):
            raise UserError("--mel_scale and --transposed describe saved mels; omit them with text")
        only_neural = self.given("denoising_strength", "mixed_precision", "compile")
        if only_neural and self.vocoder == "griffin_lim":
            raise UserError(
                f"{only_neural[0]} applies to neural vocoders; omit it with --vocoder griffin_lim"
            )
        if self.stream and (whole := self.given("denoising_strength", "plot", "timestamps")):
            raise UserError(f"{whole[0]} needs the whole audio; omit it or --stream")
        if str(self.output_dir) == "-" and not self.stream:
            raise UserError("--output_dir - requires --stream; add it or name a folder")
        check_mixed_precision(self.mixed_precision, self.device)

    @property
    def speaks(self) -> bool:
        return self.text is not None or self.text_file is not None

    @property
    def output_folder(self) -> Path:
        """The output folder, by default after the kind of input. `-` is standard output."""
        if self.output:
            return self.output.parent
        from_files = "generated_files_from_mel" if self.input_mels_dir else "generated_files"
        return self.output_dir or Path("generated_speech" if self.speaks else from_files)

    @property
    def speech_path(self) -> Path:
        """The output file of a text. In the default folder, a number distinguishes it from earlier ones."""
        is_file = self.text_file and str(self.text_file) != "-"
        name = self.text_file.stem if is_file else "speech"
        path = self.output or self.output_folder / f"{name}.wav"
        if self.output or self.output_dir:
            return path
        names = chain([path], (path.with_stem(f"{path.stem}_{number}") for number in count(2)))
        return next(name for name in names if not name.exists())
