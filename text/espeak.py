"""Speech, phonemes and languages of espeak-ng, from the library in the `espeakng-loader` wheel."""

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import UserError

SAMPLING_RATE = 22050
VOICE = "en-us"
# With pauses, 157 words per minute on LJSpeech's texts; LJSpeech's reader has 155.
WORDS_PER_MINUTE = 145
# Silence around each clip in seconds, as in LJSpeech. espeak-ng's own varies from 0 to 0.4 s.
SILENCE_BEFORE, SILENCE_AFTER = 0.015, 0.125

# Constants of espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE = 1
POSITION_CHARACTER = 1
CHARS_UTF8 = 1
PHONEMES_IPA = 0x02

_lock = threading.Lock()  # the library has one global state per process


class EspeakVoice(ctypes.Structure):
    """`espeak_VOICE` of speak_lib.h, up to the fields used here."""

    _fields_ = (("name", ctypes.c_char_p), ("languages", ctypes.c_void_p), ("identifier", ctypes.c_char_p))


@contextmanager
def espeak(language: str = VOICE) -> Iterator[ctypes.CDLL]:
    """Load espeak-ng, set its language, and unload it at the end (6 ms in total). Threads take turns.

    Unloading makes speech reproducible: even across `espeak_Terminate`, the library keeps state between
    utterances, such as the phase of the pitch flutter. Raises UserError for an unusable library or unknown
    language.
    """
    with _lock, _loaded() as library:
        voice = _voices(library).get(language)
        if voice is None or library.espeak_SetVoiceByName(voice):
            raise UserError(
                f"espeak-ng has no language {language!r}; list them with "
                "`python -c 'from text import languages; print(*languages())'`"
            )
        yield library


def languages() -> list[str]:
    """Return the codes of espeak-ng's languages, sorted: "af", "am", …, "en-us", …"""
    with _lock, _loaded() as library:
        return sorted(_voices(library))


def transcribe(library: ctypes.CDLL, text: str) -> str:
    """Return espeak-ng's IPA for a text without punctuation, in the language of `library`."""
    to_phonemes = library.espeak_TextToPhonemes
    to_phonemes.restype = ctypes.c_char_p
    to_phonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    pointer, clauses = ctypes.c_char_p(with_every_letter(text).encode(errors="ignore")), []
    while pointer.value is not None:  # each call advances the pointer by one clause
        clauses.append(to_phonemes(ctypes.byref(pointer), CHARS_UTF8, PHONEMES_IPA) or b"")
    return b" ".join(clauses).decode()


def with_every_letter(text: str) -> str:
    """Return text with no-break spaces in "X X X X": espeak-ng omits a fourth letter after plain spaces."""
    return re.sub(
        r"(?<!\w)(\w)(?:[ -]\1){3,}(?!\w)", lambda m: re.sub("[ -]", "\u00a0", m[0]), text, flags=re.I
    )


class Espeak:
    """espeak-ng's voice `VOICE`, with audio that depends only on the text.

    Each call of `say` loads the library again, because speech depends on its earlier use (see `espeak`).
    Raises UserError if the library cannot be used, or if something else in the process keeps it loaded.
    """

    def __init__(self):
        self.version = ""
        once, twice = self.say("She sells sea shells."), self.say("She sells sea shells.")
        if not np.array_equal(once, twice):
            raise UserError(
                "espeak-ng can't be unloaded, so clips would differ from run to run; make the corpus in a "
                "process in which nothing else uses espeak-ng"
            )

    def say(self, text: str) -> np.ndarray:
        """Speak `text`: (samples,) float32 in [-1, 1] at `SAMPLING_RATE` Hz.

        Raises UserError if the text makes no sound or the library fails.
        """
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
            return 0  # continue synthesis

        with espeak(VOICE) as library:
            library.espeak_Info.restype = ctypes.c_char_p
            self.version = library.espeak_Info(None).decode()
            library.espeak_SetSynthCallback(collect)
            encoded = with_every_letter(text).encode()
            size = ctypes.c_size_t(len(encoded) + 1)
            failed = library.espeak_SetParameter(PARAMETER_RATE, WORDS_PER_MINUTE, 0) or library.espeak_Synth(
                encoded, size, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None
            )
        if failed:
            raise UserError(f"espeak-ng can't speak {text!r} as {VOICE} (its error {failed}); leave it out")
        return np.frombuffer(b"".join(chunks), dtype=np.int16)


@contextmanager
def _loaded() -> Iterator[ctypes.CDLL]:
    import _ctypes  # ctypes has no public function that unloads a library

    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except ImportError as error:
        raise UserError("espeak-ng is not installed; pip install espeakng-loader") from error
    except OSError as error:
        raise UserError(f"can't load espeak-ng: {error}; reinstall espeakng-loader") from error
    try:
        folder = Path(espeakng_loader.get_data_path()).parent
        data = str(folder).encode()
        rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, INITIALIZE_DONT_EXIT)
        if rate <= 0:  # espeak-ng reserves 160 bytes for this path
            remedy = "install it at a shorter path" if len(data) > 140 else "reinstall espeakng-loader"
            raise UserError(f"espeak-ng can't read its data in {folder}; {remedy}")
        if rate != SAMPLING_RATE:
            raise UserError(
                f"espeak-ng speaks at {rate} Hz, not {SAMPLING_RATE} Hz; use espeakng-loader 0.2.4"
            )
        try:
            yield library
        finally:
            library.espeak_Terminate()
    finally:
        unload = _ctypes.dlclose if hasattr(_ctypes, "dlclose") else _ctypes.FreeLibrary
        unload(library._handle)


def _voices(library: ctypes.CDLL) -> dict[str, bytes]:
    """Map each language code to the identifier of its voice, the one that ranks the language highest."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(EspeakVoice))
    ranked: dict[str, tuple[int, bytes]] = {}
    for pointer in library.espeak_ListVoices(None):
        if not pointer:  # the list ends with a null pointer
            break
        place = pointer.contents.languages  # a rank, a code and a zero byte for each language, then a zero
        while rank := ctypes.string_at(place, 1)[0]:
            code = ctypes.string_at(place + 1)
            best = ranked.get(code.decode(), (256, b""))
            ranked[code.decode()] = min(best, (rank, pointer.contents.identifier))
            place += len(code) + 2
    return {code: identifier for code, (_, identifier) in ranked.items()}
