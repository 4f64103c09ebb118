"""Tacotron 2 (Shen et al., 2018): an autoregressive text-to-mel model with attention.

The attention is in `attention.py`. Layers have the names of NVIDIA's and torchaudio's implementations.
Sections refer to the paper.
"""

import copy
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from tacotron2.attention import AttentionState, LocationSensitiveAttention, Memory, linear
from tacotron2.config import Tacotron2Config
from tacotron2.lstm import LSTMCell, run_bidirectional, run_lstm
from tacotron2.postfilter import Postfilter
from tacotron2.stepping import PrenetDropout, SteppingLSTM


class TeacherForced(NamedTuple):
    """Output of `Tacotron2.forward`. T' is T rounded up to whole decoder steps."""

    mel_before: Tensor  # (B, num_mels, T'), before the postnet
    mel: Tensor  # (B, num_mels, T')
    gate: Tensor  # (B, steps), logit of the probability that a step is the last
    attention: Tensor  # (B, steps, L), weights that sum to 1 over the text


class Speech(NamedTuple):
    """Output of `Tacotron2.infer`."""

    mel: Tensor  # (B, num_mels, T), padded with silence
    frames: Tensor  # (B,), length of each sentence's mel
    attention: Tensor  # (B, steps, L), padded with zeros
    stopped: Tensor  # (B,), True if the gate ended the sentence, False if the limit did


def length_mask(lengths: Tensor, longest: int) -> Tensor:
    """Return the mask (B, longest) of lengths (B,): True within the length, False in the padding."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


class ConvNorm(nn.Module):
    """Convolution and batch norm. Padding is set to zero before the convolution.

    x (B, in_channels, N), mask (B, 1, N) -> (B, out_channels, N)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: str):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm1d(out_channels)
        nn.init.xavier_uniform_(self.conv.weight, nn.init.calculate_gain(gain))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.conv(x * mask))


class Encoder(nn.Module):
    """Convolutions for the local context of a symbol and a bidirectional LSTM for the sentence (section 2.2).

    x (B, L, character_embed_dim), lengths (B,), mask (B, L) -> (B, L, encoder_embed_dim)
    """

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
        x = x.transpose(1, 2)  # (B, channels, L)
        for convolution in self.convolutions:
            x = F.dropout(F.relu(convolution(x, mask.unsqueeze(1))), self.dropout_p, self.training)
        return run_bidirectional(self.lstm, x.transpose(1, 2), lengths) * mask.unsqueeze(2)


class Step(NamedTuple):
    """Output of a decoder step for the A sentences that are not finished."""

    active: Tensor  # (A,), rows of these sentences in the batch
    frames: Tensor  # (A, num_mels * frames_per_step)
    weights: Tensor  # (A, L), attention
    opened: Tensor  # (A,), True if the gate ends the sentence


class Prenet(nn.Module):
    """Bottleneck for the previous frames: (B, ..., num_mels * frames_per_step) -> (B, ..., prenet_dim).

    Its dropout is active in inference too, so that the decoder relies on the text rather than on its own
    output.
    """

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.dropout_p = config.decoder_prenet_dropout_p
        sizes = [config.num_mels * config.frames_per_step]
        sizes += [config.decoder_prenet_dim] * config.decoder_prenet_depth
        self.layers = nn.ModuleList(linear(before, after) for before, after in pairwise(sizes))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """`keep` (B, ..., prenet_depth, prenet_dim) is 0 for dropped values; by default it is random."""
        for number, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            p = self.dropout_p
            x = F.dropout(x, p) if keep is None else x * keep[..., number, :] / (1 - p)
        return x


class Decoder(nn.Module):
    """Encoded text to mel, with `frames_per_step` frames per step."""

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.config = config
        features = config.decoder_rnn_dim + config.encoder_embed_dim
        self.prenet = Prenet(config)
        self.attention_rnn = LSTMCell(
            config.decoder_prenet_dim + config.encoder_embed_dim, config.attention_rnn_dim
        )
        self.attention_layer = LocationSensitiveAttention(config)
        self.decoder_rnn = nn.LSTM(
            config.attention_rnn_dim + config.encoder_embed_dim, config.decoder_rnn_dim, batch_first=True
        )
        self.linear_projection = linear(features, config.num_mels * config.frames_per_step, bias=True)
        self.gate_layer = linear(features, 1, "sigmoid", bias=True)
        self.packed: tuple[SteppingLSTM, SteppingLSTM] | None = None

    def pack(self, dtype: torch.dtype = torch.float32) -> tuple[SteppingLSTM, SteppingLSTM]:
        """Return both LSTMs for `steps`, which packs them itself unless `packed` is set to the result."""
        return SteppingLSTM(self.attention_rnn, dtype), SteppingLSTM(self.decoder_rnn, dtype)

    def initial_state(self, memory: Memory) -> AttentionState:
        values = memory.values
        batch, length, width = values.shape
        hidden = self.attention_rnn.bias_hh.new_zeros(batch, self.config.attention_rnn_dim)
        weights = values.new_zeros(batch, length)
        return AttentionState(hidden, hidden, values.new_zeros(batch, width), weights, weights)

    def attend(
        self, prenet: Tensor, state: AttentionState, memory: Memory, attention_rnn: Callable
    ) -> AttentionState:
        """Return the attention's next state, given the prenet's output (B, decoder_prenet_dim)."""
        x = torch.cat([prenet, state.context], dim=1)
        hidden, cell = attention_rnn(x, (state.hidden, state.cell))
        hidden = F.dropout(hidden, self.config.attention_dropout_p, self.training)
        context, weights = self.attention_layer(hidden, state, memory)
        return AttentionState(hidden, cell, context, weights, state.cumulative + weights)

    def forward(
        self, memory: Memory, mel: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Teacher forcing: each step receives the true frames of the previous step.

        Takes and returns a mel (B, num_mels, T) of whole steps. Also returns the gate (B, steps) and the
        attention (B, steps, L). `keep` is the prenet's dropout mask.
        """
        batch, num_mels, frames = mel.shape
        previous = mel.transpose(1, 2).reshape(batch, -1, num_mels * self.config.frames_per_step)
        previous = F.pad(previous, (0, 0, 1, -1))  # (B, steps, num_mels * frames_per_step), zeros first
        if self.training and self.config.decoder_input_dropout_p:
            # the true frames allow a guess of the next ones, so a small corpus is learned without reading the
            # text. Hiding some frames prevents that (Liu et al., Maximizing Mutual Information for Tacotron)
            hidden = torch.rand(batch, previous.shape[1], 1, device=mel.device)
            previous = previous.masked_fill(hidden < self.config.decoder_input_dropout_p, 0.0)
        state = self.initial_state(memory)
        states = []
        for prenet in self.prenet(previous, keep).unbind(1):
            state = self.attend(prenet, state, memory, self.attention_rnn)
            states.append(state)
        context = torch.stack([state.context for state in states], dim=1)  # (B, steps, encoder_embed_dim)
        hidden = torch.stack([state.hidden for state in states], dim=1)  # (B, steps, attention_rnn_dim)
        # The attention does not depend on the second LSTM, so all of its steps are computed in one call.
        hidden = run_lstm(torch.cat([hidden, context], dim=2), self.decoder_rnn.all_weights[0])
        hidden = F.dropout(hidden, self.config.decoder_dropout_p, self.training)
        features = torch.cat([hidden, context], dim=2)
        mel = self.linear_projection(features).reshape(batch, frames, num_mels).transpose(1, 2)
        return mel, self.gate_layer(features).squeeze(2), torch.stack([state.weights for state in states], 1)

    def step(
        self,
        frames: Tensor,
        keep: Tensor | None,
        state: AttentionState,
        decoder_state: tuple[Tensor, Tensor],
        memory: Memory,
        attention_rnn: Callable,
        decoder_rnn: Callable,
    ) -> tuple[Tensor, Tensor, AttentionState, tuple[Tensor, Tensor]]:
        """Return the next frames (B, num_mels * frames_per_step), the gate's probability (B,) that they are
        the last, and the next states, given the previous frames and the prenet's dropout mask.
        """
        state = self.attend(self.prenet(frames, keep), state, memory, attention_rnn)
        decoder_state = decoder_rnn(torch.cat([state.hidden, state.context], dim=1), decoder_state)
        features = torch.cat([decoder_state[0], state.context], dim=1)
        gate = torch.sigmoid(self.gate_layer(features).squeeze(1))
        return self.linear_projection(features), gate, state, decoder_state

    def steps(
        self, memory: Memory, limits: Tensor, dropout: PrenetDropout | None, gate_threshold: float
    ) -> Iterator[Step]:
        """Yield the decoder's steps, each with the output of the previous step as its input.

        A sentence ends, and leaves the batch, when its gate opens or after `limits` (B,) steps, but not
        before the first step.
        """
        config = self.config
        batch = len(limits)
        active = torch.arange(batch)  # rows of unfinished sentences
        attention_rnn, decoder_rnn = self.packed or self.pack()
        state = self.initial_state(memory)
        zeros = memory.values.new_zeros(batch, config.decoder_rnn_dim)
        decoder_state = (zeros, zeros)
        frames = memory.values.new_zeros(batch, config.num_mels * config.frames_per_step)
        step = 0
        while len(active):
            keep = dropout and dropout.keep(step)
            frames, gate, state, decoder_state = self.step(
                frames, keep, state, decoder_state, memory, attention_rnn, decoder_rnn
            )
            opened = gate.cpu() > gate_threshold
            step += 1
            finished = opened | (step >= limits[active])
            yield Step(active, frames, state.weights, opened)
            if finished.any():
                rows = torch.nonzero(~finished).squeeze(1)
                active = active[rows]
                rows = rows.to(frames.device)
                memory, frames = memory.select(rows), frames[rows]
                state = AttentionState(*(part[rows] for part in state))
                decoder_state = tuple(part[rows] for part in decoder_state)
                if dropout:
                    dropout.select(rows)


class Postnet(nn.Module):
    """Convolutions that predict a correction of the complete mel (section 2.2).

    x (B, num_mels, T), mask (B, T) -> (B, num_mels, T)
    """

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.dropout_p = config.decoder_postnet_dropout_p
        inner = [config.decoder_postnet_n_filters] * (config.decoder_postnet_num_convs - 1)
        channels = [config.num_mels, *inner, config.num_mels]
        gains = ["tanh"] * len(inner) + ["linear"]
        self.convolutions = nn.ModuleList(
            ConvNorm(before, after, config.decoder_postnet_kernel_size, gain)
            for (before, after), gain in zip(pairwise(channels), gains, strict=True)
        )

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that its correction depends on."""
        return sum(convolution.conv.kernel_size[0] // 2 for convolution in self.convolutions)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mask = mask.unsqueeze(1)
        for convolution in self.convolutions[:-1]:
            x = F.dropout(torch.tanh(convolution(x, mask)), self.dropout_p, self.training)
        return F.dropout(self.convolutions[-1](x, mask), self.dropout_p, self.training)


class Tacotron2(nn.Module):
    """Tokens of `text` to a mel in `config.mel_scale`.

    Padding is masked at every stage, so the output for a sentence does not depend on its batch. A model with
    `config.speakers` adds an embedding of the speaker to each symbol and needs the speakers' indices (B,).
    """

    def __init__(self, config: Tacotron2Config):
        super().__init__()
        self.config = config
        inner = config.inner_mel_scale
        self.inner = replace(config, mel_scale=inner) if inner else None
        self.embedding = nn.Embedding(config.num_symbols, config.character_embed_dim)
        nn.init.xavier_uniform_(self.embedding.weight)
        if config.speakers:
            self.speaker_embedding = nn.Embedding(len(config.speakers), config.character_embed_dim)
            nn.init.normal_(self.speaker_embedding.weight, std=0.1)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.postnet = Postnet(config)
        taps, num_speakers = config.postfilter_taps, max(1, len(config.speakers))
        self.postfilter = Postfilter(config.num_mels, taps, num_speakers) if taps else None

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that `complete` needs."""
        return self.postnet.context_frames + (self.postfilter.context_frames if self.postfilter else 0)

    def encode(self, tokens: Tensor, token_lengths: Tensor, speakers: Tensor | None = None) -> Memory:
        mask = length_mask(token_lengths, tokens.shape[1])
        embedded = self.embedding(tokens)  # (B, L, character_embed_dim)
        if self.config.speakers:
            if speakers is None:
                raise ValueError(f"speakers is None; the model needs indices into {self.config.speakers}")
            embedded = embedded + self.speaker_embedding(speakers).unsqueeze(1)
        return self.decoder.attention_layer.prepare(self.encoder(embedded, token_lengths, mask), mask)

    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor,
        mel: Tensor,
        mel_lengths: Tensor,
        speakers: Tensor | None = None,
        seeds: list[int] | None = None,
    ) -> TeacherForced:
        """Predict each step from the true previous frames (teacher forcing).

        Takes padded tokens (B, L) and true mels (B, num_mels, T), with their lengths (B,). With `seeds`, one
        per clip, the prenet's dropout is the same in any batch.
        """
        steps = -(-mel.shape[2] // self.config.frames_per_step)
        mel = F.pad(mel, (0, steps * self.config.frames_per_step - mel.shape[2]), value=self.config.silence)
        memory = self.encode(tokens, token_lengths, speakers)
        keep = self.dropout(seeds, tokens.device).keep_all(steps) if seeds else None
        before, gate, attention = self.decoder(memory, self.to_inner(mel), keep)
        after = before + self.postnet(before, length_mask(mel_lengths, mel.shape[2]))
        return TeacherForced(self.from_inner(before), self.from_inner(after), gate, attention)

    def dropout(self, seeds: list[int], device: torch.device) -> PrenetDropout:
        """Return the prenet's dropout for clips with these seeds."""
        return PrenetDropout(self.config, seeds, device)

    @torch.inference_mode()
    def infer(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None = None,
        max_frames: int | Tensor = 2000,
        seeds: list[int] | int | None = None,
        gate_threshold: float = 0.5,
        speakers: Tensor | None = None,
    ) -> Speech:
        """Speak a batch of sentences, padded tokens (B, L) with their lengths (B,). Requires eval mode.

        `max_frames` limits the mels: one number, or one per sentence (B,). `seeds`, one number or one per
        sentence, determine the prenet's dropout. The same sentence and seed yield the same mel in any batch,
        except for rounding, which depends on the size of a matrix product, and which the attention can
        amplify: 24 sentences in a batch and alone agreed within 0.003 on the dB scale.
        """
        config, batch = self.config, len(tokens)
        mels, attention = [[] for _ in range(batch)], [[] for _ in range(batch)]
        stopped = torch.zeros(batch, dtype=torch.bool)
        for step in self.decoder_steps(tokens, token_lengths, max_frames, seeds, gate_threshold, speakers):
            for place, row in enumerate(step.active.tolist()):
                mels[row].append(step.frames[place])
                attention[row].append(step.weights[place])
            stopped[step.active] = step.opened
        mels = [torch.stack(frames).reshape(-1, config.num_mels) for frames in mels]  # (frames, num_mels)
        frames = torch.tensor([len(mel) for mel in mels], device=tokens.device)
        mel = nn.utils.rnn.pad_sequence(mels, batch_first=True).transpose(1, 2)
        mask = length_mask(frames, mel.shape[2])
        mel = self.complete(mel, mask, speakers)
        mel = mel.masked_fill(~mask.unsqueeze(1), config.silence)
        attention = nn.utils.rnn.pad_sequence([torch.stack(weights) for weights in attention], True)
        return Speech(mel, frames, attention, stopped.to(tokens.device))

    def decoder_steps(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None,
        max_frames: int | Tensor,
        seeds: list[int] | int | None,
        gate_threshold: float,
        speakers: Tensor | None = None,
    ) -> Iterator[Step]:
        """Start the decoder on a batch of sentences; see `infer` for the arguments."""
        batch = len(tokens)
        if token_lengths is None:
            token_lengths = torch.full((batch,), tokens.shape[1], device=tokens.device)
        if seeds is None:
            seeds = torch.randint(2**62, (batch,)).tolist()
        seeds = [seeds] * batch if isinstance(seeds, int) else list(seeds)
        dropout = self.dropout(seeds, tokens.device) if self.decoder.prenet.dropout_p else None
        limits = torch.as_tensor(max_frames).cpu().expand(batch) // self.config.frames_per_step
        memory = self.encode(tokens, token_lengths, speakers)
        return self.decoder.steps(memory, limits, dropout, gate_threshold)

    @torch.inference_mode()
    def stream(
        self,
        tokens: Tensor,
        max_frames: int = 2000,
        seed: int | None = None,
        gate_threshold: float = 0.5,
        chunk_frames: int = 32,
    ) -> Generator[Tensor, None, Speech]:
        """Speak one sentence, tokens (1, L), and yield its mel in parts (num_mels, n) while it is decoded.

        The concatenated parts equal the mel of `infer`; the generator returns the `Speech`. Frames are
        delayed by the receptive field of postnet and post-filter. Every part but the last has at least
        `chunk_frames` frames.
        """
        reach, made, parts = self.context_frames, [], []
        done = 0
        for step in self.decoder_steps(tokens, None, max_frames, seed, gate_threshold):
            made.append(step)
            ready = len(made) * self.config.frames_per_step - reach
            if ready - done >= chunk_frames:
                parts.append(self.finish(made, done, ready))
                done = ready
                yield parts[-1]
        frames = len(made) * self.config.frames_per_step
        parts.append(self.finish(made, done, frames))
        yield parts[-1]
        attention = torch.stack([step.weights[0] for step in made])
        frames = torch.tensor([frames], device=tokens.device)
        return Speech(torch.cat(parts, dim=1)[None], frames, attention[None], made[-1].opened)

    def finish(self, made: list[Step], start: int, end: int) -> Tensor:
        """Complete a sentence's decoder steps and return the frames (num_mels, end - start)."""
        first = max(0, start - self.context_frames) // self.config.frames_per_step
        before = (
            torch.stack([step.frames[0] for step in made[first:]]).reshape(-1, self.config.num_mels).T[None]
        )
        mel = self.complete(before, before.new_ones(1, before.shape[2]))
        first *= self.config.frames_per_step
        return mel[0, :, start - first : end - first]

    def complete(self, mel: Tensor, mask: Tensor, speakers: Tensor | None = None) -> Tensor:
        """Apply the postnet and, if there is one, the post-filter to the decoder's mel (B, num_mels, T).

        Only spoken mels are filtered. A vocoder that was fine-tuned on filtered teacher-forced mels would
        learn to undo the filter.
        """
        mel = self.from_inner(mel.float() + self.postnet(mel, mask))  # in float32 under autocast
        return self.postfilter(mel, mask, speakers) if self.postfilter else mel

    def with_packed_decoder(self, dtype: torch.dtype = torch.float32) -> "Tacotron2":
        """Return a model that shares the weights of this one, with its decoder's LSTMs packed in `dtype`."""
        model, decoder = copy.copy(self), copy.copy(self.decoder)
        decoder.packed = self.decoder.pack(dtype)
        model._modules = self._modules | {"decoder": decoder}
        return model

    def for_speaker(self, name: str) -> "Tacotron2":
        """Return a single-speaker copy, with the speaker's embedding added to those of the symbols.

        Raises UserError for a speaker that the model lacks.
        """
        if name not in self.config.speakers:
            known = ", ".join(self.config.speakers) or "none, it has a single voice"
            raise UserError(f"the Tacotron 2 model has no speaker {name!r}; its speakers: {known}")
        model = copy.deepcopy(self)
        index = self.config.speakers.index(name)
        with torch.no_grad():
            model.embedding.weight += model.speaker_embedding.weight[index]
        taps = self.config.postfilter_taps
        if taps:
            model.postfilter = model.postfilter.for_speaker(index)
            taps = 0 if model.postfilter.is_neutral else taps
        if not taps:
            model.postfilter = None
        del model.speaker_embedding
        model.config = model.decoder.config = replace(self.config, speakers=(), postfilter_taps=taps)
        return model

    def to_inner(self, mel: Tensor) -> Tensor:
        return self.inner.from_ln(self.config.to_ln(mel)) if self.inner else mel

    def from_inner(self, mel: Tensor) -> Tensor:
        return self.config.from_ln(self.inner.to_ln(mel)) if self.inner else mel
