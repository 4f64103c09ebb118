"""Speak a corpus in LJSpeech's layout with espeak-ng: no download, no recordings, the same bytes each time.

    python scripts/make_corpus.py --output_dir work_dir/corpus --num_clips 200
    python scripts/make_corpus.py --output_dir work_dir/corpus --texts LJSpeech-1.1/metadata.csv

The voice is a machine's, but whatever comes after (splits, mels, training, comparison) can be tried on it.
"""

import ctypes
import hashlib
import itertools
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

if not __package__:  # run as `python scripts/make_corpus.py`, Python looks in scripts/ but not above it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audio import write_wav
from common import ArgumentParser, UserError, atomic_write, report_user_errors

DEFAULT_CLIPS = 200
SENTENCES = Path(__file__).with_name("sentences.txt")
SAMPLING_RATE = 22050
VOICE = "en-us"
# With its pauses this comes to 157 words a minute on LJSpeech's texts, where LJSpeech's reader has 155.
WORDS_PER_MINUTE = 145
# Silence around each clip in seconds, as LJSpeech's clips have it. espeak-ng's own varies from 0 to 0.4 s.
SILENCE_BEFORE, SILENCE_AFTER = 0.015, 0.125

# The values of these names in espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE = 1
POSITION_CHARACTER = 1
CHARS_UTF8 = 1


def make_corpus(output_dir: Path | str, num_clips: int | None = None, source: Path | None = None) -> Path:
    """Speak `num_clips` sentences into `output_dir`: `wavs/<id>.wav`, then `metadata.csv`, which is returned.

    They are those of `sentences`, or with `source` the first, by default all, of `read_texts(source)`.

    Clips are 16-bit mono WAV at 22,050 Hz. Clip k has the same bytes however many are asked for and in
    whichever run it is made; clips that are already there are kept. Raises UserError if the folder holds
    another corpus, if there are not as many sentences, or if espeak-ng can't be used.
    """
    output_dir = Path(output_dir)
    if num_clips is not None and num_clips < 1:
        raise UserError(f"can't make {num_clips} clips; ask for 1 or more")
    if source is None:
        texts, origin = sentences(num_clips or DEFAULT_CLIPS), sentences(1000)
    else:
        origin = read_texts(source)
        texts = origin[:num_clips]
        if num_clips and len(texts) < num_clips:
            raise UserError(f"can't make {num_clips} clips: {source} holds {len(texts)} texts; ask for fewer")
    engine = Espeak()
    _claim_folder(output_dir, engine, origin)
    clips = [(f"ES{number:06d}", text) for number, text in enumerate(texts, start=1)]
    for clip_id, text in tqdm(clips, desc="speaking", unit="clip"):
        path = output_dir / "wavs" / f"{clip_id}.wav"
        if not path.exists():
            write_wav(path, engine.say(text), SAMPLING_RATE)
    metadata = output_dir / "metadata.csv"
    with atomic_write(metadata) as temporary:
        lines = (f"{clip_id}|{text}|{text}\n" for clip_id, text in clips)
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
    return metadata


def sentences(count: int) -> list[str]:
    """The first `count` sentences to speak, all different, 4 to 30 words each.

    First come the lines of sentences.txt, then beginnings of these sentences joined to ends of others. A
    longer list begins with the shorter one. Raises UserError for a count below 1 or beyond what can be made,
    which is several hundred thousand.
    """
    if count < 1:
        raise UserError(f"can't make {count} clips; ask for 1 or more")
    lines = SENTENCES.read_text(encoding="ascii").splitlines()
    written = [line for line in lines if line and not line.startswith("#")]
    texts = list(itertools.islice(itertools.chain(written, _recombine(written)), count))
    if len(texts) < count:
        raise UserError(f"can't make {count} clips: {SENTENCES} gives {len(texts)} sentences; ask for fewer")
    return texts


def read_texts(path: Path) -> list[str]:
    """One text a line; of lines like LJSpeech's `id|text|normalized text` the last part."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the texts in {path}: {error}; name a text file or metadata.csv"
        ) from error
    texts = [text for line in lines if (text := line.rpartition("|")[2].strip())]
    if not texts:
        raise UserError(f"{path} holds no texts; name a text file or metadata.csv")
    return texts


class Espeak:
    """espeak-ng's voice, from the library in the `espeakng-loader` wheel.

    Within one life of the library a sentence sounds different each time it is said: espeak-ng keeps the phase
    of its pitch flutter, among other things, from one call to the next, even across `espeak_Terminate`. So
    each call of `say` loads the library anew and unloads it (6 ms). Raises UserError where the library can't
    be used, or where unloading does not clear its state, as when something else in the process has it open.
    """

    _lock = threading.Lock()  # there is one library in a process, however many objects of this class

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError as error:
            raise UserError("espeak-ng is not installed; pip install espeakng-loader") from error
        self.library_path = espeakng_loader.get_library_path()
        self.data_path = espeakng_loader.get_data_path()
        self.version = ""
        once, twice = self.say("She sells sea shells."), self.say("She sells sea shells.")
        if not np.array_equal(once, twice):
            raise UserError(
                f"{self.library_path} can't be unloaded, so clips would differ from run to run; make the "
                "corpus in a process in which nothing else uses espeak-ng"
            )

    def say(self, text: str) -> np.ndarray:
        """Speak `text`: (samples,) float32 in [-1, 1] at 22,050 Hz, depending on nothing but the text.

        Threads take turns. Raises UserError if the library fails or has another sampling rate.
        """
        with self._lock:
            pcm = self._synthesize(text)
        spoken = np.flatnonzero(pcm)
        if not len(spoken):
            raise UserError(f"espeak-ng makes no sound of the text {text!r}; leave it out")
        speech = pcm[spoken[0] : spoken[-1] + 1].astype(np.float32) / 32768.0
        return np.pad(speech, (round(SILENCE_BEFORE * SAMPLING_RATE), round(SILENCE_AFTER * SAMPLING_RATE)))

    def _synthesize(self, text: str) -> np.ndarray:
        chunks = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        def collect(samples, count, _events):
            if samples and count > 0:
                chunks.append(ctypes.string_at(samples, count * ctypes.sizeof(ctypes.c_short)))
            return 0  # go on

        try:
            library = ctypes.CDLL(self.library_path)
        except OSError as error:
            raise UserError(f"can't load espeak-ng: {error}; reinstall espeakng-loader") from error
        try:
            data = str(Path(self.data_path).parent).encode()
            rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, INITIALIZE_DONT_EXIT)
            if rate <= 0:  # espeak-ng has room for 160 bytes of this path
                remedy = "install it at a shorter path" if len(data) > 140 else "reinstall espeakng-loader"
                raise UserError(f"espeak-ng can't read its data in {self.data_path}; {remedy}")
            if rate != SAMPLING_RATE:
                raise UserError(
                    f"espeak-ng speaks at {rate} Hz, not {SAMPLING_RATE} Hz; use espeakng-loader 0.2.4"
                )
            library.espeak_Info.restype = ctypes.c_char_p
            self.version = library.espeak_Info(None).decode()
            library.espeak_SetSynthCallback(collect)
            encoded = text.encode()
            size = ctypes.c_size_t(len(encoded) + 1)
            failed = (
                library.espeak_SetVoiceByName(VOICE.encode())
                or library.espeak_SetParameter(PARAMETER_RATE, WORDS_PER_MINUTE, 0)
                or library.espeak_Synth(encoded, size, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None)
            )
            library.espeak_Terminate()
            if failed:
                raise UserError(
                    f"espeak-ng can't speak {text!r} as {VOICE} (its error {failed}); leave it out"
                )
        finally:
            _unload(library)
        return np.frombuffer(b"".join(chunks), dtype=np.int16)


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes  # ctypes itself has no public way to unload

    unload = _ctypes.dlclose if hasattr(_ctypes, "dlclose") else _ctypes.FreeLibrary
    unload(library._handle)


def _recombine(written: list[str]) -> Iterator[str]:
    beginnings, ends = [], []
    for source, sentence in enumerate(written):
        for cut in re.finditer("[,;:] ", sentence):
            beginnings.append((source, sentence[: cut.start()]))
            ends.append((source, sentence[cut.end() :]))
    pairs = len(beginnings) * len(ends)
    # A prime above the number of pairs shares no factor with it, so its multiples meet every pair once.
    prime = 15_485_863
    met = set(written)
    for step in range(pairs):
        beginning_index, end_index = divmod(step * prime % pairs, len(ends))
        (source, beginning), (other, end) = beginnings[beginning_index], ends[end_index]
        sentence = f"{beginning}, {end}"
        if source != other and 4 <= len(sentence.split()) <= 30 and sentence not in met:
            met.add(sentence)
            yield sentence


def _claim_folder(output_dir: Path, engine: Espeak, texts: list[str]) -> None:
    """Record what the clips depend on, so that clips of two voices or two texts never share a folder."""
    record = output_dir / "corpus.json"
    made_with = {
        "engine": f"espeak-ng {engine.version}",
        "voice": VOICE,
        "words_per_minute": WORDS_PER_MINUTE,
        "silence_seconds": [SILENCE_BEFORE, SILENCE_AFTER],
        "sentences_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
    }
    if record.exists():
        try:
            same = json.loads(record.read_text(encoding="utf-8")) == made_with
        except ValueError:
            same = False
        if not same:
            raise UserError(
                f"{output_dir} holds a corpus of other settings; give another folder or delete it"
            )
        return
    for name in ("metadata.csv", "wavs"):
        if (output_dir / name).exists():
            raise UserError(f"{output_dir / name} is not this script's work; give another --output_dir")
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for metadata.csv and wavs/")
    parser.add_argument(
        "--num_clips", type=int,
        help=f"clips to have, of about 5 s each; default: {DEFAULT_CLIPS}, with --texts all",
    )  # fmt: skip
    parser.add_argument(
        "--texts", type=Path, help="speak the lines of this file (LJSpeech's metadata.csv) instead of our own"
    )
    args = parser.parse_args(argv)
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise UserError(f"--output_dir {args.output_dir} is a file; give a folder")
    metadata = make_corpus(args.output_dir, args.num_clips, args.texts)
    print(f"The clips are listed in {metadata}")


if __name__ == "__main__":
    main()
