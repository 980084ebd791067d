import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from app_parts import AFFECT
from fastapi.testclient import TestClient

from pocketaffect.app.music.spotify import SpotifyRecommender
from pocketaffect.app.server.api import Services
from pocketaffect.app.server.security import CONTENT_POLICY, MAX_BODY
from pocketaffect.app.server.server import create_app

LISTENER = "0123456789abcdef"


def begin(client: TestClient) -> dict[str, str]:
    version = client.get("/api/study").json()["consent"]["version"]
    token = client.post("/api/study/runs", json={"version": version}).json()["token"]
    return {"Authorization": f"Bearer {token}"}


def row(prompt: int, rating: int = 4) -> dict[str, object]:
    return {
        "prompt": prompt,
        "affect": AFFECT,
        "rating": rating,
        "annotated_valence": 0.25,
        "annotated_arousal": -0.5,
    }


def test_every_answer_carries_the_strict_policy(client: TestClient) -> None:
    for path in ("/", "/sw.js", "/js/main.js", "/api/model", "/nothing", "/api/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == CONTENT_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "unsafe-inline" not in CONTENT_POLICY
    assert "'unsafe-eval'" not in CONTENT_POLICY


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.", "127.0.0.1@evil.example"]
)
def test_a_name_that_another_site_points_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/model", headers={"host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_this_machine_answers_to_its_own_names(client: TestClient, host: str) -> None:
    assert client.get("/api/model", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_site_cannot_ask(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/api/songs", json={"affect": AFFECT}, headers=headers).status_code == 403


def test_the_page_itself_can_ask(client: TestClient) -> None:
    headers = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert client.post("/api/songs", json={"affect": AFFECT}, headers=headers).status_code == 200


def test_a_body_as_long_as_a_picture_is_refused_declared_or_not(client: TestClient) -> None:
    body = json.dumps({"affect": AFFECT, "recent": ["x" * MAX_BODY]})
    kind = {"content-type": "application/json"}
    assert client.post("/api/songs", content=body, headers=kind).status_code == 413
    chunks = (body[start : start + 1000].encode() for start in range(0, len(body), 1000))
    assert client.post("/api/songs", content=chunks, headers=kind).status_code in (400, 413)


def test_a_flood_is_slowed_down_and_told_when_to_come_back(services: Services, small_runtime: Path) -> None:
    client = TestClient(create_app(services, small_runtime, rate=1, burst=3), base_url="http://127.0.0.1")
    answers = [client.get("/api/model") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert client.get("/js/main.js").status_code == 200


def test_five_songs_come_and_the_next_five_are_others(client: TestClient) -> None:
    first = client.post("/api/songs", json={"affect": AFFECT}).json()["songs"]
    recent = [song["id"] for song in first]
    second = client.post("/api/songs", json={"affect": AFFECT, "recent": recent}).json()["songs"]
    assert len(first) == len(second) == 5
    assert not set(recent) & {song["id"] for song in second}
    assert all(song["reason"] and song["links"]["spotify"].startswith("https://") for song in first)


def test_stars_change_the_ranking_from_the_device_and_from_the_store_alike(client: TestClient) -> None:
    wish = {"affect": AFFECT, "seed": 1, "count": 20}
    plain = client.post("/api/songs", json=wish).json()["songs"]
    ratings = [{"affect": AFFECT, "track": song["id"], "stars": 1} for song in plain]
    for rating in ratings:
        assert client.post("/api/ratings", json={"listener": LISTENER, **rating}).status_code == 201
    stored = client.post("/api/songs", json={**wish, "listener": LISTENER}).json()["songs"]
    sent = client.post("/api/songs", json={**wish, "ratings": ratings}).json()["songs"]
    assert stored == sent
    assert all(song["adapted"] for song in stored)
    assert [song["id"] for song in stored] != [song["id"] for song in plain]
    assert client.delete(f"/api/listeners/{LISTENER}").json() == {"deleted": len(ratings)}
    assert client.post("/api/songs", json={**wish, "listener": LISTENER}).json()["songs"] == plain


def test_songs_of_a_service_that_is_not_reached_are_a_problem_to_read(services: Services, small_runtime: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    spotify = SpotifyRecommender("id", "secret", api=nowhere, accounts=nowhere, timeout=0.5)
    foreign = replace(services, recommender=spotify, catalogue=None)
    client = TestClient(create_app(foreign, small_runtime), base_url="http://127.0.0.1")
    assert client.get("/api/music").json()["tracks"] is None
    answer = client.post("/api/songs", json={"affect": AFFECT})
    assert answer.status_code == 422
    assert answer.json()["problem"].startswith("Spotify: not reached")
    rating = {"listener": LISTENER, "affect": AFFECT, "track": "t1", "stars": 5}
    assert client.post("/api/ratings", json=rating).status_code == 404


def test_a_run_of_the_study_is_kept_to_the_last_number(client: TestClient, services: Services) -> None:
    mine = begin(client)
    for number in range(1, 11):
        assert client.put("/api/study/run/rows", json=row(number), headers=mine).status_code == 204
    assert client.get("/api/study/run", headers=mine).json()["next"] is None
    rows = services.study.rows()
    assert len(rows) == 10
    assert rows[1][1:] == (2, 1, 1, 0.6, 0.2, *AFFECT["probabilities"], 4, 0.25, -0.5)
    assert rows[0][-2:] == (0, 0)  # of the neutral prompt, as in the paper


def test_repeating_a_row_changes_nothing(client: TestClient, services: Services) -> None:
    mine = begin(client)
    for _ in range(3):
        client.put("/api/study/run/rows", json=row(2), headers=mine)
    assert len(services.study.rows()) == 1


def test_a_run_belongs_to_its_token_alone(client: TestClient, services: Services) -> None:
    mine, theirs = begin(client), begin(client)
    client.put("/api/study/run/rows", json=row(1), headers=mine)
    assert client.get("/api/study/run", headers=theirs).json()["done"] == []
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": mine["Authorization"][:-1] + "!"}):
        assert client.put("/api/study/run/rows", json=row(3), headers=headers).status_code == 401
        assert client.get("/api/study/run", headers=headers).status_code == 401
        assert client.delete("/api/study/run", headers=headers).status_code == 401
    assert client.delete("/api/study/run", headers=mine).json() == {"deleted": 1}
    assert services.study.rows() == []
    assert client.put("/api/study/run/rows", json=row(1), headers=mine).status_code == 401


def test_nothing_begins_without_consent_to_the_present_texts(client: TestClient) -> None:
    for body in ({}, {"version": ""}, {"version": "an older one"}):
        assert client.post("/api/study/runs", json=body).status_code == 422


@pytest.mark.parametrize("text", ["'; DROP TABLE rows; --", '" OR 1=1 --', "%27%20OR%201", "x' UNION SELECT 1"])
def test_sql_in_names_is_only_a_name(client: TestClient, services: Services, text: str) -> None:
    mine = begin(client)
    client.put("/api/study/run/rows", json=row(1), headers=mine)
    body = {"listener": LISTENER, "affect": AFFECT, "track": text, "stars": 5}
    assert client.post("/api/ratings", json=body).status_code == 404
    assert client.post("/api/ratings", json=body | {"listener": text}).status_code == 422
    assert client.delete(f"/api/listeners/{quote(text, safe='')}").status_code == 422
    assert client.get("/api/study/run", headers={"Authorization": f"Bearer {text}"}).status_code == 401
    assert len(services.study.rows()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"affect": {"probabilities": [NaN, 1, 0, 0, 0, 0, 0, 0], "valence": 0, "arousal": 0}}',
        b'{"affect": {"probabilities": [1, 0, 0, 0, 0, 0, 0, 0], "valence": 1e999, "arousal": 0}}',
        b'{"affect": {"probabilities": [1, 1, 1, 1, 1, 1, 1, 1], "valence": 0, "arousal": 0}}',
        b'{"affect": {"probabilities": [], "valence": 0, "arousal": 0}}',
        b'{"affect": null, "recent": ["\\ud800"]}',
        b'{"version": "\\ud800"}',
        b"[" * 30_000,
        b'{"affect": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"",
    ],
)
def test_what_is_no_affect_is_refused_without_a_crash(client: TestClient, body: bytes) -> None:
    for path in ("/api/songs", "/api/study/runs"):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


def test_no_route_takes_anything_but_json(client: TestClient) -> None:
    schema = client.get("/api/openapi.json").json()
    kinds = {
        kind
        for path in schema["paths"].values()
        for operation in path.values()
        for kind in operation.get("requestBody", {}).get("content", {})
    }
    assert kinds == {"application/json"}
    for path in ("/", "/api/songs", "/model/x/0.onnx"):
        assert client.put(path, content=b"\xff\xd8\xff", headers={"content-type": "image/jpeg"}).status_code in (
            404,
            405,
        )


def test_the_runtime_travels_compressed_and_only_once(client: TestClient) -> None:
    path = "/web/ort-wasm-simd-threaded.wasm"
    answer = client.get(path, headers={"accept-encoding": "identity"})
    assert answer.headers["content-type"] == "application/wasm"
    again = client.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as zipped:
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.read() == answer.content
    with client.stream("GET", path, headers={"accept-encoding": "gzip, deflate, br"}) as packed:
        assert packed.headers["content-encoding"] == "br"
    model = client.get("/api/model").json()
    assert "immutable" in client.get(model["files"][0]).headers["cache-control"]


def test_the_model_that_is_served_is_the_one_that_is_described(client: TestClient, twin: bytes) -> None:
    model = client.get("/api/model").json()
    assert client.get(model["files"][0]).content == twin
    assert model["bytes"] == len(twin)


def test_the_service_worker_keeps_only_what_is_served(client: TestClient) -> None:
    text = client.get("/sw.js").text
    listed = json.loads(text[text.index("const PATHS = ") + len("const PATHS = ") : text.index(";\nconst FACTS")])
    assert {"/", "/js/worker.js", "/web/face-detector.onnx", "/app.css"} <= set(listed)
    assert all(client.get(path).status_code == 200 for path in listed)
