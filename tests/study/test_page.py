"""The page in a real browser: Chromium, headless, without a network."""

import os
import re
import shutil
import subprocess

import pytest

from tests.study.synthetic import evidence

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)

PROBE = """
<script>
const told = [];
const check = (what, holds) => told.push(`${holds ? "holds" : "FAILS"}: ${what}`);
window.addEventListener("load", () => {
  const figures = [...document.querySelectorAll("figure svg")];
  check("figures " + figures.length, figures.length >= 6);
  for (const svg of figures) {
    const box = svg.getBoundingClientRect();
    check("a figure is drawn", box.width > 100 && box.height > 30);
    check("its marks have titles", svg.querySelector("title") !== null);
  }
  for (const link of document.querySelectorAll('a[href^="#"], svg a')) {
    const href = link.getAttribute("href") ?? link.getAttribute("xlink:href");
    check("link " + href, document.getElementById(href.slice(1)) !== null);
  }
  const boxes = document.querySelectorAll("#figure-lineage svg a");
  check("boxes of the lineage are links", boxes.length >= 6);
  const table = document.querySelector("#table-finetuning_held_out");
  const column = () => [...table.tBodies[0].rows].map(row => row.cells[2].textContent).join(" ");
  const button = table.querySelectorAll("th button")[2];
  button.click();
  check("sorted up: " + column(), column() === "50.0 60.0 90.0");
  button.click();
  check("sorted down: " + column(), column() === "90.0 60.0 50.0");
  check("told so", button.parentElement.getAttribute("aria-sort") === "descending");
  const tokens = document.querySelector("#table-tokens");
  const up = () => [...tokens.tBodies[0].rows].map(row => row.cells[0].textContent).join(", ");
  tokens.querySelector("th button").click();
  check("tokens sorted up: " + up(), up() === "900, 640K, 1.3M, 168B, not reached");
  const figure = document.querySelector("#figure-finetuning");
  const mark = figure.querySelector("svg title").parentElement;
  mark.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
  check("hover shows values", /%/.test(figure.querySelector(".shown").textContent));
  check("no scrolling sideways", document.documentElement.scrollWidth <= window.innerWidth);
  document.title = told.join("\\n");
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from archobj_jax.study.report import sections, writing
    from archobj_jax.study.report.sections import Section
    from archobj_jax.study.report.tables import Table, Tokens

    folder = tmp_path_factory.mktemp("page")
    parts = sections.sections(evidence(folder / "store", seeds=(0, 1)))
    cells = ["not reached", *map(Tokens, (640e3, 168e9, 900, 1.3e6))]
    tokens = Table("tokens", "Tokens", ("tokens",), [[cell] for cell in cells])
    made = writing.files("synthetic", [*parts, Section("more", "More", tables=[tokens])])
    path = folder / "index.html"
    path.write_text(made["index.html"].replace("</body>", PROBE + "</body>"))
    return path


@pytest.mark.skipif(BROWSER is None, reason="no chromium is found")
@pytest.mark.parametrize("width", [1280, 500])  # the narrowest window that Chromium makes
def test_in_a_browser_figures_links_and_sorting_work_without_errors(page, tmp_path, width):
    ended = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path}", f"--window-size={width},900",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in ended.stderr
    told = re.search("<title>(.*?)</title>", ended.stdout, re.DOTALL)[1].splitlines()
    assert len(told) > 30
    assert [line for line in told if not line.startswith("holds")] == []
