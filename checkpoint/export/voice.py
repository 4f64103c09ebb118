"""Export a voice, a Tacotron 2 and a vocoder, to ONNX files that speak without PyTorch.

`scripts/speak_onnx.py` shows how the files work together. The folder contains

- `encoder.onnx`: `tokens` (1, L) to `values` and `keys`, which the decoder attends to;
- `decoder_step.onnx`: the previous frames, the prenet's dropout mask `keep` and the recurrent state to the
  next frames, the gate's probability that they are the last, and the next state;
- `postnet.onnx`: the decoder's mel to the vocoder's mel;
- `vocoder.onnx`: mel to audio;
- `config.json`: everything else, such as the symbols, the sizes of the state and the limits.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from checkpoint.export.int8 import quantize_vocoder, quantize_weights
from checkpoint.export.vocoder import (
    TOLERANCE,
    export_onnx,
    largest_difference,
    relative_difference,
    to_onnx,
)
from checkpoint.files import CONFIG_NAME
from checkpoint.formats.onnx import OnnxGenerator, onnx_session
from common.errors import UserError
from generators.vocos import Vocos
from mel import check_same_mel, convert_mel_scale
from model import Generator
from tacotron2.model import AttentionState, Memory, Tacotron2
from tacotron2.reading import LIMIT_SECONDS, READING_LIMITS
from tacotron2.speak import speak_sentences
from text import INVENTORIES, PAUSES

GATE_THRESHOLD = 0.5
CALIBRATION_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "She asked why the measure was large, and nobody knew.",
    "Please call me at home before five this evening!",
    "Joyful voices echoed through the bright, empty church.",
)
STATE = ("hidden", "cell", "context", "weights", "cumulative", "decoder_hidden", "decoder_cell")


class EncoderPart(nn.Module):
    """Tokens (1, L) to the values (1, L, encoder_embed_dim) and keys (1, attention_dim, L) of a `Memory`."""

    def __init__(self, model: Tacotron2):
        super().__init__()
        self.embedding, self.encoder = model.embedding, model.encoder
        self.memory_layer = model.decoder.attention_layer.memory_layer

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(tokens).transpose(1, 2)  # (1, character_embed_dim, L)
        for convolution in self.encoder.convolutions:
            x = torch.relu(convolution.norm(convolution.conv(x)))
        values, _ = self.encoder.lstm(x.transpose(1, 2))  # (1, L, encoder_embed_dim)
        return values, self.memory_layer(values).transpose(1, 2)


class DecoderStep(nn.Module):
    """One step of `Decoder.steps` for one sentence, with the recurrent state as inputs and outputs."""

    def __init__(self, model: Tacotron2):
        super().__init__()
        self.decoder, self.attention_rnn = model.decoder, model.decoder.attention_rnn
        kernel = model.decoder.attention_layer.location_layer.kernel()
        self.register_buffer("location_kernel", kernel.detach().clone(), persistent=False)

    def decoder_rnn(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.lstm_cell(x, state, *self.decoder.decoder_rnn.parameters())

    def forward(
        self,
        frames: Tensor,
        keep: Tensor,
        values: Tensor,
        keys: Tensor,
        hidden: Tensor,
        cell: Tensor,
        context: Tensor,
        weights: Tensor,
        cumulative: Tensor,
        decoder_hidden: Tensor,
        decoder_cell: Tensor,
    ) -> tuple[Tensor, ...]:
        memory = Memory(values, keys, torch.zeros_like(weights, dtype=torch.bool), self.location_kernel)
        state = AttentionState(hidden, cell, context, weights, cumulative)
        frames, gate, state, decoder_state = self.decoder.step(
            frames, keep, state, (decoder_hidden, decoder_cell), memory, self.attention_rnn, self.decoder_rnn
        )
        return frames, gate, *state, *decoder_state


class PostnetPart(nn.Module):
    """The decoder's mel (1, num_mels, T) to the final mel in the vocoder's scale."""

    def __init__(self, model: Tacotron2, vocoder: Generator | Vocos):
        super().__init__()
        self.model, self.target = model, vocoder.config

    def forward(self, mel: Tensor) -> Tensor:
        mask = torch.ones_like(mel[:, 0], dtype=torch.bool)
        return convert_mel_scale(self.model.complete(mel, mask), self.model.config, self.target)


def state_shapes(model: Tacotron2) -> dict[str, list[int | str]]:
    """Return the shape of each tensor of the decoder's state, with "L" for the number of tokens."""
    config = model.config
    sizes = (
        [config.attention_rnn_dim] * 2 + [config.encoder_embed_dim, "L", "L"] + [config.decoder_rnn_dim] * 2
    )
    return {name: [1, size] for name, size in zip(STATE, sizes, strict=True)}


def export_voice(tacotron2: Tacotron2, vocoder: Generator | Vocos, folder: Path) -> float:
    """Write a voice into an existing folder; return the largest relative difference from PyTorch.

    Raises UserError if the models disagree on the mel, or if the difference exceeds `export.TOLERANCE`.
    """
    check_same_mel(tacotron2.config, vocoder.config, "Tacotron 2", "the vocoder", scale_matters=False)
    config = tacotron2.config
    prenet = (1, config.decoder_prenet_depth, config.decoder_prenet_dim)
    shapes = state_shapes(tacotron2)
    random = torch.Generator().manual_seed(0)

    def tokens(length: int) -> dict[str, Tensor]:
        return {"tokens": torch.randint(config.num_symbols, (1, length), generator=random)}

    def step(length: int) -> dict[str, Tensor]:
        sizes = {
            "frames": (1, config.num_mels * config.frames_per_step),
            "values": (1, length, config.encoder_embed_dim),
            "keys": (1, config.attention_dim, length),
        } | {name: tuple(length if size == "L" else size for size in shape) for name, shape in shapes.items()}
        inputs = {name: torch.randn(size, generator=random) for name, size in sizes.items()}
        keep = torch.randint(2, prenet, generator=random).float()
        return {"frames": inputs.pop("frames"), "keep": keep, **inputs}

    def mel(length: int) -> dict[str, Tensor]:
        return {"mel": torch.randn(1, config.num_mels, length, generator=random)}

    outputs = ["next_frames", "gate", *(f"next_{name}" for name in STATE)]
    parts = {
        "encoder": (EncoderPart(tacotron2), tokens, ["values", "keys"]),
        "decoder_step": (DecoderStep(tacotron2), step, outputs),
        "postnet": (PostnetPart(tacotron2, vocoder), mel, ["vocoder_mel"]),
    }
    differences = [write_part(folder / f"{name}.onnx", *part) for name, part in parts.items()]
    export_onnx(vocoder, folder / "vocoder.onnx")
    differences.append(largest_difference(vocoder, OnnxGenerator(folder / "vocoder.onnx"), [(1, 50)]))
    values = voice_settings(tacotron2, vocoder)
    (folder / CONFIG_NAME).write_text(
        json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return max(differences)


def quantize_voice(tacotron2: Tacotron2, vocoder: Generator | Vocos, folder: Path) -> float:
    """Replace the decoder and the vocoder of an exported voice by 8-bit versions.

    Returns the signal-to-noise ratio of the vocoder's audio in dB; see `checkpoint.export.int8`.
    """
    quantize_weights(folder / "decoder_step.onnx")
    utterances = speak_sentences(tacotron2, list(CALIBRATION_SENTENCES))
    mels = [convert_mel_scale(utterance.mel, tacotron2.config, vocoder.config) for utterance in utterances]
    return quantize_vocoder(vocoder, folder / "vocoder.onnx", mels)


def voice_settings(tacotron2: Tacotron2, vocoder: Generator | Vocos) -> dict:
    """Return the `config.json` of an exported voice: everything except the networks."""
    config = tacotron2.config
    return {
        "text_input": config.text_input,
        "language": config.language,
        "symbols": INVENTORIES[config.text_input],
        "end_symbol": config.end_symbol,
        "state": state_shapes(tacotron2),
        "frames_per_step": config.frames_per_step,
        "num_mels": config.num_mels,
        "prenet": [config.decoder_prenet_depth, config.decoder_prenet_dim],
        "prenet_dropout": config.decoder_prenet_dropout_p,
        "gate_threshold": GATE_THRESHOLD,
        "limit_seconds": [LIMIT_SECONDS, READING_LIMITS[config.text_input].seconds_per_token],
        "pauses": PAUSES,
        "hop_size": vocoder.config.hop_size,
        "sampling_rate": vocoder.config.sampling_rate,
    }


@torch.no_grad()
def write_part(path: Path, module: nn.Module, example: Callable[[int], dict], outputs: list[str]) -> float:
    """Write a module to ONNX and return the largest relative difference of its outputs from PyTorch's.

    `example(length)` returns inputs for a text or mel of this length. Axes that depend on it are dynamic.
    """
    module.eval()
    inputs, longer = example(8), example(9)
    axes = tuple(
        {
            axis: Dim("length")
            for axis, size in enumerate(inputs[name].shape)
            if longer[name].shape[axis] != size
        }
        for name in inputs
    )
    program = to_onnx(module, inputs, axes, outputs)
    for node in program.model.graph:
        for output in node.outputs:
            output.shape = None  # the exporter takes the example's length for the only length of an LSTM
    program.save(path, external_data=False)

    session, largest = onnx_session(path), 0.0
    for length in (1, 7, 30):
        inputs = example(length)
        expected = module(*inputs.values())
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        expected = expected if isinstance(expected, tuple) else (expected,)
        for tensor, array in zip(expected, found, strict=True):
            largest = max(largest, relative_difference(tensor, torch.from_numpy(array)))
    if not largest <= TOLERANCE:  # also if it is not a number
        raise UserError(
            f"{path.name} differs from PyTorch by {largest:.1e}, more than {TOLERANCE:.0e}: nothing is "
            "written; try other versions of torch and onnxruntime"
        )
    return largest
