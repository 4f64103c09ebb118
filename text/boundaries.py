"""Replace written forms by words, with a space wherever a word would touch a letter or a digit."""

import re
from collections.abc import Callable


def expand(
    pattern: str | re.Pattern, spoken: str | Callable[[re.Match], str], text: str, flags: int = 0
) -> str:
    """Return `re.sub(pattern, spoken, text)` with spaces between new words and the letters and digits around.

    A function `spoken` may return the match itself to leave it unchanged.
    """

    def replace(match: re.Match) -> str:
        words = spoken(match) if callable(spoken) else match.expand(spoken)
        if not words or words == match[0]:
            return words
        before, after = text[max(0, match.start() - 1) : match.start()], text[match.end() : match.end() + 1]
        start = " " if before.isalnum() and words[0].isalpha() else ""
        end = " " if after.isalnum() and words[-1].isalpha() else ""
        return f"{start}{words}{end}"

    return re.sub(pattern, replace, text, flags=flags)
