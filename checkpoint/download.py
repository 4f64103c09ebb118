"""Models and voices named by their repository on the Hugging Face Hub: `name/of-repository`."""

import functools
import re
from pathlib import Path

from common.errors import UserError, one_line

PATTERNS = ["*.json", "*.yaml", "*.safetensors", "*.pt", "g_*", "generator_v*", "*.bin", "*LICENSE"]
DISCRIMINATORS = ["*m?d.safetensors", "do_*"]  # only for training


def local_folder(path: Path | str, discriminators: bool = False) -> Path:
    """Return a path as it is if it exists or names no repository; else download the repository.

    `discriminators`, which only training needs, are downloaded on request. Returns the folder in the Hub's
    cache. Raises UserError if the download fails.
    """
    path = Path(path)
    if path.exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path.as_posix()):
        return path
    return download(path.as_posix(), discriminators)


@functools.cache  # a model is read in several steps
def download(path: str, discriminators: bool) -> Path:
    wanted, unwanted = (PATTERNS + DISCRIMINATORS, []) if discriminators else (PATTERNS, DISCRIMINATORS)
    try:
        from huggingface_hub import snapshot_download  # slow to import

        return Path(snapshot_download(path, allow_patterns=wanted, ignore_patterns=unwanted))
    except ImportError as error:
        raise UserError(
            f"there is no {path}; to look for it on the Hub: pip install huggingface_hub"
        ) from error
    except Exception as error:  # of the network, the Hub and its client
        raise UserError(
            f"there is no {path}, neither here nor on the Hub ({one_line(error)}); name a folder, or a "
            "repository"
        ) from error
