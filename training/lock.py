"""A lock on a run's folder, so that two runs do not write the same checkpoints."""

import os
import socket
from pathlib import Path
from typing import TextIO

from common.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = ".lock"


def lock_folder(folder: Path) -> TextIO:
    """Lock a folder until the returned file is closed or the process ends. Raises UserError if it is locked.

    The lock also holds between machines, where the shared file system supports locks. It belongs to the
    process and not, like that of `flock`, also to its workers, which survive a SIGKILL for seconds.
    """
    file = (folder / LOCK_NAME).open("a+")
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        raise UserError(
            f"{folder} is in use by {file.read().strip() or 'another process'}; stop that run, or choose "
            "another --experiment_name"
        ) from error
    except OSError:  # a file system without locks
        pass
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
