"""Tacotron 2's configuration: fields, defaults, help texts and validation."""

from dataclasses import dataclass

from common.errors import UserError
from common.options import not_empty, option
from config import MEL_SCALES, MelConfig
from text.encoding import INVENTORIES

CHANNELS = {"minimum": 1, "maximum": 65536}
LAYERS = {"minimum": 1, "maximum": 100}


def odd(value: int) -> str | None:
    is_odd = 0 < value < 8192 and value % 2
    return None if is_odd else "odd, positive and below 8192, so that a convolution keeps the length"


def zero_or_odd(value: int) -> str | None:
    return None if value == 0 or odd(value) is None else "zero, or odd, positive and below 8192"


@dataclass(frozen=True)
class Tacotron2Config(MelConfig):
    """The mel settings of `MelConfig` and the sizes of the model; the defaults are those of the paper.

    `frames_per_step` is 1 in the paper. Larger values speed up training and make the attention easier to
    learn, and blur the mel slightly. `inner_mel_scale` is set for models by others, whose weights work in
    another scale than `mel_scale`.
    """

    text_input: str = option(
        "characters", "Unit of text that the model reads", choices=tuple(INVENTORIES), group="Tacotron 2"
    )
    language: str = option("en-us", "espeak-ng's language of the phonemes", check=not_empty)
    speakers: tuple[str, ...] = option(
        (), "Names of the speakers in the manifests' column `speaker`; empty: one speaker", may_be_empty=True
    )
    num_symbols: int | None = option(None, "Number of symbols that the model reads", **CHANNELS, flag=False)
    end_symbol: bool = option(True, "Whether the model is trained on texts that end with END_ID", flag=False)
    inner_mel_scale: str | None = option(
        None, "Mel scale of the weights if it is not `mel_scale`", choices=MEL_SCALES, flag=False
    )
    character_embed_dim: int = option(512, "Number of channels of the symbol embedding", **CHANNELS)
    encoder_embed_dim: int = option(512, "Number of channels of the encoder; an even number", **CHANNELS)
    encoder_n_convolutions: int = option(3, "Number of encoder convolutions", **LAYERS)
    encoder_kernel_size: int = option(5, "Kernel size of the encoder convolutions in symbols", check=odd)
    encoder_dropout_p: float = option(0.5, "Dropout after each encoder convolution", minimum=0, below=1)
    attention_rnn_dim: int = option(1024, "Number of units of the attention LSTM", **CHANNELS)
    attention_dim: int = option(
        128, "Number of channels in which the attention compares text and state", **CHANNELS
    )
    attention_query_bias: bool = option(
        False, "Whether the attention's query has a bias, as in the tutorial's models", flag=False
    )
    attention_location_n_filters: int = option(
        32, "Number of filters of the location-sensitive attention", **CHANNELS
    )
    attention_location_kernel_size: int = option(31, "Kernel size of those filters in symbols", check=odd)
    attention_dropout_p: float = option(0.1, "Dropout on the attention LSTM", minimum=0, below=1)
    decoder_rnn_dim: int = option(1024, "Number of units of the decoder LSTM", **CHANNELS)
    decoder_dropout_p: float = option(0.1, "Dropout on the decoder LSTM", minimum=0, below=1)
    decoder_prenet_dim: int = option(256, "Number of units of each prenet layer", **CHANNELS)
    decoder_prenet_depth: int = option(2, "Number of prenet layers", **LAYERS)
    decoder_prenet_dropout_p: float = option(
        0.5, "Dropout in the prenet, in training and inference", minimum=0, below=1
    )
    decoder_input_dropout_p: float = option(
        0.0, "Hide the previous frames in this fraction of decoder steps, so that the text is read",
        minimum=0, below=1,
    )  # fmt: skip
    decoder_postnet_num_convs: int = option(5, "Number of postnet convolutions", **LAYERS)
    decoder_postnet_n_filters: int = option(512, "Number of channels of the postnet convolutions", **CHANNELS)
    decoder_postnet_kernel_size: int = option(
        5, "Kernel size of the postnet convolutions in frames", check=odd
    )
    decoder_postnet_dropout_p: float = option(
        0.5, "Dropout after each postnet convolution", minimum=0, below=1
    )
    frames_per_step: int = option(1, "Number of frames per decoder step; 2 or 3 train faster", **LAYERS)
    postfilter_taps: int = option(
        0, "Length in frames of the filter that sharpens spoken mels; 0: none", flag=False, check=zero_or_odd
    )

    def __post_init__(self):
        super().__post_init__()
        size = len(INVENTORIES[self.text_input])
        if self.num_symbols is None:
            object.__setattr__(self, "num_symbols", size)  # the dataclass is frozen
        if self.num_symbols < size:
            raise UserError(
                f"num_symbols is {self.num_symbols}, but {self.text_input} need {size} symbols; a pretrained "
                "model keeps its --text_input"
            )
        if not all(name.strip() for name in self.speakers):
            raise UserError("speakers holds an empty name; give each speaker a name")
        if len(set(self.speakers)) < len(self.speakers):
            raise UserError(f"speakers holds a name twice: {', '.join(self.speakers)}")
        if self.encoder_embed_dim % 2:
            raise UserError(
                f"encoder_embed_dim is {self.encoder_embed_dim}; it must be even, half for each direction of "
                "the encoder's LSTM"
            )
