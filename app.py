"""Web page and API: speak text with a voice, copy a clip with vocoders, and compare runs of evaluate.py."""

import ctypes
import errno
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError, report_user_errors
from common.options import Options, device_option, option
from common.parser import parse_options

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def other_than_key(text: str) -> str | None:
    """Return what `--api_key` must be if no header can contain this text, or None."""
    fits = text.isascii() and text.isprintable() and text == text.strip() != ""
    return None if fits else "ASCII characters without spaces at the ends"


@dataclass(frozen=True, kw_only=True)
class AppOptions(Options):
    """Options of `app.py`."""

    port: int = option(7860, "Port of the page", minimum=1, maximum=65535)
    host: str = option(
        lambda: os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        "Listen on this address; 0.0.0.0 admits other computers; default: 127.0.0.1, or the environment "
        "variable GRADIO_SERVER_NAME", check=lambda host: None if host.strip("[]") else "an address",
    )  # fmt: skip
    api_only: bool = option(False, "Serve the API without the page, and without loading Gradio")
    api_key: str | None = option(
        lambda: os.environ.get("HIFIGAN_API_KEY"), "Require this key from API users; default: the "
        "environment variable HIFIGAN_API_KEY, or no key", check=other_than_key,
    )  # fmt: skip
    share: bool = option(False, "Publish the page on gradio.live, which needs a network")
    checkpoint_file: tuple[Path, ...] = option(
        (), "Offer these vocoders, in any form that inference.py reads", may_be_empty=True
    )
    evaluations: Path = option(
        Path("generated_evaluation"), "Show this output folder of evaluate.py, or a folder of such folders"
    )
    delete_after: int = option(
        3600, "Delete uploads and generated files after this number of seconds", minimum=1
    )
    device: str = device_option()

    def __post_init__(self):
        super().__post_init__()
        if self.api_only and self.share:
            raise UserError("--share publishes the page; omit it with --api_only")


def return_freed_memory() -> None:
    """Make glibc return freed memory, which would otherwise accumulate in an arena of each thread."""
    if platform.libc_ver()[0] == "glibc":
        arena_max, mmap_threshold = -8, -3  # M_ARENA_MAX and M_MMAP_THRESHOLD of malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(arena_max, 2)
        libc.mallopt(mmap_threshold, 65536)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address. Raises UserError if that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        of_port = isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES)
        flag = "--port" if of_port else "--host"
        reason = str(error).partition(" (while")[0]
        raise UserError(f"can't listen on {host}:{port}: {reason}; choose another {flag}") from error


@contextmanager
def stopping_at_signals(folder: str) -> Iterator[None]:
    """End the process at Ctrl-C or SIGTERM, at once, and delete `folder`.

    An exception would wait for the sentences that threads compute.
    """

    def stop(number, frame):
        shutil.rmtree(folder, ignore_errors=True)
        for tunnel in getattr(sys.modules.get("gradio.tunneling"), "CURRENT_TUNNELS", ()):  # of --share
            tunnel.kill()
        with suppress(OSError):  # a closed stderr
            os.write(2, b"app.py: stopped\n")  # print fails in the middle of another one
        os._exit(0)

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def serve(options: AppOptions) -> None:
    """Serve the API, with the page or alone, until the process is stopped."""
    host = options.host.strip("[]")  # as in URLs
    listen(host, options.port).close()  # report a mistake before the imports that take seconds
    os.environ.pop("GRADIO_SERVER_NAME", None)  # where Gradio would look for free ports, only with IPv4
    from webpage.api import Api, serve_api
    from webpage.models import Models

    if not options.api_only:
        from webpage.page import build_page, launch
    local = host in LOCAL_HOSTS and not options.share
    models = Models(options.checkpoint_file, options.device, any_path=local)
    for path in options.checkpoint_file:
        models.load_vocoder(path)
    api = Api(models, options.api_key)
    if options.api_only:
        serve_api(api, listen(host, options.port))
    else:
        page = build_page(models, options.evaluations, options.delete_after)
        launch(page, api, host, options.port, options.share)


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    with tempfile.TemporaryDirectory(prefix="hifigan_page_") as folder, stopping_at_signals(folder):
        options = parse_options(AppOptions, "app.py", __doc__, arguments)
        return_freed_memory()
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads and generated files
        try:
            serve(options)
        except ImportError as error:
            raise UserError(f"{error}; run: pip install -r requirements-app.txt") from error


if __name__ == "__main__":
    main()
