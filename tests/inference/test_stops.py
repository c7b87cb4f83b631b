"""Stop strings are found in text, not in tokens; what may still change is held back."""

import pytest

from archobj_jax.inference.stops import Stops

PIECES = ("", "a", "b", "\n", "end", "er", "a\nb")


def decode(tokens: list[int]) -> str:
    return "".join(PIECES[token] for token in tokens)


def decode_bytes(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize(
    ("strings", "tokens", "expected"),
    [
        ((), [1, 3, 4], ("a\nend", None)),
        (("x",), [1, 3, 4], ("a\nend", None)),
        (("\n",), [1, 3, 4], ("a", 2)),
        (("\n",), [1, 6, 4], ("aa", 2)),  # inside a token
        (("nder",), [1, 4, 5, 1], ("ae", 3)),  # over two tokens
        (("b", "ab"), [1, 1, 2, 2], ("a", 3)),  # completed at once: the one that starts first
        (("ab", "b"), [1, 1, 2, 2], ("a", 3)),
        (("ba", "b"), [1, 2, 1], ("a", 2)),  # what is completed first
        (("a",), [1], ("", 1)),
        (("a",), [], ("", None)),
    ],
)
def test_text_is_cut_before_the_first_stop_string(strings, tokens, expected):
    stops = Stops(strings, decode)
    assert stops.cut(tokens) == expected
    assert stops.found(tokens) == (expected[1] is not None)


@pytest.mark.parametrize(
    ("strings", "text", "expected"),
    [
        ((), "ab", "ab"),
        (("END",), "abEN", "ab"),
        (("END", "N"), "abEND", "abE"),
        (("aab", "abc"), "xaa", "x"),  # the longest beginning
        (("END",), "abENx", "abENx"),
        ((), "caf\u00e9", "caf\u00e9"),
    ],
)
def test_what_may_begin_a_stop_string_is_not_settled(strings, text, expected):
    assert Stops(strings, decode_bytes).settled(text.encode()) == expected


def test_half_a_character_is_not_settled():
    encoded = "caf\u00e9".encode()
    assert Stops((), decode_bytes).settled(encoded[:-1]) == "caf"
