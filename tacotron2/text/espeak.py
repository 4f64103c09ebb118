"""The voice of espeak-ng, from the library in the `espeakng-loader` wheel."""

import ctypes
import threading
from pathlib import Path

import numpy as np

from utils import UserError

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
