"""Corpora read through the `datasets` library: from the Hugging Face Hub, a folder or a Parquet file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from common.errors import UserError, one_line
from corpus.metadata import CorpusClip, is_name

# Columns of datasets, in order of preference.
TEXT_COLUMNS = (
    "normalized_transcript", "normalized_text", "text_normalized", "transcript", "transcription", "text",
    "sentence",
)  # fmt: skip
SPEAKER_COLUMNS = ("speaker", "speaker_name", "speaker_id")
AUDIO_KEYS = {"bytes", "path"}  # of encoded audio in a row


def read_dataset(
    name: str, folder: Path, configuration: str | None = None, split: str = "train",
    text_column: str | None = None,
) -> Iterator[tuple[CorpusClip, dict]]:  # fmt: skip
    """Yield a clip in `folder` and its encoded audio for each row of a dataset of the `datasets` library.

    `name` is a dataset on the Hub, a local folder, for example of Parquet files, or a Parquet file. Rows are
    read as they are needed. The id of a clip is that in the column `id` or the file name of its audio, if no
    other clip has it, and otherwise the number of the row. Raises UserError if the dataset can't be read, or
    has no audio or text.
    """
    rows, columns = open_dataset(name, configuration, split)
    # before a row is read, since a program that exits while Arrow's threads read ahead may be aborted
    # (https://github.com/apache/arrow/issues/45214)
    found = find_columns(name, columns, text_column) if columns else None
    known: set[str] = set()
    for number, row in enumerate(rows):
        found = found or find_columns(name, row, text_column)
        audio_column, text_column = found
        audio = row[audio_column] or {}
        ids = (str(row.get("id") or ""), Path(audio.get("path") or "").stem, f"{number:08d}")
        clip_id = next(each for each in ids if is_name(each) and each not in known)
        known.add(clip_id)
        speaker = next((str(row[key]) for key in SPEAKER_COLUMNS if row.get(key) is not None), "")
        text = " ".join(str(row[text_column] or "").split())
        yield CorpusClip(clip_id, folder / f"{clip_id}.wav", text, speaker=speaker), audio


def open_dataset(
    name: str, configuration: str | None, split: str
) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the types of the columns, which are empty for formats that do not state them."""
    try:
        from datasets import Audio, load_dataset
    except ImportError as error:
        raise UserError(
            f"--dataset needs the package datasets: {one_line(error)}; pip install datasets"
        ) from error

    class EncodedAudio(Audio):
        """Audio that stays encoded. Of files in a folder, Audio needs torchcodec even for their names."""

        def encode_example(self, value: str | dict[str, Any]) -> dict[str, Any]:
            return value if isinstance(value, dict) else {"bytes": None, "path": value}

    with dataset_errors(name):
        files = {"path": "parquet", "data_files": name} if Path(name).is_file() else {"path": name}
        rows = load_dataset(**files, name=configuration, split=split, streaming=True)
        columns = dict(rows.features or {})
        for column, feature in columns.items():
            if isinstance(feature, Audio):
                rows = rows.cast_column(column, EncodedAudio(decode=False))
                columns[column] = dict.fromkeys(AUDIO_KEYS)

    def read() -> Iterator[dict[str, Any]]:
        with dataset_errors(name):
            yield from rows

    return read(), columns


@contextmanager
def dataset_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # ImportError: of a decoder
        reason = one_line(error)
        raise UserError(
            f"can't read the dataset {name}: {reason}; check the name, --dataset_config and --dataset_split"
        ) from error


def find_columns(dataset: str, columns: dict[str, Any], text_column: str | None) -> tuple[str, str]:
    """Return the names of the columns with audio and with text, given a row or the types of its values."""
    audio = [name for name, value in columns.items() if isinstance(value, dict) and AUDIO_KEYS & set(value)]
    return (
        find_column(dataset, columns, audio, "audio"),
        find_column(dataset, columns, [text_column] if text_column else TEXT_COLUMNS, "text"),
    )


def find_column(dataset: str, row: dict[str, Any], names: Iterable[str], kind: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise UserError(
            f"{dataset} has no column with {kind}, only {', '.join(row)}; choose another dataset"
            + (", or name the column with --text_column" if kind == "text" else "")
        )
    return found


def audio_bytes(audio: dict[str, Any]) -> BytesIO:
    if audio.get("bytes"):
        return BytesIO(audio["bytes"])
    if not audio.get("path"):
        raise UserError("the row has no audio")
    import fsspec  # reads local and remote paths; part of datasets

    with fsspec.open(audio["path"], "rb") as file:
        return BytesIO(file.read())
