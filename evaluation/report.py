"""What `evaluate.py` found, told: as a table in Markdown and CSV, and as a page to listen to."""

import base64
import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import librosa
import numpy as np
import soundfile

from audio import read_audio, to_pcm
from evaluation.metrics import (
    MEL,
    METRICS,
    Difference,
    Interval,
    Metric,
    Unavailable,
    bootstrap_interval,
    log_mel,
    paired_difference,
)
from utils import atomic_write

if TYPE_CHECKING:
    from dataset import Clip
    from evaluation.systems import System

SPEED = "rtf"
SIGNIFICANCE = 0.05
# Pictures go from the loudest bin of the clip's recordings and syntheses down by so much.
RANGE = 80.0 * math.log(10.0) / 20.0  # 80 dB, in nepers
FREQUENCY_TICKS = (500, 1000, 2000, 4000)  # Hz


class Column(NamedTuple):
    """A metric as the table knows it; without `decimals` two digits are shown, wherever they lie."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    description: str
    decimals: int | None

    @classmethod
    def of(cls, metric: Metric) -> "Column":
        return cls(*(getattr(metric, name) for name in cls._fields))

    @property
    def heading(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.higher_is_better else '↓'}"

    def format(self, value: float, sign: bool = False) -> str:
        if self.decimals is None:
            text = np.format_float_positional(value, precision=2, fractional=False, trim="-")
            return f"+{text}" if sign and value >= 0 else text
        return f"{value:{'+' if sign else ''}.{self.decimals}f}"


COLUMNS = {metric.name: Column.of(metric) for metric in METRICS} | {
    SPEED: Column(
        SPEED,
        "RTF",
        "",
        False,
        "real-time factor, seconds of work for a second of audio, of the vocoder alone",
        None,
    )
}


@dataclass(frozen=True)
class Cell:
    """A mean over clips, how it differs from the row above, and the number of its footnote."""

    interval: Interval
    difference: Difference | None
    footnote: int | None


class Table:
    """The comparison: `values[system, clip, metric]` is a number, or in words why there is none.

    `to_markdown()` and `to_csv()` give it as text, `clips_csv()` what it is the mean of, `cells[row][column]`
    its figures, `footnotes` what their numbers stand for.
    """

    def __init__(
        self,
        systems: "list[System]",
        clips: "list[Clip]",
        columns: list[Column],
        values: dict[tuple[str, str, str], float | str],
        notes: tuple[str, ...] = (),
    ):
        self.systems, self.clips, self.columns, self.values = systems, clips, columns, values
        self.notes = notes
        self.footnotes: list[str] = []
        self.cells = [[self.cell(row, column) for column in columns] for row in range(len(systems))]

    def numbers(self, system: "System", column: Column) -> list[float]:
        """The values of all clips, nan where there is none."""
        values = [self.values[system.name, clip.path.stem, column.name] for clip in self.clips]
        return [math.nan if isinstance(value, str) else value for value in values]

    def cell(self, row: int, column: Column) -> Cell:
        system, difference = self.systems[row], None
        numbers = self.numbers(system, column)
        if row > 0:
            difference = paired_difference(self.numbers(self.systems[row - 1], column), numbers)
        reasons = self.reasons(system, column)
        if reasons and reasons not in self.footnotes:
            self.footnotes.append(reasons)
        return Cell(
            bootstrap_interval(numbers),
            difference if difference and difference.count else None,
            self.footnotes.index(reasons) + 1 if reasons else None,
        )

    def reasons(self, system: "System", column: Column) -> str:
        """Why clips have no value, as a sentence; "" where all have one."""
        given = {clip.path.stem: self.values[system.name, clip.path.stem, column.name] for clip in self.clips}
        without = {clip: value for clip, value in given.items() if isinstance(value, str)}
        if not without:
            return ""
        counts = Counter(without.values())
        if len(without) == len(given) and len(counts) == 1:
            return sentence(next(iter(counts)))
        told = []
        for reason, count in counts.most_common(3):
            names = [clip for clip, value in without.items() if value == reason]
            told.append(f"{reason} ({', '.join(names[:3])}{', …' if count > 3 else ''})")
        more = f"; and {len(counts) - 3} more such reasons" if len(counts) > 3 else ""
        return sentence(f"over {len(given) - len(without)} of {len(given)} clips: {'; '.join(told)}{more}")

    def text(self, cell: Cell, column: Column) -> str:
        mean, low, high, count = cell.interval
        if count == 0:
            return "–"
        if math.isnan(low):
            return column.format(mean)
        return f"{column.format(mean)} [{column.format(low)}, {column.format(high)}]"

    def mark(self, cell: Cell, column: Column) -> str:
        """▲ or ▼ where a cell is really better or worse than the one above, ≈ where that may be chance."""
        if cell.difference is None:
            return ""
        if cell.difference.p_value >= SIGNIFICANCE:
            return "≈"
        return "▲" if (cell.difference.mean > 0) == column.higher_is_better else "▼"

    def legend(self) -> list[str]:
        """What has to be said below the table, beside the footnotes."""
        count = len(self.clips)
        lines = [
            f"Means over {count} clips, ↑ higher or ↓ lower is better; in brackets the 95 % interval of the "
            "mean (bootstrap over clips, 10,000 times).",
            "▲ better or ▼ worse than the row above; ≈ the difference may be chance. A paired test: if two "
            "systems were alike, each clip's difference could as well have the other sign; a mean as far "
            f"from 0 would come about in less than {100 * SIGNIFICANCE:g} % of such cases (permutation test, "
            "two-sided; of twenty comparisons of systems that are alike, about one is marked).",
        ]
        if count < 6:
            lines[1] += f" No difference can be told with {count} clips: that takes 6."
        return [*lines, *self.devices(), *self.notes]

    def devices(self) -> list[str]:
        """On which device each system's speed was measured, in a line."""
        names: dict[str, list[str]] = {}
        for system in self.systems:
            if system.timings and any(column.name == SPEED for column in self.columns):
                names.setdefault(system.main_device, []).append(system.name)
        told = "; ".join(f"{', '.join(rows)} on {device}" for device, rows in names.items())
        return [f"{COLUMNS[SPEED].title}: {told}."] if told else []

    def definitions(self) -> list[str]:
        return [f"{column.title}: {column.description}." for column in self.columns]

    def differences(self) -> list[tuple[str, list[str]]]:
        """For each pair of neighbouring rows its name, and for each column mean difference and p-value."""
        rows = []
        for (above, below), cells in zip(pairwise(self.systems), self.cells[1:], strict=True):
            texts = []
            for cell, column in zip(cells, self.columns, strict=True):
                texts.append("–")
                if cell.difference is not None:
                    p_value = cell.difference.p_value
                    p_text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
                    texts[-1] = f"{column.format(cell.difference.mean, sign=True)} ({p_text})"
            rows.append((f"{below.name} − {above.name}", texts))
        return rows

    def to_markdown(self) -> str:
        """The table, its footnotes, and the differences of neighbouring rows."""
        rows = []
        for system, cells in zip(self.systems, self.cells, strict=True):
            texts = []
            for cell, column in zip(cells, self.columns, strict=True):
                parts = [self.text(cell, column), self.mark(cell, column), superscript(cell.footnote)]
                texts.append(" ".join(filter(None, parts)))
            rows.append((system.name, texts))
        headings = [column.heading for column in self.columns]
        lines = [*markdown_rows("System", headings, rows), ""]
        lines += [f"{line}\n" for line in [*self.legend(), " ".join(self.definitions())]]
        lines += [f"{superscript(number)} {text}\n" for number, text in enumerate(self.footnotes, 1)]
        if len(self.systems) > 1:
            lines += markdown_rows("Difference", headings, self.differences())
        return "\n".join(lines).rstrip() + "\n"

    _repr_markdown_ = to_markdown  # what a notebook shows

    def to_csv(self) -> str:
        """A line a system: each metric's mean, its interval, the clips, the test against the row above."""
        parts = ("", "_low", "_high", "_clips", "_difference", "_p_value")
        header = ["system", "clips", *(column.name + part for column in self.columns for part in parts)]
        lines = []
        for system, cells in zip(self.systems, self.cells, strict=True):
            line = [system.name, len(self.clips)]
            for cell in cells:
                mean, low, high, count = cell.interval
                tested = (
                    (cell.difference.mean, cell.difference.p_value) if cell.difference else (math.nan,) * 2
                )
                line += ["" if number != number else number for number in (mean, low, high, count, *tested)]
            lines.append(line)
        return csv_text(header, lines)

    def clips_csv(self) -> str:
        """A line a clip and system: seconds of audio, each metric, and why some have no value."""
        header = ["clip", "system", "seconds", *(column.name for column in self.columns), "unavailable"]
        lines = []
        for clip in self.clips:
            for system in self.systems:
                stem = clip.path.stem
                given = [self.values[system.name, stem, column.name] for column in self.columns]
                reasons = [
                    f"{column.name}: {value}"
                    for column, value in zip(self.columns, given, strict=True)
                    if isinstance(value, str)
                ]
                numbers = ["" if isinstance(value, str) else value for value in given]
                seconds = round(duration(system.wavs[stem]), 4)
                lines.append([stem, system.name, seconds, *numbers, "; ".join(reasons)])
        return csv_text(header, lines)

    def save(self, folder: Path, report_clips: int = 12) -> None:
        """Write `table.md`, `table.csv`, `clips.csv` and, with so many clips to hear, `report.html`."""
        texts = {"table.md": self.to_markdown(), "table.csv": self.to_csv(), "clips.csv": self.clips_csv()}
        for name, text in texts.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
        write_page(self, folder / "report.html", report_clips)


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def superscript(number: int | None) -> str:
    return f"⁽{str(number).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}⁾" if number else ""


def markdown_rows(first: str, headings: list[str], rows: list[tuple[str, list[str]]]) -> list[str]:
    lines = [[first, *headings], [":--", *["--:"] * len(headings)]]
    lines += [[name.replace("|", "\\|"), *texts] for name, texts in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def csv_text(header: list[str], lines: list[list]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    return text.getvalue()


# The page.


def duration(path: Path) -> float:
    return soundfile.info(path).duration


def write_page(table: Table, path: Path, max_clips: int = 12) -> None:
    """Write the table and at most `max_clips` clips, spread evenly over all, as every system says them.

    The page is one file that needs no server, no network and no other file: sounds and pictures are inside.
    """
    chosen = np.linspace(0, len(table.clips) - 1, min(max_clips, len(table.clips))).round().astype(int)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(PAGE_START)
        file.write(table_html(table))
        if len(chosen):
            shown = "All" if len(chosen) == len(table.clips) else f"{len(chosen)} of the {len(table.clips)}"
            file.write(f"<h2>Listen</h2>\n<p>{shown} clips. A player that starts stops the others.</p>\n")
        for index in chosen:  # one at a time: a page of sounds is larger than any of its parts
            file.write(clip_html(table, table.clips[index]))
        file.write("</main>\n</body>\n</html>\n")


def table_html(table: Table) -> str:
    headings = "".join(
        f'<th scope="col"><abbr title="{escape(column.description)}">{arrow_kept(column.heading)}</abbr></th>'
        for column in table.columns
    )
    rows = []
    for system, cells in zip(table.systems, table.cells, strict=True):
        texts = []
        for cell, column in zip(cells, table.columns, strict=True):
            mean, _, interval = table.text(cell, column).partition(" ")
            interval = f" <small>{interval}</small>" if interval else ""
            mark = f' <span class="mark">{table.mark(cell, column)}</span>' if cell.difference else ""
            note = f'<sup><a href="#note-{cell.footnote}">{cell.footnote}</a></sup>' if cell.footnote else ""
            texts.append(f"<td>{mean}{mark}{note}{interval}</td>")
        rows.append(f'<tr><th scope="row">{escape(system.name)}</th>{"".join(texts)}</tr>')
    legend = "".join(f"<p>{escape(line)}</p>\n" for line in table.legend())
    notes = "".join(
        f'<li id="note-{number}">{escape(text)}</li>\n' for number, text in enumerate(table.footnotes, 1)
    )
    notes = f"<ol>\n{notes}</ol>\n" if notes else ""
    definitions = "".join(
        f"<dt>{escape(column.title)}</dt><dd>{escape(column.description)}</dd>\n" for column in table.columns
    )
    differences = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(difference_cell, texts))}</tr>\n'
        for name, texts in table.differences()
    )
    return (
        f"{scrolling_table('Systems', headings, ''.join(rows))}"
        f'<div class="notes">\n{legend}{notes}</div>\n'
        f"<details><summary>What the columns are</summary>\n<dl>\n{definitions}</dl></details>\n"
        "<details><summary>Each row against the one above it</summary>\n"
        f"{scrolling_table('Differences', headings, differences)}</details>\n"
    )


def arrow_kept(heading: str) -> str:
    """A heading that breaks between words, but not before its arrow."""
    return "&nbsp;".join(escape(heading).rsplit(" ", 1))


def difference_cell(text: str) -> str:
    mean, _, p_value = text.partition(" ")
    return f"<td>{mean} <small>{escape(p_value)}</small></td>" if p_value else f"<td>{mean}</td>"


def scrolling_table(title: str, headings: str, rows: str) -> str:
    """A table wider than a phone is scrolled by itself, by keyboard too, and the page is not."""
    return (
        f'<div class="wide" role="region" aria-label="{title}" tabindex="0"><table>\n'
        f'<thead><tr><th scope="col">{title}</th>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table></div>\n"
    )


def clip_html(table: Table, clip: "Clip") -> str:
    """A clip's transcript, and for each system its player, spectrogram and figures."""
    stem = clip.path.stem
    sounds = [(system, *read_audio(system.wavs[stem])[:2]) for system in table.systems]
    mels = [picture_of(audio, sampling_rate) for _, audio, sampling_rate in sounds]
    loudest = max((mel.max() for mel in mels if mel is not None), default=0.0)
    longest = max(len(audio) / sampling_rate for _, audio, sampling_rate in sounds)
    figures = []
    for (system, audio, sampling_rate), mel in zip(sounds, mels, strict=True):
        name = escape(system.name)
        label = f"{name}, clip {escape(stem)}"
        seconds = len(audio) / sampling_rate
        picture = spectrogram_html(mel, loudest, seconds, longest, label) if mel is not None else (
            "<p>too short for a spectrogram</p>\n"
        )  # fmt: skip
        figures.append(
            f"<figure>\n<figcaption>{name}</figcaption>\n"
            f'<audio controls preload="metadata" aria-label="{label}" '
            f'src="{flac(audio, sampling_rate)}"></audio>\n'
            f'{picture}<p class="values">{escape(values_of(table, system, stem))}</p>\n</figure>\n'
        )
    transcript = f"<blockquote>{escape(clip.transcript)}</blockquote>\n" if clip.transcript else ""
    return (
        f'<section aria-label="Clip {escape(stem)}">\n<h3>{escape(stem)}</h3>\n{transcript}'
        f'<div class="systems">\n{"".join(figures)}</div>\n</section>\n'
    )


def values_of(table: Table, system: "System", stem: str) -> str:
    """The clip's own figures."""
    given = [(column, table.values[system.name, stem, column.name]) for column in table.columns]
    parts = [
        f"{column.title} {column.format(value)}{' ' + column.unit if column.unit else ''}"
        for column, value in given
        if not isinstance(value, str)
    ]
    return " · ".join(parts)


def flac(audio: np.ndarray, sampling_rate: int) -> str:
    """The audio as a data: URI. FLAC is half of a WAV, loses nothing, and has been played by every browser
    since 2017; Ogg would be smaller, but Safari learnt it late, and what is to be judged would be coded anew.
    """
    file = io.BytesIO()
    soundfile.write(file, to_pcm(audio), sampling_rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", file.getvalue())


def data_uri(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode('ascii')}"


def picture_of(audio: np.ndarray, sampling_rate: int) -> np.ndarray | None:
    try:
        return log_mel(np.nan_to_num(audio), sampling_rate)
    except Unavailable:
        return None


def spectrogram_html(mel: np.ndarray, loudest: float, seconds: float, longest: float, label: str) -> str:
    """The mel (80, frames) as a picture with axes, as wide as its part of the clip's longest version."""
    from matplotlib import colormaps  # slow to import
    from PIL import Image

    levels = np.clip((mel[::-1] - loudest) / RANGE + 1.0, 0.0, 1.0)
    image = Image.fromarray(np.rint(255 * levels).astype(np.uint8)).convert("P")
    colours = colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    image.putpalette(colours.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)

    bands = librosa.mel_frequencies(MEL.num_mels + 2, fmin=MEL.fmin, fmax=MEL.highest_frequency)[1:-1]
    heights = 100 * (np.interp(FREQUENCY_TICKS, bands, np.arange(MEL.num_mels)) + 0.5) / MEL.num_mels
    frequencies = "".join(
        f'<span style="bottom:{height:.1f}%">{frequency / 1000:g}</span>'
        for frequency, height in zip(FREQUENCY_TICKS, heights, strict=True)
    )
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60) if longest / step <= 7), 300)
    times = "".join(
        f'<span style="left:{100 * number * step / longest:.1f}%">{number * step:g}</span>'
        for number in range(int(0.93 * longest / step) + 1)  # the unit stands at the end
    )
    return (
        f'<div class="picture"><div class="frequencies" aria-hidden="true">{frequencies}</div>'
        f'<div class="plot"><img style="width:{100 * seconds / longest:.2f}%" '
        f'alt="Mel spectrogram of {label}: {seconds:.2f} s, 0 to {MEL.highest_frequency / 1000:g} kHz" '
        f'src="{data_uri("image/png", file.getvalue())}"></div>'
        f'<div class="axis" aria-hidden="true">kHz</div><div class="times" aria-hidden="true">{times}'
        "<i>s</i></div></div>\n"
    )


# The policy forbids the page every request, should anything in it ever ask for one.
PAGE_START = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Comparison of vocoders</title>
<style>
:root { --text: #1c1c22; --soft: #5b5b66; --page: #fbfbfd; --card: #ffffff; --line: #d9d9e0;
  --link: #6a1b7a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ececf1; --soft: #a5a5b2; --page: #15151a; --card: #1f1f26; --line: #3a3a45;
    --link: #e0a3ee; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 92rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; } h3 { margin: 0 0 .25rem; font-size: 1.05rem; }
a { color: var(--link); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .55rem; text-align: right; white-space: nowrap; vertical-align: top;
  overflow-wrap: normal; }
tr + tr > *, tbody > tr > * { border-top: 1px solid var(--line); }
th:first-child { position: sticky; left: 0; text-align: left; background: var(--card); white-space: normal;
  min-width: 6.5rem; max-width: 11rem; }
thead th { font-size: .8rem; line-height: 1.3; color: var(--soft); white-space: normal;
  vertical-align: bottom; }
abbr { text-decoration: none; } sup { line-height: 0; } sup a { padding: 0 .25rem; text-decoration: none; }
td small { display: block; font-size: .75rem; color: var(--soft); }
.notes, details { color: var(--soft); font-size: .875rem; max-width: 60rem; overflow-wrap: anywhere; }
details { margin: .5rem 0; max-width: none; } summary { cursor: pointer; color: var(--text); }
dt { font-weight: 600; color: var(--text); } dd { margin: 0 0 .4rem; }
section { margin: 1.5rem 0; padding-top: 1rem; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
blockquote { margin: 0 0 .75rem; max-width: 50rem; color: var(--soft); }
.systems { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; padding: .75rem; min-width: 0; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); }
figcaption { font-weight: 600; margin-bottom: .4rem; }
audio { display: block; width: 100%; height: 2.5rem; }
.picture { display: grid; grid-template-columns: 1.9rem minmax(0, 1fr); grid-template-rows: 8rem 1.2rem;
  margin-top: .6rem; font-size: .7rem; color: var(--soft); }
.frequencies, .times { position: relative; }
.frequencies span { position: absolute; right: .35rem; transform: translateY(50%); line-height: 1; }
.times span { position: absolute; top: .15rem; transform: translateX(-50%); line-height: 1;
  white-space: nowrap; }
.times span:first-child { transform: none; }
.times i { position: absolute; top: .15rem; right: 0; line-height: 1; font-style: normal; }
.axis { line-height: 1; padding-top: .15rem; }
.plot img { display: block; height: 100%; }
.values { margin: .5rem 0 0; font-size: .8rem; color: var(--soft); }
</style>
<script>
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);
</script>
</head>
<body>
<main>
<h1>Comparison of vocoders</h1>
"""
