"""The content of the web page: models, spoken sentences, copies and reports, as HTML.

Nothing here depends on Gradio. The functions raise UserError for requests that are impossible.
"""

import io
import secrets
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from common.errors import UserError
from common.plots import plot_attention
from corpus.audio import to_pcm
from evaluation.report import data_uri, flac
from mel import MelConfig
from synthesis.pronunciation import as_sentences, pronounce
from synthesis.speech import join_sentences
from tacotron2.config import Tacotron2Config
from tacotron2.speak import Utterance
from text import Piece, split_text, with_pauses
from webpage.copying import Sound, copies, metrics_table, plot_copies, read_clip
from webpage.models import OWN_VOCODER, Models

MAX_CHARACTERS = 2000
MAX_SECONDS = 20.0  # of a clip to copy
MAX_MEASURED_SECONDS = 60.0
ROOT = Path(__file__).resolve().parent.parent
FIRST_CLIP = ROOT / "docs" / "audio" / "LJ009-0038-recording.mp3"
EXAMPLES = (
    "Good morning! How are you today?",
    "The parcel weighs 2.5 kg, costs $12.99, and arrives on March 3rd.",
    "Say [nəˈvɑːdə], not [nəˈvædə].",
    "The rain in Spain stays mainly in the plain. Peter Piper picked a peck of pickled peppers.",
)


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
    models: Models, text: str, voice: str, vocoder: str, seed: float | None, speed: float = 1.0
) -> Iterator[tuple]:
    """Yield the page's outputs for a text: what is loading, then each sentence, then the whole audio.

    They are the pronunciation, the players of the sentences so far, the whole audio or None, the progress,
    and the pictures of the sentences so far.
    """
    check_length(text)

    def read(config: Tacotron2Config) -> tuple[str, list[Piece], list[str]]:
        pieces = split_text(text, config)
        sentences = [piece.text for piece in pieces]
        return "\n".join(pronounce(sentences, config)), pieces, sentences

    yield from speech_outputs(models, voice, vocoder, seed, speed, read)


def speak_pronunciation(
    models: Models, pronunciation: str, voice: str, vocoder: str, seed: float | None, speed: float = 1.0
) -> Iterator[tuple]:
    """Yield the outputs of `speak_text` for an edited pronunciation."""
    check_length(pronunciation, 2 * MAX_CHARACTERS)
    lines = [line.strip() for line in pronunciation.splitlines() if any(map(str.isalpha, line))]
    if not lines:
        raise UserError("the pronunciation is empty; write one line per sentence")

    def read(config: Tacotron2Config) -> tuple[str, list[Piece], list[str]]:
        return pronunciation, with_pauses(as_sentences(lines, config)), lines

    yield from speech_outputs(models, voice, vocoder, seed, speed, read, pronunciation)


def speech_outputs(
    models: Models,
    voice: str,
    vocoder: str,
    seed: float | None,
    speed: float,
    read: Callable[[Tacotron2Config], tuple[str, list[Piece], list[str]]],
    pronunciation: str = "",
) -> Iterator[tuple]:
    """Yield the outputs of `speak_text` whenever there is more.

    `read` returns the pronunciation, the pieces and their titles. A mistake is shown in place of players.
    """
    message = f"Loading Tacotron 2 of the voice {Path(voice).name} and the {vocoder} …"
    yield pronunciation, hint(message), None, message, ""
    try:
        tts = models.text_to_speech(voice, vocoder, speed)
        pronunciation, pieces, titles = read(tts.tacotron2.config)
    except UserError as error:
        yield pronunciation, hint(str(error)), None, "", ""
        raise
    total = f"{len(pieces)} sentence{'s' if len(pieces) > 1 else ''}"
    yield pronunciation, hint(f"Speaking {total} …"), None, f"0 of {total}", ""
    run, players, pictures, spoken, failed = secrets.token_hex(4), "", "", [], []
    for title, sentence in zip(titles, tts.speak_pieces(pieces, int(seed or 0)), strict=True):
        utterance = sentence.utterance
        spoken.append(sentence)
        problem = f"failed in {utterance.attempts} attempts: {utterance.problem}" if utterance.problem else ""
        if problem:
            failed.append(f"{title!r} {problem}")
        players += player(title, (sentence.audio, tts.sampling_rate), run, problem)
        yield pronunciation, players, None, f"{len(spoken)} of {total}", pictures
        pictures += attention_picture(title, utterance, tts.tacotron2.config)
    audio = join_sentences(spoken, tts.silence)
    seconds = f"{total}, {len(audio) / tts.sampling_rate:.1f} s"
    summary = (
        "\n".join([f"{seconds}; {len(failed)} failed:", *failed]) if failed else f"{seconds}; none failed"
    )
    yield pronunciation, players, (tts.sampling_rate, to_pcm(audio)), summary, pictures


def attention_picture(title: str, utterance: Utterance, config: Tacotron2Config) -> str:
    """Return a picture of a sentence's mel, and of its attention with the symbols that were read."""
    [symbols] = pronounce([utterance.text], config)
    figure = plot_attention({"mel": utterance.mel}, utterance.attention, config, symbols)
    return f"<h4>{escape(title)}</h4>{picture(figure, f'mel and attention of {title}')}"


def measure_speech(models: Models, path: str | None, text: str) -> Iterator[str]:
    """Yield a table with the quality of the last speech, whose word error rate is against `text`."""
    if not path:
        raise UserError("there is no speech to measure; speak a text first")
    yield "Measuring …"
    yield metrics_table({"speech": read_clip(Path(path), MAX_MEASURED_SECONDS)}, models.device, text)


def copy_clip(models: Models, path: str | None, vocoders: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the players of the recording and of each copy, then the spectrograms, then the metrics."""
    if not path or not vocoders:
        raise UserError("choose a clip and at least one vocoder")
    recording, html, clips = read_clip(Path(path), MAX_SECONDS), "", {}
    loaded = {}
    for name in vocoders:
        yield html, f"Loading {name} …"
        loaded[name] = models.vocoder(name, MelConfig())
    for name, clip in copies(recording, loaded, models.device):
        clips[name] = clip
        html += player(name, clip)
        yield html, f"{len(clips)} of {len(vocoders) + 1} sounds"
    html += picture(plot_copies(clips), f"mel spectrograms of {', '.join(clips)}")
    yield html, "Measuring …"
    yield html, metrics_table(clips, models.device)


def evaluation_runs(folder: Path) -> dict[str, Path]:
    """Return the reports of evaluate.py in a folder and its subfolders, by the name of their folder."""
    paths = [*folder.glob("report.html"), *sorted(folder.glob("*/report.html"))]
    return {path.parent.resolve().name: path for path in paths}


def show_report(folder: Path, name: str | None) -> str:
    """Return a report of evaluate.py in a frame of its own, since it has its own styles and script."""
    name = str(name or "")  # clients can send any type
    path = evaluation_runs(folder).get(name)
    if path is None:
        return "<p>There are no results of evaluate.py; name their folder with --evaluations.</p>"
    report = escape(path.read_text(encoding="utf-8"))
    return f'<iframe sandbox="allow-scripts" title="{escape(name)}" srcdoc="{report}"></iframe>'


def api_guide() -> str:
    """Return the section on the API of docs/web_page.md, or its address where the file is missing."""
    page = ROOT / "docs" / "web_page.md"
    text = page.read_text(encoding="utf-8") if page.is_file() else "## API\n`POST /v1/audio/speech`\n## "
    return text.partition("\n## API\n")[2].partition("\n## ")[0]


def hint(text: str) -> str:
    return f'<p class="hint">{escape(text)}</p>'


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
