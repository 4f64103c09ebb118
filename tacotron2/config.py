"""Tacotron 2's configuration: its fields, their defaults, and what makes a configuration impossible."""

from dataclasses import dataclass

from tacotron2.mel import MelConfig
from tacotron2.text import SYMBOLS
from utils import UserError


@dataclass(frozen=True)
class Tacotron2Config(MelConfig):
    """The mel that the model makes (see `MelConfig`) and its parts' sizes; the defaults are the paper's.

    `frames_per_step` is the number of frames that a decoder step makes, 1 in the paper. More of them make
    training faster and the attention easier to learn, and the mel a little less sharp. `inner_mel_scale` is
    the scale that the weights work in where it is not `mel_scale`, as in a model of other people.
    """

    text_input: str = "characters"  # or "phonemes"
    language: str = "en-us"  # espeak-ng's language of the phonemes
    speakers: tuple[str, ...] = ()
    num_symbols: int = len(SYMBOLS)
    end_symbol: bool = True  # whether it was trained on texts that end with END_ID
    character_embed_dim: int = 512
    encoder_embed_dim: int = 512
    encoder_n_convolutions: int = 3
    encoder_kernel_size: int = 5
    encoder_dropout_p: float = 0.5
    attention_rnn_dim: int = 1024
    attention_dim: int = 128
    attention_location_n_filters: int = 32
    attention_location_kernel_size: int = 31
    attention_dropout_p: float = 0.1
    decoder_rnn_dim: int = 1024
    decoder_dropout_p: float = 0.1
    decoder_prenet_dim: int = 256
    decoder_prenet_depth: int = 2
    decoder_prenet_dropout_p: float = 0.5
    decoder_postnet_num_convs: int = 5
    decoder_postnet_n_filters: int = 512
    decoder_postnet_kernel_size: int = 5
    decoder_postnet_dropout_p: float = 0.5
    frames_per_step: int = 1
    inner_mel_scale: str | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, value in vars(self).items():
            if name.endswith("_kernel_size") and (value < 1 or value % 2 == 0):
                raise UserError(
                    f"{name} is {value}; it must be odd and positive, so that a convolution keeps the length"
                )
            if name.endswith("_p") and not 0 <= value < 1:
                raise UserError(f"{name} is {value}; it must lie in [0, 1)")
            if (
                name.endswith(
                    ("_dim", "_convolutions", "_convs", "_n_filters", "_depth", "_step", "_symbols")
                )
                and value < 1
            ):
                raise UserError(f"{name} is {value}; it must be at least 1")
        if self.num_symbols < len(SYMBOLS):
            raise UserError(f"num_symbols is {self.num_symbols}; tacotron2/text has {len(SYMBOLS)} symbols")
        if self.encoder_embed_dim % 2:
            raise UserError(
                f"encoder_embed_dim is {self.encoder_embed_dim}; it must be even, half for each direction of "
                "the encoder's LSTM"
            )
