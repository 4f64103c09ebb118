"""Tacotron 2's losses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tacotron2.config import Tacotron2Config
from tacotron2.model import TeacherForced, length_mask

# Only one step of a sentence is its last; with equal weights the gate would learn slowly.
GATE_POSITIVE_WEIGHT = 5.0


def tacotron2_losses(
    output: TeacherForced,
    batch: dict,
    config: Tacotron2Config,
    guided_attention_weight: float = 0.0,
    guided_attention_width: float = 0.2,
) -> dict[str, Tensor]:
    """Return the losses of a batch, and their weighted sum `loss`. Padding does not count.

    The squared error of the mel before and after the postnet and the cross entropy of the gate are those of
    the paper (section 2.2). `attention_loss` is present if `guided_attention_weight` is not 0. `mel_loss`,
    the L1 difference after the postnet, is for the log only.
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
        pos_weight=output.gate.new_full((), GATE_POSITIVE_WEIGHT),
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
    """Return the guided attention loss of attention (B, steps, L): its mean distance from the diagonal.

    Text and speech advance together at a nearly constant rate. A weight costs 1 - exp(-d² / 2 width²), where
    d is the difference between its position in the text and its step, both as fractions of the whole
    (Tachibana et al., 2018, section 4). The loss is in [0, 1]. Padding does not count.
    """
    steps, length = attention.shape[1:]
    device = attention.device
    spoken = torch.arange(steps, device=device) / step_lengths.unsqueeze(1)  # (B, steps)
    read = torch.arange(length, device=device) / token_lengths.unsqueeze(1)  # (B, L)
    distance = spoken.unsqueeze(2) - read.unsqueeze(1)  # (B, steps, L)
    cost = (1 - torch.exp(-(distance**2) / (2 * width**2))) * attention
    is_spoken = length_mask(step_lengths, steps)
    return (cost.sum(2) * is_spoken).sum() / is_spoken.sum()
