"""Text for Tacotron 2: normalization, phonemes, tokens and sentence splitting."""

from text.encoding import INVENTORIES, encode_texts, split_text, spoken_ids
from text.espeak import languages
from text.markup import PAUSES, Piece, pause_after, split_pieces, with_pauses
from text.normalization import clean
from text.phonemes import encode_phonemes, phonemize, read_lexicon
from text.sentences import split_sentences
from text.tokens import END_ID, PAD_ID, SYMBOLS, UNKNOWN_ID, decode, encode
