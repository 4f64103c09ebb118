"""Parts of Tacotron 2's inference loop: reproducible dropout and fast LSTM steps."""

import torch
from torch import Tensor, nn

from tacotron2.config import Tacotron2Config

DROPOUT_BLOCK = 64  # decoder steps per call of the random number generator, which is slow for single steps


class PrenetDropout:
    """Dropout masks of the prenet in inference, from one seed per sentence.

    A sentence with the same seed is reproduced exactly, independently of the other sentences in its batch.
    """

    def __init__(self, config: Tacotron2Config, seeds: list[int], device: torch.device):
        self.shape = (DROPOUT_BLOCK, config.decoder_prenet_depth, config.decoder_prenet_dim)
        self.keep_p, self.device = 1 - config.decoder_prenet_dropout_p, device
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def keep(self, step: int) -> Tensor:
        """Return the mask (B, decoder_prenet_depth, decoder_prenet_dim) of a step; call it in order."""
        if step % DROPOUT_BLOCK == 0:
            drawn = [torch.rand(self.shape, generator=generator) for generator in self.generators]
            self.block = (torch.stack(drawn, dim=1) < self.keep_p).to(self.device, torch.float32)
        return self.block[step % DROPOUT_BLOCK]

    def select(self, rows: Tensor) -> None:
        self.generators = [self.generators[row] for row in rows.tolist()]
        self.block = self.block[:, rows]


class SteppingLSTM:
    """Single steps of an LSTM for inference: x (B, in) and the state (hidden, cell) to the next state.

    A step is bound by the bandwidth of reading the weights, 72 MB with the paper's sizes. On a CPU, PyTorch's
    layers reorder the weights for the matrix product at every step, which takes longer than the product, and
    `nn.LSTMCell` uses a single core for a single sentence. This class reorders them once, with the functions
    that `torch.compile` uses, and all cores take part. On other devices, and if PyTorch lacks these
    functions, it calls `torch.lstm_cell`. Later changes of the layer's weights have no effect.
    """

    def __init__(self, layer: nn.LSTM | nn.LSTMCell):
        self.weights = weight_ih, weight_hh, bias_ih, bias_hh = tuple(layer.parameters())
        self.is_packed = (
            weight_ih.device.type == "cpu"
            and weight_ih.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
            and torch.backends.mkldnn.enabled
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        )
        if self.is_packed:
            self.packed = [torch.ops.mkldnn._reorder_linear_weight(part) for part in (weight_ih, weight_hh)]
            self.biases = bias_ih, bias_hh

    def __call__(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if not self.is_packed:
            return torch.lstm_cell(x, state, *self.weights)
        hidden, cell = state
        from_x, from_hidden = (
            torch.ops.mkldnn._linear_pointwise(part.float(), weight, bias, "none", [], "")
            for part, weight, bias in zip((x, hidden), self.packed, self.biases, strict=True)
        )
        input_gate, forget_gate, candidate, output_gate = (from_x + from_hidden).chunk(4, dim=1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell
