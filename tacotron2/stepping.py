"""Parts of Tacotron 2's inference loop: reproducible dropout and fast LSTM steps."""

import torch
from torch import Tensor, nn

from tacotron2.config import Tacotron2Config
from tacotron2.lstm import from_gates, has_bfloat16, lstm_step

DROPOUT_BLOCK = 64  # decoder steps per call of the random number generator, which is slow for single steps


class PrenetDropout:
    """Dropout masks of the prenet outside of training, from one seed per sentence.

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

    def keep_all(self, steps: int) -> Tensor:
        """Return the masks (B, steps, decoder_prenet_depth, decoder_prenet_dim) of the first steps."""
        return torch.stack([self.keep(step) for step in range(steps)], dim=1)

    def select(self, rows: Tensor) -> None:
        self.generators = [self.generators[row] for row in rows.tolist()]
        self.block = self.block[:, rows]


class SteppingLSTM:
    """Single steps of an LSTM for inference: x (B, in) and the state (hidden, cell) to the next state.

    A step is bound by the bandwidth of reading the weights, 72 MB with the paper's sizes in float32, and half
    as much with `dtype` bfloat16, for which processors without AVX-512 use float32. The cell state and the
    gates' sums are in float32. Later changes of the layer's weights have no effect.
    """

    def __init__(self, layer: nn.LSTM | nn.LSTMCell, dtype: torch.dtype = torch.float32):
        self.weights = weight_ih, weight_hh, bias_ih, bias_hh = tuple(layer.parameters())
        self.dtype, self.is_packed = dtype, can_pack(weight_ih)
        if self.is_packed and dtype == torch.bfloat16 and not has_bfloat16():
            self.dtype = dtype = torch.float32
        if self.is_packed:
            self.from_x = PackedLinear(weight_ih.to(dtype), bias_ih.to(dtype))
            self.from_hidden = PackedLinear(weight_hh.to(dtype), bias_hh.to(dtype))

    def __call__(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if not self.is_packed:
            return lstm_step(x, state, self.weights)
        hidden, cell = state
        gates = self.from_x(x.to(self.dtype)).float() + self.from_hidden(hidden.to(self.dtype))
        return from_gates(gates, cell)


def can_pack(weight: Tensor) -> bool:
    """Return whether `PackedLinear` is available for a float32 weight on its device."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class PackedLinear:
    """A function of x (..., in) -> (..., out) in the dtype of the weight (out, in), on a CPU.

    PyTorch's layers reorder the weights for oneDNN's matrix product in every call, or use another library,
    which is slower on some processors. This function reorders them once, as `torch.compile` does.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        # detached, so that the model can be copied
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self.bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def __reduce__(self):
        return PackedLinear, (self.packed.to_dense(), self.bias)
