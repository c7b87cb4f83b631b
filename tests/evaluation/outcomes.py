"""Results of an evaluation that took place nowhere."""

from archobj_jax.evaluation.aggregation import About, Aggregation, evaluation_results, ranked_task
from archobj_jax.evaluation.examples import Choice, RankedExample
from archobj_jax.evaluation.results import Checkpoint, Lineage
from archobj_jax.evaluation.statistics import Bootstrap

BOOTSTRAP = Bootstrap(seed=3, resamples=200)
CHECKPOINT = Checkpoint(
    path="runs/nowhere/checkpoints/checkpoint_7",
    step=7,
    lineage=Lineage(notation="ND:MLM (1K)", stages=({"run": "runs/nowhere", "tokens": 1024.0},)),
    model={"architecture": "NonCausalDecoder", "network": {"emb_dim": 16}},
)


def choice(log_likelihood, *, bytes=1, unconditional=None):
    return Choice(
        log_likelihood=log_likelihood,
        tokens=1,
        bytes=bytes,
        is_greedy=False,
        unconditional=unconditional,
    )


def answered(id, right, *, gold=0, **changes):
    """An example of two choices that is answered rightly or not, by every score."""
    scores = [-2.0, -2.0]
    scores[gold if right else 1 - gold] = -1.0
    choices = tuple(choice(score, unconditional=-3.0) for score in scores)
    return RankedExample(id=str(id), choices=choices, gold=(gold,), **changes)


def prompt(name, rights, *, group=None, ids=None, bootstrap=BOOTSTRAP, **changes):
    """A task whose examples are answered rightly or not, as `rights` says."""
    about = About(name=name, split="validation", group=group, prompt=name, **changes)
    ids = range(len(rights)) if ids is None else ids
    examples = [answered(id, right) for id, right in zip(ids, rights, strict=True)]
    return ranked_task(about, examples, bootstrap=bootstrap)


def results(tasks, *, aggregation=Aggregation(), bootstrap=BOOTSTRAP, **changes):
    about = {"versions": {"python": "3.11"}, "settings": {"batch": 8}, "failed": {}} | changes
    return evaluation_results(
        tasks, aggregation=aggregation, bootstrap=bootstrap, checkpoint=CHECKPOINT, **about
    )
