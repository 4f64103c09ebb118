"""The configurations of mels and of HiFi-GAN: fields, defaults, help texts and validation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.errors import UserError
from common.files import read_json
from common.options import check_options, option

MEL_SCALES = ("db", "ln", "log10")
MEL_FILTERS = ("slaney", "htk")
PADDINGS = ("same", "center")

# Names in the official HiFi-GAN's JSON files, and ours.
OFFICIAL_NAMES = {"win_size": "window_size", "fmax_for_loss": "fmax_loss"}

# Names of the variants of each part, which `model.py` and `generators/` contain.
GENERATORS = ("hifigan", "vocos")
RESBLOCKS = ("1", "2")
UPSAMPLINGS = ("transpose", "resize")
FUSIONS = ("mrf", "misr")
DISCRIMINATORS = ("mpd", "msd", "mrd", "mld")

# Sizes of the log-spectrum discriminator's frames in samples
MLD_FRAMES = (1200, 600, 2400)

CHANNELS = {"minimum": 1, "maximum": 65536}
KERNEL = {"minimum": 1, "maximum": 8192}  # samples or frames
LAYERS = {"minimum": 1, "maximum": 100}


@dataclass(frozen=True)
class MelConfig:
    """Settings of a mel spectrogram. Programs that exchange mels must agree on every field, except for
    the scale of the values, which can be converted.

    Rates and frequencies are in Hz, sizes in samples. `fmax=None` means half the sampling rate.

    `mel_scale` is the scale of the values: "ln" is the natural logarithm of the amplitude, "log10" the
    decimal logarithm. "db" maps decibels linearly, `min_db` to `-max_scaled_abs` and 0 dB to
    `max_scaled_abs`, and continues above 0 dB without clipping. In every scale, amplitudes below `min_db` are
    clamped.

    `mel_filters` is "slaney" for Slaney's filters, which have equal areas, or "htk" for triangles of height 1
    on HTK's mel scale, the default of torchaudio and of the published Vocos models.

    `padding` is "same" for samples // hop_size frames, each centered on its hop, or "center" for one more,
    each centered on the first sample of its hop, as in the published Vocos models.

    Raises UserError for settings that are impossible.
    """

    sampling_rate: int = option(
        22050, "Sampling rate in Hz", minimum=1, maximum=768_000, group="mel spectrogram"
    )
    n_fft: int = option(1024, "Number of samples per Fourier transform", minimum=1, maximum=8192)
    window_size: int = option(1024, "Number of samples of the Hann window", minimum=1)
    hop_size: int = option(256, "Number of samples between frames", minimum=1)
    num_mels: int = option(80, "Number of mel bands", minimum=1, maximum=1024)
    fmin: float = option(0.0, "Lower edge of the lowest band in Hz", minimum=0)
    fmax: float | None = option(
        8000.0, 'Upper edge of the highest band in Hz, or "none" for half the sampling rate'
    )
    mel_scale: str = option(
        "db",
        "Scale of the values: dB mapped to ±max_scaled_abs, natural logarithm (official) or log10",
        choices=MEL_SCALES,
    )
    min_db: float = option(-100.0, "Raise quieter bins to this level in dB", below=0)
    max_scaled_abs: float = option(4.0, 'Value of 0 dB in the "db" scale; min_db has its negative', above=0)
    mel_filters: str = option("slaney", "Mel filters; htk for published Vocos models", choices=MEL_FILTERS)
    padding: str = option("same", "Alignment of frames; center for published Vocos models", choices=PADDINGS)

    def __post_init__(self):
        check_options(self)
        if self.window_size > self.n_fft:
            raise UserError(
                f"window_size {self.window_size} is longer than n_fft {self.n_fft}; make n_fft larger"
            )
        if self.hop_size > self.window_size:
            raise UserError(
                f"hop_size {self.hop_size} is longer than window_size {self.window_size}, so samples between "
                "frames are lost; make it smaller"
            )
        top, nyquist = self.highest_frequency, self.sampling_rate / 2
        if not 0 <= self.fmin < top <= nyquist:
            raise UserError(
                f"fmin {self.fmin} and fmax {top} must satisfy 0 <= fmin < fmax <= {nyquist} (half the "
                "sampling rate)"
            )

    @classmethod
    def from_dict(cls, values: Mapping) -> "MelConfig":
        """Return the configuration in a parsed `config.json`, ours or an official one, ignoring other keys.

        A file without `mel_scale` is an official one, whose mels are natural logarithms. Raises UserError for
        values of the wrong type.
        """
        renamed = {OFFICIAL_NAMES.get(name, name): value for name, value in values.items()}
        known = {field.name for field in fields(cls)}
        settings = {"mel_scale": "ln"} | {name: value for name, value in renamed.items() if name in known}
        try:
            return cls(**{name: as_tuples(value) for name, value in settings.items()})
        except (TypeError, RecursionError) as error:  # a string for a number, lists in lists in lists
            raise UserError(f"a value in the configuration has the wrong type: {error}") from error

    @classmethod
    def from_file(cls, path: Path) -> "MelConfig":
        """Return the configuration in a `config.json`. Raises UserError if the file can't be read."""
        return cls.from_dict(read_json(path))

    def to_dict(self) -> dict:
        """Return the fields as a dictionary for `config.json`, the inverse of `from_dict`."""
        return asdict(self)

    @property
    def highest_frequency(self) -> float:
        """Upper edge of the highest mel band in Hz."""
        return self.sampling_rate / 2 if self.fmax is None else self.fmax

    @property
    def min_amplitude(self) -> float:
        """Amplitude of `min_db`, at which smaller amplitudes are clamped."""
        return 10.0 ** (self.min_db / 20.0)

    @property
    def stft_padding(self) -> tuple[int, int]:
        """Samples by which the STFT pads the audio on the left and on the right."""
        if self.padding == "center":
            return self.n_fft // 2, self.n_fft - self.n_fft // 2
        edge = self.n_fft - self.hop_size
        return edge // 2, edge - edge // 2

    @property
    def min_samples(self) -> int:
        """Length of the shortest audio that has a mel: one hop, and more samples than the reflected edge."""
        return max(self.hop_size, max(self.stft_padding) + 1)

    def num_frames(self, samples: int) -> int:
        """Return the number of mel frames of audio with this many samples."""
        return samples // self.hop_size + (self.padding == "center")

    def num_samples(self, frames: int) -> int:
        """Return the number of samples that a vocoder generates from this many mel frames."""
        return (frames - (self.padding == "center")) * self.hop_size

    @property
    def silence(self) -> float:
        """Value of a mel bin in digital silence."""
        return self.from_ln(math.log(self.min_amplitude))

    def from_ln(self, ln_amplitude):
        """Return natural-log amplitudes, a number, an array or a tensor, in this scale: an affine map."""
        if self.mel_scale == "ln":
            return ln_amplitude
        if self.mel_scale == "log10":
            return ln_amplitude / math.log(10.0)
        decibels = ln_amplitude * (20.0 / math.log(10.0))
        return (decibels - self.min_db) * (2.0 * self.max_scaled_abs / -self.min_db) - self.max_scaled_abs

    def to_ln(self, values):
        """Return values of this scale as natural-log amplitudes: the inverse of `from_ln`."""
        if self.mel_scale == "ln":
            return values
        if self.mel_scale == "log10":
            return values * math.log(10.0)
        decibels = (values + self.max_scaled_abs) * (-self.min_db / (2.0 * self.max_scaled_abs)) + self.min_db
        return decibels * (math.log(10.0) / 20.0)

    @property
    def ln_per_unit(self) -> float:
        """Change of the natural-log amplitude per unit of this scale, to compare losses between scales."""
        return self.to_ln(1.0) - self.to_ln(0.0)


@dataclass(frozen=True)
class HiFiGANConfig(MelConfig):
    """The mel settings of `MelConfig` and the sizes of the networks; the defaults are HiFi-GAN V1.

    Raises UserError for sizes that don't fit together, with the arithmetic in the message.
    """

    generator: str = option(
        "hifigan", "Use HiFi-GAN, or Vocos, which works at frame rate", choices=GENERATORS, group="generator"
    )
    resblock: str = option("1", "Residual block: 1 in V1 and V2, 2 in V3", choices=RESBLOCKS)
    upsample_rates: tuple[int, ...] = option((8, 8, 2, 2), "Upsampling rate of each stage", **KERNEL)
    upsample_kernel_sizes: tuple[int, ...] = option(
        (16, 16, 4, 4), "Kernel size of each upsampling stage", **KERNEL
    )
    upsample_initial_channel: int = option(
        512, "Number of channels before the first stage; each stage halves them", **CHANNELS
    )
    resblock_kernel_sizes: tuple[int, ...] = option(
        (3, 7, 11), "Kernel sizes of the parallel residual blocks in each stage", **KERNEL
    )
    resblock_dilation_sizes: tuple = option(
        ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        'Dilations of each residual block\'s convolutions; for --fusion misr one list, "(1,3,5)"',
    )
    upsampling: str = option(
        "transpose",
        "Upsample by transposed convolution, or by resizing and a convolution",
        choices=UPSAMPLINGS,
    )
    fusion: str = option(
        "mrf",
        "Use parallel residual blocks, or one block shared by several signals (MISRNet)",
        choices=FUSIONS,
    )
    resblock_num: int = option(
        3, "Number of signals that share the residual block, with --fusion misr", **LAYERS
    )
    resblock_kernel_size: int = option(11, "Kernel size of the block, with --fusion misr", **KERNEL)
    gen_istft_n_fft: int | None = option(
        None, "Size of the inverse Fourier transform that produces the samples (iSTFTNet)", **KERNEL
    )
    gen_istft_hop_size: int | None = option(
        None, "Hop of that transform in samples; a factor of hop_size, like the upsampling rates", **KERNEL
    )
    match_mel: bool = option(
        False, "Scale the mel bands of the generated audio to their levels in the input mel; only for hifigan"
    )
    vocos_dim: int = option(512, "Number of channels, with --generator vocos", **CHANNELS)
    vocos_intermediate_dim: int = option(
        1536, "Number of hidden channels of each block, with --generator vocos", **CHANNELS
    )
    vocos_num_layers: int = option(8, "Number of blocks, with --generator vocos", **LAYERS)

    discriminators: tuple[str, ...] = option(
        ("mpd", "msd"),
        "Use these discriminators: multi-period, multi-scale, multi-resolution (UnivNet), log-spectrum",
        choices=DISCRIMINATORS, group="discriminators",
    )  # fmt: skip
    mpd_periods: tuple[int, ...] = option(
        (2, 3, 5, 7, 11), "Periods of the multi-period discriminator in samples", **KERNEL
    )
    msd_num_downsamples: int = option(
        2, "Number of times that the multi-scale discriminator halves the sampling rate",
        minimum=0, maximum=16,
    )  # fmt: skip
    mrd_resolutions: tuple = option(
        ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)),
        "(n_fft, hop, window) in samples of each resolution of the multi-resolution discriminator",
    )
    mrd_channels: int | None = option(
        None, 'Number of channels of the multi-resolution discriminator; "none": discriminator_channels / 32',
        minimum=1, maximum=2048,
    )  # fmt: skip
    discriminator_channels: int = option(
        1024, "Number of channels of the widest discriminator layers; the others scale in proportion",
        minimum=32, maximum=65536,
    )  # fmt: skip
    fmax_loss: float | None = option(
        None, 'Upper edge in Hz of the mel loss\'s highest band; "none": half the sampling rate',
        group="mel spectrogram",
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if self.generator == "hifigan":
            require(self.padding == "same", 'padding is "center"; only the generator "vocos" supports it')
            check_upsampling(self)
            check_residual_blocks(self)
            n_fft, window_size, hop_size = self.n_fft, self.window_size, self.hop_size
            require(
                not self.match_mel or (window_size == n_fft and n_fft % 2 == 0 and 2 * hop_size <= n_fft),
                f"match_mel needs an even n_fft that equals window_size and is at least twice hop_size, but "
                f"they are {n_fft}, {window_size} and {hop_size}",
            )
        else:
            require(not self.match_mel, 'match_mel is for the generator "hifigan" only')
            require(
                self.n_fft % 2 == 0 and self.hop_size < self.n_fft,
                f"n_fft is {self.n_fft}; for Vocos it must be even and larger than hop_size {self.hop_size}",
            )
        check_discriminators(self)
        nyquist = self.sampling_rate / 2
        require(
            self.fmax_loss is None or self.fmin < self.fmax_loss <= nyquist,
            f"fmax_loss {self.fmax_loss} must be between fmin {self.fmin} and half the sampling rate, "
            f"{nyquist}",
        )

    @classmethod
    def from_dict(cls, values):
        """Return a configuration as `MelConfig.from_dict` does; `resblock_num` alone implies MISRNet."""
        if "resblock_num" in values and "fusion" not in values:
            values = {**values, "fusion": "misr"}
        return super().from_dict({**values, "resblock": str(values.get("resblock", cls.resblock))})

    def check_segment_size(self, segment_size: int) -> None:
        """Raise UserError for a segment that is too short for the discriminators, which reflect its end."""
        edges = {}
        if "mpd" in self.discriminators:
            edges[f"the period {max(self.mpd_periods)}"] = max(self.mpd_periods)
        if "mrd" in self.discriminators:
            widest = max(self.mrd_resolutions, key=lambda sizes: sizes[0] - sizes[1])
            edges[f"the resolution {widest}"] = (widest[0] - widest[1] + 1) // 2 + 1
        if "mld" in self.discriminators:
            edges[f"the frame of {max(MLD_FRAMES)}"] = max(MLD_FRAMES) // 2 + 1
        for name, shortest in edges.items():
            require(
                segment_size >= shortest,
                f"--segment_size is {segment_size}; {name} of the discriminators needs at least {shortest}",
            )


def as_tuples(value):
    """Return lists, nested to any depth, as tuples, which are immutable and comparable."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def check_upsampling(config: HiFiGANConfig) -> None:
    """Raise UserError if the stages don't turn each frame into hop_size samples."""
    rates, kernels = config.upsample_rates, config.upsample_kernel_sizes
    factors, names = list(rates), "upsample_rates"
    if config.gen_istft_n_fft or config.gen_istft_hop_size:
        n_fft, hop_size = config.gen_istft_n_fft, config.gen_istft_hop_size
        require(
            bool(n_fft and hop_size) and n_fft % 2 == 0 and 2 * hop_size <= n_fft,
            f"gen_istft_n_fft is {n_fft} and gen_istft_hop_size {hop_size}: n_fft must be even and at least "
            "twice the hop, otherwise the inverse transform has gaps",
        )
        factors, names = [*rates, hop_size], "upsample_rates and gen_istft_hop_size"
    product = " x ".join(map(str, factors))
    require(
        math.prod(factors) == config.hop_size,
        f"{names} multiply to {product} = {math.prod(factors)}, but hop_size is {config.hop_size}: each "
        "frame must become hop_size samples",
    )
    require(
        len(kernels) == len(rates),
        f"upsample_kernel_sizes has {len(kernels)} entries and upsample_rates {len(rates)}: each rate needs "
        "one kernel size",
    )
    for rate, kernel in zip(rates, kernels, strict=True):
        if config.upsampling == "resize":
            require(
                kernel % 2 == 1,
                f"upsampling by resize with kernel {kernel}: only an odd kernel keeps its input's length",
            )
        else:
            require(
                kernel >= rate and (kernel - rate) % 2 == 0,
                f"upsampling by {rate} with kernel {kernel}: kernel - rate = {kernel - rate}, which must be "
                "even and not negative, because half of it is trimmed from each side",
            )
    halvings = 2 ** len(rates)
    require(
        config.upsample_initial_channel % halvings == 0,
        f"upsample_initial_channel {config.upsample_initial_channel} is halved {len(rates)} times: it must "
        f"be a multiple of {halvings}",
    )


def are_positive(values: object) -> bool:
    """Return whether this is a tuple of positive integers; flags may nest tuples deeper."""
    return isinstance(values, tuple) and all(isinstance(value, int) and value >= 1 for value in values)


def check_residual_blocks(config: HiFiGANConfig) -> None:
    """Raise UserError if kernels and dilations of the residual blocks don't fit together."""
    if config.fusion == "misr":
        kernels, dilation_lists = [config.resblock_kernel_size], [config.resblock_dilation_sizes]
        require(
            all(isinstance(dilation, int) for dilation in config.resblock_dilation_sizes),
            f"resblock_dilation_sizes is {config.resblock_dilation_sizes}; misr takes one list: (1,3,5)",
        )
    else:
        kernels, dilation_lists = config.resblock_kernel_sizes, config.resblock_dilation_sizes
        require(
            len(dilation_lists) == len(kernels),
            f"resblock_dilation_sizes has {len(dilation_lists)} entries and resblock_kernel_sizes "
            f"{len(kernels)}: each kernel needs one list of dilations",
        )
    for kernel in kernels:
        require(
            kernel % 2 == 1,
            f"resblock kernel {kernel} is even: only an odd kernel keeps the length of its input",
        )
    for dilations in dilation_lists:
        positive = are_positive(dilations) and len(dilations) > 0
        require(positive, f"resblock_dilation_sizes holds {dilations}; it needs lists of positive numbers")


def check_discriminators(config: HiFiGANConfig) -> None:
    """Raise UserError for a width or a resolution that the discriminators can't have."""
    names = config.discriminators
    require(len(set(names)) == len(names), f"discriminators holds a name twice: {', '.join(names)}")
    width = config.discriminator_channels
    require(width % 32 == 0, f"discriminator_channels is {width}; it must be a multiple of 32")
    for resolution in config.mrd_resolutions:
        triple = are_positive(resolution) and len(resolution) == 3
        require(triple, f"mrd_resolutions holds {resolution}; each entry needs n_fft, hop and window")
        n_fft, hop_size, window_size = resolution
        require(
            hop_size <= window_size <= n_fft,
            f"mrd_resolutions holds {resolution}: the hop of {hop_size} must not exceed the window of "
            f"{window_size}, nor the window of {window_size} the n_fft of {n_fft}",
        )
