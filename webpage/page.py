"""The web page, made with Gradio."""

import functools
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import get_type_hints

import gradio as gr

from checkpoint.voices import Voice
from common.errors import UserError, one_line
from common.options import SEED, option_problem, shown
from synthesis.options import SPEEDS
from webpage.api import Api, in_url
from webpage.content import (
    EXAMPLES,
    FIRST_CLIP,
    MAX_CHARACTERS,
    MAX_SECONDS,
    api_guide,
    copy_clip,
    evaluation_runs,
    hint,
    measure_speech,
    show_pronunciation,
    show_report,
    speak_pronunciation,
    speak_text,
)
from webpage.models import GRIFFIN_LIM, OWN_VOCODER, Models

MAX_MEGABYTES = 20  # of an upload
MAX_WAITING = 20  # requests in the queue
RULES = {"speed": SPEEDS, "seed": SEED, "vocoders": {"may_be_empty": True}}  # of the inputs by their names
KEPT_SESSIONS = 20  # of visitors, with their last results of a few megabytes each

CSS = """
#sentences { min-height: 5.5rem; max-height: 45vh; overflow-y: auto; padding: 0.75rem 1rem;
    border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); }
figure { margin: 0 0 0.75rem; } figcaption { font-weight: 600; overflow-wrap: anywhere; }
figure:last-child { margin: 0; } .hint { color: var(--body-text-color-subdued); }
audio { width: 100%; max-width: 40rem; height: 2.5rem; }
.picture { overflow-x: auto; margin-bottom: 1.5rem; }
.picture img { width: 100%; max-width: 60rem; margin: 0.5rem 0; }
.failed { color: #b91c1c; } .dark .failed { color: #fca5a5; }
table th, table td { word-break: normal; overflow-wrap: normal; }
pre { overflow-x: auto; }
iframe { width: 100%; height: 85vh; border: 0; background: white; }
"""
# Starting a player stops the others.
PAGE_SCRIPT = """() => document.addEventListener("play", event => {
    for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true)"""
STOP_SCRIPT = "() => document.querySelectorAll('audio').forEach(player => player.pause())"
# Plays the sentences in order as they arrive. `data-run` distinguishes one request from the next.
PLAYLIST = """
let run = "", waiting = null;
const players = () => [...element.querySelectorAll("audio")];
const play = index => {
    const player = players()[index];
    waiting = player ? null : index;
    player?.play().catch(() => {});
    player?.closest("figure").scrollIntoView({block: "nearest"});
};
element.addEventListener("ended", event => play(players().indexOf(event.target) + 1), true);
watch("value", () => {
    const first = players()[0];
    if (first && first.dataset.run !== run) { run = first.dataset.run; play(0); }
    else if (waiting !== null) play(waiting);
});
"""


def launch(page: gr.Blocks, api: Api, host: str, port: int, share: bool) -> None:
    """Serve the page and the API until the process is stopped. Raises UserError if it can't listen."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    try:
        page.launch(
            server_name=in_url(host),
            server_port=port,
            share=share,
            theme=gr.themes.Default(**fonts),
            css=CSS,
            js=PAGE_SCRIPT,
            ssr_mode=False,
            run_history=False,
            state_session_capacity=KEPT_SESSIONS,
            max_file_size=f"{MAX_MEGABYTES}mb",
            footer_links=["api"],
            app_kwargs={"routes": api.routes},
        )
    except OSError as error:
        raise UserError(f"can't listen on {host}:{port}: {one_line(error)}; choose another --port") from error


def with_messages(handler: Callable[..., Iterator], models: Models) -> Callable[..., Iterator]:
    """Return an event handler that shows a `UserError` as a message on the page."""

    @functools.wraps(partial(handler, models))
    def wrapper(*inputs):
        steps = handler(models, *inputs)
        try:
            check_inputs(handler, inputs)
            while (outputs := models.next_step(steps)) is not None:
                yield outputs
        except UserError as error:
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from error

    return wrapper


def check_inputs(handler: Callable[..., Iterator], inputs: tuple) -> None:
    """Raise UserError if an input has another type than the handler's parameter, as clients can send it."""
    names = list(inspect.signature(handler).parameters)[1:]  # without the models
    kinds = get_type_hints(handler)
    for name, value in zip(names, inputs, strict=False):
        if problem := option_problem(value, kinds[name], RULES.get(name, {})):
            raise UserError(f"{name} is {shown(value)}; {problem}")


def unchecked(component: gr.Slider | gr.Number) -> gr.Slider | gr.Number:
    """Make a component leave the checks to `check_inputs`: its own raise TypeError for text."""
    component.preprocess = lambda payload: payload
    return component


def build_page(models: Models, evaluations: Path, delete_after: int) -> gr.Blocks:
    """Return the page with its four tabs."""
    period = min(delete_after, 60)
    with gr.Blocks(title="HiFi-GAN", analytics_enabled=False, delete_cache=(period, delete_after)) as page:
        gr.Markdown("# HiFi-GAN")
        with gr.Tab("Speak"):
            build_speak_tab(models)
        with gr.Tab("Copy synthesis"):
            build_copy_tab(models)
        with gr.Tab("Compare") as tab:
            build_compare_tab(evaluations, tab)
        with gr.Tab("API"):
            gr.Markdown(api_guide())
    return page.queue(max_size=MAX_WAITING)


def title_of(voice: Voice) -> str:
    """Return the title of a voice with its license, as the menu shows it."""
    return f"{voice.title[:1].upper()}{voice.title[1:]}, {voice.license} license"


def build_speak_tab(models: Models) -> None:
    sentences = gr.HTML(
        hint("Click an example or Speak: the sentences are played here."), elem_id="sentences",
        js_on_load=PLAYLIST,
    )  # fmt: skip
    text = gr.Textbox(
        "Any sentence of yours. It can be followed by others!", label="Text", lines=2,
        info=f"English, at most {MAX_CHARACTERS:,} characters",
    )  # fmt: skip
    with gr.Row():
        button = gr.Button("Speak", variant="primary", scale=3, min_width=120)
        stop = gr.Button("Stop", scale=1, min_width=80)
    examples = gr.Examples(list(EXAMPLES), text, label="Examples: click one to hear it", api_name=False)
    status = gr.Textbox(
        label="Progress", placeholder="Progress", show_label=False, container=False, interactive=False
    )
    with gr.Row():
        voice = gr.Dropdown(
            [(title_of(voice), name) for name, voice in models.voices.items()],
            label="Voice", allow_custom_value=models.any_path, min_width=320, scale=2,
            info="or the folder of another one" if models.any_path else None,
        )  # fmt: skip
        speed = unchecked(gr.Slider(
            0.5, 2.0, 1.0, step=0.05, label="Speed", info="times the usual, at the same pitch", min_width=240
        ))  # fmt: skip
    with gr.Accordion("Vocoder and seed", open=False), gr.Row():
        vocoder = gr.Dropdown(
            [OWN_VOCODER, GRIFFIN_LIM, *models.checkpoints], label="Vocoder",
            info="or the path of your own" if models.any_path else None, allow_custom_value=models.any_path,
            min_width=240,
        )  # fmt: skip
        seed = unchecked(gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, min_width=240,
            info="another seed changes the intonation",
        ))  # fmt: skip
    with gr.Accordion("Pronunciation", open=False):
        pronunciation = gr.Textbox(
            "", label="What the voice reads, one line per sentence", lines=3,
            info="phonemes (IPA) or normalized text, depending on the voice; you can edit it",
        )  # fmt: skip
        with gr.Row():
            show = gr.Button("Show the pronunciation of the text")
            speak_edited = gr.Button("Speak the edited pronunciation")
    with gr.Accordion("Whole audio and its quality", open=False):
        audio = gr.Audio(
            label="Whole text", interactive=False, buttons=["download"], type="filepath",
            waveform_options=gr.WaveformOptions(show_recording_waveform=False),
        )  # fmt: skip
        measure = gr.Button("Measure the quality")
        quality = gr.Markdown()
    with gr.Accordion("Mels and attention", open=False):
        pictures = gr.HTML()

    outputs = [pronunciation, sentences, audio, status, pictures]
    settings = [voice, vocoder, seed, speed]
    on_models = {"concurrency_limit": 1, "concurrency_id": "models", "show_progress": "minimal"}
    speak = with_messages(speak_text, models)
    speaks = {"show_progress_on": status, **on_models}
    clicks = [
        button.click(speak, [text, *settings], outputs, api_name="speak", **speaks),
        examples.load_input_event.then(
            speak, [text, *settings], outputs, api_name=False, **speaks
        ),
        speak_edited.click(
            with_messages(speak_pronunciation, models), [pronunciation, *settings], outputs,
            api_name="speak_pronunciation", **speaks,
        ),
    ]  # fmt: skip
    stop.click(lambda: "Stopped", None, status, js=STOP_SCRIPT, cancels=clicks, api_name=False, queue=False)
    show.click(
        with_messages(show_pronunciation, models), [text, voice], pronunciation,
        api_name="pronounce", **on_models,
    )  # fmt: skip
    measure.click(
        with_messages(measure_speech, models), [audio, text], quality, api_name="measure", **on_models
    )


def build_copy_tab(models: Models) -> None:
    gr.Markdown(
        "The vocoders generate a clip again from its mel spectrogram. Choose a clip of your own with ×: WAV, "
        f"FLAC, OGG or MP3, at most {MAX_SECONDS:g} s and {MAX_MEGABYTES} MB."
    )
    clip = gr.Audio(
        FIRST_CLIP if FIRST_CLIP.is_file() else None, sources=["upload", "microphone"], type="filepath",
        buttons=[], label="Clip", waveform_options=gr.WaveformOptions(show_recording_waveform=False),
    )  # fmt: skip
    choices = [*models.bundled, *models.checkpoints, GRIFFIN_LIM]
    vocoders = gr.Dropdown(
        choices, value=choices, multiselect=True, label="Vocoders", allow_custom_value=models.any_path,
        info="and paths of your own" if models.any_path else None,
    )  # fmt: skip
    button = gr.Button("Copy", variant="primary")
    metrics, players = gr.Markdown(), gr.HTML()
    button.click(
        with_messages(copy_clip, models), [clip, vocoders], [players, metrics], api_name="copy",
        concurrency_limit=1, concurrency_id="models", show_progress="minimal", show_progress_on=metrics,
    )  # fmt: skip


def build_compare_tab(folder: Path, tab: gr.Tab) -> None:
    run = gr.Dropdown(choices=[], label="Results of evaluate.py", allow_custom_value=True)
    report = gr.HTML()
    run.change(partial(show_report, folder), run, report, api_name="report")

    def list_runs() -> tuple:
        names = list(evaluation_runs(folder))
        return gr.Dropdown(choices=names, value=names[0] if names else None)

    tab.select(list_runs, None, run, api_name=False).then(
        partial(show_report, folder), run, report, api_name=False
    )
