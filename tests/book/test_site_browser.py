"""The built site in headless Chromium: it loads, renders, moves by keyboard, fits, and is accessible in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SETTLED = """async () => {
  if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
  await document.fonts.ready;
}"""
CALM = "*, ::before, ::after { transition: none !important; animation: none !important; caret-color: #0000 !important }"


@dataclass
class Visit:
    """One page in one tab, and everything it complained about."""

    page: Any
    complaints: list[str]
    requests: list[str]
    weight: dict[str, int]


class Visits:
    """Opens each page once and keeps its tab, so that all tests of a page share one load."""

    def __init__(self, browser: Any, server: Any) -> None:
        self.browser, self.server = browser, server
        self.name: str | None = None
        self.visit: Visit | None = None

    def __call__(self, name: str) -> Visit:
        if self.name != name:
            self.close()
            self.name, self.visit = name, self._open(name)
        assert self.visit is not None
        self.visit.page.set_viewport_size(WIDE)
        self.visit.page.emulate_media(color_scheme="light")
        return self.visit

    def _open(self, name: str) -> Visit:
        context = self.browser.new_context(viewport=WIDE, color_scheme="light")
        page = context.new_page()
        visit = Visit(page, [], [], {})
        page.on(
            "console", lambda m: visit.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda e: visit.complaints.append(str(e)))
        page.on("requestfailed", lambda r: visit.complaints.append(f"failed: {r.url}"))
        page.on("request", lambda r: visit.requests.append(r.url))
        self.server.sent.clear()
        page.goto(f"{self.server.url}/{name}.html", wait_until="load")
        page.evaluate(SETTLED)
        page.wait_for_load_state("networkidle")
        visit.weight = dict(self.server.sent)
        page.add_style_tag(content=CALM)
        return visit

    def close(self) -> None:
        if self.visit:
            self.visit.page.context.close()


@pytest.fixture(scope="module")
def visits(browser: Any, server: Any) -> Iterator[Visits]:
    opened = Visits(browser, server)
    yield opened
    opened.close()


def test_page_loads_in_peace(visits: Visits, server: Any, page_name: str) -> None:
    visit = visits(page_name)
    assert not visit.complaints
    outside = [url for url in visit.requests if not url.startswith((server.url, "data:", "blob:"))]
    assert not outside
    assert sum(visit.weight.values()) < 1_500_000, sorted(visit.weight.items(), key=lambda item: -item[1])[:8]


def test_mathematics_is_rendered(visits: Visits, page_name: str) -> None:
    page = visits(page_name).page
    formulas = page.locator("article .math").count()
    assert page.locator("mjx-merror").count() == 0, page.locator("mjx-merror").all_inner_texts()
    assert page.locator("article mjx-container").count() >= formulas


def test_fits_a_telephone(visits: Visits, page_name: str) -> None:
    page = visits(page_name).page
    page.set_viewport_size(NARROW)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    spills = page.evaluate(
        """() => [...document.querySelectorAll('article *')].filter(e => {
             const box = e.getBoundingClientRect();
             if (box.width === 0 || box.right <= innerWidth + 1) return false;
             for (let p = e; p && p.tagName !== 'ARTICLE'; p = p.parentElement)
               if (/auto|scroll|hidden|clip/.test(getComputedStyle(p).overflowX)) return false;
             return !e.closest('mjx-assistive-mml');
           }).map(e => e.tagName + '.' + e.className).slice(0, 5)"""
    )
    assert not spills


def test_text_column_is_readable(visits: Visits, page_name: str) -> None:
    page = visits(page_name).page
    longest = page.evaluate(
        """() => { // characters that fit into a line of running text, from the width that its text takes
          let most = 0;
          for (const p of document.querySelectorAll('article > section > p, article > section > section > p')) {
            if (p.querySelector('mjx-container, .math')) continue;
            const walker = document.createTreeWalker(p, NodeFilter.SHOW_TEXT), range = document.createRange();
            let width = 0, lines = p.getBoundingClientRect().height / parseFloat(getComputedStyle(p).lineHeight);
            while (walker.nextNode()) {
              range.selectNode(walker.currentNode);
              for (const rect of range.getClientRects()) width += rect.width;
            }
            if (lines > 2.5) most = Math.max(most, p.innerText.length / width * p.getBoundingClientRect().width);
          }
          return most;
        }"""
    )
    assert longest <= 80, f"about {longest:.0f} characters a line"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_accessible(visits: Visits, page_name: str, theme: str, viewport: dict[str, int]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visits(page_name).page
    page.set_viewport_size(viewport)
    page.emulate_media(color_scheme=theme)
    page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    results = axe.run(page, options={"resultTypes": ["violations"]}).response
    grave = [
        f"{v['id']} ({v['impact']}): {v['help']}: " + "; ".join(n["html"][:160] for n in v["nodes"][:3])
        for v in results["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not grave, "\n".join(grave)


def test_figures_lie_on_paper_in_the_dark(visits: Visits, site: Path, page_name: str) -> None:
    image = pytest.importorskip("PIL.Image")
    page = visits(page_name).page
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in ground[4:-1].split(",")[:3]) < 64, (
        f"dark theme, yet the page is {ground}"
    )
    folder = (site / page_name).parent
    for figure in page.locator("article .cell_output img[src$='.png']").all():
        picture = image.open(folder / figure.get_attribute("src")).convert("RGBA")
        assert picture.getextrema()[3] == (255, 255), "a figure without its paper"


def test_explorers_move_by_keyboard(visits: Visits, page_name: str) -> None:
    page = visits(page_name).page
    inputs = page.locator("article .vqx input[type=range]")
    for i in range(inputs.count()):
        slider = inputs.nth(i)
        root = slider.locator("xpath=ancestor::*[contains(concat(' ', @class, ' '), ' vqx ')][1]")
        root.scroll_into_view_if_needed()
        slider.focus()
        assert slider.evaluate("e => e === document.activeElement && e.tabIndex >= 0")
        frame = root.locator(".vqx-frames")
        before = (
            frame.screenshot(),
            root.locator("output").inner_text(),
            slider.get_attribute("aria-valuetext"),
        )
        boxes = page.evaluate(BOXES)
        at_end = slider.evaluate("e => e.value === e.max")
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
        assert frame.screenshot() != before[0], "the picture stayed the same"
        assert root.locator("output").inner_text() != before[1], (
            "the sentence under the picture stayed the same"
        )
        assert slider.get_attribute("aria-valuetext") != before[2]
        for key in ("Home", "End"):
            page.keyboard.press(key)
            assert page.evaluate(BOXES) == boxes, "something jumped"


BOXES = """() => [document.documentElement.scrollHeight,
  ...[...document.querySelectorAll('.vqx, .vqx-frames, .vqx input, article h2, article figure:not(.vqx-frame)')]
    .map(e => e.getBoundingClientRect()).map(b => [b.x, b.y + scrollY, b.width, b.height].map(Math.round).join())]"""


def test_chapters_have_explorers(visits: Visits, chapter_name: str) -> None:
    assert visits(chapter_name).page.locator("article .vqx input[type=range]").count() >= 1


def test_search_finds_a_word(visits: Visits, server: Any) -> None:
    page = visits("search").page
    page.goto(f"{server.url}/search.html?q=straight-through")
    page.locator("#search-results li a").first.wait_for(timeout=15_000)
    assert page.locator("#search-results").get_by_text("straight-through").count() >= 1
    visits.name = None


def test_search_opens_by_keyboard(visits: Visits) -> None:
    page = visits("book/index").page
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").wait_for(state="visible")
    page.keyboard.type("perplexity")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=perplexity*")
    visits.name = None


def test_theme_switch_and_first_tab(visits: Visits) -> None:
    page = visits("book/how-to-read").page
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.press("Enter")
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}
    visits.name = None


def test_page_without_scripts_is_complete(browser: Any, server: Any) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto(f"{server.url}/book/index.html")
    assert page.locator("article h1").is_visible() and page.locator("article .hero img").is_visible()
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 253, 248)"
    context.close()
