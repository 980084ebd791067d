import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from music_parts import make_affect

from pocketaffect.app.music.spotify import SpotifyRecommender
from pocketaffect.errors import PocketAffectError

TOKEN = {"access_token": "sesame", "token_type": "Bearer", "expires_in": 3600}


def song(number):
    """A track as the service documents it."""
    return {
        "id": f"id{number}",
        "name": f"Song {number}",
        "artists": [{"name": f"Artist {number}"}, {"name": "Guest"}],
        "external_urls": {"spotify": f"https://open.spotify.com/track/id{number}"},
    }


class Service(ThreadingHTTPServer):
    """Spotify on this machine: answers as told, and keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.answers = []
        self.tokens = [TOKEN]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.path, body, self.headers["Authorization"]))
        self.answer(200, self.server.tokens[0], {})

    def do_GET(self):
        self.server.asked.append((self.path, "", self.headers["Authorization"]))
        self.answer(*self.server.answers.pop(0))

    def answer(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def service():
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def recommender(service):
    place = f"http://127.0.0.1:{service.server_port}"
    return SpotifyRecommender("name", "secret", api=f"{place}/v1", accounts=place)


def test_the_paper_s_seeds_and_targets_are_asked_for(service, recommender):
    service.answers = [(200, {"tracks": [song(number) for number in range(5)]}, {})] * 2
    songs = recommender.recommend(make_affect("contempt", -0.5, 0.6))
    assert [each.title for each in songs] == [f"Song {number}" for number in range(5)]
    assert songs[0].links["spotify"] == "https://open.spotify.com/track/id0"
    assert songs[0].reason == "asked for steady and dark: valence .2, energy .8".replace("steady", "lively")
    assert songs[0].artist == "Artist 0, Guest"
    (token, body, basic), (question, _, bearer) = service.asked
    assert (token, body) == ("/api/token", "grant_type=client_credentials")
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"name:secret"
    assert bearer == "Bearer sesame"
    assert urlsplit(question).path == "/v1/recommendations"
    assert parse_qs(urlsplit(question).query) == {
        "limit": ["5"],
        "seed_genres": ["blues,soul,country"],
        "target_valence": ["0.250"],
        "target_energy": ["0.800"],
        "target_mode": ["0"],
    }
    recommender.recommend(make_affect())
    assert len(service.asked) == 3


def test_recent_songs_come_last(service, recommender):
    service.answers = [(200, {"tracks": [song(number) for number in range(7)]}, {})]
    songs = recommender.recommend(make_affect(), recent=["id0", "id1"])
    assert [each.id for each in songs] == ["id2", "id3", "id4", "id5", "id6"]
    assert parse_qs(urlsplit(service.asked[-1][0]).query)["limit"] == ["7"]


def test_a_token_that_is_refused_is_renewed_once(service, recommender):
    service.answers = [(401, {}, {}), (200, {"tracks": [song(1)]}, {})]
    assert len(recommender.recommend(make_affect())) == 1
    service.answers = [(401, {}, {}), (401, {}, {})]
    with pytest.raises(PocketAffectError, match="HTTP 401"):
        recommender.recommend(make_affect())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, {}, {}), "closed this service"),
        ((404, {}, {}), "closed this service"),
        ((429, {}, {"Retry-After": "7"}), "wait 7 seconds"),
        ((500, {}, {}), "HTTP 500"),
        ((200, b"<html>", {}), "no JSON object"),
        ((200, [], {}), "no JSON object"),
        ((200, {"error": 1}, {}), "without tracks"),
        ((200, b" " * (1 << 20) + b"{}", {}), "no JSON object"),
    ],
)
def test_a_refusal_says_what_to_do(service, recommender, answer, message):
    service.answers = [answer]
    with pytest.raises(PocketAffectError, match=message):
        recommender.recommend(make_affect())


def test_an_answer_s_oddities_are_left_out(service, recommender):
    odd = [None, {}, {"id": "x", "name": "", "artists": []}, {"id": 1, "name": 2, "artists": 3}]
    elsewhere = song(1) | {"external_urls": {"spotify": "javascript:alert(1)"}}
    service.answers = [(200, {"tracks": [*odd, elsewhere]}, {})]
    (only,) = recommender.recommend(make_affect())
    assert only.links["spotify"].startswith("https://open.spotify.com/search/")


def test_a_service_that_is_not_there_is_said(service):
    recommender = SpotifyRecommender("a", "b", api="http://127.0.0.1:9", accounts="http://127.0.0.1:9")
    with pytest.raises(PocketAffectError, match="not reached"):
        recommender.recommend(make_affect())


def test_keys_come_from_the_environment_and_travel_encrypted_only(monkeypatch):
    monkeypatch.delenv("SPOTIFY_CLIENT_ID", raising=False)
    monkeypatch.setenv("SPOTIFY_CLIENT_SECRET", "x")
    with pytest.raises(PocketAffectError, match="no keys in the environment"):
        SpotifyRecommender.from_environment()
    monkeypatch.setenv("SPOTIFY_CLIENT_ID", "y")
    assert isinstance(SpotifyRecommender.from_environment(), SpotifyRecommender)
    with pytest.raises(PocketAffectError, match="without encryption"):
        SpotifyRecommender("a", "b", api="http://api.spotify.com/v1")
