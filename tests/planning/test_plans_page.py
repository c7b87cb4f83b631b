"""`benchmarks.plans`: plans of many runs as files and as a table."""

import json
from pathlib import Path

import pytest

from benchmarks import plans


def test_the_layout_is_the_most_particular_that_there_is(tmp_path: Path):
    def layout(experiment: str) -> str | None:
        found = plans.layout_of("xxl", experiment, "v4-128", tmp_path)
        return found.name if found else None

    assert layout("cd_flm") is None
    (tmp_path / "xxl_v4_128.gin").touch()
    (tmp_path / "xxl_v4_128_ed.gin").touch()
    (tmp_path / "xxl_v4_128_ed_plm.gin").touch()
    (tmp_path / "xxl_v4_128_mtf_ed.gin").touch()
    assert layout("cd_flm") == "xxl_v4_128.gin"
    assert layout("ed_mlm") == "xxl_v4_128_ed.gin"
    assert layout("ed_plm") == "xxl_v4_128_ed_plm.gin"
    assert layout("mtf_ed_from_ed_mlm") == "xxl_v4_128_mtf_ed.gin"


def test_plans_are_files_and_rows_of_the_page_and_errors_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page, folder = tmp_path / "plans.md", tmp_path / "plans"
    page.write_text(f"# Plans\n{plans.BEGIN}\nold\n{plans.END}\nafter\n")
    plans.main(
        [
            "--size=tiny", "--experiments=cd_flm", "--topologies=v4:2x2x1,v4:3x4x4",
            f"--folder={folder}", f"--page={page}",
        ]
    )  # fmt: skip
    assert len(list(folder.iterdir())) == 2
    made = json.loads((folder / "tiny_cd_flm_v4-2x2x1.json").read_text())
    assert made["step"] == "train"
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["fit"], record["ratio"]) == (1, pytest.approx(made["share_of_peak"] / 0.55))
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("# Plans", "after")
    rows = [line.split(" | ") for line in lines if line.startswith("| tiny/")]
    assert [row[1] for row in rows] == ["v4-2x2x1", "v4-3x4x4"]
    assert f"{made['share_of_peak']:.0%}" in rows[0]
    assert "there is no such topology" in rows[1][4]
    assert "old" not in lines
