"""Text of tokens that are still being made: where it stops, and what of it is settled."""

import dataclasses
from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]


@dataclasses.dataclass(frozen=True)
class Stops:
    """Stop strings, looked for in decoded text, so that they may span tokens.

    Attributes:
      strings: what ends a text; none of it is part of the text.
      decode: the vocabulary's.
    """

    strings: tuple[str, ...]
    decode: Decode

    def found(self, tokens: Sequence[int]) -> bool:
        """Whether the text of `tokens` has a stop string."""
        return bool(self.strings) and self._start(self.decode(list(tokens))) is not None

    def cut(self, tokens: Sequence[int]) -> tuple[str, int | None]:
        """The text before the first stop string, and how many tokens complete that string.

        The number is None, and the text whole, if there is no stop string. Of several that the same
        token completes, the one that starts first counts.
        """
        tokens = list(tokens)
        if not self.found(tokens):
            return self.decode(tokens), None
        low, high = 0, len(tokens)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.found(tokens[:middle]) else (middle, high)
        text = self.decode(tokens[:high])
        return text[: self._start(text)], high

    def settled(self, tokens: Sequence[int]) -> str:
        """The part of the text that more tokens cannot take back.

        Left out are the end of it that may be the beginning of a stop string, and replacement
        characters there, which stand for bytes that are not yet a character.
        """
        text, completed = self.cut(tokens)
        if completed is not None:
            return text
        text = text.rstrip("�")
        begun = (
            length
            for string in self.strings
            for length in range(1, len(string))
            if text.endswith(string[:length])
        )
        return text[: len(text) - max(begun, default=0)]

    def _start(self, text: str) -> int | None:
        starts = [start for string in self.strings if (start := text.find(string)) >= 0]
        return min(starts, default=None)
