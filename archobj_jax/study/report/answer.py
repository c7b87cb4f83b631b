"""What was asked, and the answer in three sentences that claim no more than their intervals."""

from collections.abc import Iterator, Sequence

from archobj_jax.study.report.comparing import Ranking, Scored, alike
from archobj_jax.study.report.evidence import Evidence
from archobj_jax.study.report.speed_ups import SpeedUp, begun_with
from archobj_jax.training.lineage import counted


def question(evidence: Evidence) -> str:
    """What the study asks, and how it matched what it compares."""
    study, stages = evidence.study, [s for s in evidence.graph if s.evaluation is None]
    by_kind = {
        kind: list(dict.fromkeys(s.pairs for s in stages if s.kind == kind))
        for kind in ("pretrain", "adapt", "finetune")
    }
    pretrained = by_kind["pretrain"]
    text = (
        f"Which of {_listed(pretrained)} is best zero-shot after pretraining only"
        if pretrained[1:]
        else f"How good is {pretrained[0]} zero-shot after pretraining only"
    )
    if by_kind["finetune"]:
        text += (
            ", and which after multitask prompted finetuning (MTF)"
            if by_kind["finetune"][1:]
            else ", and after multitask prompted finetuning (MTF)"
        )
    text += "?"
    if by_kind["adapt"]:
        text += f" Does adaptation ({_listed(by_kind['adapt'])}) save pretraining?"
    seeds = len(study.seeds)
    units = {leg.budget.unit for legs in study.all_chains() for leg in legs}
    matched = f", and {told}" if (told := _matched(evidence)) else ""
    return (
        f"{text} Size {_listed(list(study.sizes))}, {seeds} seed{'s' if seeds > 1 else ''}; "
        f"budgets are given in {_listed(sorted(units))}{matched}."
    )


def _matched(evidence: Evidence) -> str:
    """Whether what is pretrained only read as many tokens, took as many FLOPs, or both.

    Chains of a size that have as many legs are compared, each with all before it.
    """
    groups: dict[tuple[str, int], dict[str, tuple[int, float, float]]] = {}
    for stage in evidence.graph:
        if stage.kind == "pretrain":
            operations = sum(each.flops for each in (stage, *evidence.graph.ancestors(stage)))
            group = groups.setdefault((stage.size, len(stage.legs)), {})
            rounding = stage.flops / stage.legs[-1][1] if "FLOPs" in stage.budgets[-1] else 0.0
            group[stage.pairs] = (stage.pretraining_tokens, operations, rounding)
    compared = [
        tuple(zip(*of_pairs.values(), strict=True))
        for of_pairs in groups.values()
        if len(of_pairs) > 1
    ]
    if not compared:
        return ""
    tokens = all(alike(tokens) for tokens, _, _ in compared)
    flops = all(alike(flops) for _, flops, _ in compared)
    rounded = all(alike(flops, max(rounding)) for _, flops, rounding in compared)
    ways = [
        *(["on as many tokens (the paper's way)"] if tokens else []),
        *(["with as many FLOPs"] if flops else []),
        *(["with as many FLOPs but for whole steps"] if rounded and not flops else []),
    ]
    if not ways:
        return "pairs are pretrained on different numbers of tokens"
    return f"all pairs are pretrained {_listed(ways)}"


def answer(
    evidence: Evidence,
    pretraining: Sequence[Ranking],
    finetuning: Sequence[Ranking],
    speed_ups: Sequence[SpeedUp],
) -> list[str]:
    """Up to three sentences: after pretraining only, after MTF, on adaptation, as far as asked.

    Before them stands what of the study is not done.
    """
    asked = {stage.kind for stage in evidence.graph}
    missing = [stage for stage in evidence.graph if not evidence.store.is_done(stage)]
    sentences = []
    if missing:
        sentences.append(
            f"Only {len(evidence.graph) - len(missing)} of the {len(evidence.graph)} stages are "
            f"done, and the answer is of these; the first that is not: {missing[0].label}."
        )
    sentences.append(_ranked(pretraining, "After pretraining only"))
    if "finetune" in asked:
        sentences.append(_ranked(finetuning, "After MTF"))
    if "adapt" in asked:
        sentences.append(_adapted(speed_ups))
    return sentences


def unmatched(rankings: Sequence[Ranking]) -> list[str]:
    """In which budgets chains that are ranked together differ, each once."""
    return list(dict.fromkeys(told for ranking in rankings for told in ranking.unmatched))


def _ranked(rankings: Sequence[Ranking], when: str) -> str:
    """One sentence for each evaluation, as one."""
    parts = [part for ranking in rankings for part in _parts(ranking)]
    if not parts:
        return f"{when} nothing is evaluated yet."
    return f"{when}, {'; '.join([*parts, *unmatched(rankings)])}."


def _parts(ranking: Ranking) -> Iterator[str]:
    best, others = ranking.best, ranking.not_told_apart()
    low, high = best.average.interval
    name = f"{ranking.title} ({_examples(ranking)})"
    figure = f"{best.average.value:.1f} % [{low:.1f}, {high:.1f}]"
    one_seed = (
        " (one seed: the intervals leave out how much another would change)"
        if ranking.fewest_seeds == 1
        else ""
    )
    if len(ranking.scored) == 1:
        yield (
            f"{best.chain.name} alone is evaluated on {name}, at {figure}{_chance(best)}{one_seed}"
        )
        return
    if others:
        which = "any other" if len(others) == len(ranking.scored) - 1 else _names(others)
        verdicts = {ranking.against_best(each) for each in others}
        why = {
            frozenset({"not told apart"}): "the interval of the difference holds 0",
            frozenset({"too few examples"}): "there are too few examples",
        }.get(frozenset(verdicts), "the difference has no interval, or one that holds 0")
        yield (
            f"{best.chain.name} has the highest average on {name}, {figure}, but is not told apart "
            f"from {which}: {why}{_chances(ranking)}{one_seed}"
        )
        return
    second = max(
        (each for each in ranking.scored if each is not best), key=lambda s: s.average.value
    )
    behind = ranking.behind_best(second)
    assert behind is not None
    yield (
        f"{best.chain.name} is best on {name}, {figure}, ahead of {second.chain.name} by "
        f"{behind.value:.1f} [{behind.interval[0]:.1f}, {behind.interval[1]:.1f}] and of all "
        f"others{_chances(ranking)}{one_seed}"
    )


def _examples(ranking: Ranking) -> str:
    counts = {count for each in ranking.scored for count in each.examples.values()}
    few, many = min(counts), max(counts)
    return f"{few:,}{f' to {many:,}' if many > few else ''} examples of each data set"


def _chance(scored: Scored) -> str:
    if scored.average.chance is None:
        return ""
    where = {"higher": "above", "lower": "below"}.get(scored.average.above_chance() or "")
    told = f"{where} chance" if where else "not told apart from chance"
    return f", {told} ({scored.average.chance:.1f} %)"


def _chances(ranking: Ranking) -> str:
    """How many are above chance."""
    verdicts = [each.average.above_chance() for each in ranking.scored]
    if None in verdicts:
        return ""
    above = verdicts.count("higher")
    chance = ranking.best.average.chance
    count = "none" if above == 0 else "all" if above == len(verdicts) else f"{above}"
    verb = "is" if above in (0, 1) else "are"
    return f"; {count} of the {len(verdicts)} {verb} shown to be above chance ({chance:.1f} %)"


def _adapted(speed_ups: Sequence[SpeedUp]) -> str:
    parts = []
    for each in speed_ups:
        what = f"{each.adapted.name} reached the held-out loss of {each.scratch.name}"
        if each.lacking:
            seed, chain = next(iter(each.lacking.items()))
            parts.append(
                f"no speed-up of {each.adapted.name} over {each.scratch.name} can be told, since "
                f"{chain.name}, seed {seed}, has no held-out loss after its last step"
            )
        elif missed := sum(ours is None for _, ours in each.reached.values()):
            parts.append(
                f"{each.adapted.name} did not reach the held-out loss of {each.scratch.name} in "
                f"{missed} of {len(each.reached)} seeds"
            )
        elif each.ratio is None:
            parts.append(f"{what} before its first step, so that no speed-up can be told")
        else:
            before = counted(begun_with(each.adapted.any))
            parts.append(
                f"{what} {_in_tokens(each.ratio, each.interval)}, without the {before} that it "
                f"began with{_over_seeds(each)}"
            )
    return f"{'; '.join(parts)}." if parts else "No adaptation is done beside one from scratch yet."


def _over_seeds(speed_up: SpeedUp) -> str:
    seeds = len(speed_up.reached)
    return f" ({seeds} seeds)" if seeds > 1 else " (one seed, hence no interval)"


def _in_tokens(ratio: float, interval: tuple[float, float] | None) -> str:
    """How many tokens it took; a saving only where the interval, if there is one, says so."""
    if interval is None:
        return f"in {_times(ratio)}"
    low, high = interval
    if low > 1:
        return f"in {_times(ratio)} [{low:.1f}, {high:.1f}]"
    if high < 1:
        return f"in {_times(ratio)} [{1 / high:.1f}, {1 / low:.1f}]"
    return (
        f"in a number of tokens that is not told apart from that from scratch: the speed-up is "
        f"{ratio:.1f} [{low:.1f}, {high:.1f}], an interval that holds 1"
    )


def _times(ratio: float) -> str:
    """A speed-up in words."""
    fewer, more = f"{ratio:.1f}", f"{1 / ratio:.1f}"
    if "1.0" in (fewer, more):
        return "about as many tokens"
    return f"{fewer} times fewer tokens" if ratio > 1 else f"{more} times as many tokens"


def _names(scored: Sequence[Scored]) -> str:
    return _listed([each.chain.name for each in scored], "or")


def _listed(names: Sequence[str], last: str = "and") -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"
