"""Models and voices named by their repository on the Hugging Face Hub: `name/of-repository`."""

import re
from pathlib import Path

from common.errors import UserError, one_line

PATTERNS = ["*.json", "*.yaml", "*.safetensors", "*.pt", "g_*", "generator_v*", "*.bin", "**/LICENSE"]


def local_folder(path: Path | str) -> Path:
    """Return a path as it is if it exists or names no repository; else download the repository.

    Returns the folder in the Hub's cache. Raises UserError if the download fails.
    """
    path = Path(path)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path.as_posix()):
        return path
    try:
        from huggingface_hub import snapshot_download  # slow to import

        return Path(snapshot_download(path.as_posix(), allow_patterns=PATTERNS))
    except ImportError as error:
        raise UserError(
            f"there is no {path}; to look for it on the Hub: pip install huggingface_hub"
        ) from error
    except Exception as error:  # of the network, the Hub and its client
        raise UserError(
            f"there is no {path}, neither here nor on the Hub ({one_line(error)}); name a folder, or a "
            "repository"
        ) from error
