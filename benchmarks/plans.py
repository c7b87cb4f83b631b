"""What the study's runs take on TPUs, as their compiler says: one plan each, and a table of them.

    python -m benchmarks.plans
    python -m benchmarks.plans --size=tiny --topologies=v4:2x2x1 --experiments=cd_flm \
      --folder=runs/plans --page=runs/plans.md

Runs `archobj plan` for each experiment of a size on each topology, with the layout that
t5x_configs/partitioning/ has for it: SIZE_TOPOLOGY_EXPERIMENT.gin, SIZE_TOPOLOGY_KIND.gin (kinds
are cd, nd, ed, mtf_cd, …) or SIZE_TOPOLOGY.gin, whichever is there first, else the experiment's
own. --search looks for one where there is none and writes it. Figures go to the folder, a JSON file
a plan, and into the page's table. Runs of one program are planned once; what was compiled is kept.
At size xxl a compilation takes minutes and some GiB. The last line is one JSON object; its ratio is
the lowest predicted share of peak to 55%.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TOPOLOGIES = {
    "v4:4x4x4": "v4-128", "v4:8x8x8": "v4-1024", "v5p:4x4x8": "v5p-256", "v6e:16x16": "v6e-256",
}  # fmt: skip
"""By Cloud TPU's names."""
SAME_PROGRAM = {
    "cd_flm": ("cd_mlm",), "nd_plm": ("nd_mlm",), "ed_plm": (), "ed_mlm": (),
    "mtf_cd_from_cd_flm": ("mtf_cd_from_cd_mlm",),
    "mtf_nd_from_nd_mlm": ("mtf_nd_from_cd_flm", "mtf_nd_from_nd_plm"),
    "mtf_ed_from_ed_mlm": ("mtf_ed_from_ed_plm",),
}  # fmt: skip
"""What is planned, and for each the runs whose step is the same but for their data."""
WANTED_SHARE = 0.55
LAYOUTS = Path("t5x_configs/partitioning")
BEGIN, END = "<!-- plans: begin -->", "<!-- plans: end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the plans, the page and the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="xxl")
    parser.add_argument("--topologies", default=",".join(TOPOLOGIES))
    parser.add_argument("--experiments", default=",".join(SAME_PROGRAM))
    parser.add_argument("--folder", type=Path, default=Path("docs/plans"))
    parser.add_argument("--page", type=Path, default=Path("docs/plans.md"))
    parser.add_argument("--search", action="store_true")
    flags = parser.parse_args(arguments)
    flags.folder.mkdir(parents=True, exist_ok=True)
    made = [
        plan(flags.size, experiment, topology, flags.folder, search=flags.search)
        for topology in flags.topologies.split(",")
        for experiment in flags.experiments.split(",")
    ]
    write_page(flags.page, made)
    fit = [each for each in made if "error" not in each]
    lowest = min((each["share_of_peak"] for each in fit), default=0.0)
    record = {
        "benchmark": "plans",
        "what": f"{len(made)} plans of size {flags.size}; ratio: lowest share of peak to 55%",
        "on": "libtpu's compiler",
        "fit": len(fit),
        "highest_share_of_hbm": max((e["hbm_total"] / e["hbm_limit"] for e in fit), default=0.0),
        "lowest_share_of_peak": lowest,
        "ratio": lowest / WANTED_SHARE,
    }
    print(json.dumps(record))


def plan(
    size: str, experiment: str, topology: str, folder: Path, *, search: bool = False
) -> dict[str, Any]:
    """The figures of one plan, kept in `folder`; with "error" where there is none."""
    label = TOPOLOGIES.get(topology, topology.replace(":", "-"))
    path = folder / f"{size}_{experiment}_{label}.json"
    path.unlink(missing_ok=True)
    gin_file = f"t5x_configs/experiments/{size}/{experiment}.gin"
    command = ["plan", f"--gin_file={gin_file}", f"--topology={topology}", f"--json={path}"]
    layout = layout_of(size, experiment, label)
    if layout is not None:
        command.append(f"--gin_file={layout}")
    elif search:
        layout = LAYOUTS / f"{size}_{_name(label)}_{_kind(experiment)}.gin"
        command += ["--search", f"--output={layout}"]
    print(f"archobj {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "archobj_jax", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    figures: dict[str, Any] = {"experiment": experiment, "size": size, "on": label}
    figures["layout"] = "the experiment's" if layout is None else layout.name
    if path.exists():
        figures |= json.loads(path.read_text())
    elif done.returncode == 2:
        figures["error"] = done.stderr.rpartition("archobj: error: ")[2].strip()
    else:
        raise RuntimeError(f"archobj plan ended with {done.returncode}:\n{done.stderr}")
    path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def layout_of(size: str, experiment: str, label: str, folder: Path = LAYOUTS) -> Path | None:
    """The gin file with the layout for an experiment on a topology."""
    start = f"{size}_{_name(label)}"
    names = (f"{start}_{experiment}", f"{start}_{_kind(experiment)}", start)
    return next((p for name in names if (p := folder / f"{name}.gin").exists()), None)


def _kind(experiment: str) -> str:
    """`cd` of `cd_flm`, `mtf_nd` of `mtf_nd_from_cd_flm`."""
    return re.match(r"(?:mtf_)?[a-z]+", experiment)[0]  # type: ignore[index]


def _name(label: str) -> str:
    return re.sub(r"\W", "_", label)


def write_page(page: Path, made: Sequence[dict[str, Any]]) -> None:
    """Puts the table between the page's marks; the page is begun if there is none."""
    text = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{table(made)}\n{END}{after}")


def table(made: Sequence[dict[str, Any]]) -> str:
    """The plans as a Markdown table."""
    head = (
        "run", "on", "layout", "microbatches, remat", "HBM, GiB a chip", "collectives, GiB a chip",
        "step, s", "share of peak", "by the compiler's model", "if all overlapped",
        "days / by the compiler's model", "chip-hours / the same", "compiled in, s",
    )  # fmt: skip
    rows = [head, ("---",) * len(head), *map(_row, made)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(made: dict[str, Any]) -> tuple[str, ...]:
    same = SAME_PROGRAM.get(made["experiment"], ())
    run = f"{made['size']}/{', '.join((made['experiment'], *same))}"
    if "error" in made:
        reason = made["error"].splitlines()[0].replace("|", "/")
        return (run, made["on"], made["layout"], "-", reason, *("-",) * 8)
    mesh = ", ".join(f"{axis} {size}" for axis, size in made["mesh"].items() if size > 1)
    used, limit = made["hbm_total"], made["hbm_limit"]
    moved = sum(each["bytes_per_chip"] for each in made["collectives"])
    seconds = made["seconds"]["step"]
    return (
        run,
        made["on"],
        mesh,
        f"{made['num_microbatches']}, {made['remat_policy']}",
        f"{used / 2**30:.1f} of {limit / 2**30:.1f} ({used / limit:.0%})",
        f"{moved / 2**30:.1f}",
        f"{seconds:.3g}",
        f"{made['share_of_peak']:.0%}",
        f"{made['share_of_peak_modelled']:.0%}",
        f"{made['share_of_peak_bound']:.0%}",
        *_cost(made),
        f"{made['compile_seconds']:.0f}",
    )


def _cost(made: dict[str, Any]) -> tuple[str, str]:
    """Days and chip-hours, as predicted and by the compiler's model."""
    if made["experiment"].startswith("mtf"):
        # TRAIN_STEPS of a finetuning counts from where its checkpoint stands, which is not known.
        return "-", "-"
    days = [made["steps"] * made["seconds"][step] / 86400 for step in ("step", "modelled_step")]
    return (
        f"{days[0]:.1f} / {days[1]:.1f}",
        " / ".join(f"{24 * made['chips'] * each:,.0f}" for each in days),
    )


if __name__ == "__main__":
    main()
