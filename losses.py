"""The losses of HiFi-GAN (section 2.4), on what the discriminators return.

`scores` is a list with one tensor (B, positions) a sub-discriminator; `feature_maps` a list with one list of
tensors a sub-discriminator, in any precision. Every function returns a float32 scalar: the sum over
sub-discriminators (and layers) of means.
"""

import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(real_scores: list[Tensor], generated_scores: list[Tensor]) -> Tensor:
    """Least-squares GAN loss of a discriminator (equation 1): real audio is to score 1, generated audio 0."""
    return sum(
        ((real.float() - 1) ** 2).mean() + (generated.float() ** 2).mean()
        for real, generated in zip(real_scores, generated_scores, strict=True)
    )


def adversarial_loss(generated_scores: list[Tensor]) -> Tensor:
    """Least-squares GAN loss of the generator (equation 2): what it generates is to score 1."""
    return sum(((generated.float() - 1) ** 2).mean() for generated in generated_scores)


def feature_matching_loss(real_maps: list[list[Tensor]], generated_maps: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference between what each layer makes of real and of generated audio (equation 4).

    Unweighted: the official code's function of this kind has the weight of 2 inside.
    """
    return sum(
        F.l1_loss(generated.float(), real.float())
        for real_layers, generated_layers in zip(real_maps, generated_maps, strict=True)
        for real, generated in zip(real_layers, generated_layers, strict=True)
    )


def mel_loss(real_mel: Tensor, generated_mel: Tensor) -> Tensor:
    """Mean absolute difference of two mels (B, num_mels, T) in the same scale (equation 3), unweighted."""
    return F.l1_loss(generated_mel, real_mel)
