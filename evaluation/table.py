"""The comparison table: means, intervals and paired tests of systems, as Markdown and CSV."""

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from common.files import atomic_write
from corpus.audio import inspect_clip
from corpus.manifest import Clip
from evaluation.metrics import COLUMNS, SPEED, Column, Value
from evaluation.recognition import words_of
from evaluation.statistics import Difference, Interval, bootstrap_interval, paired_difference
from evaluation.systems import System

SIGNIFICANCE = 0.05
FEWEST_CLIPS = 6  # for which a permutation test can be significant
FEW_CLIPS = 11  # with fewer, a bootstrap interval of 95 % contains the mean in 90 % of cases or less


@dataclass(frozen=True)
class Cell:
    """A mean over clips, its difference from the row above, and the number of its footnote."""

    interval: Interval
    difference: Difference | None
    footnote: int | None


class Table:
    """A comparison of systems.

    `values[system, clip, metric]` is a `Value`. `cells[row][column]` has the
    statistics and `footnotes` the texts of their footnotes; `notes` are further sentences below the table.
    """

    def __init__(
        self,
        systems: list[System],
        clips: list[Clip],
        columns: list[Column],
        values: dict[tuple[str, str, str], Value],
        notes: tuple[str, ...] = (),
    ):
        self.systems, self.clips, self.columns, self.values = systems, clips, columns, values
        self.notes = notes
        self.footnotes: list[str] = []
        self.cells = [[self.cell(row, column) for column in columns] for row in range(len(systems))]

    def numbers(self, system: System, column: Column) -> list[float]:
        """Return the values of all clips, nan where there is none."""
        return [self.values[system.name, clip.path.stem, column.name].number for clip in self.clips]

    @cached_property
    def words(self) -> list[int]:
        """Number of words in each clip."""
        return [len(words_of(clip.transcript)) for clip in self.clips]

    def cell(self, row: int, column: Column) -> Cell:
        system, difference = self.systems[row], None
        numbers, weights = self.numbers(system, column), self.words if column.per_word else None
        if row > 0:
            above = self.numbers(self.systems[row - 1], column)
            difference = paired_difference(above, numbers, weights)
        reasons = self.reasons(system, column)
        if reasons and reasons not in self.footnotes:
            self.footnotes.append(reasons)
        return Cell(
            bootstrap_interval(numbers, weights),
            difference if difference and difference.count else None,
            self.footnotes.index(reasons) + 1 if reasons else None,
        )

    def reasons(self, system: System, column: Column) -> str:
        """Return a sentence on the clips without a value, or "" if all have one."""
        given = {clip.path.stem: self.values[system.name, clip.path.stem, column.name] for clip in self.clips}
        without = {clip: value.reason for clip, value in given.items() if value.reason}
        if not without:
            return ""
        counts = Counter(without.values())
        if len(without) == len(given) and len(counts) == 1:
            return sentence(next(iter(counts)))
        parts = []
        for reason, count in counts.most_common(3):
            names = [clip for clip, given_reason in without.items() if given_reason == reason]
            parts.append(f"{reason} ({', '.join(names[:3])}{', …' if count > 3 else ''})")
        more = f"; {len(counts) - 3} other reasons" if len(counts) > 3 else ""
        measured = len(given) - len(without)
        return sentence(
            f"mean over {measured} of {len(given)} clips; without a value: {'; '.join(parts)}{more}"
        )

    def text(self, cell: Cell, column: Column) -> str:
        """Return the mean and its interval, or a dash."""
        mean, low, high, count = cell.interval
        if count == 0:
            return "–"
        if math.isnan(low):
            return column.format(mean)
        return f"{column.format(mean)} [{column.format(low)}, {column.format(high)}]"

    def mark(self, cell: Cell, column: Column) -> str:
        """Return ▲ for significantly better than the row above, ▼ for worse, and ≈ for neither."""
        if cell.difference is None:
            return ""
        if cell.difference.p_value >= SIGNIFICANCE:
            return "≈"
        return "▲" if (cell.difference.mean > 0) == column.higher_is_better else "▼"

    def legend(self) -> list[str]:
        """Return the sentences below the table, without the footnotes."""
        count = len(self.clips)
        too_few = f" With {count} clips, no difference is significant: the test needs {FEWEST_CLIPS}."
        return [
            f"Means over {count} clips; ↑ higher is better, ↓ lower is better. In brackets: 95 % confidence "
            "interval of the mean (bootstrap over clips, 10,000 resamples)"
            + ("; with so few clips, it is too narrow." if 1 < count < FEW_CLIPS else "."),
            f"▲ better or ▼ worse than the row above with p < {SIGNIFICANCE:g}; ≈ no significant difference. "
            "Two-sided paired permutation test over clips, not corrected for multiple comparisons: between "
            "equal systems, about one comparison in twenty is marked."
            + (too_few if count < FEWEST_CLIPS else ""),
            *self.devices(),
            *self.notes,
        ]

    def devices(self) -> list[str]:
        """Return a sentence on the devices on which the speed was measured, in a list, if it was."""
        names: dict[str, list[str]] = {}
        for system in self.systems:
            if system.timings and any(column.name == SPEED for column in self.columns):
                names.setdefault(system.main_device, []).append(system.name)
        parts = "; ".join(f"{', '.join(rows)} on {device}" for device, rows in names.items())
        return [f"{COLUMNS[SPEED].title}: {parts}."] if parts else []

    def definitions(self) -> list[str]:
        return [f"{column.title}: {column.description}." for column in self.columns]

    def differences(self) -> list[tuple[str, list[str]]]:
        """Return, for each pair of neighboring rows, its name and each column's difference and p-value."""
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

    def clip_values(self, system: System, stem: str) -> str:
        """Return the values of one clip as a line of text."""
        parts = []
        for column in self.columns:
            value = self.values[system.name, stem, column.name]
            if not value.reason:
                unit = f" {column.unit}" if column.unit else ""
                parts.append(f"{column.title} {column.format(value.number)}{unit}")
        return " · ".join(parts)

    def to_markdown(self) -> str:
        """Return the table, its footnotes, and the differences between neighboring rows."""
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

    _repr_markdown_ = to_markdown  # displayed by notebooks

    def to_csv(self) -> str:
        """Return one line per system: each metric's mean, interval, clips, difference and p-value."""
        parts = ("", "_low", "_high", "_clips", "_difference", "_p_value")
        header = ["system", "clips", *(column.name + part for column in self.columns for part in parts)]
        lines = []
        for system, cells in zip(self.systems, self.cells, strict=True):
            line = [system.name, len(self.clips)]
            for cell in cells:
                test = cell.difference or Difference(math.nan, math.nan, 0)
                numbers = (*cell.interval, test.mean, test.p_value)
                line += ["" if math.isnan(number) else number for number in numbers]
            lines.append(line)
        return csv_text(header, lines)

    def clips_csv(self) -> str:
        """Return one line per clip and system: duration, each metric, and the reasons for missing values."""
        header = ["clip", "system", "seconds", *(column.name for column in self.columns), "unavailable"]
        lines = []
        for stem in (clip.path.stem for clip in self.clips):
            for system in self.systems:
                values = {column.name: self.values[system.name, stem, column.name] for column in self.columns}
                reasons = [f"{name}: {value.reason}" for name, value in values.items() if value.reason]
                numbers = ["" if value.reason else value.number for value in values.values()]
                seconds = round(audio_seconds(system.wavs[stem]), 4)
                lines.append([stem, system.name, seconds, *numbers, "; ".join(reasons)])
        return csv_text(header, lines)

    def save(self, folder: Path) -> None:
        """Write `table.md`, `table.csv` and `clips.csv`."""
        texts = {"table.md": self.to_markdown(), "table.csv": self.to_csv(), "clips.csv": self.clips_csv()}
        for name, text in texts.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")


def audio_seconds(path: Path) -> float:
    """Return the duration of an audio file in seconds."""
    info = inspect_clip(path)
    return info.samples / max(info.sampling_rate, 1)


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
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()
