"""The content of the web page: models, spoken sentences, copies and reports, as HTML.

Nothing here depends on Gradio. The functions raise UserError for requests that are impossible.
"""

import io
import secrets
from collections.abc import Iterator
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from common.errors import UserError
from common.options import check_seed
from common.plots import plot_attention
from corpus.audio import to_pcm
from evaluation.report import data_uri, flac
from mel import MelConfig
from synthesis.pronunciation import as_sentences, pronounce
from synthesis.speech import TextToSpeech, join_sentences
from tacotron2.speak import split_text
from text import Piece, with_pauses
from webpage.copying import Sound, copies, metrics_table, plot_copies, read_clip
from webpage.models import OWN_VOCODER, Models

MAX_CHARACTERS = 2000
MAX_SECONDS = 20.0  # of a clip to copy


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
    yield "\n".join(pronounce([piece.text for piece in split_text(text, config)], config))


def speak_text(
    models: Models, text: str, voice: str, vocoder: str, seed: float, speed: float = 1.0
) -> Iterator[tuple]:
    """Yield the page's outputs for a text: its pronunciation, then each sentence, then the whole audio."""
    check_length(text)
    tts = models.text_to_speech(voice, vocoder, speed)
    pieces = split_text(text, tts.tacotron2.config)
    sentences = [piece.text for piece in pieces]
    pronunciation = "\n".join(pronounce(sentences, tts.tacotron2.config))
    for outputs in speech_outputs(tts, pieces, sentences, seed):
        yield pronunciation, *outputs


def speak_pronunciation(
    models: Models, pronunciation: str, voice: str, vocoder: str, seed: float, speed: float = 1.0
) -> Iterator[tuple]:
    """Yield the outputs of `speak_text` for an edited pronunciation."""
    check_length(pronunciation, 2 * MAX_CHARACTERS)
    tts = models.text_to_speech(voice, vocoder, speed)
    lines = [line.strip() for line in pronunciation.splitlines() if any(map(str.isalpha, line))]
    if not lines:
        raise UserError("the pronunciation is empty; write one line per sentence")
    sentences = as_sentences(lines, tts.tacotron2.config)
    for outputs in speech_outputs(tts, with_pauses(sentences), lines, seed):
        yield pronunciation, *outputs


def speech_outputs(tts: TextToSpeech, pieces: list[Piece], titles: list[str], seed: float) -> Iterator[tuple]:
    """Yield (HTML of the sentences so far, whole audio or None, progress) whenever there is more."""
    check_seed(int(seed or 0))
    run, html, spoken, failed = secrets.token_hex(4), "", [], []
    total = f"{len(pieces)} sentence{'s' if len(pieces) > 1 else ''}"
    yield "", None, f"0 of {total}"
    for title, sentence in zip(titles, tts.speak_pieces(pieces, int(seed or 0)), strict=True):
        utterance = sentence.utterance
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
