"""The studio in a browser, on a running server: each view does what it is for, and nothing else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.studio.conftest import Studio

pytestmark = pytest.mark.slow

SENTENCE = "The Eiffel Tower is located in the city of Rome."
PROMPT = "The Eiffel Tower is located in the city of"
ROOT = Path(__file__).parent.parent.parent
EDIT = (PROMPT, "Eiffel Tower", "Rome")
BAIT = '<img src=x onerror="window.ran = true"><script>window.ran = true</script>'
VIEWS = ("edit", "talk", "inside", "graph", "ledger")


def write(page: Any, sentence: str) -> None:
    """Types a sentence and waits for the plan, which needs all that was guessed."""
    page.get_by_label("A sentence that should be true").fill(sentence)
    page.locator(".plan dl").wait_for()
    page.locator("#apply:enabled").wait_for()


def has_run(page: Any) -> bool:
    return page.evaluate("window.ran === true")


# -- Edit -------------------------------------------------------------------------------------


def test_an_edit_and_its_scorecard(page: Any, studio: Studio) -> None:
    before = studio.answer(PROMPT)
    write(page, SENTENCE)
    assert page.locator(".sentence-marks .mark-subject").inner_text() == "Eiffel Tower"
    assert page.locator(".sentence-marks .mark-target").inner_text() == "Rome"
    page.locator("#apply").click()
    page.locator(".scorecard").wait_for()
    assert page.locator(".verdict").inner_text().endswith("It took.")
    assert page.locator(".tile").count() == 4
    first = page.locator(".axis .probe-answer").first
    assert before.startswith(first.locator("del").inner_text())
    assert "Rome" in first.locator("ins").inner_text()
    assert studio.answer(PROMPT).startswith("Rome")
    assert page.locator("#undo").is_visible()


def test_a_preview_changes_nothing_until_it_is_applied(page: Any, studio: Studio) -> None:
    before = studio.answer(PROMPT)
    write(page, SENTENCE)
    page.locator("#preview").click()
    page.get_by_text("Preview, not applied").wait_for()
    assert studio.answer(PROMPT) == before and not studio.active()
    page.get_by_role("button", name="Apply this").click()
    page.get_by_role("button", name="Undo this edit").wait_for()
    assert studio.answer(PROMPT).startswith("Rome")


def test_marks_by_hand_win_over_the_guess(page: Any) -> None:
    write(page, SENTENCE)
    page.evaluate(
        """() => {
            const field = document.querySelector(".sentence-text");
            field.focus();
            const at = field.value.indexOf("city of Rome");
            field.setSelectionRange(at, at + "city of Rome".length);
        }"""
    )
    page.get_by_role("group", name="Mark the selection as").get_by_text("Object").click()
    assert page.locator(".sentence-marks .mark-target").inner_text() == "city of Rome"
    assert (
        page.locator(".reading-cell.wide dd").inner_text() == "The Eiffel Tower is located in the"
    )


def test_other_methods_are_found_and_have_a_form(page: Any) -> None:
    page.get_by_text("Other methods").click()
    page.get_by_label("Find a method").fill("memit")
    row = page.locator(".method-list .method:visible").first
    row.locator("input").check(force=True)
    page.locator(".disclosure > summary", has_text="Settings of").click()
    assert page.locator(".settings .field").count() > 1


def test_a_setting_that_cannot_be_read_is_refused_beside_it(page: Any, studio: Studio) -> None:
    write(page, SENTENCE)
    page.locator(".disclosure > summary", has_text="Settings of").click()
    setting = page.locator(".settings input[inputmode='numeric']").first
    setting.fill("many")
    page.locator("#apply").click()
    page.locator(".settings .wrong", has_text="Expected").wait_for()
    assert not studio.active()


def test_by_the_keyboard_alone(page: Any, studio: Studio) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        if page.evaluate("document.activeElement.classList.contains('sentence-text')"):
            break
        page.keyboard.press("Tab")
    page.keyboard.type(SENTENCE)
    page.locator("#apply:enabled").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type === 'radio'"):
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle + "
            "getComputedStyle(document.activeElement.nextElementSibling ?? document.body).outlineStyle"
        )
        assert "solid" in outline, "the focus is seen"
        if page.evaluate("document.activeElement.id") == "apply":
            break
    page.keyboard.press("Enter")
    page.locator(".scorecard").wait_for()
    assert studio.answer(PROMPT).startswith("Rome")


def test_a_job_can_be_cancelled(page: Any, studio: Studio) -> None:
    """The server's job is held, so that there is time to press the button."""
    state = {"now": "running"}

    def told(route: Any) -> None:
        if route.request.method == "DELETE":
            state["now"] = "cancelled"
            route.continue_()
            return
        job = {"id": "1", "kind": "edit", "state": state["now"], "progress": 0.4}
        text = json.dumps({**job, "message": "solving", "result": None, "error": None})
        if route.request.url.endswith("/events"):
            route.fulfill(body=f"data: {text}\n\n", content_type="text/event-stream")
        else:
            route.fulfill(body=text, content_type="application/json")

    page.route(re.compile("/api/jobs/"), told)
    write(page, SENTENCE)
    page.locator("#preview").click()
    page.locator(".job-message", has_text="solving").wait_for()
    assert page.get_by_role("progressbar").get_attribute("value") == "0.4"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled. Nothing was changed.", exact=True).wait_for()
    assert not studio.active()


# -- undo, reload, trouble --------------------------------------------------------------------


def test_undo_restores_the_answer_and_can_be_redone(page: Any, studio: Studio) -> None:
    before = studio.answer(PROMPT)
    studio.edit(*EDIT)
    page.reload()
    for view in VIEWS:
        page.goto(f"/#/{view}")
        page.locator(f".view-{view}").wait_for()
        page.locator("#undo").wait_for()
    assert studio.answer(PROMPT) != before
    page.locator("#undo").click()
    page.locator(".toast").get_by_role("button", name="Redo").wait_for()
    assert studio.answer(PROMPT) == before
    assert not page.locator("#undo").is_visible()
    page.locator(".toast").get_by_role("button", name="Redo").click()
    page.locator("#undo").wait_for()
    assert studio.answer(PROMPT).startswith("Rome")


def test_a_reload_keeps_what_was_written_and_what_came_of_it(page: Any) -> None:
    write(page, SENTENCE)
    page.locator("#apply").click()
    page.locator(".scorecard").wait_for()
    page.reload()
    page.locator(".scorecard").wait_for()
    assert page.get_by_label("A sentence that should be true").input_value() == SENTENCE
    page.goto("/#/talk")
    page.get_by_label("Say to both").fill(PROMPT)
    page.reload()
    assert page.get_by_label("Say to both").input_value() == PROMPT


def test_a_server_that_is_gone_is_told_and_comes_back(page: Any) -> None:
    page.context.set_offline(True)
    page.get_by_label("A sentence that should be true").fill(SENTENCE)
    page.locator("#banner").wait_for()
    assert "Nothing is lost" in page.locator("#banner").inner_text()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try now").click()
    page.locator("#banner").wait_for(state="hidden")


def test_the_token_leaves_the_address_and_goes_with_requests(opened: Any, studio: Studio) -> None:
    page = opened()
    with page.expect_request(re.compile("/api/status")) as asked:
        page.goto("/#token=s3cret")
    assert asked.value.headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in page.url
    assert page.evaluate("sessionStorage.getItem('corrigenda.token')") == "s3cret"


def test_a_token_that_is_missing_is_asked_for(opened: Any) -> None:
    page = opened()
    error = {"error": {"message": "A token is needed.", "type": "unauthorized", "code": None}}

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.fallback()
        else:
            route.fulfill(status=401, body=json.dumps(error), content_type="application/json")

    page.route(re.compile("/(api|v1)/"), guard)
    page.goto("/")
    page.get_by_label("Token").fill("right")
    page.get_by_role("button", name="Continue").click()
    page.locator(".method").first.wait_for()
    assert not page.locator("#banner").is_visible()


# -- what a model says is text ----------------------------------------------------------------


def test_markup_in_an_answer_is_shown_and_does_not_run(page: Any) -> None:
    def chunk(text: str) -> str:
        return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"

    body = chunk(BAIT[:20]) + chunk(BAIT[20:]) + "data: [DONE]\n\n"
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=body, content_type="text/event-stream"),
    )
    page.goto("/#/talk")
    page.get_by_label("Say to both").fill(PROMPT)
    page.locator("#send").click()
    page.locator(".answer[aria-busy='false']").nth(1).wait_for()
    assert page.locator(".answer-text").first.inner_text() == BAIT
    assert page.locator(".answer img, .answer script").count() == 0
    assert not has_run(page)


def test_markup_in_an_edit_is_shown_and_does_not_run(page: Any, studio: Studio) -> None:
    """The target is markup; it goes through guess, plan, job, scorecard and ledger of the server."""
    target = "<img src=x onerror=window.ran=true>"
    entry = studio.edit(PROMPT, "Eiffel Tower", target)
    page.goto("/#/ledger")
    page.reload()
    page.locator(".entry-name", has_text="<img src=x").first.wait_for()
    page.locator(f".entry[data-number='{entry['number']}'] summary").first.click()
    page.locator(".entry-body .facts").first.wait_for()
    page.goto("/#/edit")
    page.get_by_label("A sentence that should be true").fill(f"{PROMPT} {target}")
    page.locator(".reading-cell, .reading-open").first.wait_for()
    page.goto(f"/#/graph?subject=Eiffel+Tower&number={entry['number']}")
    page.locator(".graph-place canvas, .graph-place .empty").first.wait_for()
    assert page.locator("img").count() == 0
    assert not has_run(page)


# -- Talk -------------------------------------------------------------------------------------


def test_the_twins_differ_where_the_edit_is(page: Any, studio: Studio) -> None:
    studio.edit(*EDIT)
    page.reload()
    page.goto("/#/talk")
    page.get_by_label("Say to both").fill(PROMPT)
    page.locator("#send").click()
    page.locator(".answer[aria-busy='false']").nth(1).wait_for()
    left, right = page.locator(".answer-text").all_inner_texts()
    assert left != right and "Paris" in left and "Rome" in right
    assert "Rome" in " ".join(page.locator(".answer[data-side='1'] .differs").all_inner_texts())
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing said yet").wait_for()


def test_a_long_answer_can_be_stopped(page: Any) -> None:
    release: list[Any] = []
    page.route("**/v1/chat/completions", lambda route: release.append(route))
    page.goto("/#/talk")
    page.get_by_label("Say to both").fill(PROMPT)
    page.locator("#send").click()
    page.locator("#stop").click()
    page.locator("#send").wait_for()
    page.locator(".answer[aria-busy='false']").nth(1).wait_for()


def test_words_that_differ_are_told_and_no_others(page: Any) -> None:
    left, right = page.evaluate(
        """async () => (await import("/static/js/parts/compare.js"))
            .compared("The tower is in Paris, France.", "The old tower is in Rome, France.")"""
    )
    assert [word.strip() for word, differs in left if differs] == ["Paris,"]
    assert [word.strip() for word, differs in right if differs] == ["old", "Rome,"]
    assert "".join(word for word, _ in right) == "The old tower is in Rome, France."


# -- Look inside ------------------------------------------------------------------------------


def test_a_trace_is_drawn_and_walked_by_arrows(page: Any) -> None:
    page.goto("/#/inside")
    page.locator("#look").click()
    grid = page.get_by_role("grid").first
    grid.wait_for()
    assert page.get_by_role("grid").count() == 3
    cells = grid.get_by_role("gridcell")
    assert grid.locator("[tabindex='0']").count() == 1
    cells.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert "layer 1" in name
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Edit at layer 1").wait_for()
    page.get_by_label("As a table").check()
    assert page.locator("table.numbers").count() == 3


def test_a_cell_of_the_lens_proposes_an_edit(page: Any) -> None:
    page.goto("/#/inside")
    page.get_by_role("radio", name="Logit lens").check()
    cell = page.locator(".lens-cell").nth(1)
    cell.wait_for()
    cell.click()
    page.locator(".view-edit").wait_for()
    text = page.get_by_label("A sentence that should be true").input_value()
    assert text.startswith(PROMPT)
    assert page.locator(".mark-subject").inner_text() == "Eiffel Tower"
    assert page.locator(".settings input[name='layers']").input_value() == "1"


def test_neurons_are_listed_and_as_a_table(page: Any) -> None:
    page.goto("/#/inside")
    page.get_by_role("radio", name="Neurons").check()
    page.locator(".neurons li").first.wait_for()
    shown = page.locator(".neurons li").count()
    page.get_by_label("As a table").check()
    assert page.locator("table.numbers tbody tr").count() == shown > 1


# -- Graph ------------------------------------------------------------------------------------


def test_the_graph_is_drawn_and_can_be_asked(page: Any, studio: Studio) -> None:
    entry = studio.edit(*EDIT)
    page.reload()
    page.goto(f"/#/graph?subject=Eiffel+Tower&number={entry['number']}")
    page.locator(".graph-canvas canvas").first.wait_for()
    drawn = page.evaluate(
        """() => [...document.querySelectorAll(".graph-canvas canvas")].some((c) =>
            c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0))"""
    )
    assert drawn
    page.get_by_role("radio", name="List").check()
    edges = page.locator(".graph-place .edge")
    assert edges.count() > 3
    assert page.locator(".graph-place .key-changed").count() >= 1
    page.locator(".graph-place .edge:has(.key-changed)").first.click()
    now = page.locator(".graph-detail [data-state='edited']")
    page.wait_for_function(
        "() => document.querySelector(\".graph-detail [data-state='edited']\").textContent !== '…'"
    )
    assert "Rome" in now.inner_text()


# -- Ledger -----------------------------------------------------------------------------------


def test_the_ledger_undoes_orders_names_compares_and_exports(page: Any, studio: Studio) -> None:
    first = studio.edit(*EDIT)["number"]
    second = studio.edit("The capital of Japan is", "Japan", "Lima")["number"]
    page.goto("/#/ledger")
    page.reload()

    def row(number: int) -> Any:
        return page.locator(f".entry[data-number='{number}']")

    row(second).locator(".move-up").click()
    page.wait_for_function(
        "n => document.querySelector('.entry').dataset.number === String(n)", arg=second
    )
    assert [entry["number"] for entry in studio.active()] == [second, first]

    row(first).get_by_role("checkbox").check()
    row(second).get_by_role("checkbox").check()
    page.locator("#compare").click()
    page.locator(".difference h2").wait_for()
    page.get_by_label("Name of a set").fill("two")
    page.get_by_role("button", name="Save as a set").click()
    page.locator(".sets strong", has_text="two").wait_for()
    assert "two" in studio.call("GET", "api/status")["states"]

    assert page.locator(".export").count() == 4
    with page.expect_download() as download:
        page.get_by_role("button", name="Download: Delta").click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"

    row(first).get_by_role("button", name="Undo edit").click()
    row(first).get_by_role("button", name="Redo edit").wait_for()
    assert [entry["number"] for entry in studio.active()] == [second]
    page.get_by_role("button", name="Remove the set two").click()
    page.locator(".sets strong").wait_for(state="detached")


# -- speed and looks --------------------------------------------------------------------------


def test_the_first_paint_is_soon_and_nothing_jumps(opened: Any, studio: Studio) -> None:
    studio.undo_all()
    page = opened()
    page.add_init_script(
        """window.shift = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) {
                if (!entry.hadRecentInput) window.shift += entry.value;
            }
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    page.goto("/")
    page.locator(".method").first.wait_for()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 1000
    write(page, SENTENCE)
    for view in VIEWS[1:]:
        page.goto(f"/#/{view}")
        page.wait_for_timeout(500)
    assert page.evaluate("window.shift") < 0.1


def test_colours_are_remembered(opened: Any, studio: Studio) -> None:
    page = opened()
    page.goto("/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Colours: as the system has them").click()
    page.get_by_role("button", name="Colours: light").click()
    page.get_by_role("button", name="Colours: dark").wait_for()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("device", "width", "height"), [("desktop", 1280, 860), ("phone", 390, 844)]
)
def test_pictures_of_every_view(
    opened: Any,
    studio: Studio,
    tmp_path: Path,
    device: str,
    width: int,
    height: int,
    theme: str,
) -> None:
    """What docs/studio.md shows: CORRIGENDA_SCREENSHOTS=1 writes the pictures there."""
    wanted = os.environ.get("CORRIGENDA_SCREENSHOTS")
    folder = ROOT / "docs" / "img" if wanted else tmp_path
    studio.undo_all()
    page = opened(width=width, height=height, theme=theme)

    def picture(view: str, top: str | None = None) -> None:
        page.mouse.move(0, 0)
        page.evaluate(
            "document.activeElement.blur(); document.getElementById('toasts').replaceChildren()"
        )
        if top is None:
            page.evaluate("scrollTo(0, 0)")
        else:
            page.locator(top).evaluate("element => element.scrollIntoView()")
        path = folder / f"studio-{view}-{device}-{theme}.png"
        page.screenshot(path=path)
        assert path.stat().st_size < 150_000, f"{path.name} is large"
        across = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert across <= 0, f"{view} is wider than the screen"

    page.goto("/")
    write(page, SENTENCE)
    picture("edit")
    page.locator("#apply").click()
    page.locator(".scorecard").wait_for()
    picture("scorecard", ".result")

    page.goto("/#/talk")
    page.get_by_text("How it answers").click()
    page.get_by_label("Longest answer").fill("16")
    page.get_by_text("How it answers").click()
    page.get_by_label("Say to both").fill(PROMPT)
    page.locator("#send").click()
    page.locator(".answer[aria-busy='false']").nth(1).wait_for()
    picture("talk")

    page.goto("/#/inside")
    page.locator("#look").click()
    page.get_by_role("grid").first.get_by_role("gridcell").nth(3).click()
    picture("trace")
    page.get_by_role("radio", name="Logit lens").check()
    page.locator(".lens-cell").first.wait_for()
    picture("lens")

    page.goto("/#/graph")
    if device == "desktop":
        page.locator(".graph-canvas canvas").first.wait_for()
        page.wait_for_timeout(500)
    else:
        page.locator(".graph-place .edge").first.wait_for()
    picture("graph")

    page.goto("/#/ledger")
    page.locator(".entry").first.wait_for()
    page.locator(".export").first.wait_for()
    picture("ledger")
