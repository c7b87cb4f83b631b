"""`archobj generate`: one prompt, a file of them, or a conversation."""

import io
import json
import sys
from pathlib import Path

import pytest

from archobj_jax import cli
from archobj_jax.inference import writing
from archobj_jax.inference.beam import BeamSearch
from archobj_jax.inference.decoding import Generation
from archobj_jax.inference.predictor import Predictor
from archobj_jax.inference.sampling import Sampling
from tests import tiny


class Letters:
    """Id i is the i-th character from "A" on; "B" ends."""

    eos_id = 1

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("A") for letter in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(token + ord("A")) for token in tokens)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    network = tiny.network(num_decoder_layers=1, logits_via_embedding=False)
    model = tiny.CD(network)
    return Predictor(tiny.blueprint(model), tiny.parameters(model), Letters(), step=0)


@pytest.fixture
def opened(predictor: Predictor, monkeypatch) -> list[dict]:
    """Stands for reading a checkpoint; keeps what it was asked for."""
    asked = []

    def from_checkpoint(path: str, **options: object) -> Predictor:
        asked.append({"path": path, **options})
        return predictor

    monkeypatch.setattr(Predictor, "from_checkpoint", from_checkpoint)
    return asked


def generate(*flags: str) -> int:
    bindings = ("CHECKPOINT_PATH=runs/some", "commands.generate.compilation_cache_dir=None")
    return cli.main(["generate", *(f"--gin.{binding}" for binding in bindings), *flags])


def test_a_prompt_is_gone_on_with(predictor: Predictor, opened: list[dict], capsys):
    ((whole,),) = predictor.generate(["PQR"], Generation(max_new_tokens=9))
    assert generate("--prompt=PQR", "--max_new_tokens=9") == 0
    assert capsys.readouterr().out == whole.text + "\n"
    assert opened == [{"path": "runs/some", "cache_dir": None, "partitioner": None}]


def test_flags_say_how_tokens_are_chosen(predictor: Predictor, opened: list[dict], capsys):
    config = Generation(max_new_tokens=9, sampling=Sampling(2.0, 9, 0.9), seed=3)
    ((drawn,),) = predictor.generate(["PQR"], config)
    stop = drawn.text[5]
    flags = ("--temperature=2", "--top_k=9", "--top_p=0.9", "--seed=3", "--stop=xyz")
    assert generate("--prompt=PQR", "--max_new_tokens=9", *flags, f"--stop={stop}") == 0
    assert capsys.readouterr().out == drawn.text.partition(stop)[0] + "\n"


def test_several_texts_have_a_heading_each(predictor: Predictor, opened: list[dict], capsys):
    beams = BeamSearch(3, length_penalty=2.0)
    config = Generation(max_new_tokens=4, beams=beams, num_samples=2)
    (texts,) = predictor.generate(["PQR"], config)
    flags = ("--beams=3", "--length_penalty=2", "--num_samples=2")
    assert generate("--prompt=PQR", "--max_new_tokens=4", *flags) == 0
    expected = [
        f"[{i}] log likelihood {t.log_likelihood:.4f}, score {t.score:.4f}, {t.ended}\n{t.text}\n\n"
        for i, t in enumerate(texts, 1)
    ]
    assert capsys.readouterr().out == "".join(expected)


def test_a_file_of_prompts_gives_json_lines(
    predictor: Predictor, opened: list[dict], capsys, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(writing, "_AT_A_TIME", 2)
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"PQR\r\n\nABC\n")
    config = Generation(max_new_tokens=4, sampling=Sampling(1.0), num_samples=2)
    made = predictor.generate(["PQR", "", "ABC"], config)
    flags = ("--temperature=1", "--num_samples=2", "--max_new_tokens=4")
    assert generate(f"--prompts_file={path}", *flags) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records == [
        {
            "prompt": prompt,
            "sample": sample,
            "text": each.text,
            "log_likelihood": pytest.approx(each.log_likelihood, abs=1e-4),
            "ended": each.ended,
        }
        for prompt, texts in zip(["PQR", "", "ABC"], made, strict=True)
        for sample, each in enumerate(texts)
    ]


class Recorded(io.StringIO):
    """Standard output that keeps the pieces it is given; Ctrl-C arrives after so many of them."""

    def __init__(self, interrupt_after: int | None = None):
        super().__init__()
        self.pieces: list[str] = []
        self.interrupt_after = interrupt_after

    def write(self, text: str) -> int:
        self.pieces.append(text)
        if len(self.pieces) == self.interrupt_after:
            raise KeyboardInterrupt
        return super().write(text)


def converse(monkeypatch, typed: str, *flags: str, interrupt_after: int | None = None) -> Recorded:
    out = Recorded(interrupt_after)
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    monkeypatch.setattr(sys, "stdout", out)
    assert generate("--interactive", "--max_new_tokens=9", *flags) == 0
    return out


def test_a_conversation_streams_and_ends_with_its_input(
    predictor: Predictor, opened: list[dict], monkeypatch
):
    texts = predictor.generate(["PQR", "ABC"], Generation(max_new_tokens=9))
    out = converse(monkeypatch, "PQR\nABC\n")
    assert "".join(out.pieces) == "".join(f"{made.text}\n" for (made,) in texts)
    assert len(out.pieces) > 10


def test_the_same_prompt_again_is_another_draw(opened: list[dict], monkeypatch):
    first, second = "".join(
        converse(monkeypatch, "PQR\nPQR\n", "--temperature=2").pieces
    ).splitlines()
    assert first != second


def test_ctrl_c_stops_the_current_text(predictor: Predictor, opened: list[dict], monkeypatch):
    texts = predictor.generate(["PQR", "ABC"], Generation(max_new_tokens=9))
    out = converse(monkeypatch, "PQR\nABC\n", interrupt_after=3)
    begun, rest = "".join(out.pieces).split("\n", 1)
    assert texts[0][0].text.startswith(begun)
    assert 0 < len(begun) < 9
    assert rest == texts[1][0].text + "\n"


def test_a_terminal_is_shown_text_as_it_is_made(
    predictor: Predictor, opened: list[dict], monkeypatch
):
    out = Recorded()
    out.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", out)
    ((whole,),) = predictor.generate(["PQR"], Generation(max_new_tokens=9))
    assert generate("--prompt=PQR", "--max_new_tokens=9") == 0
    assert out.pieces == [*whole.text, "\n"]


def test_a_mesh_is_asked_for_by_gin(opened: list[dict], capsys):
    flags = ("--gin.PARTITIONER=@partitioner.Partitioner()", "--gin.partitioner.Partitioner.fsdp=4")
    assert generate("--prompt=PQR", "--max_new_tokens=1", *flags) == 0
    assert opened[0]["partitioner"].fsdp == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "give one of --prompt, --prompts_file and --interactive"),
        (("--prompt=a", "--interactive"), "give one of --prompt"),
        (("--prompt=a", "--top_k=4"), "--top_k means nothing without --temperature above 0"),
        (("--prompt=a", "--temperature=0", "--top_k=4"), "--top_k means nothing without"),
        (("--prompt=a", "--length_penalty=1"), "--length_penalty means nothing without --beams"),
        (("--prompt=a", "--beams=2", "--temperature=1"), "beams and sampling exclude each other"),
        (("--prompt=a", "--num_samples=2"), "num_samples = 2 greedy texts would be the same"),
        (("--prompt=a", "--max_new_tokens=0"), "max_new_tokens = 0"),
        (("--prompts_file=no/such",), "--prompts_file=no/such cannot be read"),
        (("--prompt=a", "--beam=2"), "no flag '--beam'. Did you mean '--beams'"),
    ],
)
def test_flags_that_contradict_are_one_message(flags: tuple, message: str, opened, capsys):
    assert generate(*flags) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert not output.out
    assert not opened


def test_a_file_without_prompts_is_refused(tmp_path: Path, opened: list[dict], capsys):
    (tmp_path / "empty.txt").write_text("")
    assert generate(f"--prompts_file={tmp_path}/empty.txt") == 2
    assert "is empty; expected a prompt a line" in capsys.readouterr().err
