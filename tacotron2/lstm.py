"""LSTMs of Tacotron 2: over padded sentences, and with a state in float32 under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LSTMCell(nn.LSTMCell):
    """An LSTM cell whose products follow autocast and whose state is in float32."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return lstm_step(x, state, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))


def lstm_step(
    x: Tensor, state: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell) of an LSTM with the weights of `nn.LSTMCell`, given x (B, in).

    The cell state is a sum over all steps so far, whose small terms would be lost in bfloat16's 8-bit
    mantissa. PyTorch's function keeps it in half precision under autocast on a GPU.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return torch.lstm_cell(x, state, *weights)
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    gates = F.linear(x, weight_ih, bias_ih).float() + F.linear(state[0], weight_hh, bias_hh)
    return from_gates(gates, state[1])


def from_gates(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the next (hidden, cell), given the gates' float32 sums (B, 4 * hidden_size)."""
    input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=1)
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(cell), cell


def lstm_precision(device_type: str) -> AbstractContextManager:
    """Return a context without autocast on a processor without AVX-512, which has no LSTMs in bfloat16."""
    is_missing = device_type == "cpu" and not has_bfloat16()
    return torch.autocast(device_type, enabled=False) if is_missing else nullcontext()


def has_bfloat16() -> bool:
    """Return whether oneDNN, which PyTorch lacks on Apple's processors, computes in bfloat16 on this one."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def run_bidirectional(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Run a bidirectional LSTM over padded sentences (B, L, in) with `lengths` (B,): (B, L, 2 * hidden_size)

    The backward direction starts at the end of each sentence. PyTorch's packed sequences do the same, but
    need the lengths on the host, which waits for a GPU. The output in the padding is not defined.
    """
    to_right, to_left = lstm.all_weights
    outputs = run_lstm(x, to_right), reverse(run_lstm(reverse(x, lengths), to_left), lengths)
    return torch.cat(outputs, dim=2)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sentence of x (B, L, channels) within its length; the padding stays in place."""
    positions = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths.unsqueeze(1) - 1 - positions  # (B, L), negative in the padding
    order = torch.where(mirrored < 0, positions, mirrored)
    return x.gather(1, order.unsqueeze(2).expand_as(x))


def run_lstm(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Run one direction, given by its two weights and two biases: (B, L, in) -> (B, L, hidden_size)"""
    x = x.float()
    zeros = x.new_zeros(1, len(x), weights[1].shape[1])
    with lstm_precision(x.device.type):
        return torch.lstm(
            x, (zeros, zeros), weights, has_biases=True, num_layers=1, dropout=0.0,
            train=torch.is_grad_enabled(), bidirectional=False, batch_first=True,
        )[0]  # fmt: skip
