"""The report: one HTML file with the table, and players and spectrograms of clips."""

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path

import jinja2
import librosa
import numpy as np
import soundfile

from common.files import atomic_write
from corpus.audio import read_audio, resample, to_pcm
from corpus.manifest import Clip
from evaluation.inputs import Unavailable
from evaluation.signal import MEL, log_mel
from evaluation.table import Table

# Spectrograms show this range below the loudest bin of all versions of a clip.
RANGE = 80.0 * math.log(10.0) / 20.0  # 80 dB in nepers
FREQUENCY_TICKS = (500, 1000, 2000, 4000)  # Hz
LEVELS = 32  # of colors, 2.5 dB apart: more can't be seen, and double the size
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz
MP3_COMPRESSION = 0.6  # about 48 kbit/s at 22,050 Hz


def save(table: Table, folder: Path, report_clips: int = 12, audio_format: str = "flac") -> None:
    """Write `table.md`, `table.csv`, `clips.csv` and `report.html`."""
    table.save(folder)
    write_report(table, folder / "report.html", report_clips, audio_format)


def write_report(table: Table, path: Path, max_clips: int = 12, audio_format: str = "flac") -> None:
    """Write the table and at most `max_clips` clips, evenly distributed over the test set.

    The file contains all sounds, in the format "flac" or "mp3", and all pictures, and loads nothing from
    elsewhere.
    """
    count = min(max_clips, len(table.clips))
    chosen = np.linspace(0, len(table.clips) - 1, count).round().astype(int)
    clips = (clip_view(table, table.clips[index], audio_format) for index in chosen)
    # rendered one clip at a time, as the sounds of all clips may not fit into memory
    parts = template(Path(__file__).with_name("report.html.j2")).generate(
        table=table, clips=clips, shown=count
    )
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(parts)


def template(path: Path) -> jinja2.Template:
    """Return a template that escapes all values."""
    loader = jinja2.FileSystemLoader(path.parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(path.name)


def clip_view(table: Table, clip: Clip, audio_format: str) -> dict:
    """Return what the template shows of a clip: its name, transcript, and each system's version."""
    encode = {"flac": flac, "mp3": mp3}[audio_format]
    stem = clip.path.stem
    sounds = [read_audio(system.wavs[stem])[:2] for system in table.systems]
    mels = [mel_or_nothing(*sound) for sound in sounds]
    loudest = max((mel.max() for mel in mels if mel is not None), default=0.0)
    longest = max(len(audio) / sampling_rate for audio, sampling_rate in sounds)
    versions = []
    for system, (audio, sampling_rate), mel in zip(table.systems, sounds, mels, strict=True):
        seconds = len(audio) / sampling_rate
        versions.append(
            {
                "name": system.name,
                "sound": encode(audio, sampling_rate),
                "picture": None if mel is None else spectrogram(mel, loudest),
                "seconds": seconds,
                "width": 100 * seconds / longest,
                "values": table.clip_values(system, stem),
            }
        )
    return {
        "name": stem,
        "transcript": clip.transcript,
        "versions": versions,
        "kilohertz": MEL.highest_frequency / 1000,
        "frequencies": frequency_axis(),
        "times": list(time_axis(longest)),
    }


def mel_or_nothing(audio: np.ndarray, sampling_rate: int) -> np.ndarray | None:
    try:
        return log_mel(np.nan_to_num(audio), sampling_rate)
    except Unavailable:
        return None


def flac(audio: np.ndarray, sampling_rate: int) -> str:
    """Return audio as a data: URI. FLAC is lossless, half the size of WAV, and supported by all browsers."""
    file = io.BytesIO()
    soundfile.write(file, to_pcm(audio), sampling_rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", file.getvalue())


def mp3(audio: np.ndarray, sampling_rate: int) -> str:
    """Return audio as a data: URI of a fifth of FLAC's size, resampled to a rate that MP3 has."""
    rate = next((rate for rate in MP3_RATES if rate >= sampling_rate), MP3_RATES[-1])
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, 1, format="MP3", compression_level=MP3_COMPRESSION, bitrate_mode="VARIABLE"
    ) as encoder:
        # not floats, because LAME aborts the process at one that is not finite
        encoder.write(to_pcm(audio if rate == sampling_rate else resample(audio, sampling_rate, rate)))
    return data_uri("audio/mpeg", file.getvalue())


def data_uri(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode('ascii')}"


def spectrogram(mel: np.ndarray, loudest: float) -> str:
    """Return a picture of a natural-log mel (80, frames) as a data: URI."""
    from matplotlib import colormaps  # slow to import
    from PIL import Image

    levels = np.clip((mel[::-1] - loudest) / RANGE + 1.0, 0.0, 1.0)
    image = Image.fromarray(np.rint((LEVELS - 1) * levels).astype(np.uint8)).convert("P")
    colors = colormaps["magma"](np.linspace(0, 1, LEVELS), bytes=True)[:, :3]
    image.putpalette(colors.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return data_uri("image/png", file.getvalue())


def frequency_axis() -> list[tuple[str, float]]:
    """Return the labels in kHz and their heights in %."""
    bands = librosa.mel_frequencies(MEL.num_mels + 2, fmin=MEL.fmin, fmax=MEL.highest_frequency)[1:-1]
    heights = 100 * (np.interp(FREQUENCY_TICKS, bands, np.arange(MEL.num_mels)) + 0.5) / MEL.num_mels
    return [
        (f"{frequency / 1000:g}", height) for frequency, height in zip(FREQUENCY_TICKS, heights, strict=True)
    ]


def time_axis(longest: float) -> Iterator[tuple[str, float]]:
    """Yield at most 7 labels in seconds and their positions in %, without the end, where the unit is."""
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60) if longest / step <= 7), 300)
    for number in range(int(0.93 * longest / step) + 1):
        yield f"{number * step:g}", 100 * number * step / longest
