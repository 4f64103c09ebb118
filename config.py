"""HiFi-GAN's configuration: its fields, their defaults, and what makes a configuration impossible."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tacotron2.mel import MelConfig
from utils import UserError

# The variants of each part, by the names that `model.py` gives them.
GENERATORS = ("hifigan", "vocos")
RESBLOCKS = ("1", "2")
UPSAMPLINGS = ("transpose", "resize")
FUSIONS = ("mrf", "misr")
DISCRIMINATORS = ("mpd", "msd", "mrd")


@dataclass(frozen=True)
class HiFiGANConfig(MelConfig):
    """The mel that the generator reads (see `MelConfig`) and the networks' sizes; the defaults are V1.

    Raises UserError, with the arithmetic, for sizes that can't work together.
    """

    generator: str = "hifigan"  # one of GENERATORS
    vocos_dim: int = 512
    vocos_intermediate_dim: int = 1536
    vocos_num_layers: int = 8
    resblock: str = "1"
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple = ((1, 3, 5), (1, 3, 5), (1, 3, 5))  # a list a kernel; for "misr" one list
    upsampling: str = "transpose"  # one of UPSAMPLINGS
    fusion: str = "mrf"  # one of FUSIONS
    resblock_num: int = 3  # of "misr": signals that the shared block sees
    resblock_kernel_size: int = 11  # of "misr"
    gen_istft_n_fft: int | None = None  # with a number, an inverse Fourier transform makes the samples
    gen_istft_hop_size: int | None = None
    discriminators: tuple[str, ...] = ("mpd", "msd")  # of DISCRIMINATORS
    mpd_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    msd_num_downsamples: int = 2
    mrd_resolutions: tuple = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # n_fft, hop, window
    discriminator_channels: int = 1024  # of the widest layers; the others keep their proportion to it
    fmax_loss: float | None = None  # upper edge in Hz of the mel that the loss compares; None: half the rate

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self)

    @classmethod
    def from_dict(cls, values):
        """As `MelConfig.from_dict`; an official MISRNet's file is known by its `resblock_num`."""
        if "resblock_num" in values and "fusion" not in values:
            values = {**values, "fusion": "misr"}
        return super().from_dict({**values, "resblock": str(values.get("resblock", cls.resblock))})


def check_sizes(config: HiFiGANConfig) -> None:
    """Raise UserError for the first thing that is impossible, with the arithmetic."""

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise UserError(message)

    def require_key(name: str, value: str, allowed: Iterable[str]) -> None:
        require(value in allowed, f"{name} is {value!r}; it must be one of {', '.join(allowed)}")

    is_vocos = config.generator == "vocos"
    require_key("generator", config.generator, GENERATORS)
    require(
        not is_vocos or (config.n_fft % 2 == 0 and config.hop_size < config.n_fft),
        f"n_fft is {config.n_fft}; for Vocos it must be even and larger than hop_size {config.hop_size}",
    )
    for name in ("vocos_dim", "vocos_intermediate_dim", "vocos_num_layers"):
        require(getattr(config, name) >= 1, f"{name} is {getattr(config, name)}; it must be positive")
    require(
        is_vocos or config.padding == "same", 'padding is "center"; only the generator "vocos" supports it'
    )
    require_key("resblock", config.resblock, RESBLOCKS)
    require_key("upsampling", config.upsampling, UPSAMPLINGS)
    require_key("fusion", config.fusion, FUSIONS)
    require(len(config.discriminators) > 0, "discriminators is empty; training needs one")
    for name in config.discriminators:
        require_key("a discriminator", name, DISCRIMINATORS)

    rates, kernels = config.upsample_rates, config.upsample_kernel_sizes
    for name in ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "mpd_periods"):
        values = getattr(config, name)
        positive = len(values) > 0 and min(values) >= 1
        require(positive, f"{name} is {list(values)}; it needs at least one number, all of them positive")

    factors, names = list(rates), "upsample_rates"
    if config.gen_istft_n_fft or config.gen_istft_hop_size:
        n_fft, hop_size = config.gen_istft_n_fft, config.gen_istft_hop_size
        require(
            bool(n_fft and hop_size) and n_fft % 2 == 0 and 0 < 2 * hop_size <= n_fft,
            f"gen_istft_n_fft is {n_fft} and gen_istft_hop_size {hop_size}: n_fft must be even, and at "
            "least twice the hop, or the inverse transform has gaps",
        )
        factors, names = [*rates, hop_size], "upsample_rates and gen_istft_hop_size"
    product = " x ".join(map(str, factors))
    require(
        is_vocos or math.prod(factors) == config.hop_size,
        f"{names} multiply to {product} = {math.prod(factors)}, but hop_size is {config.hop_size}: each "
        "frame must become hop_size samples",
    )
    require(
        len(kernels) == len(rates),
        f"upsample_kernel_sizes has {len(kernels)} entries and upsample_rates {len(rates)}: one kernel a "
        "rate",
    )
    for rate, kernel in zip(rates, kernels, strict=True):
        if config.upsampling == "resize":
            require(
                kernel % 2 == 1,
                f"upsampling by resize with kernel {kernel}: only an odd kernel keeps the length of its "
                "input",
            )
        else:
            require(
                kernel >= rate and (kernel - rate) % 2 == 0,
                f"upsampling by {rate} with kernel {kernel}: kernel - rate = {kernel - rate}, which must "
                "be even and not negative, half of it being trimmed from either side",
            )
    halvings = 2 ** len(rates)
    require(
        config.upsample_initial_channel >= 1 and config.upsample_initial_channel % halvings == 0,
        f"upsample_initial_channel {config.upsample_initial_channel} is halved {len(rates)} times: it must "
        f"be a positive multiple of {halvings}",
    )

    if config.fusion == "misr":
        require(config.resblock_num >= 1, f"resblock_num is {config.resblock_num}; it must be positive")
        block_kernels, dilation_lists = [config.resblock_kernel_size], [config.resblock_dilation_sizes]
        flat = all(isinstance(dilation, int) for dilation in config.resblock_dilation_sizes)
        require(
            flat, f"resblock_dilation_sizes is {config.resblock_dilation_sizes}; misr takes one list: (1,3,5)"
        )
    else:
        block_kernels, dilation_lists = config.resblock_kernel_sizes, config.resblock_dilation_sizes
        require(
            len(dilation_lists) == len(block_kernels),
            f"resblock_dilation_sizes has {len(dilation_lists)} entries and resblock_kernel_sizes "
            f"{len(block_kernels)}: one list of dilations a kernel",
        )
    for kernel in block_kernels:
        require(
            kernel % 2 == 1,
            f"resblock kernel {kernel} is even: only an odd one keeps the length of its input",
        )
    for dilations in dilation_lists:
        positive = isinstance(dilations, tuple) and len(dilations) > 0 and min(dilations) >= 1
        require(positive, f"resblock_dilation_sizes holds {dilations}; it needs lists of positive numbers")

    width = config.discriminator_channels
    require(
        width >= 32 and width % 32 == 0, f"discriminator_channels is {width}; it must be a multiple of 32"
    )
    require(
        config.msd_num_downsamples >= 0, f"msd_num_downsamples is {config.msd_num_downsamples}, a negative"
    )
    require(len(config.mrd_resolutions) > 0, "mrd_resolutions is empty; it needs at least one")
    for resolution in config.mrd_resolutions:
        triple = isinstance(resolution, tuple) and len(resolution) == 3 and min(resolution) >= 1
        require(triple, f"mrd_resolutions holds {resolution}; it needs n_fft, hop and window of each")
        n_fft, hop_size, window_size = resolution
        require(
            hop_size <= window_size <= n_fft,
            f"mrd_resolutions holds {resolution}: the hop of {hop_size} must not be longer than the window "
            f"of {window_size}, nor that longer than the n_fft of {n_fft}",
        )
    nyquist = config.sampling_rate / 2
    require(
        config.fmax_loss is None or config.fmin < config.fmax_loss <= nyquist,
        f"fmax_loss {config.fmax_loss} must lie between fmin {config.fmin} and half the sampling rate, "
        f"{nyquist}",
    )
