"""Read and write audio files as float32 arrays in [-1, 1], with soundfile and, for MPEG and AAC, PyAV.

The length of a file is what it decodes to: the headers of lossy formats often state none, or a wrong one.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr

from common.errors import UserError, one_line
from common.files import atomic_write

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".webm")
SAMPLING_RATES = range(1000, 768_001)  # in Hz; a damaged header can state any other
MOST_CHANNELS = 32
MOST_VALUES = 1 << 28  # samples times channels of a file that is read as a whole: 1 GiB, 3 hours at 22,050 Hz
UNKNOWN_FORMAT = 1  # libsndfile's code
UNKNOWN_BYTES = 0x7FFF0000  # programs that write WAV files to a pipe state this size or a larger one
# FLAC files that were written to a pipe state no length, which libsndfile reports as a very large one
NO_LENGTH = 1 << 40
# libsndfile reads a truncated file up to its end, and reports what is missing only in its log.
TRUNCATED = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)|^\*\*\* Calculated frame count", re.M)
FLAC_START = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # and the header of its first block
STATED_SAMPLES = re.compile(r"^fact : \d+\s+frames +: (\d+)", re.M)  # in the same log, of a WAV file
LONGEST_BLOCK = 4096  # samples of a speech codec, the last of which is padded
DECODING_ERRORS = (soundfile.SoundFileError, RuntimeError, OSError, ValueError, MemoryError)
BLOCK = 1 << 18  # samples that are decoded at a time

# Codecs, as libsndfile names them, in which a segment can be read without what precedes it, ...
SEEKABLE = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
# ... and those which are decoded from the start for each segment. Others are not for training: speech codecs.
SEQUENTIAL = {
    "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "MPEG", "VORBIS", "OPUS", "OGG", "FLAC",
    "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32",
}  # fmt: skip


@dataclass(frozen=True)
class ClipInfo:
    """Properties of an audio file. `problem` is the reason why it is unusable, or "".

    `peak` is the largest amplitude, `swing` the largest sample minus the smallest.
    """

    samples: int = 0
    sampling_rate: int = 0
    channels: int = 0
    peak: float = 0.0
    swing: float = 0.0
    codec: str = "PCM_16"
    problem: str = ""


@dataclass
class OpenAudio:
    """An open audio file. `blocks` yields its audio in order, as float32 (n, channels).

    `samples` is the length of the whole file, or None if only decoding tells it.
    """

    sampling_rate: int
    channels: int
    codec: str
    blocks: Iterator[np.ndarray]
    samples: int | None = None


class SequentialFile(soundfile.SoundFile):
    """A file that is read in order, without the seek after each read, which some codecs can't do."""

    def seekable(self) -> bool:
        return False


@contextmanager
def open_audio(source: Path | str | BytesIO, start: int = 0, block: int = BLOCK) -> Iterator[OpenAudio]:
    """Open an audio file to decode it from sample `start` to its end, in blocks of at most `block` samples.

    The format is recognized by the file's contents. Raises one of DECODING_ERRORS for a damaged or truncated
    file, also while it is decoded.
    """
    head = first_bytes(source)
    if is_mpeg(head):
        opened = open_with_ffmpeg(source)
    elif head[4:8] == b"ftyp":  # M4A, MP4
        opened = open_with_ffmpeg(source, "mov")
    elif head.startswith(b"\x1aE\xdf\xa3"):  # WebM, in which browsers record
        opened = open_with_ffmpeg(source, "matroska")
    elif head.startswith(b"OggS"):
        opened = open_parts(source, ogg_starts(contents(source)))
    elif head.startswith(b"fLaC") and len(starts := flac_starts(source)) > 1:
        opened = open_parts(source, starts)
    else:
        opened = open_with_soundfile(source, start, block)
    with opened as decoder:
        if decoder.sampling_rate not in SAMPLING_RATES:
            raise ValueError(f"its header states a sampling rate of {decoder.sampling_rate} Hz")
        if decoder.channels > MOST_CHANNELS:  # whose decoding takes gigabytes
            raise ValueError(f"it has {decoder.channels} channels; at most {MOST_CHANNELS} are read")
        if start and decoder.codec not in SEEKABLE:
            decoder.blocks = drop_start(decoder.blocks, start)
        yield decoder


def first_bytes(source: Path | str | BytesIO) -> bytes:
    if isinstance(source, BytesIO):
        return bytes(source.getbuffer()[:64])
    with open(source, "rb") as file:
        return file.read(64)


def is_mpeg(head: bytes) -> bool:
    """Return whether a file with these first bytes is MPEG audio, with or without tags before it."""
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)


def open_sequentially(source: Path | str | BytesIO) -> SequentialFile:
    if isinstance(source, BytesIO):
        source.seek(0)
    try:
        return SequentialFile(source)
    except soundfile.LibsndfileError as error:
        if error.code != UNKNOWN_FORMAT:
            raise
        raise ValueError(
            "its format is unknown; convert it, for example: ffmpeg -i <file> <file>.wav"
        ) from error


@contextmanager
def open_with_soundfile(source: Path | str | BytesIO, start: int, block: int) -> Iterator[OpenAudio]:
    with open_sequentially(source) as file:
        match = TRUNCATED.search(file.extra_info)
        if match and not (match[1] and int(match[1]) >= UNKNOWN_BYTES):
            sizes = f": it has {match[2]} bytes of audio, not {match[1]} as its header states"
            raise ValueError(f"the file is truncated{sizes if match[1] else ''}")
        if file.subtype.startswith("MPEG"):  # in a WAV file
            with open_with_ffmpeg(source) as decoder:
                yield decoder
            return
        length, samples = file.frames, None
        if file.subtype in SEEKABLE:
            samples = length if length < NO_LENGTH else None
            length -= file.seek(min(start, length)) if start else 0
        elif match := STATED_SAMPLES.search(file.extra_info):
            padding = length - int(match[1])
            length -= padding if 0 <= padding <= LONGEST_BLOCK else 0
        blocks = read_blocks(file, length, block)
        yield OpenAudio(file.samplerate, file.channels, file.subtype, blocks, samples)


def read_blocks(file: soundfile.SoundFile, length: int, block: int) -> Iterator[np.ndarray]:
    while length > 0 and len(audio := file.read(min(block, length), "float32", always_2d=True)):
        yield audio
        length -= len(audio)
    if 0 < length < NO_LENGTH and file.subtype in SEEKABLE:
        raise ValueError(f"the file is truncated or damaged: its last {length} samples are missing")


def contents(source: Path | str | BytesIO) -> bytes:
    return source.getvalue() if isinstance(source, BytesIO) else Path(source).read_bytes()


def ogg_starts(data: bytes) -> list[int]:
    """Return where the streams of an Ogg file begin that follow each other."""
    starts, previous_begins = [], False
    for page in re.finditer(rb"OggS\0(.)", data, re.S):
        begins = bool(page[1][0] & 2)  # a stream
        if begins and not previous_begins:
            starts.append(page.start())
        previous_begins = begins
    return starts or [0]


def flac_starts(source: Path | str | BytesIO) -> list[int]:
    """Return where the FLAC files begin that a file was joined from."""
    if isinstance(source, BytesIO):
        return [match.start() for match in FLAC_START.finditer(source.getvalue())]
    status = Path(source).stat()
    return starts_in_file(str(source), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)  # for segments, which are read again and again
def starts_in_file(path: str, _size: int, _modified: int) -> list[int]:
    return [match.start() for match in FLAC_START.finditer(Path(path).read_bytes())]


@contextmanager
def open_parts(source: Path | str | BytesIO, starts: list[int]) -> Iterator[OpenAudio]:
    """Decode a file that was joined from several, which begin at `starts`; libsndfile reads only one."""
    data = contents(source)
    parts = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    try:
        with SequentialFile(BytesIO(parts[0])) as first:
            properties = first.samplerate, first.channels
            codec = first.subtype if first.subtype in SEQUENTIAL else first.format
    except soundfile.SoundFileError:  # FLAC, as FFmpeg writes it into Ogg
        with open_with_ffmpeg(source, "ogg") as decoder:
            yield decoder
        return

    def blocks() -> Iterator[np.ndarray]:
        for part in parts:
            with SequentialFile(BytesIO(part)) as file:
                refuse_changes(properties, (file.samplerate, file.channels))
                yield from read_blocks(file, file.frames, BLOCK)

    yield OpenAudio(*properties, codec, blocks())


@contextmanager
def open_with_ffmpeg(source: Path | str | BytesIO, kind: str | None = None) -> Iterator[OpenAudio]:
    """Decode MPEG audio, or a container of the given kind, in full.

    libsndfile stops MPEG audio at the length that it estimates or is told.
    """
    try:
        import av  # only these files need it
    except ImportError as error:
        raise ValueError("it needs PyAV: pip install av, or convert the file to WAV or FLAC") from error

    if isinstance(source, BytesIO):
        source.seek(0)
    try:
        with av.open(source if isinstance(source, BytesIO) else str(source), format=kind) as container:
            if not container.streams.audio:
                raise ValueError("it has no audio")
            stream = container.streams.audio[0]
            properties = stream.sample_rate, stream.channels
            yield OpenAudio(*properties, "MPEG", decode_packets(container, stream, properties))
    except av.error.FFmpegError as error:
        raise ValueError(f"it is damaged, or no audio file ({error.strerror})") from error


def decode_packets(container, stream, properties: tuple[int, int]) -> Iterator[np.ndarray]:
    import av

    to_float = av.AudioResampler(format="flt")
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # where files were joined; players skip such a packet, too
            continue
        for frame in frames:
            refuse_changes(properties, (frame.sample_rate, frame.layout.nb_channels))
            for part in to_float.resample(frame):
                yield part.to_ndarray().reshape(-1, properties[1])


def refuse_changes(first: tuple[int, int], now: tuple[int, int]) -> None:
    if first != now:
        raise ValueError(
            f"it was joined from files that differ: {first[0]} Hz with {first[1]} channels, then {now[0]} Hz "
            f"with {now[1]}"
        )


def drop_start(blocks: Iterator[np.ndarray], start: int) -> Iterator[np.ndarray]:
    for block in blocks:
        if len(block) > start:
            yield block[start:]
        start = max(0, start - len(block))


def inspect_clip(path: Path | str) -> ClipInfo:
    """Decode a file and return its length and levels. Failures are reported in `ClipInfo.problem`."""
    try:
        if not Path(path).is_file():
            return ClipInfo(problem="file is missing")
        if Path(path).stat().st_size == 0:
            return ClipInfo(problem="file is empty")
        with open_audio(path) as decoder:
            samples, low, high = 0, np.inf, -np.inf
            for block in decoder.blocks:
                samples += len(block)
                low, high = min(low, float(block.min())), max(high, float(block.max()))
                if not np.isfinite([low, high]).all() or np.isnan(block).any():
                    return ClipInfo(problem="audio holds values that are not finite")
            rate, channels, codec = decoder.sampling_rate, decoder.channels, decoder.codec
    except DECODING_ERRORS as error:
        return ClipInfo(problem=f"can't be decoded: {one_line(error)}")
    if samples == 0:
        return ClipInfo(0, rate, channels, codec=codec, problem="audio is empty (0 samples)")
    return ClipInfo(samples, rate, channels, max(high, -low), high - low, codec)


def read_channels(
    source: Path | str | BytesIO, start: int = 0, samples: int | None = None
) -> tuple[np.ndarray, OpenAudio]:
    """Return the audio (n, channels) from sample `start` on, and the properties of the file.

    There are `samples` of them, or fewer if the file ends before; None means up to the end. Raises one of
    DECODING_ERRORS.
    """
    with open_audio(source, start, BLOCK if samples is None else min(BLOCK, samples)) as decoder:
        parts, missing, size = [np.zeros((0, decoder.channels), np.float32)], samples, 0
        for block in decoder.blocks:
            parts.append(block[:missing])
            size += parts[-1].size
            if size > MOST_VALUES:
                hours = MOST_VALUES / decoder.channels / decoder.sampling_rate / 3600
                raise ValueError(f"it is longer than {hours:.1f} hours; split the file")
            if missing is not None and (missing := missing - len(parts[-1])) <= 0:
                break
        return np.concatenate(parts) if len(parts) != 2 else parts[1], decoder


def read_audio(
    path: Path | str | BytesIO, start: int = 0, samples: int | None = None
) -> tuple[np.ndarray, int, int]:
    """Return audio as `read_part`, the sampling rate in Hz and the number of channels of the file."""
    audio, file = read_part(path, start, samples)
    return audio, file.sampling_rate, file.channels


def read_part(
    path: Path | str | BytesIO, start: int = 0, samples: int | None = None
) -> tuple[np.ndarray, OpenAudio]:
    """Read `samples` samples from `start` on, by default up to the end.

    Returns the audio (samples,) in float32, with several channels mixed by `mix_down`, and the properties of
    the file. Raises UserError for a file that can't be decoded.
    """
    try:
        audio, file = read_channels(path, start, samples)
    except DECODING_ERRORS as error:
        raise UserError(
            f"can't read audio from {path}: {one_line(error)}; check the file, or leave it out"
        ) from error
    return mix_down(audio)[0], file


def mix_down(audio: np.ndarray) -> tuple[np.ndarray, str]:
    """Return audio (samples, channels) as (samples,), and what was done, or "" for a single channel.

    The channels are averaged, except if they cancel each other; then the loudest is kept.
    """
    channels = audio.shape[1]
    if channels == 1:
        return audio[:, 0], ""
    mean, levels = audio.mean(axis=1), audio.std(axis=0)
    # two channels of equal level cancel to this extent if their correlation is below -0.82
    if len(mean) and mean.std() < 0.3 * levels.max():
        return audio[:, levels.argmax()], f"loudest of {channels} channels kept, since their mean is quieter"
    return mean, f"mixed down from {channels} channels"


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample audio (samples,) from one rate in Hz to another with soxr's high-quality filter."""
    length = -(-len(audio) * target_rate // source_rate)
    resampled = soxr.resample(audio, source_rate, target_rate, quality="HQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def write_wav(path: Path | str, audio: np.ndarray | Iterable[np.ndarray], sampling_rate: int) -> None:
    """Write audio (samples,), or an iterable of such chunks, as a 16-bit PCM file, atomically.

    The suffix `.flac` makes a FLAC file. The audio is clipped at ±1 and not rescaled. Raises OSError if the
    file can't be written.
    """
    kind = "FLAC" if Path(path).suffix.lower() == ".flac" else "WAV"
    chunks = [audio] if isinstance(audio, np.ndarray) else audio
    with atomic_write(path) as temporary:
        try:
            with soundfile.SoundFile(
                temporary, "w", samplerate=sampling_rate, channels=1, subtype="PCM_16", format=kind
            ) as file:
                for chunk in chunks:
                    file.write(to_pcm(chunk))
        except soundfile.SoundFileError as error:
            number, reason = errno.EIO, f"can't write audio ({one_line(error)})"
            try:  # libsndfile says only "System error"; a write by the system fails for the same reason
                with open(temporary, "ab") as file:
                    file.write(bytes(1 << 16))
            except OSError as cause:
                number, reason = cause.errno, cause.strerror
            raise OSError(number, reason, str(path)) from error


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """Return audio in [-1, 1] as int16, rounded to the nearest value and clipped."""
    return np.clip(np.rint(audio * np.float32(32768.0)), -32768, 32767).astype(np.int16)
