"""Location-sensitive attention of Tacotron 2 (Chorowski et al., 2015)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacotron2.config import Tacotron2Config


def linear(in_features: int, out_features: int, gain: str = "linear", bias: bool = False) -> nn.Linear:
    layer = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain(gain))
    return layer


class Memory(NamedTuple):
    """Encoded sentences with everything about them that is the same at every decoder step."""

    values: Tensor  # (B, L, encoder_embed_dim)
    keys: Tensor  # (B, attention_dim, L)
    padding: Tensor  # (B, L), True in the padding
    location_kernel: Tensor  # (attention_dim, 2, kernel_size)

    def select(self, rows: Tensor) -> "Memory":
        return Memory(self.values[rows], self.keys[rows], self.padding[rows], self.location_kernel)


class AttentionState(NamedTuple):
    """Recurrent state of the attention."""

    hidden: Tensor  # (B, attention_rnn_dim)
    cell: Tensor  # (B, attention_rnn_dim)
    context: Tensor  # (B, encoder_embed_dim), the mean of the values by the attention weights
    weights: Tensor  # (B, L)
    cumulative: Tensor  # (B, L), the sum of the weights of all steps so far


class LocationLayer(nn.Module):
    """Features of the previous and the cumulative attention weights: (B, 2, L) -> (B, attention_dim, L)."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        filters, kernel_size = config.attention_location_n_filters, config.attention_location_kernel_size
        self.location_conv = nn.Conv1d(2, filters, kernel_size, bias=False)
        self.location_dense = linear(filters, config.attention_dim, "tanh")
        nn.init.xavier_uniform_(self.location_conv.weight)

    def kernel(self) -> Tensor:
        """Return the kernel (attention_dim, 2, kernel_size) of the convolution that equals both layers."""
        return torch.einsum("af,fck->ack", self.location_dense.weight, self.location_conv.weight)


class LocationSensitiveAttention(nn.Module):
    """Attention that also depends on its own previous weights (Chorowski et al., 2015)."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        bias = config.attention_query_bias
        self.query_layer = linear(config.attention_rnn_dim, config.attention_dim, "tanh", bias)
        self.memory_layer = linear(config.encoder_embed_dim, config.attention_dim, "tanh")
        self.v = linear(config.attention_dim, 1)
        self.location_layer = LocationLayer(config)

    def prepare(self, values: Tensor, mask: Tensor) -> Memory:
        """Return the memory of encoded sentences (B, L, encoder_embed_dim) with their mask (B, L)."""
        keys = self.memory_layer(values).transpose(1, 2).contiguous()
        return Memory(values, keys, ~mask, self.location_layer.kernel())

    def forward(self, query: Tensor, state: AttentionState, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the context (B, encoder_embed_dim) and weights (B, L) of a query (B, attention_rnn_dim)."""
        weights = torch.stack([state.weights, state.cumulative], dim=1)  # (B, 2, L)
        location = F.conv1d(weights, memory.location_kernel, padding=memory.location_kernel.shape[-1] // 2)
        # In-place operations, and bmm, which saves no copy: the tensors saved for the backward pass at every
        # step take gigabytes in total.
        location += self.query_layer(query).unsqueeze(2)
        energies = location.add_(memory.keys).tanh_()  # (B, attention_dim, L)
        energies = torch.bmm(self.v.weight.expand(len(query), 1, -1), energies).squeeze(1)  # (B, L)
        weights = torch.softmax(energies.masked_fill(memory.padding, -torch.inf), dim=1)
        return torch.bmm(weights.unsqueeze(1), memory.values).squeeze(1), weights
