"""metrics.jsonl: one JSON object per logged step or validation."""

import json
import math
from contextlib import suppress
from pathlib import Path

from training.checkpoints import Progress
from utils import atomic_write


def append_record(path: Path, record: dict) -> None:
    """Append a record. Values that are not finite become null, because JSON has no NaN."""
    record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read_records(path: Path) -> list[dict]:
    """Return the records of a log. The last line of a killed process may be incomplete and is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


def drop_later_records(path: Path, progress: Progress, is_finished: bool) -> None:
    """Remove the records of steps after `progress`, which will be repeated.

    The validation at `progress` is also repeated, if the run continues in the middle of an epoch.
    """
    validates_again = progress.clips_in_epoch > 0 and not is_finished
    with atomic_write(path) as temporary, temporary.open("w") as file:
        for record in read_records(path) if path.exists() else []:
            is_last_validation = record["split"] == "val" and record["step"] == progress.step - 1
            if record["step"] < progress.step and not (validates_again and is_last_validation):
                file.write(json.dumps(record) + "\n")
