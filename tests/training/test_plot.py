"""`python -m training.plot`, on logs that the test writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.plot import main, plot_runs, read_run


def write_run(folder: Path, scale: float, **more) -> Path:
    """Write a log of 40 steps with two validations."""
    records = []
    for step in range(40):
        values = {"mel_loss": scale * 2.0 / (1 + step), "disc_loss": 4.0 + step % 2, "learning_rate": 1e-4}
        records.append({"step": step, "epoch": step // 20, "split": "train"} | values | more)
        if step % 20 == 19:
            records.append({"step": step, "epoch": step // 20, "split": "val", "val_mel_loss": scale * 0.5})
    folder.mkdir(parents=True)
    lines = [json.dumps(record) for record in records]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 40, "ep')  # killed while it wrote
    return folder


def colours_in(path: Path) -> set[tuple]:
    image = Image.open(path).convert("RGB")
    return {colour for count, colour in image.getcolors(image.width * image.height) if count > 20}


def test_curves_of_several_runs_are_drawn_into_one_picture(tmp_path):
    runs = [write_run(tmp_path / "a" / "run", 1.0), write_run(tmp_path / "b" / "run", 3.0, stft_loss=None)]
    picture = tmp_path / "new" / "curves.png"
    main([*map(str, runs), "--output", str(picture)])
    alone = tmp_path / "alone.png"
    main([str(runs[0] / "metrics.jsonl"), "--output", str(alone)])
    assert Image.open(picture).width > Image.open(picture).height > 200
    is_orange = lambda colour: colour[0] > 220 and 90 < colour[1] < 160 and colour[2] < 80  # noqa: E731
    assert any(map(is_orange, colours_in(picture))) and not any(map(is_orange, colours_in(alone)))


def test_panels_show_the_logged_values_and_the_validation_next_to_training(tmp_path):
    runs = {name: read_run(write_run(tmp_path / name, scale)) for name, scale in (("x", 1.0), ("y", 3.0))}
    panels = {panel.get_title(): panel for panel in plot_runs(runs).axes if panel.axison}
    assert list(panels) == ["mel loss", "disc loss", "learning rate"]
    assert panels["mel loss"].get_yscale() == "log" and panels["disc loss"].get_yscale() == "linear"
    raw, _, validation = panels["mel loss"].lines[3:6]  # of the second run
    np.testing.assert_allclose(raw.get_ydata(), 6.0 / (1 + np.arange(40)))
    assert list(validation.get_xdata()) == [19, 39] and list(validation.get_ydata()) == [1.5, 1.5]


def test_folders_without_a_run_are_user_errors(tmp_path, capsys):
    write_run(tmp_path / "started", 1.0)
    (tmp_path / "started" / "metrics.jsonl").write_text("")
    for name, message in (("missing", "can't read"), (".", "can't read"), ("started", "no records")):
        with pytest.raises(SystemExit) as stop:
            main([str(tmp_path / name), "--output", str(tmp_path / "curves.png")])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "curves.png").exists()
