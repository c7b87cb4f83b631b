"""A plan as text."""

from collections.abc import Sequence

from archobj_jax.planning.figures import Figures
from archobj_jax.tables import table

_GIB = 2**30
_SMALL = 0.01
"""Share of all collectives; those below are summed up."""


def text(made: Figures) -> str:
    """The tables of a step."""
    mesh = ", ".join(f"{axis}={size}" for axis, size in made.mesh.items())
    slices = f"{made.topology.slices} x " if made.topology.slices > 1 else ""
    return "\n\n".join(
        [
            f"{made.title}\n{slices}{made.topology.name}, {made.chips} chips: {mesh}; compiled in "
            f"{made.compile_seconds:.0f} s",
            table(
                [
                    ("HBM a chip", "GiB"),
                    *((name, _gib(size)) for name, size in made.memory.items()),
                    ("total", f"{_gib(made.hbm)}"),
                    (
                        "of, so that it fits",
                        f"{_gib(made.hbm_limit)} ({made.hbm / made.hbm_limit:.1%})",
                    ),
                ],
                numbers_from=1,
            ),
            table(
                [
                    ("collectives, a chip and a step", "axes", "dtype", "GiB"),
                    *_collectives(made),
                ],
                numbers_from=3,
            ),
            table(_times(made), numbers_from=1),
            table(_shares(made), numbers_from=1),
        ]
    )


def training_text(made: Figures, steps: int) -> str:
    """What a run of so many training steps takes."""
    ways = (made.roofline.step, made.roofline.modelled_step)
    return table(
        [
            (f"{steps:,} steps", "predicted", "by the compiler's model"),
            ("tokens a day", *(f"{made.tokens / way * 86400:.3g}" for way in ways)),
            ("chip-hours", *(_amount(made.chips * steps * way / 3600) for way in ways)),
            ("days", *(_amount(steps * way / 86400) for way in ways)),
        ],
        numbers_from=1,
    )


def _times(made: Figures) -> Sequence[tuple[str, str, str]]:
    chip, times = made.topology.chip, made.roofline
    model, compiled = made.model_flops / made.chips, made.compiled_flops
    return [
        ("a step, a chip", "amount", "seconds"),
        ("model's operations", _tera(model), _seconds(model / chip.peak_flops)),
        ("compiled products", _tera(compiled), _seconds(times.compute)),
        ("bytes over HBM", f"{_gib(made.hbm_traffic)} GiB", _seconds(times.hbm)),
        ("kernels, the longer of both", "", _seconds(times.kernels)),
        ("the same by the compiler's model", "", _seconds(times.modelled)),
        ("ICI", "", _seconds(times.ici)),
        ("of it with nothing beside", "", _seconds(times.exposed_ici)),
        ("DCN", "", _seconds(times.dcn)),
        (f"step, if all overlapped: {times.bound_by}", "", _seconds(times.bound)),
        ("step, predicted", "", _seconds(times.step)),
        ("step, by the compiler's model", "", _seconds(times.modelled_step)),
    ]


def _shares(made: Figures) -> Sequence[tuple[str, str]]:
    return [
        ("share of peak", f"{made.share_of_peak:.1%}"),
        ("share of peak, by the compiler's model", f"{made.share_of_peak_modelled:.1%}"),
        ("share of peak, if all overlapped", f"{made.share_of_peak_bound:.1%}"),
        ("share of HBM bandwidth", f"{made.share_of_hbm_bandwidth:.1%}"),
        ("sequences a second", f"{made.rows_per_second:.3g}"),
        ("tokens a second", f"{made.tokens_per_second:.3g}"),
    ]


def _collectives(made: Figures) -> Sequence[tuple[str, str, str, str]]:
    total = sum(made.collectives.values())
    shown = {name: size for name, size in made.collectives.items() if size >= _SMALL * total}
    rows = [(kind, axes, dtype, _gib(size)) for (kind, axes, dtype), size in shown.items()]
    rest = total - sum(shown.values())
    return [*rows, ("smaller ones", "", "", _gib(rest)), ("total", "", "", _gib(total))]


def _gib(size: float) -> str:
    return f"{size / _GIB:.3f}" if size >= _GIB / 10 else f"{size / _GIB:.2g}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _seconds(time: float) -> str:
    return f"{time:.3f}" if time >= 0.1 else f"{time:.3g}"


def _tera(operations: float) -> str:
    return f"{operations / 1e12:.3g} TFLOP"
