"""Text for Tacotron 2: normalization, phonemes, tokens and sentence splitting."""

from tacotron2.text.encoding import INVENTORIES, encode_texts, spoken_ids
from tacotron2.text.espeak import languages
from tacotron2.text.normalization import clean
from tacotron2.text.phonemes import encode_phonemes, phonemize, read_lexicon
from tacotron2.text.sentences import split_sentences
from tacotron2.text.tokens import END_ID, PAD_ID, SYMBOLS, UNKNOWN_ID, decode, encode
