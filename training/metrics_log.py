"""metrics.jsonl: one JSON object per logged step or validation."""

import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path

from common.errors import UserError
from common.files import atomic_write


def read_records(path: Path) -> list[dict]:
    """Return the records of a log, without damaged lines, such as the last one of a killed process."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and "step" in record]


class MetricsLog:
    """The log of a run. Records that can't be written, for example on a full disk, are written later."""

    def __init__(self, path: Path):
        self.path, self.unwritten = path, ""

    def append(self, record: dict) -> None:
        """Append a record. Values that are not finite become null, because JSON has no NaN."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        had_trouble = bool(self.unwritten)
        self.unwritten += json.dumps(record) + "\n"
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(self.unwritten)
            self.unwritten = ""
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, size)  # a part may have been written
            if not had_trouble:
                print(f"\ncan't write {self.path}: {error}; trying again with each record", file=sys.stderr)

    def drop_later(self, step: int, keep_last_validation: bool) -> None:
        """Remove the records of a run after `step` completed steps, which will be repeated.

        Also the last validation, which has the number of the last step, unless `keep_last_validation`. Raises
        UserError if the log can't be written.
        """
        try:
            with atomic_write(self.path) as temporary, temporary.open("w") as file:
                for record in read_records(self.path) if self.path.exists() else []:
                    is_last_validation = record.get("split") == "val" and record["step"] == step - 1
                    if record["step"] < step and (keep_last_validation or not is_last_validation):
                        file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise UserError(f"can't write {self.path}: {error}; make room in the folder") from error
