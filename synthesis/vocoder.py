"""Load a vocoder in any form (PyTorch generator, ONNX file, Griffin-Lim) and convert mels with it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoint import load_generator
from checkpoint.formats.onnx import OnnxGenerator
from common.errors import UserError
from common.options import check_mixed_precision
from generators.build import sensitive_layers
from generators.vocos import Vocos
from mel import MelConfig, MelSpectrogram, griffin_lim
from model import Generator
from tacotron2.stepping import PackedLinear, can_pack

MIXED_PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHUNK_FRAMES = 256  # frames per call of the generator


class GriffinLim:
    """The baseline without weights, with the interface of a vocoder for mels with the settings `config`."""

    def __init__(self, config: MelConfig):
        self.config = config

    def stream(self, mels: Iterable[Tensor], max_frames: int = 512) -> Iterator[Tensor]:
        """Convert a mel in chunks (1, num_mels, n) to audio (1, 1, samples) in one chunk.

        Griffin-Lim estimates the phases of the whole mel together.
        """
        mel = torch.cat(list(mels), dim=2)
        yield torch.from_numpy(griffin_lim(mel[0], self.config))[None, None]


Vocoder = Generator | Vocos | OnnxGenerator | GriffinLim


def load_vocoder(
    path: Path, device: torch.device | str = "cpu", mixed_precision: str = "no"
) -> Generator | Vocos | OnnxGenerator:
    """Load a vocoder in any form that `checkpoint.load_generator` reads, or an exported `.onnx` file.

    Raises UserError if it can't be loaded, or can't run with this precision.
    """
    if Path(path).suffix == ".onnx":
        if mixed_precision != "no":
            raise UserError(f"--mixed_precision applies to PyTorch models, not to {path}; omit it")
        return OnnxGenerator(path)
    generator = load_generator(path, device)
    return use_mixed_precision(generator, mixed_precision, device)


def use_mixed_precision(
    generator: Generator | Vocos, mixed_precision: str, device: torch.device | str = "cpu"
) -> Generator | Vocos:
    """Modify a generator for inference under autocast, and return it.

    The `sensitive_layers` stay in float32. The weights of the other convolutions and linear layers are
    converted here, since autocast would convert them in every call.
    On a CPU, they are also stored in the layouts of oneDNN's fastest kernels. Except for the linear layers of
    Vocos, float32 is left as it is: its audio is identical to that of the official code.
    """
    check_mixed_precision(mixed_precision, device)
    device_type = torch.device(device).type
    if device_type == "cpu":
        use_cpu_layouts(generator, mixed_precision)
    if mixed_precision == "no":
        return generator
    dtype = MIXED_PRECISIONS[mixed_precision]
    plain_forward, kept = generator.forward, sensitive_layers(generator.config)
    for prefix in kept[1:]:  # the head disables autocast itself
        run_in_float32(generator.get_submodule(prefix.rstrip(".")))
    for name, module in generator.named_modules():
        is_kept = name.startswith(kept)
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear) and not is_kept:
            module.to(dtype)

    def forward(mel: Tensor) -> Tensor:
        with torch.autocast(device_type, dtype=dtype):
            return plain_forward(mel).float()

    generator.forward = forward
    return generator


def use_cpu_layouts(generator: Generator | Vocos, mixed_precision: str) -> None:
    """Modify the layers of a generator to use the fastest layouts of a CPU.

    In one run on two cores with AVX-512, this made bf16 1.3 times as fast for V1, and float32 1.9 times for
    Vocos.
    """
    for module in generator.modules():
        if isinstance(module, nn.Linear) and mixed_precision == "no" and can_pack(module.weight):
            module.forward = PackedLinear(module.weight, module.bias)
        is_convolution = isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and module.groups == 1
        if is_convolution and mixed_precision != "no":
            use_channels_last(module)


def use_channels_last(module: nn.Conv1d | nn.ConvTranspose1d) -> None:
    """Compute a convolution as a two-dimensional one of height 1 with channels last.

    Its output (B, channels, N) has the strides of (B, N, channels), which the next layers keep.
    """
    convolve = F.conv_transpose2d if isinstance(module, nn.ConvTranspose1d) else F.conv2d
    weight = module.weight.detach().unsqueeze(2).contiguous(memory_format=torch.channels_last)
    module.weight = nn.Parameter(weight.squeeze(2), requires_grad=False)
    sizes = {
        "stride": (1, *module.stride),
        "padding": (0, *module.padding),
        "dilation": (1, *module.dilation),
    }

    def forward(x: Tensor) -> Tensor:
        return convolve(x.unsqueeze(2), module.weight.unsqueeze(2), module.bias, **sizes).squeeze(2)

    module.forward = forward


def compile_generator(generator: Vocoder) -> None:
    """Compile a generator for mels of any length, in a first call.

    Raises UserError if that fails, for example without a C++ compiler, or if it is not a PyTorch model.
    """
    if not isinstance(generator, nn.Module):
        raise UserError("--compile applies to PyTorch models, not to .onnx files; omit it")
    for module in generator.modules():
        if isinstance(module, nn.Linear):  # the compiler packs weights itself, and can't trace packed ones
            module.__dict__.pop("forward", None)
    generator.compile(dynamic=True)
    config, device = generator.config, next(generator.parameters()).device
    shape = (1, config.num_mels, generator.context_frames + CHUNK_FRAMES)
    try:
        with torch.inference_mode():
            generator(torch.full(shape, config.silence, device=device))
    except torch._dynamo.exc.TorchDynamoException as error:
        remedy = "install a C++ compiler, or omit it" if "InvalidCxxCompiler" in str(error) else "omit it"
        raise UserError(f"--compile failed: {str(error).splitlines()[0]}; {remedy}") from error


def run_in_float32(module: nn.Module) -> None:
    """Disable autocast within a module."""
    plain_forward = module.forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return plain_forward(x.float())

    module.forward = forward


def vocode(
    generator: Vocoder, mel: Tensor, device: torch.device | str = "cpu", chunk_frames: int = CHUNK_FRAMES
) -> Iterator[np.ndarray]:
    """Convert a mel (num_mels, frames) in the vocoder's scale to audio in chunks (n,) of float32."""
    yield from vocode_chunks(generator, mel.split(chunk_frames, 1), device, chunk_frames)


@torch.inference_mode()
def vocode_chunks(
    generator: Vocoder,
    mels: Iterable[Tensor],
    device: torch.device | str = "cpu",
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[np.ndarray]:
    """Convert consecutive parts (num_mels, n) of a mel to audio in chunks (n,), as soon as possible."""
    for chunk in generator.stream((mel.unsqueeze(0).to(device) for mel in mels), chunk_frames):
        yield chunk[0, 0].cpu().numpy()


def copy_synthesis(vocoder: Vocoder, audio: np.ndarray, device: torch.device | str = "cpu") -> np.ndarray:
    """Convert audio (samples,) at the vocoder's rate to a mel and back to audio (frames * hop_size,)."""
    mel = MelSpectrogram(vocoder.config)(torch.from_numpy(audio))
    return np.concatenate(list(vocode(vocoder, mel, device)))
