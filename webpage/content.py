"""The content of the web page: models, spoken sentences, copies and reports, as HTML.

Nothing here depends on Gradio. The functions raise UserError for requests that are impossible.
"""

import functools
import io
import secrets
from collections.abc import Iterator
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from checkpoint.voices import VOICES, find_voice, list_voices, load_voice_tacotron2
from common.errors import UserError
from common.options import check_seed
from common.plots import plot_attention
from corpus.audio import to_pcm
from evaluation.report import data_uri, flac
from mel import MelConfig
from synthesis.pronunciation import as_sentences, pronounce
from synthesis.speech import Sentence, TextToSpeech, join_sentences
from synthesis.vocoder import GriffinLim, Vocoder, load_vocoder
from tacotron2.speak import split_text
from webpage.copying import Sound, copies, metrics_table, plot_copies, read_clip

MAX_CHARACTERS = 2000
MAX_SECONDS = 20.0  # of a clip to copy
KEPT_MODELS = 4
OWN_VOCODER, GRIFFIN_LIM = "vocoder of the voice", "Griffin-Lim"


class Models:
    """The voices and vocoders of the page, loaded when they are first used.

    Args:
        checkpoints: the user's own vocoders.
        any_path: whether names of other voice folders and vocoders are accepted.
    """

    def __init__(self, checkpoints: list[Path], device: str, any_path: bool):
        self.device, self.any_path = device, any_path
        self.voices = {voice.name: voice for voice in list_voices(VOICES)}
        self.checkpoints = {str(path): path for path in checkpoints}
        self.bundled = {f"vocoder of {name}": voice.vocoder for name, voice in self.voices.items()}
        self.load_vocoder = functools.lru_cache(KEPT_MODELS)(lambda path: load_vocoder(path, device))
        self.load_tacotron2 = functools.lru_cache(KEPT_MODELS)(
            lambda voice: load_voice_tacotron2(voice, device)
        )

    def vocoder(self, name: str, config: MelConfig) -> Vocoder:
        """Return a vocoder by its name or path, or Griffin-Lim for the mels of `config`."""
        if name == GRIFFIN_LIM:
            return GriffinLim(config)
        path = (self.checkpoints | self.bundled).get(name)
        if path is None and not (self.any_path and name):
            raise UserError(f"there is no vocoder {name!r}; choose one from the list")
        return self.load_vocoder(path or Path(name))

    def text_to_speech(self, voice_name: str, vocoder_name: str) -> TextToSpeech:
        """Return a voice with its own or another vocoder."""
        if voice_name not in self.voices and not self.any_path:
            raise UserError(f"there is no voice {voice_name!r}; choose one from the list")
        voice = find_voice(voice_name)
        tacotron2 = self.load_tacotron2(voice)
        if vocoder_name == OWN_VOCODER:
            vocoder = self.load_vocoder(voice.vocoder)
        else:
            vocoder = self.vocoder(vocoder_name, tacotron2.config)
        return TextToSpeech(tacotron2, vocoder, self.device, names=(f"the voice {voice.name}", vocoder_name))


def check_length(text: str, limit: int = MAX_CHARACTERS) -> None:
    if len(text) > limit:
        raise UserError(
            f"the text has {len(text):,} characters; the page speaks at most {limit:,} at a time, and "
            "inference.py speaks texts of any length"
        )


def show_pronunciation(models: Models, text: str, voice: str) -> Iterator[str]:
    """Yield what the voice reads, one line per sentence."""
    check_length(text)
    config = models.text_to_speech(voice, OWN_VOCODER).tacotron2.config
    yield "\n".join(pronounce(split_text(text, config), config))


def speak_text(models: Models, text: str, voice: str, vocoder: str, seed: float) -> Iterator[tuple]:
    """Yield the page's outputs for a text: its pronunciation, then each sentence, then the whole audio."""
    check_length(text)
    tts = models.text_to_speech(voice, vocoder)
    sentences = split_text(text, tts.tacotron2.config)
    pronunciation = "\n".join(pronounce(sentences, tts.tacotron2.config))
    for outputs in speech_outputs(tts, sentences, sentences, seed):
        yield pronunciation, *outputs


def speak_pronunciation(
    models: Models, pronunciation: str, voice: str, vocoder: str, seed: float
) -> Iterator[tuple]:
    """Yield the outputs of `speak_text` for an edited pronunciation."""
    check_length(pronunciation, 2 * MAX_CHARACTERS)
    tts = models.text_to_speech(voice, vocoder)
    lines = [line.strip() for line in pronunciation.splitlines() if any(map(str.isalpha, line))]
    if not lines:
        raise UserError("the pronunciation is empty; write one line per sentence")
    for outputs in speech_outputs(tts, as_sentences(lines, tts.tacotron2.config), lines, seed):
        yield pronunciation, *outputs


def speech_outputs(
    tts: TextToSpeech, sentences: list[str], titles: list[str], seed: float
) -> Iterator[tuple]:
    """Yield (HTML of the sentences so far, whole audio or None, progress) whenever there is more."""
    check_seed(int(seed or 0))
    run, html, spoken, failed = secrets.token_hex(4), "", [], []
    total = f"{len(sentences)} sentence{'s' if len(sentences) > 1 else ''}"
    yield "", None, f"0 of {total}"
    for title, utterance in zip(titles, tts.speak_batches(sentences, int(seed or 0)), strict=True):
        sentence = Sentence(utterance, tts.audio_of(utterance.mel))
        spoken.append(sentence)
        problem = f"failed in {utterance.attempts} attempts: {utterance.problem}" if utterance.problem else ""
        if problem:
            failed.append(f"{title!r} {problem}")
        html += player(title, (sentence.audio, tts.sampling_rate), run, problem)
        yield html, None, f"{len(spoken)} of {total}"
        figure = plot_attention({"mel": utterance.mel}, utterance.attention, tts.tacotron2.config)
        html += picture(figure, f"mel and attention of {title}")
        yield html, None, f"{len(spoken)} of {total}"
    audio = join_sentences(spoken, tts.silence)
    seconds = f"{total}, {len(audio) / tts.sampling_rate:.1f} s"
    summary = (
        "\n".join([f"{seconds}; {len(failed)} failed:", *failed]) if failed else f"{seconds}; none failed"
    )
    yield html, (tts.sampling_rate, to_pcm(audio)), summary


def copy_clip(models: Models, path: str | None, vocoders: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the players of the recording and of each copy, then the spectrograms, then the metrics."""
    if not path or not vocoders:
        raise UserError("choose a clip and at least one vocoder")
    recording, html, clips = read_clip(Path(path), MAX_SECONDS), "", {}
    loaded = {name: models.vocoder(name, MelConfig()) for name in vocoders}
    for name, clip in copies(recording, loaded, models.device):
        clips[name] = clip
        html += player(name, clip)
        yield html, ""
    html += picture(plot_copies(clips), f"mel spectrograms of {', '.join(clips)}")
    yield html, "Measuring …"
    yield html, metrics_table(clips, models.device)


def evaluation_runs(folder: Path) -> dict[str, Path]:
    """Return the reports of evaluate.py in a folder and its subfolders, by the name of their folder."""
    paths = [*folder.glob("report.html"), *sorted(folder.glob("*/report.html"))]
    return {path.parent.resolve().name: path for path in paths}


def show_report(folder: Path, name: str | None) -> str:
    """Return a report of evaluate.py in a frame of its own, since it has its own styles and script."""
    path = evaluation_runs(folder).get(name or "")
    if path is None:
        return "<p>There are no results of evaluate.py; name their folder with --evaluations.</p>"
    report = escape(path.read_text(encoding="utf-8"))
    return f'<iframe sandbox="allow-scripts" title="{escape(name)}" srcdoc="{report}"></iframe>'


def player(title: str, clip: Sound, run: str = "", note: str = "") -> str:
    """Return the HTML of an audio player with its title and an optional note on a failure."""
    failure = f'<p class="failed">{escape(note)}</p>' if note else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><audio controls data-run="{run}" '
        f'aria-label="{escape(title)}" src="{flac(*clip)}"></audio>{failure}</figure>'
    )


def picture(figure: Figure, description: str) -> str:
    """Return the HTML of a Matplotlib figure, which scrolls on narrow screens."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    width = round(60 * figure.get_figwidth())
    source = data_uri("image/png", file.getvalue())
    return (
        f'<div class="picture" tabindex="0"><img style="min-width:{width}px" alt="{escape(description)}" '
        f'src="{source}"></div>'
    )
