"""Tacotron 2's losses, and how good an attention is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tacotron2.config import Tacotron2Config
from tacotron2.model import TeacherForced, length_mask

# One step of a sentence is its last and a hundred are not; weighed alike, the gate would learn it late.
GATE_POSITIVE_WEIGHT = 5.0


def tacotron2_losses(
    output: TeacherForced,
    batch: dict,
    config: Tacotron2Config,
    guided_attention_weight: float = 0.0,
    guided_attention_width: float = 0.2,
) -> dict[str, Tensor]:
    """Of a batch, and their weighted sum `loss`. Padding has no part in them.

    Squared error of the mel before and after the postnet and cross entropy of the gate are the paper's.
    """
    mel_lengths = batch["mel_lengths"]
    step_lengths = -(-mel_lengths // config.frames_per_step)
    mask = length_mask(mel_lengths, batch["mel"].shape[2])
    frames = batch["mel"].shape[2]

    def error(mel: Tensor, power: int) -> Tensor:
        difference = (mel[:, :, :frames] - batch["mel"]).abs() ** power
        return (difference.mean(1) * mask).sum() / mask.sum()

    steps = output.gate.shape[1]
    is_last = torch.arange(steps, device=mask.device) == step_lengths.unsqueeze(1) - 1
    gate = F.binary_cross_entropy_with_logits(
        output.gate,
        is_last.float(),
        weight=length_mask(step_lengths, steps).float(),
        pos_weight=output.gate.new_tensor(GATE_POSITIVE_WEIGHT),
        reduction="sum",
    )
    parts = {
        "mel_before_loss": error(output.mel_before, 2),
        "mel_after_loss": error(output.mel, 2),
        "gate_loss": gate / step_lengths.sum(),
    }
    parts["loss"] = sum(parts.values())
    if guided_attention_weight:
        parts["attention_loss"] = guided_attention(
            output.attention, batch["token_lengths"], step_lengths, guided_attention_width
        )
        parts["loss"] = parts["loss"] + guided_attention_weight * parts["attention_loss"]
    parts["mel_loss"] = error(output.mel, 1).detach()
    return parts


def guided_attention(attention: Tensor, token_lengths: Tensor, step_lengths: Tensor, width: float) -> Tensor:
    """Loss that pulls attention (B, steps, L) to the diagonal: how far off it is in the mean, in [0, 1].

    Text and speech go forward together, at a nearly even pace. A weight costs 1 - exp(-d² / 2 width²), where
    d is how far its place in the text and its step are apart, both as fractions of the whole (Tachibana,
    Uenoyama and Aihara, 2018, section 4). Padding is left out.
    """
    steps, length = attention.shape[1:]
    device = attention.device
    spoken = torch.arange(steps, device=device) / step_lengths.unsqueeze(1)  # (B, steps)
    read = torch.arange(length, device=device) / token_lengths.unsqueeze(1)  # (B, L)
    distance = spoken.unsqueeze(2) - read.unsqueeze(1)  # (B, steps, L)
    cost = (1 - torch.exp(-(distance**2) / (2 * width**2))) * attention
    is_spoken = length_mask(step_lengths, steps)
    return (cost.sum(2) * is_spoken).sum() / is_spoken.sum()


def diagonality(attention: Tensor, token_lengths: Tensor, step_lengths: Tensor, band: float = 0.1) -> Tensor:
    """(B,) the share of attention (B, steps, L) that lies within `band` of the text of the diagonal.

    The diagonal attention rate of Ren et al. (2019), with a band in fractions of the sentence: about 2 * band
    for an attention that has learned nothing, near 1 for one that reads along.
    """
    steps, length = attention.shape[1:]
    device = attention.device
    spoken = torch.arange(steps, device=device) / step_lengths.unsqueeze(1)
    read = torch.arange(length, device=device) / token_lengths.unsqueeze(1)
    near = (spoken.unsqueeze(2) - read.unsqueeze(1)).abs() <= band
    inside = (attention * near).sum(2) * length_mask(step_lengths, steps)
    return inside.sum(1) / step_lengths
