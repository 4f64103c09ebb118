"""Generators exported to ONNX, run by ONNX Runtime."""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError, one_line
from common.files import parse_object
from config import HiFiGANConfig
from generators.build import build_generator
from generators.streaming import Streaming

METADATA = ("sampling_rate", "hop_size", "num_mels", "mel_scale")  # in addition to the whole configuration


class OnnxGenerator(Streaming):
    """A generator exported by `python -m checkpoint export`, run by ONNX Runtime on the CPU.

    It has the interface of `Generator` and uses as many threads as PyTorch. Raises UserError if the file is
    missing, damaged, or not an export of this project, or if ONNX Runtime is not installed.
    """

    def __init__(self, path: Path | str):
        require_packages("onnxruntime")
        if not Path(path).is_file():
            raise UserError(f"there is no {path}; create it with `python -m checkpoint export`")
        self.session = onnx_session(path)
        embedded = self.session.get_modelmeta().custom_metadata_map
        if not embedded.keys() >= {"config", *METADATA}:
            raise UserError(
                f"{path} lacks a configuration: `python -m checkpoint export` did not write it; export again"
            )
        self.config = HiFiGANConfig.from_dict(parse_object(embedded["config"], path))
        with torch.device("meta"):  # only the sizes of its layers
            self.context_frames = build_generator(self.config).context_frames

    def __call__(self, mel: Tensor) -> Tensor:
        """Convert a mel (B, num_mels, T) to audio (B, 1, samples) on the same device."""
        (audio,) = self.session.run(["audio"], {"mel": mel.detach().float().cpu().numpy()})
        return torch.from_numpy(audio).to(mel.device)


def onnx_session(path: Path | str):
    """Return an ONNX Runtime session on the CPU. Raises UserError if the file is damaged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise UserError(f"{path} can't be read as ONNX: {one_line(error)}; is the file complete?") from error


def require_packages(*names: str) -> None:
    """Raise UserError for packages that are not installed."""
    missing = [name.replace("_", "-") for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed; pip install {' '.join(missing)}")
