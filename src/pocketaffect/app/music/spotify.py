"""Asks Spotify's recommendation service for songs, as in the paper: the one part that uses the network, off by default.

Spotify closed this service to applications registered after November 2024: it is for those who have an older one. The
keys come from the environment only. Another service would be another class with this `recommend`.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import GENRES, Track, read_text
from pocketaffect.app.music.listeners import Rating
from pocketaffect.app.music.recommend import COUNT, Suggestion, explain, suggest
from pocketaffect.app.music.tables import BrokenRow
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS

API: Final = "https://api.spotify.com/v1"
ACCOUNTS: Final = "https://accounts.spotify.com"
ID_VARIABLE: Final = "SPOTIFY_CLIENT_ID"
SECRET_VARIABLE: Final = "SPOTIFY_CLIENT_SECRET"  # noqa: S105 - a variable's name
SONG_PAGES: Final = "https://open.spotify.com/"

MAX_ANSWER: Final = 1 << 20
MAX_ASKED: Final = 100
MAX_SEEDS: Final = 5


class SpotifyRecommender:
    """Asks Spotify for songs with the paper's seeds and targets. Safe to share between threads.

    `api` is the address of the service, `accounts` of the server that gives tokens; an answer may take `timeout` s.
    """

    def __init__(
        self, client_id: str, client_secret: str, *, api: str = API, accounts: str = ACCOUNTS, timeout: float = 5.0
    ) -> None:
        for address in (api, accounts):
            parts = urlsplit(address)
            if parts.scheme != "https" and parts.hostname != "127.0.0.1":
                raise PocketAffectError("Spotify: address without encryption", found=address, allowed="https://…")
        self._key = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._api, self._accounts, self._timeout = api, accounts, timeout
        self._lock = threading.Lock()
        self._token, self._expires = "", 0.0

    @staticmethod
    def from_environment() -> SpotifyRecommender:
        """Takes the keys from SPOTIFY_CLIENT_ID and SPOTIFY_CLIENT_SECRET.

        Raises:
            PocketAffectError: One is missing.
        """
        keys = [os.environ.get(name, "") for name in (ID_VARIABLE, SECRET_VARIABLE)]
        if not all(keys):
            raise PocketAffectError(
                "Spotify: no keys in the environment", allowed=f"{ID_VARIABLE} and {SECRET_VARIABLE}, both set"
            )
        return SpotifyRecommender(*keys)

    def recommend(
        self,
        affect: Affect,
        *,
        listener: str | None = None,  # noqa: ARG002 - Spotify adapts to nobody here
        ratings: Sequence[Rating] = (),  # noqa: ARG002
        recent: Collection[str] = (),
        count: int = COUNT,
        seed: int = 0,  # noqa: ARG002 - its answers vary by themselves
    ) -> list[Suggestion]:
        """Suggests songs for an affect; it does not learn the songs' own valence and energy, only those it asks for.

        Raises:
            PocketAffectError: The service cannot be reached, refuses, or answers something else than tracks.
        """
        valence, energy = affect.target
        question = {
            "limit": min(MAX_ASKED, count + len(recent)),
            "seed_genres": ",".join(GENRES[EXPRESSIONS[affect.expression]][:MAX_SEEDS]),
            "target_valence": f"{valence:.3f}",
            "target_energy": f"{energy:.3f}",
            "target_mode": int(affect.valence >= 0),
        }
        answer = self._ask(f"{self._api}/recommendations?{urlencode(question)}")
        found = answer.get("tracks")
        if not isinstance(found, list):
            raise PocketAffectError("Spotify: answered without tracks", found=sorted(answer)[:10])
        songs = [song for each in found if (song := _read_song(each, affect)) is not None]
        fresh = [song for song in songs if song.id not in recent]
        return (fresh + [song for song in songs if song not in fresh])[:count]

    def _ask(self, address: str) -> dict[str, Any]:
        """Asks the service; a token that it no longer takes is renewed once."""
        try:
            return self._send(address, f"Bearer {self._read_token()}")
        except _RefusedError as error:
            if error.code != 401:
                raise
        return self._send(address, f"Bearer {self._read_token(renew=True)}")

    def _read_token(self, *, renew: bool = False) -> str:
        with self._lock:
            if renew or time.monotonic() >= self._expires:
                address = f"{self._accounts}/api/token"
                answer = self._send(address, f"Basic {self._key}", b"grant_type=client_credentials")
                seconds = answer.get("expires_in")
                if not isinstance(answer.get("access_token"), str) or not isinstance(seconds, int):
                    raise PocketAffectError("Spotify: answered without a token", found=sorted(answer)[:10])
                self._token, self._expires = answer["access_token"], time.monotonic() + seconds - 10
            return self._token

    def _send(self, address: str, authorization: str, data: bytes | None = None) -> dict[str, Any]:
        request = Request(address, data, {"Authorization": authorization})  # noqa: S310 - checked above
        try:
            with urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - checked above
                content = response.read(MAX_ANSWER + 1)
            answer = json.loads(content) if len(content) <= MAX_ANSWER else None
        except HTTPError as error:
            raise _RefusedError(error) from None
        except OSError as error:
            raise PocketAffectError("Spotify: not reached", found=getattr(error, "reason", error)) from None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PocketAffectError("Spotify: answered no JSON object", found=f"{len(content)} bytes")
        return answer


class _RefusedError(PocketAffectError):
    def __init__(self, error: HTTPError) -> None:
        self.code = error.code
        keys = "look at the keys of the application"
        closed = "use a catalogue: Spotify closed this service to new applications in November 2024"
        wait = f"wait {error.headers.get('Retry-After', 'some')} seconds"
        todo = {400: keys, 401: keys, 403: closed, 404: closed, 429: wait}.get(error.code)
        super().__init__("Spotify: refused", found=f"HTTP {error.code} {error.reason}", todo=todo)


def _read_song(song: Any, affect: Affect) -> Suggestion | None:
    """Reads one song, None where it has not the documented form: the answer is other people's text."""
    try:
        title = read_text("title", song["name"])
        artist = read_text("artist", ", ".join(each["name"] for each in song["artists"]))
        name = read_text("id", song["id"])
    except (BrokenRow, KeyError, TypeError, AttributeError):
        return None
    valence, energy = affect.target
    track = Track(name, title, artist, (), valence, energy, None, None, estimated=True)
    found = suggest(track, f"asked for {explain(track)}", adapted=False)
    urls = song.get("external_urls")
    page = urls.get("spotify") if isinstance(urls, dict) else None
    if isinstance(page, str) and page.startswith(SONG_PAGES):
        found.links["spotify"] = page
    return found
