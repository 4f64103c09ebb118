"""Speech for other programs: the routes of OpenAI's API, https://platform.openai.com/docs/api-reference/audio.

One request at a time uses the models, sentence by sentence in turn with the others.
"""

import asyncio
import json
import secrets
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, fields
from io import BytesIO

import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

from common.errors import UserError, one_line
from common.options import check_options, option
from corpus.audio import resample, to_pcm
from synthesis.options import SPEEDS
from synthesis.speech import TextToSpeech, join_sentences
from webpage.models import Models

MAX_INPUT = 4096  # characters, as in OpenAI's API
MAX_BODY = 1 << 20  # bytes of a request
MAX_WAITING = 20  # requests, including the one that is computed
PCM_RATE = 24000  # Hz; raw audio does not state its rate, and clients of OpenAI's API assume this one
MODEL = "tts-1"  # clients send the name of one of OpenAI's models; any name is accepted
MODEL_DETAILS = {"id": MODEL, "object": "model", "created": 0, "owned_by": "hifigan"}
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "pcm": f"audio/pcm; rate={PCM_RATE}; channels=1",
}
# They mean the default voice.
OPENAI_VOICES = {
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer",
    "verse",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechRequest:
    """The body of a request for speech. Raises UserError for values that are not allowed."""

    input: str = option("")
    model: str = option(MODEL)
    voice: str = option("alloy")
    speed: float = option(1.0, **SPEEDS)
    response_format: str = option("mp3", choices=tuple(MEDIA_TYPES))
    stream_format: str = option("audio", choices=("audio",))

    def __post_init__(self):
        check_options(self)
        if len(self.input) > MAX_INPUT:
            raise UserError(
                f"input has {len(self.input):,} characters; at most {MAX_INPUT:,} are spoken at a time, "
                "and inference.py speaks texts of any length"
            )


def parse_request(body: bytes) -> SpeechRequest:
    """Parse the JSON of a request; keys that this server does not know are ignored."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body is not JSON: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise UserError("the body is not a JSON object with the text in input")
    known = {field.name for field in fields(SpeechRequest)}
    return SpeechRequest(
        **{key: value for key, value in values.items() if key in known and value is not None}
    )


class Api:
    """The routes and their state.

    Args:
        key: what clients must send as `Authorization: Bearer <key>`, or None.
    """

    def __init__(self, models: Models, key: str | None = None):
        self.models, self.key = models, key
        self.turn, self.requests = asyncio.Lock(), 0
        routes = [
            Route("/audio/speech", self.speech, methods=["POST"]),
            Route("/models", self.list_models),
            Route(f"/models/{MODEL}", self.show_model),
        ]
        # an application of its own, so that its errors are unlike those of the page
        handlers = dict.fromkeys((UserError, HTTPException, ClientDisconnect, Exception), error_response)
        v1 = Starlette(routes=routes, exception_handlers=handlers)
        self.routes = [Mount("/v1", v1), Route("/health", self.health)]

    async def health(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "voices": list(self.models.voices), "requests": self.requests})

    async def list_models(self, request: Request) -> JSONResponse:
        self.check_key(request)
        return JSONResponse({"object": "list", "data": [MODEL_DETAILS]})

    async def show_model(self, request: Request) -> JSONResponse:
        self.check_key(request)
        return JSONResponse(MODEL_DETAILS)

    async def speech(self, request: Request) -> StreamingResponse:
        self.check_key(request)
        wanted = parse_request(await read_body(request))
        parts = self.in_turn(request, self.speak(wanted, self.voice(wanted.voice)))
        first = await anext(parts, b"")  # errors are reported before the response starts

        async def all_parts() -> AsyncGenerator[bytes, None]:
            yield first
            async for part in parts:
                yield part

        return StreamingResponse(all_parts(), media_type=MEDIA_TYPES[wanted.response_format])

    def check_key(self, request: Request) -> None:
        if not self.key:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.encode(), self.key.encode()):
            raise HTTPException(
                401, "the API key is missing or wrong; send it as Authorization: Bearer <key>"
            )

    def voice(self, name: str) -> str:
        """Return a voice of the server. Raises UserError if there is none of this name."""
        if name in OPENAI_VOICES and name not in self.models.voices:
            return next(iter(self.models.voices))  # the default voice
        if name not in self.models.voices:
            raise UserError(f"there is no voice {name!r}; choose one of {', '.join(self.models.voices)}")
        return name

    def speak(self, wanted: SpeechRequest, voice: str) -> Iterator[bytes]:
        tts = self.models.text_to_speech(voice, speed=wanted.speed)
        yield from encode(spoken(tts, wanted.input), tts.sampling_rate, wanted.response_format)

    async def in_turn(self, request: Request, steps: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the steps of a request, each when its turn comes. Raises HTTPException if too many wait."""
        if self.requests >= MAX_WAITING:
            raise HTTPException(503, f"{MAX_WAITING} requests are waiting; try again later")
        while (part := await self.next_step(request, steps)) is not None:
            yield part

    async def next_step(self, request: Request, steps: Iterator[bytes]) -> bytes | None:
        """Wait for a turn and return the next step, or None at the end or if the client has left.

        A request counts only meanwhile: a client that does not read its audio takes no one's place.
        """
        self.requests += 1
        try:
            async with self.turn:
                if await request.is_disconnected():
                    return None
                return await run_in_threadpool(self.models.next_step, steps)
        finally:
            self.requests -= 1


async def read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the request has more than {MAX_BODY:,} bytes; send a shorter text")
    return bytes(body)


async def error_response(request: Request, error: Exception) -> JSONResponse:
    """Return an error as OpenAI's clients expect it. Starlette writes faults of this program to the log."""
    status, message = 500, "a fault of the server; its log has the reason"
    if isinstance(error, UserError | ClientDisconnect):
        status, message = 400, one_line(error)
    elif isinstance(error, HTTPException):
        status, message = error.status_code, f"{error.detail} ({request.method} {request.url.path})"
    kind = "invalid_request_error" if status < 500 else "server_error"
    content = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"error": content}, status, getattr(error, "headers", None))


def spoken(tts: TextToSpeech, text: str) -> Iterator[np.ndarray]:
    """Yield the audio (n,) of each sentence, with the pauses around it."""
    for sentence in tts.sentences(text):
        yield join_sentences([sentence], tts.silence)


def encode(chunks: Iterator[np.ndarray], sampling_rate: int, kind: str) -> Iterator[bytes]:
    """Yield the bytes of a file for each chunk (n,): those of MP3 and FLAC come with the last one."""
    if kind == "pcm":
        for chunk in chunks:
            yield to_pcm(resample(chunk, sampling_rate, PCM_RATE)).astype("<i2").tobytes()
    elif kind == "wav":
        header = endless_wav_header(sampling_rate)
        for chunk in chunks:
            yield header + to_pcm(chunk).astype("<i2").tobytes()
            header = b""
    else:
        buffer = BytesIO()
        with soundfile.SoundFile(buffer, "w", sampling_rate, channels=1, format=kind.upper()) as file:
            for chunk in chunks:
                file.write(to_pcm(chunk))
                yield b""
        yield buffer.getvalue()


def endless_wav_header(sampling_rate: int) -> bytes:
    """Return the header of mono 16-bit audio whose length is not known yet, and stated as the largest."""
    unknown = 0xFFFFFFFF
    properties = struct.pack("<IHHIIHH", 16, 1, 1, sampling_rate, 2 * sampling_rate, 2, 16)
    return (
        struct.pack("<4sI8s", b"RIFF", unknown, b"WAVEfmt ")
        + properties
        + struct.pack("<4sI", b"data", unknown)
    )


def in_url(host: str) -> str:
    """Return a host as URLs contain it: IPv6 addresses are in brackets."""
    return f"[{host}]" if ":" in host else host


def serve_api(api: Api, listener: socket.socket) -> None:
    """Serve the API alone on a socket that listens, until the process is stopped."""
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=api.routes), log_level="warning", access_log=False)
    )
    host, port = listener.getsockname()[:2]
    print(f"* Running on http://{in_url(host)}:{port}/v1/audio/speech", flush=True)
    # in a thread, as Gradio does: in the main thread, uvicorn would handle the signals
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
