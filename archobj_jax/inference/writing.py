"""What `archobj generate` prints: texts as they are made, or JSON lines."""

import json
import sys
from collections.abc import Sequence

import jax
from etils import epath

from archobj_jax.errors import UserError
from archobj_jax.hosts.activity import ACTIVITY, IDLE
from archobj_jax.inference.decoding import Generated, Generation, OnText
from archobj_jax.inference.predictor import Predictor

_AT_A_TIME = 256
"""Prompts of a file whose results are printed together."""


def read_prompts(path: str) -> list[str]:
    """The lines of a file, local or gs://.

    Raises:
      UserError: it cannot be read, or has none.
    """
    try:
        text = epath.Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts_file={path} cannot be read: {error}.") from error
    if not text:
        raise UserError(f"--prompts_file={path} is empty; expected a prompt a line.")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def write_records(predictor: Predictor, prompts: Sequence[str], config: Generation) -> None:
    """Prints a JSON object a text: prompt, sample, text, log_likelihood, ended, score if any."""
    for start in range(0, len(prompts), _AT_A_TIME):
        part = prompts[start : start + _AT_A_TIME]
        numbers = range(start, start + len(part))
        made = predictor.generate(part, config, numbers=numbers)
        for prompt, texts in zip(part, made, strict=True):
            for sample, each in enumerate(texts):
                _print(json.dumps(_record(prompt, sample, each), ensure_ascii=False) + "\n")


def write_one(predictor: Predictor, prompt: str, config: Generation) -> None:
    """Prints the texts after a prompt; a single one as it is made, if that is to a terminal."""
    _write(predictor, prompt, config, number=0, stream=sys.stdout.isatty())


def converse(predictor: Predictor, config: Generation) -> None:
    """Reads prompts from standard input, a line each, and streams what follows, until it ends.

    Ctrl-C while a text is made stops that one.

    Raises:
      UserError: several processes run.
    """
    if jax.process_count() > 1:
        raise UserError("--interactive reads one standard input; it runs in one process only.")
    typed = sys.stdin.isatty()
    number = 0
    while (prompt := _typed("> " if typed else "")) is not None:
        try:
            _write(predictor, prompt, config, number=number, stream=True)
        except KeyboardInterrupt:
            _print("\n")
        number += 1
    if typed:
        _print("\n")


def _typed(prompt: str) -> str | None:
    with ACTIVITY.phase(IDLE):
        return _line(prompt)


def _write(
    predictor: Predictor, prompt: str, config: Generation, *, number: int, stream: bool
) -> None:
    """Prints the texts after a prompt; `number` is the prompt's, for its random key."""
    one = config.num_samples == 1
    on_text: OnText | None = (
        (lambda _prompt, _sample, text: _print(text)) if stream and one else None
    )
    (texts,) = predictor.generate([prompt], config, numbers=[number], on_text=on_text)
    if one:
        _print("\n" if on_text else texts[0].text + "\n")
        return
    for sample, each in enumerate(texts):
        score = "" if each.score is None else f", score {each.score:.4f}"
        about = f"log likelihood {each.log_likelihood:.4f}{score}, {each.ended}"
        _print(f"[{sample + 1}] {about}\n{each.text}\n\n")


def _record(prompt: str, sample: int, made: Generated) -> dict[str, object]:
    record: dict[str, object] = {
        "prompt": prompt,
        "sample": sample,
        "text": made.text,
        "log_likelihood": made.log_likelihood,
        "ended": made.ended,
    }
    return record if made.score is None else record | {"score": made.score}


def _line(sign: str) -> str | None:
    """The next line of standard input, without its end; None when there is no more."""
    try:
        return input(sign)
    except EOFError:
        return None


def _print(text: str) -> None:
    if jax.process_index() == 0:
        sys.stdout.write(text)
        sys.stdout.flush()
