"""Plot the curves of one or several training runs into one picture: `python -m training.plot RUN…`."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import ArgumentParser
from training.metrics_log import read_records

COLUMNS = 3
LOG_SCALE_RATIO = 30.0  # of the largest to the smallest value, above which an axis is logarithmic
WINDOWS = 50  # the smoothed curve is a moving average over this fraction of the logged steps


def read_run(path: Path) -> pd.DataFrame:
    """Return the records of a run, one per row, given its folder or its `metrics.jsonl`.

    Raises UserError if there are none.
    """
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        records = pd.DataFrame(read_records(path))
        numbers = records.columns.difference(["split"])
        records[numbers] = records[numbers].astype(float)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"can't read {path}: {error}; name the folder of a training run") from error
    if not {"step", "split"} <= set(records):
        raise UserError(f"there are no records of a training run in {path}; wait for its first step")
    return records.set_index("step").dropna(axis="columns", how="all")


def run_names(paths: list[Path]) -> list[str]:
    """Return the names of the folders, or the paths if names are equal."""
    folders = [path if path.is_dir() else path.parent for path in paths]
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, paths))


def plot_runs(runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot all values over the steps, with one panel per value and one colour per run.

    A validation value shares the panel of the training value with the same name.
    """
    names = [name for run in runs.values() for name in run.columns if name not in ("epoch", "split")]
    titles = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    titles.sort(key=lambda title: not title.endswith("loss"))  # losses first
    rows = ceil(len(titles) / COLUMNS)
    figure = Figure(figsize=(5.0 * COLUMNS, 2.8 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for title, panel in zip(titles, panels, strict=False):
        for number, run in enumerate(runs.values()):
            draw_curves(panel, run, title, f"C{number % 10}")
        panel.set(title=title.replace("_", " "), xlabel="step")
        panel.grid(alpha=0.3)
        low, high = panel.dataLim.intervaly
        if 0 < LOG_SCALE_RATIO * low < high:
            panel.set_yscale("log")
    for panel in list(panels):  # the iterator continues after the last title
        panel.set_axis_off()
    lines = [figure.axes[0].plot([], [], f"C{number % 10}")[0] for number in range(len(runs))]
    dots = figure.axes[0].plot([], [], "o-", color="gray", markersize=3)[0]
    figure.legend([*lines, dots], [*runs, "validation"], loc="outside upper center", ncols=5)
    return figure


def draw_curves(panel: Axes, run: pd.DataFrame, name: str, colour: str) -> None:
    """Draw a value in training, faintly, its moving average, and the validation's value with dots."""
    if name in run:
        values = run[name].astype(float).dropna()
        panel.plot(values.index, values, color=colour, alpha=0.25, linewidth=0.8)
        smoothed = values.rolling(1 + len(values) // WINDOWS, min_periods=1, center=True).mean()
        panel.plot(smoothed.index, smoothed, color=colour)
    if f"val_{name}" in run:
        values = run[f"val_{name}"].astype(float).dropna()
        panel.plot(values.index, values, "o-", color=colour, markersize=3, linewidth=0.8)


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    parser = ArgumentParser(prog="training.plot", description=__doc__)
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a run, or metrics.jsonl")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="PNG file to write")
    args = parser.parse_args(arguments)
    runs = dict(zip(run_names(args.runs), map(read_run, args.runs), strict=True))
    with atomic_write(args.output) as temporary:
        plot_runs(runs).savefig(temporary, format="png", dpi=100)
    print(f"{args.output}: {', '.join(runs)}")


if __name__ == "__main__":
    main()
