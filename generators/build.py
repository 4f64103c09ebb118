"""Build the networks that a configuration names."""

from torch import Tensor, nn

from config import HiFiGANConfig
from generators.multi_resolution import MultiLogSpectrumDiscriminator, MultiResolutionDiscriminator
from generators.variants import GeneratorVariant
from generators.vocos import Vocos
from model import Generator, Judgment, MultiPeriodDiscriminator, MultiScaleDiscriminator

GENERATORS = {"hifigan": GeneratorVariant, "vocos": Vocos}
DISCRIMINATORS = {
    "mpd": MultiPeriodDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mrd": MultiResolutionDiscriminator,
    "mld": MultiLogSpectrumDiscriminator,
}


def build_generator(config: HiFiGANConfig) -> Generator | Vocos:
    """Return the generator that `config.generator` names, with random weights.

    It maps a mel (B, num_mels, T) to audio (B, 1, T * hop_size), or one hop less with `padding="center"`.
    Every generator has `config`, `context_frames`, `stream` and `fold_weight_norm`.
    """
    return GENERATORS[config.generator](config)


def sensitive_layers(config: HiFiGANConfig) -> tuple[str, ...]:
    """Return the first parts of the names of a generator's layers that need float32 in inference.

    Rounding noise in the head and in the last fusion of a HiFi-GAN generator is audible. In bfloat16, it
    lowers PESQ by 0.07 for V2 on LJSpeech, and by 0.01 with this exception.
    """
    if config.generator == "hifigan" and not config.gen_istft_n_fft:
        return "head", f"fusions.{len(config.upsample_rates) - 1}."
    return ("head",)


class Discriminators(nn.Module):
    """The discriminators that `config.discriminators` names; their outputs are concatenated."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        for name in config.discriminators:
            self.add_module(name, DISCRIMINATORS[name](config))

    def forward(self, audio: Tensor) -> Judgment:
        scores, feature_maps = [], []
        for discriminator in self.children():
            new_scores, new_maps = discriminator(audio)
            scores += new_scores
            feature_maps += new_maps
        return scores, feature_maps
