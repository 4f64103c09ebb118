"""When each word of a text is spoken, from Tacotron 2's attention, as SRT or JSON."""

import json
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.files import atomic_write
from synthesis.speech import Sentence, TextToSpeech
from text import encode_texts, spoken_ids
from text.encoding import TextConfig
from text.sentences import WORD


class Word(NamedTuple):
    """A word as written, with its marks, and its times in seconds."""

    word: str
    start: float
    end: float


def word_times(tts: TextToSpeech, sentences: Iterable[Sentence]) -> list[Word]:
    """Return the words of consecutive sentences; those that make no sound, such as dashes, are left out."""
    config, words, offset = tts.tacotron2.config, [], 0.0
    for sentence in sentences:
        offset += len(tts.silence(sentence.before)) / tts.sampling_rate
        utterance, speed = sentence.utterance, sentence.speed * tts.speed
        step = config.frames_per_step * config.hop_size / config.sampling_rate / speed  # seconds
        furthest = np.maximum.accumulate(np.asarray(utterance.attention).argmax(axis=1))  # (steps,)
        for written, first, last in tokens_of_words(utterance.text, config, tts.lexicon):
            start, end = np.searchsorted(furthest, [first, last + 1]) * step
            words.append(Word(written, round(offset + float(start), 3), round(offset + float(end), 3)))
        offset += len(sentence.audio) / tts.sampling_rate
    return words


def tokens_of_words(
    sentence: str, config: TextConfig, lexicon: Mapping[str, str] | None = None
) -> list[tuple[str, int, int]]:
    """Return the words of a sentence, each with its first and last token.

    The tokens of words alone are matched with those of the sentence, in which they sound slightly different.
    """
    sounds = spoken_ids(config.text_input)
    written = WORD.findall(sentence)
    whole, *parts = encode_texts([sentence, *written], config, lexicon)
    alone = [(token, number) for number, part in enumerate(parts) for token in part if token in sounds]
    places: dict[int, list[int]] = {}
    matcher = SequenceMatcher(None, [token for token, _ in alone], whole, autojunk=False)
    for block in matcher.get_matching_blocks():
        for index in range(block.size):
            places.setdefault(alone[block.a + index][1], []).append(block.b + index)
    # A word that sounds different alone, such as "a", has the sounds between its neighbors' tokens.
    for number in sorted({number for _, number in alone} - places.keys()):
        first = max((max(found) for other, found in places.items() if other < number), default=-1) + 1
        last = min((min(found) for other, found in places.items() if other > number), default=len(whole))
        if between := [place for place in range(first, last) if whole[place] in sounds]:
            places[number] = between
    return [(written[number], min(found), max(found)) for number, found in sorted(places.items())]


def write_timestamps(path: Path, words: list[Word]) -> None:
    """Write words to a .json file as a list of objects, or to an .srt file with one cue per word."""
    if path.suffix.lower() == ".json":
        text = json.dumps([word._asdict() for word in words], indent=1, ensure_ascii=False)
    else:
        text = "\n".join(
            f"{number}\n{clock(word.start)} --> {clock(word.end)}\n{word.word}\n"
            for number, word in enumerate(words, 1)
        )
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def clock(seconds: float) -> str:
    """Return seconds as SRT writes them: 00:01:02,345."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
