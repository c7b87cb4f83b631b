"""What was asked, and the answer in three sentences that claim no more than their intervals."""

from collections.abc import Iterator, Sequence

from archobj_jax.study.report.adaptation import SpeedUp
from archobj_jax.study.report.comparing import Ranking, Scored
from archobj_jax.study.report.evidence import Evidence


def question(evidence: Evidence) -> str:
    """What the study asks, and how it matched what it compares."""
    study, stages = evidence.study, [s for s in evidence.graph if s.evaluation is None]
    pretrained = list(dict.fromkeys(s.pairs for s in stages if s.kind == "pretrain"))
    adapted = list(dict.fromkeys(s.pairs for s in stages if s.kind == "adapt"))
    units = {leg.budget.unit for legs in study.all_chains() for leg in legs}
    text = (
        f"Which of {_listed(pretrained)} is best zero-shot after pretraining only, and which after "
        "multitask prompted finetuning (MTF)?"
    )
    if adapted:
        text += f" Does adaptation ({_listed(adapted)}) save pretraining?"
    seeds = len(study.seeds)
    return (
        f"{text} Size {_listed(list(study.sizes))}, {seeds} seed{'s' if seeds > 1 else ''}; "
        f"budgets are given in {_listed(sorted(units))}, and {_matched(evidence)}."
    )


def _matched(evidence: Evidence) -> str:
    """Whether single-pair pretraining stages read as many tokens, or took as many FLOPs."""
    stages = [s for s in evidence.graph if s.kind == "pretrain" and len(s.legs) == 1]
    tokens = {stage.tokens for stage in stages}
    if max(tokens) - min(tokens) <= 0.01 * max(tokens):
        return "all pairs are pretrained on as many tokens (the paper's way)"
    flops = {stage.flops for stage in stages}
    if max(flops) - min(flops) <= 0.01 * max(flops):
        return "all pairs are pretrained with as many FLOPs"
    return "pairs are pretrained on different numbers of tokens"


def answer(
    pretraining: Sequence[Ranking], finetuning: Sequence[Ranking], speed_ups: Sequence[SpeedUp]
) -> list[str]:
    """Three sentences: after pretraining only, after MTF, on adaptation."""
    return [
        _ranked(pretraining, "After pretraining only"),
        _ranked(finetuning, "After MTF"),
        _adapted(speed_ups),
    ]


def _ranked(rankings: Sequence[Ranking], when: str) -> str:
    """One sentence for each evaluation, as one."""
    parts = [part for ranking in rankings for part in _parts(ranking)]
    if not all(ranking.matched for ranking in rankings):
        parts.append("not all of these were pretrained on as many tokens")
    if not parts:
        return f"{when} nothing is evaluated yet."
    return f"{when}, {'; '.join(parts)}."


def _parts(ranking: Ranking) -> Iterator[str]:
    best, others = ranking.best, ranking.not_told_apart()
    low, high = best.average.interval
    name = ranking.title
    figure = f"{best.average.value:.1f} % [{low:.1f}, {high:.1f}]"
    one_seed = (
        " (one seed: the intervals leave out how much another would change)"
        if len(best.average.values) == 1
        else ""
    )
    if len(ranking.scored) == 1:
        yield (
            f"{best.chain.name} alone is evaluated on {name}, at {figure}{_chance(best)}{one_seed}"
        )
        return
    if others:
        which = "any other" if len(others) == len(ranking.scored) - 1 else _names(others)
        yield (
            f"{best.chain.name} has the highest average on {name}, {figure}, but is not told apart "
            f"from {which}: the difference is inside its interval{_chances(ranking)}{one_seed}"
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
    return f"; {count} of the {len(verdicts)} {verb} above chance ({chance:.1f} %)"


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
        elif any(ours == 0 for _, ours in each.reached.values()):
            parts.append(f"{what} before its first step, so that no speed-up can be told")
        elif each.ratio is None:
            missed = sum(ours is None for _, ours in each.reached.values())
            parts.append(
                f"{each.adapted.name} did not reach the held-out loss of {each.scratch.name} in "
                f"{missed} of {len(each.reached)} seeds"
            )
        else:
            parts.append(f"{what} {_in_tokens(each.ratio, each.interval)}")
    return f"{'; '.join(parts)}." if parts else "No adaptation is done beside one from scratch yet."


def _in_tokens(ratio: float, interval: tuple[float, float] | None) -> str:
    """How many tokens it took; a saving only where the interval, if there is one, says so."""
    if interval is None:
        return f"in {_times(ratio)} (one seed, hence no interval)"
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
