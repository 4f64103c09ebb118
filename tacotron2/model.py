"""Tacotron 2 (Shen et al., 2018): text to mel, one decoder step after the other, with attention on the text.

In reading order: the encoder; attention and decoder; the postnet; the model that joins them. Layers have the
names that NVIDIA's and torchaudio's models give them.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacotron2.config import Tacotron2Config

DROPOUT_BLOCK = 64  # decoder steps whose dropout is drawn at once: a draw a step and sentence takes longer


class TeacherForced(NamedTuple):
    """What `Tacotron2.forward` gives. Frames T' are T rounded up to whole decoder steps."""

    mel_before: Tensor  # (B, num_mels, T'), before the postnet
    mel: Tensor  # (B, num_mels, T')
    gate: Tensor  # (B, steps), logits of "this was the last step"
    attention: Tensor  # (B, steps, L), weights that sum to 1 over the text


class Speech(NamedTuple):
    """What `Tacotron2.infer` gives."""

    mel: Tensor  # (B, num_mels, T); behind a sentence's own frames stands silence
    frames: Tensor  # (B,), each sentence's own
    attention: Tensor  # (B, steps, L), zeros behind a sentence's own steps
    stopped: Tensor  # (B,), True where the gate said so, False where the limit came first


def length_mask(lengths: Tensor, longest: int) -> Tensor:
    """(B,) lengths to (B, longest), True where something stands and False in the padding."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


class ConvNorm(nn.Module):
    """A convolution that does not see padding, and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: str):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm1d(out_channels)
        nn.init.xavier_uniform_(self.conv.weight, nn.init.calculate_gain(gain))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, in_channels, N) and mask (B, 1, N) -> (B, out_channels, N)"""
        return self.norm(self.conv(x * mask))


def linear(in_features: int, out_features: int, gain: str = "linear", bias: bool = False) -> nn.Linear:
    layer = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain(gain))
    return layer


# Encoder (section 2.2 of the paper, as all that follows).


class Encoder(nn.Module):
    """Characters in their surroundings: convolutions for the neighbours, an LSTM for the whole sentence."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.dropout_p = config.encoder_dropout_p
        width = config.encoder_embed_dim
        channels = [config.character_embed_dim] + [width] * config.encoder_n_convolutions
        self.convolutions = nn.ModuleList(
            ConvNorm(before, after, config.encoder_kernel_size, "relu")
            for before, after in pairwise(channels)
        )
        self.lstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """(B, L, character_embed_dim), lengths (B,) and their mask (B, L) -> (B, L, encoder_embed_dim)"""
        x = x.transpose(1, 2)
        for convolution in self.convolutions:
            x = F.dropout(F.relu(convolution(x, mask.unsqueeze(1))), self.dropout_p, self.training)
        # packed, or the backward direction would start in the padding
        packed = nn.utils.rnn.pack_padded_sequence(
            x.transpose(1, 2), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=x.shape[2]
        )[0]


# Attention and decoder.


class Memory(NamedTuple):
    """A batch of encoded sentences, as the attention reads them at each step."""

    values: Tensor  # (B, L, encoder_embed_dim)
    keys: Tensor  # (B, attention_dim, L)
    padding: Tensor  # (B, L), True in the padding
    location_kernel: Tensor  # (attention_dim, 2, kernel_size)

    def select(self, rows: Tensor) -> "Memory":
        return Memory(self.values[rows], self.keys[rows], self.padding[rows], self.location_kernel)


class AttentionState(NamedTuple):
    """What goes from one decoder step to the next."""

    hidden: Tensor  # (B, attention_rnn_dim), like the cell
    cell: Tensor
    context: Tensor  # (B, encoder_embed_dim): what was read of the text
    weights: Tensor  # (B, L): where it was read
    cumulative: Tensor  # (B, L): the sum of all weights so far


class LocationLayer(nn.Module):
    """Features of where the attention is and has been, for each place in the text: (B, 2, L) to keys."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        filters, kernel_size = config.attention_location_n_filters, config.attention_location_kernel_size
        self.location_conv = nn.Conv1d(2, filters, kernel_size, bias=False)
        self.location_dense = linear(filters, config.attention_dim, "tanh")
        nn.init.xavier_uniform_(self.location_conv.weight)

    def kernel(self) -> Tensor:
        """Both layers are linear with nothing between them: together they are one convolution."""
        return torch.einsum("af,fck->ack", self.location_dense.weight, self.location_conv.weight)


class LocationSensitiveAttention(nn.Module):
    """Attention that knows where it has been, and so moves on (Chorowski et al., 2015)."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.query_layer = linear(config.attention_rnn_dim, config.attention_dim, "tanh")
        self.memory_layer = linear(config.encoder_embed_dim, config.attention_dim, "tanh")
        self.v = linear(config.attention_dim, 1)
        self.location_layer = LocationLayer(config)

    def remember(self, values: Tensor, mask: Tensor) -> Memory:
        """All of the sentences (B, L, encoder_embed_dim) that is the same at each step."""
        keys = self.memory_layer(values).transpose(1, 2).contiguous()
        return Memory(values, keys, ~mask, self.location_layer.kernel())

    def forward(self, query: Tensor, state: AttentionState, memory: Memory) -> tuple[Tensor, Tensor]:
        """Query (B, attention_rnn_dim) to the context (B, encoder_embed_dim) and the weights (B, L)."""
        places = torch.stack([state.weights, state.cumulative], dim=1)  # (B, 2, L)
        location = F.conv1d(places, memory.location_kernel, padding=memory.location_kernel.shape[-1] // 2)
        # In place, and bmm, which keeps no copy: what each step holds for the gradients is gigabytes in all
        location += self.query_layer(query).unsqueeze(2)
        energies = location.add_(memory.keys).tanh_()  # (B, attention_dim, L)
        energies = torch.bmm(self.v.weight.expand(len(query), 1, -1), energies).squeeze(1)  # (B, L)
        weights = torch.softmax(energies.masked_fill(memory.padding, -torch.inf), dim=1)
        return torch.bmm(weights.unsqueeze(1), memory.values).squeeze(1), weights


class Prenet(nn.Module):
    """A bottleneck for the previous frames: (B, ..., num_mels * frames_per_step) to (B, ..., prenet_dim).

    Its dropout stays on when speaking, so that the decoder listens to the text and not only to itself.
    """

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.dropout_p = config.decoder_prenet_dropout_p
        sizes = [config.num_mels * config.frames_per_step]
        sizes += [config.decoder_prenet_dim] * config.decoder_prenet_depth
        self.layers = nn.ModuleList(linear(before, after) for before, after in pairwise(sizes))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """`keep` (B, prenet_depth, prenet_dim) is 0 where a value is dropped; by default it is drawn here."""
        for number, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            p = self.dropout_p
            x = F.dropout(x, p) if keep is None else x * keep[:, number] / (1 - p)
        return x


class PrenetDropout:
    """What the prenet drops while it speaks, for each sentence from its own seed.

    So a sentence can be said again, and what is said beside it in a batch changes nothing.
    """

    def __init__(self, config: Tacotron2Config, seeds: list[int], device: torch.device):
        self.shape = (DROPOUT_BLOCK, config.decoder_prenet_depth, config.decoder_prenet_dim)
        self.keep_p, self.device = 1 - config.decoder_prenet_dropout_p, device
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def keep(self, step: int) -> Tensor:
        """(B, decoder_prenet_depth, decoder_prenet_dim) for a step; steps are asked for in order."""
        if step % DROPOUT_BLOCK == 0:
            drawn = [torch.rand(self.shape, generator=generator) for generator in self.generators]
            self.block = (torch.stack(drawn, dim=1) < self.keep_p).to(self.device, torch.float32)
        return self.block[step % DROPOUT_BLOCK]

    def select(self, rows: Tensor) -> None:
        self.generators = [self.generators[row] for row in rows.tolist()]
        self.block = self.block[:, rows]


class SteppingLSTM:
    """An LSTM for speaking: (B, in) and its state, hidden and cell, to the state one step later.

    A step reads every weight once, 72 MB in the paper's sizes, and does little else. On the CPU, PyTorch's
    layers bring them anew at each step into the order that matrix products are fast in, which takes longer
    than the products; `nn.LSTMCell` with a single sentence does not, but leaves them to one core. Here it is
    done once for all steps, by the functions that `torch.compile` has for it, and all cores take part. On
    other devices, and where PyTorch lacks these functions, it is the usual step. Later changes of the
    layer's weights are not seen.
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
        write, forget, new, read = (from_x + from_hidden).chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(new)
        return torch.sigmoid(read) * torch.tanh(cell), cell


class Decoder(nn.Module):
    """From encoded text to mel: at each step the attention reads on, and a few frames are made."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.config = config
        made = config.num_mels * config.frames_per_step
        features = config.decoder_rnn_dim + config.encoder_embed_dim
        self.prenet = Prenet(config)
        self.attention_rnn = nn.LSTMCell(
            config.decoder_prenet_dim + config.encoder_embed_dim, config.attention_rnn_dim
        )
        self.attention_layer = LocationSensitiveAttention(config)
        self.decoder_rnn = nn.LSTM(
            config.attention_rnn_dim + config.encoder_embed_dim, config.decoder_rnn_dim, batch_first=True
        )
        self.linear_projection = linear(features, made, bias=True)
        self.gate_layer = linear(features, 1, "sigmoid", bias=True)

    def start(self, memory: Memory) -> AttentionState:
        values = memory.values
        batch, length, width = values.shape
        hidden = values.new_zeros(batch, self.config.attention_rnn_dim)
        nowhere = values.new_zeros(batch, length)
        return AttentionState(hidden, hidden, values.new_zeros(batch, width), nowhere, nowhere)

    def attend(
        self, prenet: Tensor, state: AttentionState, memory: Memory, attention_rnn: Callable | None = None
    ) -> AttentionState:
        """One step of the attention: the prenet's (B, decoder_prenet_dim) says what was spoken last."""
        hidden, cell = (attention_rnn or self.attention_rnn)(
            torch.cat([prenet, state.context], dim=1), (state.hidden, state.cell)
        )
        hidden = F.dropout(hidden, self.config.attention_dropout_p, self.training)
        context, weights = self.attention_layer(hidden, state, memory)
        return AttentionState(hidden, cell, context, weights, state.cumulative + weights)

    def forward(self, memory: Memory, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing: each step is told the true frames (B, num_mels, T) before its own.

        Gives the mel (B, num_mels, T), gate (B, steps) and attention (B, steps, L); T is whole steps.
        """
        batch, num_mels, frames = mel.shape
        spoken = mel.transpose(1, 2).reshape(batch, -1, num_mels * self.config.frames_per_step)
        spoken = F.pad(spoken, (0, 0, 1, -1))  # the first step is told zeros, none is told its own frames
        state = self.start(memory)
        states = []
        for prenet in self.prenet(spoken).unbind(1):
            state = self.attend(prenet, state, memory)
            states.append(state)
        context = torch.stack([state.context for state in states], dim=1)  # (B, steps, encoder_embed_dim)
        hidden = torch.stack([state.hidden for state in states], dim=1)  # (B, steps, attention_rnn_dim)
        # Nothing of the second LSTM goes back into the attention: all its steps at once
        hidden, _ = self.decoder_rnn(torch.cat([hidden, context], dim=2))
        hidden = F.dropout(hidden, self.config.decoder_dropout_p, self.training)
        features = torch.cat([hidden, context], dim=2)
        made = self.linear_projection(features).reshape(batch, frames, num_mels).transpose(1, 2)
        return made, self.gate_layer(features).squeeze(2), torch.stack([state.weights for state in states], 1)

    def infer(
        self, memory: Memory, limits: Tensor, dropout: PrenetDropout | None, gate_threshold: float
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Each step is told what the last one made, until the gate opens or `limits` (B,) steps are done.

        Gives each sentence's frames (num_mels, frames) and attention (steps, L), and (B,) whether it stopped
        by the gate. A sentence that is done leaves the batch.
        """
        config = self.config
        batch = len(limits)
        made = [[] for _ in range(batch)]
        attention = [[] for _ in range(batch)]
        stopped = torch.zeros(batch, dtype=torch.bool)
        going = torch.arange(batch)  # the rows that still speak
        attention_rnn, decoder_rnn = SteppingLSTM(self.attention_rnn), SteppingLSTM(self.decoder_rnn)
        state = self.start(memory)
        nothing = memory.values.new_zeros(batch, config.decoder_rnn_dim)
        decoder_state = (nothing, nothing)
        spoken = memory.values.new_zeros(batch, config.num_mels * config.frames_per_step)
        step = 0
        while len(going):
            prenet = self.prenet(spoken, dropout and dropout.keep(step))
            state = self.attend(prenet, state, memory, attention_rnn)
            decoder_state = decoder_rnn(torch.cat([state.hidden, state.context], dim=1), decoder_state)
            features = torch.cat([decoder_state[0], state.context], dim=1)
            spoken = self.linear_projection(features)
            opened = torch.sigmoid(self.gate_layer(features).squeeze(1)).cpu() > gate_threshold
            for place, row in enumerate(going.tolist()):
                made[row].append(spoken[place])
                attention[row].append(state.weights[place])
            step += 1
            stopped[going] = opened
            ends = opened | (step >= limits[going])
            if ends.any():
                rows = torch.nonzero(~ends).squeeze(1)
                going = going[rows]
                rows = rows.to(spoken.device)
                memory, spoken = memory.select(rows), spoken[rows]
                state = AttentionState(*(part[rows] for part in state))
                decoder_state = tuple(part[rows] for part in decoder_state)
                if dropout:
                    dropout.select(rows)
        mels = [torch.stack(steps).reshape(-1, config.num_mels).T for steps in made]
        return mels, [torch.stack(steps) for steps in attention], stopped


# Postnet.


class Postnet(nn.Module):
    """What convolutions over the finished mel can still mend: (B, num_mels, T) to a correction of it."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.dropout_p = config.decoder_postnet_dropout_p
        inner = [config.decoder_postnet_n_filters] * (config.decoder_postnet_num_convs - 1)
        channels = [config.num_mels, *inner, config.num_mels]
        gains = ["tanh"] * len(inner) + ["linear"]
        self.convolutions = nn.ModuleList(
            ConvNorm(before, after, config.decoder_postnet_kernel_size, gain)
            for before, after, gain in zip(channels, channels[1:], gains, strict=False)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, num_mels, T) and the mask (B, T) of its frames -> (B, num_mels, T)"""
        mask = mask.unsqueeze(1)
        for convolution in self.convolutions[:-1]:
            x = F.dropout(torch.tanh(convolution(x, mask)), self.dropout_p, self.training)
        return F.dropout(self.convolutions[-1](x, mask), self.dropout_p, self.training)


# The model.


class Tacotron2(nn.Module):
    """Tokens of `tacotron2.text` to a mel in `config.mel_scale`.

    Every stage leaves padding out: what comes out for a sentence does not depend on its batch.
    """

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.config = config
        inner = config.inner_mel_scale
        self.inner = replace(config, mel_scale=inner) if inner else None
        self.embedding = nn.Embedding(config.num_symbols, config.character_embed_dim)
        nn.init.xavier_uniform_(self.embedding.weight)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.postnet = Postnet(config)

    def remember(self, tokens: Tensor, token_lengths: Tensor) -> Memory:
        mask = length_mask(token_lengths, tokens.shape[1])
        encoded = self.encoder(self.embedding(tokens), token_lengths, mask)
        return self.decoder.attention_layer.remember(encoded, mask)

    def forward(
        self, tokens: Tensor, token_lengths: Tensor, mel: Tensor, mel_lengths: Tensor
    ) -> TeacherForced:
        """Teacher forcing, for training and for mels that fit their audio frame by frame.

        Takes padded tokens (B, L) with their lengths (B,), and true mels (B, num_mels, T) with theirs (B,).
        """
        steps = -(-mel.shape[2] // self.config.frames_per_step)
        mel = F.pad(mel, (0, steps * self.config.frames_per_step - mel.shape[2]), value=self.config.silence)
        memory = self.remember(tokens, token_lengths)
        made, gate, attention = self.decoder(memory, self.to_inner(mel))
        mask = length_mask(mel_lengths, mel.shape[2])
        return TeacherForced(
            self.from_inner(made), self.from_inner(made + self.postnet(made, mask)), gate, attention
        )

    @torch.inference_mode()
    def infer(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None = None,
        max_frames: int | Tensor = 2000,
        seeds: list[int] | int | None = None,
        gate_threshold: float = 0.5,
    ) -> Speech:
        """Speak a batch of sentences, (B, L) padded tokens with their lengths (B,); each stops on its own.

        `max_frames` limits all of them, or each (B,). `seeds`, one a sentence or one for all, fix the
        prenet's dropout: with its seed a sentence is said again exactly, alone or in any batch. Call it in
        eval mode.
        """
        config, batch = self.config, len(tokens)
        if token_lengths is None:
            token_lengths = torch.full((batch,), tokens.shape[1], device=tokens.device)
        if seeds is None:
            seeds = torch.randint(2**62, (batch,)).tolist()
        seeds = [seeds] * batch if isinstance(seeds, int) else list(seeds)
        dropout = PrenetDropout(config, seeds, tokens.device) if self.decoder.prenet.dropout_p else None
        limits = torch.as_tensor(max_frames).cpu().expand(batch) // config.frames_per_step
        mels, attention, stopped = self.decoder.infer(
            self.remember(tokens, token_lengths), limits.clamp(min=1), dropout, gate_threshold
        )
        frames = torch.tensor([mel.shape[1] for mel in mels], device=tokens.device)
        mel = nn.utils.rnn.pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2)
        mask = length_mask(frames, mel.shape[2])
        mel = self.from_inner(mel + self.postnet(mel, mask))
        mel = mel.masked_fill(~mask.unsqueeze(1), config.silence)
        attention = nn.utils.rnn.pad_sequence(attention, batch_first=True)
        return Speech(mel, frames, attention, stopped.to(tokens.device))

    def to_inner(self, mel: Tensor) -> Tensor:
        return self.inner.from_ln(self.config.to_ln(mel)) if self.inner else mel

    def from_inner(self, mel: Tensor) -> Tensor:
        return self.config.from_ln(self.inner.to_ln(mel)) if self.inner else mel
