"""What the studio's page asks for, over HTTP: edits, jobs, exports, and a look inside."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corrigenda.delta import Delta
from corrigenda.errors import InputError
from corrigenda.serving import schemas
from corrigenda.serving.app import build
from tests.serving.running import EDIT, error_of, events, finished, running, said, solved

pytestmark = pytest.mark.slow  # a server of its own

PROMPT = "Brasilia is located in the country of"
SECOND = {"prompt": "The Eiffel Tower is located in", "subject": "Eiffel Tower", "target": "Rome"}


def active(http: httpx.Client) -> list[int]:
    edits = http.get("/api/edits").json()["edits"]
    return [e["number"] for e in edits if e["state"] == "active"]


@pytest.fixture(autouse=True)
def as_it_was(http: httpx.Client) -> Iterator[None]:
    """Every test leaves no active edit, and base as it was."""
    before = said(http, "base", PROMPT)
    yield
    for number in active(http)[::-1]:
        assert http.post(f"/api/edits/{number}/undo", json={}).status_code == 200
    assert said(http, "base", PROMPT) == before == said(http, "edited", PROMPT)


@pytest.fixture
def two(http: httpx.Client) -> tuple[int, int]:
    """Two active edits."""
    made = [solved(http, [edit], "rome")["edit"]["number"] for edit in (EDIT, SECOND)]
    return made[0], made[1]


def test_status_and_page(http: httpx.Client) -> None:
    status = schemas.Status(**http.get("/api/status").json())
    assert (status.model, status.kind, status.layers) == ("atlas", "causal", 6)
    assert status.atlas and status.world and not status.read_only and not status.proxy
    assert status.states[:2] == ["base", "edited"]


def test_editors(http: httpx.Client) -> None:
    found = [schemas.EditorInfo(**one) for one in http.get("/api/editors").json()]
    assert len(found) > 40
    rome = next(e for e in found if e.name == "rome")
    assert rome.supported and rome.schema_["properties"]
    assert all(e.why_not for e in found if not e.supported)
    named = {e.name for e in found if e.supported}
    proposed = http.get("/api/editors?proposed=true").json()
    assert set(proposed) == {"fast", "careful", "no_weights"} and set(proposed.values()) <= named


def test_edit_with_scorecard_undo_and_redo(http: httpx.Client) -> None:
    base = said(http, "base", PROMPT)
    result = solved(http, [EDIT], who="me", note="why not")
    entry = schemas.Entry(**result["edit"])
    assert not result["preview"] and result["took"] == [True]
    assert (entry.state, entry.who, entry.note) == ("active", "me", "why not")
    assert entry.norms and all(0 < n.relative < 1 for n in entry.norms if n.relative is not None)
    card = schemas.Scorecard(**result["scorecard"])
    assert card.summary["efficacy"].passed == card.summary["efficacy"].asked == 1
    assert card == entry.scorecard
    for axis, tally in card.summary.items():
        probes = [p for g in card.groups if g.axis == axis for p in g.probes]
        assert (sum(p.passed for p in probes), len(probes)) == (tally.passed, tally.asked)
    edited = said(http, "edited", PROMPT)
    assert edited.startswith(" Japan") and not base.startswith(" Japan")

    undone = http.post(f"/api/edits/{entry.number}/undo", json={"note": "a test", "who": "you"})
    assert undone.json()["state"] == "undone" and undone.json()["undone_note"] == "a test"
    assert said(http, "edited", PROMPT) == base
    again = http.post(f"/api/edits/{entry.number}/undo", json={})
    assert again.status_code == 409 and error_of(again)

    redone = http.post(f"/api/edits/{entry.number}/redo", json={}).json()
    assert redone["number"] > entry.number and redone["id"] == entry.id
    assert said(http, "edited", PROMPT) == edited
    assert http.post(f"/api/edits/{redone['number']}/redo", json={}).status_code == 409


def test_the_very_same_change_is_recorded_once(http: httpx.Client) -> None:
    first, second = (solved(http, [EDIT], "ike")["edit"]["number"] for _ in range(2))
    assert first == second and active(http) == [first]


def test_an_entry_with_its_card(http: httpx.Client) -> None:
    number = solved(http, [EDIT])["edit"]["number"]
    found = schemas.Card(**http.get(f"/api/edits/{number}").json())
    assert "Brasilia" in found.card and not found.card.startswith("---")
    assert found.provenance["edits"][0]["target"] == "Japan"
    missing = http.get("/api/edits/999")
    assert missing.status_code == 404 and str(number) in error_of(missing)


def test_order(http: httpx.Client, two: tuple[int, int]) -> None:
    a, b = two
    found = http.post("/api/edits/order", json={"numbers": [b, a]})
    assert found.status_code == 200 and active(http) == [b, a]
    for numbers in ([a], [a, a], [a, b, 999], []):
        refused = http.post("/api/edits/order", json={"numbers": numbers})
        assert refused.status_code in (404, 409), refused.text
        assert error_of(refused)
    assert active(http) == [b, a]


def test_diff(http: httpx.Client, two: tuple[int, int]) -> None:
    a, b = two
    found = schemas.Differences(**http.get(f"/api/edits/diff?a={a}&b={b}").json())
    assert found.places
    for place in found.places:
        assert place.cosine is not None and -1.001 <= place.cosine <= 1.001
    (same, *_) = http.get(f"/api/edits/diff?a={a}&b={a}").json()["places"]
    assert same["cosine"] == pytest.approx(1, abs=1e-3)
    assert http.get(f"/api/edits/diff?a={a}&b=999").status_code == 404
    assert http.get("/api/edits/diff?a=1").status_code == 422


def test_a_set_is_the_name_of_a_model(http: httpx.Client, two: tuple[int, int]) -> None:
    a, b = two

    def country(model: str) -> str:
        return said(http, model, PROMPT).split()[0].strip(".")

    def city(model: str) -> str:
        return said(http, model, SECOND["prompt"])

    assert http.post("/api/sets", json={"name": "mine", "numbers": [a]}).status_code == 200
    try:
        assert "mine" in [m["id"] for m in http.get("/v1/models").json()["data"]]
        assert "mine" in http.get("/api/status").json()["states"]
        assert (country("mine"), country("base")) == ("Japan", "Brazil")
        assert "Rome" in city("edited") and "Rome" not in city("mine")
        http.post(f"/api/edits/{a}/undo", json={})
        assert country("edited") == "Brazil" and country("mine") == "Japan"  # it stays what it is
        assert http.post("/api/sets", json={"name": "mine", "numbers": [b]}).status_code == 200
        assert country("mine") == "Brazil" and "Rome" in city("mine")
        assert http.get("/api/sets").json() == [{"name": "mine", "numbers": [b]}]
    finally:
        assert http.delete("/api/sets/mine").status_code == 204
    gone = http.post("/v1/completions", json={"model": "mine", "prompt": "x"})
    assert gone.status_code == 404
    assert http.delete("/api/sets/mine").status_code == 404


@pytest.mark.parametrize(
    ("name", "numbers", "status"),
    [
        ("base", [], 409),
        ("edited", [], 409),
        ("atlas", [], 409),
        ("../x", [], 422),
        ("", [], 422),
        ("ok", [999], 404),
    ],
)
def test_sets_that_cannot_be(http: httpx.Client, name: str, numbers: Any, status: int) -> None:
    found = http.post("/api/sets", json={"name": name, "numbers": numbers})
    assert found.status_code == status and error_of(found)
    assert http.get("/api/sets").json() == []


def unpacked(answer: httpx.Response, place: Path) -> Path:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert all(not n.startswith(("/", "..")) for n in archive.namelist())
        archive.extractall(place)
    (top,) = place.iterdir()
    return top


def test_exports(http: httpx.Client, data_dir: Path, tmp_path: Path, two: tuple[int, int]) -> None:
    formats = {f["format"]: f for f in http.get("/api/edits/export").json()}
    assert set(formats) == {"delta", "peft", "merged", "gguf"}
    assert all(f["command"] for f in formats.values())
    entry = http.get(f"/api/edits/{two[0]}").json()

    one = unpacked(http.get(f"/api/edits/export/delta?numbers={two[0]}"), tmp_path / "one")
    assert Delta.load(one).id == entry["id"]
    both = unpacked(http.get("/api/edits/export/delta"), tmp_path / "both")
    assert len(Delta.load(both).provenance.edits) == 2

    assert formats["peft"]["possible"]
    peft = unpacked(http.get("/api/edits/export/peft"), tmp_path / "peft")
    assert json.loads((peft / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert (peft / "adapter_model.safetensors").stat().st_size > 0

    assert not formats["gguf"]["possible"] and formats["gguf"]["why_not"]
    refused = http.get("/api/edits/export/gguf")
    assert refused.status_code == 409 and error_of(refused)


def test_a_merged_checkpoint_says_what_the_edited_state_says(
    http: httpx.Client, tmp_path: Path, two: tuple[int, int]
) -> None:
    from corrigenda import load

    place = unpacked(http.get("/api/edits/export/merged"), tmp_path / "merged")
    (text,) = load(str(place)).generate([PROMPT], max_new_tokens=8)
    assert text == said(http, "edited", PROMPT)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("delta", 409),  # nothing is active
        ("nothing", 404),
        ("delta?numbers=x", 409),
        ("delta?numbers=999", 404),
        ("delta?numbers=" + "9" * 40, 409),
    ],
)
def test_exports_that_cannot_be(http: httpx.Client, path: str, status: int) -> None:
    found = http.get(f"/api/edits/export/{path}")
    assert found.status_code == status and error_of(found)


def test_edits_of_prompts_have_no_adapter(http: httpx.Client) -> None:
    solved(http, [EDIT], "ike")
    formats = {f["format"]: f for f in http.get("/api/edits/export").json()}
    assert formats["delta"]["possible"]
    for name in ("peft", "merged"):
        assert not formats[name]["possible"] and formats[name]["why_not"]
        assert http.get(f"/api/edits/export/{name}").status_code == 409


def test_preview_then_apply(http: httpx.Client) -> None:
    base = said(http, "edited", PROMPT)
    result = solved(http, [EDIT], apply=False, note="kept")
    assert result["preview"] and result["edit"] is None
    assert active(http) == [] and said(http, "edited", PROMPT) == base
    again = http.post("/api/evaluate", json={"preview_id": result["preview_id"]}).json()
    assert finished(http, again["job"])["result"] == result["scorecard"]
    entry = http.post(f"/api/edits/preview/{result['preview_id']}/apply")
    assert entry.status_code == 200 and entry.json()["note"] == "kept"
    assert active(http) == [entry.json()["number"]]
    assert said(http, "edited", PROMPT) != base
    assert http.post(f"/api/edits/preview/{result['preview_id']}/apply").status_code == 404


def test_preview_then_discard(http: httpx.Client, data_dir: Path) -> None:
    id = solved(http, [EDIT], apply=False)["preview_id"]
    assert (data_dir / "previews" / id).is_dir()
    assert http.delete(f"/api/edits/preview/{id}").status_code == 204
    assert not (data_dir / "previews" / id).exists()
    gone = http.delete(f"/api/edits/preview/{id}")
    assert gone.status_code == 404 and "Solve it again" in error_of(gone)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"editor": "romeo"}, "rome"),
        ({"settings": {"stepz": 3}}, "steps"),
        ({"settings": {"steps": "many"}}, "steps"),
        ({"settings": {"layer": 99}}, "layer"),
        ({"edits": []}, "edits"),
        ({"edits": [{**EDIT, "target": ""}]}, "target"),
        ({"edits": [{**EDIT, "subject": ""}]}, "subject"),
        ({"edits": [{**EDIT, "prompt": "no place for it"}]}, "subject"),
        ({"edits": [{**EDIT, "colour": "red"}]}, "colour"),
        ({"applied": True}, "applied"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/api/edits", "/api/plan"])
def test_bad_edits_are_told_at_once(
    http: httpx.Client, path: str, body: dict[str, Any], says: str
) -> None:
    found = http.post(path, json={"edits": [EDIT], "editor": "ft-m"} | body)
    assert 400 <= found.status_code < 500, found.text
    assert says.lower() in error_of(found).lower()


def test_plan(http: httpx.Client) -> None:
    for editor in ("rome", "ft-m", "ike", "grace"):
        found = http.post("/api/plan", json={"edits": [EDIT], "editor": editor})
        plan = schemas.Plan(**found.json())
        assert plan.places and plan.bytes > 0 and plan.seconds >= 0
    contradicting = [EDIT, {**EDIT, "target": "Chile"}]
    warned = http.post("/api/plan", json={"edits": contradicting, "editor": "memit"}).json()
    assert any("contradict" in w for w in warned["warnings"])


def test_jobs(http: httpx.Client, data_dir: Path) -> None:
    asked = {"edits": [EDIT], "editor": "ft-m", "apply": False}
    id = http.post("/api/edits", json=asked).json()["job"]
    assert (data_dir / "jobs" / f"{id}.json").exists()
    with http.stream("GET", f"/api/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = [schemas.Job(**one) for one in events(answer)]
    assert told[-1].state == "done" and told[-1].progress == 1
    shares = [job.progress for job in told]
    assert shares == sorted(shares)
    assert http.get("/api/jobs").json()[0]["id"] == id
    repeated = http.post(f"/api/jobs/{id}/again")
    assert repeated.status_code == 202
    assert finished(http, repeated.json()["job"])["result"]["took"] == [True]


def test_cancelling(http: httpx.Client, data_dir: Path) -> None:
    long = {"edits": [EDIT] * 40, "editor": "rome", "apply": True}
    first, second = (http.post("/api/edits", json=long).json()["job"] for _ in range(2))
    assert http.delete(f"/api/jobs/{second}").json()["state"] == "cancelled"
    assert http.post(f"/api/jobs/{first}/again").status_code == 409  # it is under way
    http.delete(f"/api/jobs/{first}")
    assert finished(http, first)["state"] == "cancelled"
    assert active(http) == []
    assert solved(http, [EDIT])["took"] == [True]  # nothing is left of it


def test_jobs_that_there_are_not(http: httpx.Client) -> None:
    for method, path in (
        ("GET", "x"),
        ("DELETE", "x"),
        ("GET", "x/events"),
        ("POST", "x/again"),
    ):
        found = http.request(method, f"/api/jobs/{path}")
        assert found.status_code == 404 and "GET /api/jobs" in error_of(found)


@pytest.mark.parametrize(
    ("text", "subject", "target", "known"),
    [
        ("Brasilia is located in the country of Japan.", "Brasilia", "Japan", True),
        ("Brasilia is located in the country of", "Brasilia", "", True),
        ("The wizard Xanthor was born in Narnia", "Xanthor", "Narnia", False),
    ],
)
def test_guess(http: httpx.Client, text: str, subject: str, target: str, known: bool) -> None:
    found = schemas.Guess(**http.post("/api/guess", json={"text": text}).json())
    assert (found.target, found.known) == (target, known)
    assert subject in found.subject
    assert found.prompt_template.replace("{}", found.subject) == found.prompt
    assert http.post("/api/guess", json={"text": "  "}).status_code == 400


def test_lens(http: httpx.Client) -> None:
    found = schemas.Lens(**http.post("/api/lens", json={"prompt": PROMPT, "top": 3}).json())
    assert len(found.cells) == len(found.tokens)
    assert "".join(found.tokens).strip().endswith("country of")
    for row in found.cells:
        assert len(row) == len(found.layers)
        assert all(len(cell) == 3 and 1 >= cell[0].p >= cell[2].p >= 0 for cell in row)
    last = found.cells[-1][-1][0]
    assert "Brazil".startswith(last.token.strip())


def test_neurons(http: httpx.Client) -> None:
    asked = {"prompt": PROMPT, "layer": 2, "top": 4}
    found = schemas.Neurons(**http.post("/api/neurons", json=asked).json())
    assert len(found.neurons) == 4 and all(n.promotes for n in found.neurons)
    beyond = http.post("/api/neurons", json={**asked, "layer": 6})
    assert beyond.status_code == 409 and "0 to 5" in error_of(beyond)


@pytest.mark.parametrize("path", ["lens", "neurons", "trace"])
def test_looks_that_cannot_be(http: httpx.Client, path: str) -> None:
    body = {"prompt": PROMPT, "layer": 0, "subject": "Brasilia"}
    if path != "neurons":
        del body["layer"]
    if path != "trace":
        del body["subject"]
    assert http.post(f"/api/{path}", json={**body, "state": "none"}).status_code == 404
    if path != "trace":
        assert http.post(f"/api/{path}", json={**body, "prompt": " "}).status_code == 400
        assert http.post(f"/api/{path}", json={**body, "prompt": "x " * 300}).status_code == 400


def test_trace(http: httpx.Client) -> None:
    asked = {"prompt": PROMPT, "subject": "Brasilia", "state": "base"}
    job = finished(http, http.post("/api/trace", json=asked).json()["job"])
    found = schemas.Trace(**job["result"])
    assert set(found.kinds) == {"hidden", "mlp", "attention"}
    for grid in found.kinds.values():
        assert [len(row) for row in grid] == [len(found.layers)] * len(found.tokens)
    assert found.clean > found.corrupted
    assert "".join(found.tokens[i] for i in found.subject_tokens).strip() == "Brasilia"
    wrong = {**asked, "subject": "Xanthor"}
    failed = finished(http, http.post("/api/trace", json=wrong).json()["job"])
    assert failed["state"] == "failed" and "Xanthor" in failed["error"]["message"]


def test_graph(http: httpx.Client) -> None:
    plain = schemas.Graph(**http.get("/api/graph?subject=Brasilia").json())
    assert plain.edges and {e.status for e in plain.edges} == {"plain"}
    number = solved(http, [EDIT], "rome")["edit"]["number"]
    found = schemas.Graph(**http.get(f"/api/graph?subject=Brasilia&number={number}").json())
    ids = {node.id for node in found.nodes}
    assert len(ids) == len(found.nodes)
    assert all({e.source, e.target} <= ids for e in found.edges)
    changed = [e for e in found.edges if e.status == "changed"]
    assert changed and "Japan" in changed[0].answer
    assert {"stay", "follow"} & {e.status for e in found.edges}
    nobody = http.get("/api/graph?subject=Xanthor").json()
    assert nobody["nodes"] == [] and "Xanthor" in nobody["note"]
    assert http.get("/api/graph?subject=Brasilia&number=999").status_code == 404
    assert http.get("/api/graph").status_code == 422


def test_evaluate(http: httpx.Client) -> None:
    made = solved(http, [EDIT])
    number = made["edit"]["number"]
    solved(http, [SECOND])
    job = http.post("/api/evaluate", json={"number": number}).json()["job"]
    card = schemas.Scorecard(**finished(http, job)["result"])
    assert card.summary["efficacy"].passed == 1
    assert schemas.Card(**http.get(f"/api/edits/{number}").json()).scorecard == card
    neither = http.post("/api/evaluate", json={})
    assert neither.status_code == 409 and "number" in error_of(neither)
    missing = finished(http, http.post("/api/evaluate", json={"number": 999}).json()["job"])
    assert missing["state"] == "failed"


def test_read_only(atlas_model: Any, tmp_path: Path) -> None:
    with (
        running(atlas_model, tmp_path, read_only=True) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        assert http.get("/api/status").json()["read_only"]
        refused = http.post("/api/edits", json={"edits": [EDIT], "editor": "ft-m", "apply": True})
        assert refused.status_code == 403 and "--read-only" in error_of(refused)
        id = solved(http, [EDIT], apply=False)["preview_id"]  # a look is free
        assert http.post(f"/api/edits/preview/{id}/apply").status_code == 403
        assert http.post("/api/sets", json={"name": "x", "numbers": []}).status_code == 403
        assert said(http, "edited", PROMPT) == said(http, "base", PROMPT)


def test_one_server_per_directory(atlas_model: Any, http: httpx.Client, data_dir: Path) -> None:
    with pytest.raises(InputError, match="--data-dir"):
        build(atlas_model, data_dir)
    assert http.get("/api/status").status_code == 200


def test_what_was_made_is_there_after_a_restart(atlas_model: Any, tmp_path: Path) -> None:
    with running(atlas_model, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        first = solved(http, [EDIT])["edit"]["number"]
        second = solved(http, [SECOND])["edit"]["number"]
        http.post(f"/api/edits/{first}/undo", json={})
        http.post("/api/sets", json={"name": "mine", "numbers": [first]})
        preview = solved(http, [EDIT], apply=False)["preview_id"]
        wanted = [said(http, m, PROMPT) for m in ("base", "edited", "mine")]
        listed, jobs = http.get("/api/edits").json(), http.get("/api/jobs").json()
    with running(atlas_model, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert active(http) == [second]
        assert http.get("/api/edits").json() == listed
        assert http.get("/api/jobs").json() == jobs
        assert [said(http, m, PROMPT) for m in ("base", "edited", "mine")] == wanted
        assert http.post(f"/api/edits/preview/{preview}/apply").status_code == 200
