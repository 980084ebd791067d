"""Songs from Spotify's recommendation service, as in the paper: the one part that uses the network, off by default.

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
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Track, read_text
from pocketaffect.app.music.genres import GENRES
from pocketaffect.app.music.links import search_links
from pocketaffect.app.music.listeners import Rating
from pocketaffect.app.music.recommend import COUNT, Suggestion, explain
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

    Args:
        client_id: Of an application that may use the service.
        client_secret: Its secret.
        api: Where the service is.
        accounts: Where tokens are.
        timeout: Seconds to wait for an answer.
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
        """With the keys in SPOTIFY_CLIENT_ID and SPOTIFY_CLIENT_SECRET.

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
        """Songs for an affect. Their valence and energy are those asked for: the service does not say the songs' own.

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
        fresh = [song for song in songs if song.track.id not in recent]
        return (fresh + [song for song in songs if song not in fresh])[:count]

    def _ask(self, address: str) -> dict[str, Any]:
        """An answer of the service; a token that it no longer takes is renewed once."""
        for last in (False, True):
            request = Request(address, headers={"Authorization": f"Bearer {self._read_token(renew=last)}"})  # noqa: S310 - checked above
            try:
                return self._send(request)
            except HTTPError as error:
                if error.code != 401 or last:
                    raise _refused(error) from None
        raise AssertionError("the second try returns or raises")

    def _read_token(self, *, renew: bool) -> str:
        with self._lock:
            if renew or time.monotonic() >= self._expires:
                request = Request(  # noqa: S310 - checked above
                    f"{self._accounts}/api/token",
                    data=b"grant_type=client_credentials",
                    headers={"Authorization": f"Basic {self._key}"},
                )
                try:
                    answer = self._send(request)
                except HTTPError as error:
                    raise _refused(error) from None
                seconds = answer.get("expires_in")
                if not isinstance(answer.get("access_token"), str) or not isinstance(seconds, int):
                    raise PocketAffectError("Spotify: answered without a token", found=sorted(answer)[:10])
                self._token, self._expires = answer["access_token"], time.monotonic() + seconds - 10
            return self._token

    def _send(self, request: Request) -> dict[str, Any]:
        try:
            with urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - checked above
                content = response.read(MAX_ANSWER + 1)
            answer = json.loads(content) if len(content) <= MAX_ANSWER else None
        except HTTPError:
            raise
        except (URLError, OSError) as error:
            raise PocketAffectError("Spotify: not reached", found=getattr(error, "reason", error)) from None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PocketAffectError("Spotify: answered no JSON object", found=f"{len(content)} bytes")
        return answer


def _read_song(song: Any, affect: Affect) -> Suggestion | None:
    """A song of an answer, None where it is not of the documented form: the answer is other people's text."""
    try:
        title = read_text("title", song["name"])
        artist = read_text("artist", ", ".join(each["name"] for each in song["artists"]))
        name = read_text("id", song["id"])
    except (BrokenRow, KeyError, TypeError, AttributeError):
        return None
    valence, energy = affect.target
    track = Track(name, title, artist, (), valence, energy, None, None, estimated=True)
    tone, reason = explain(track)
    links = search_links(title, artist)
    urls = song.get("external_urls")
    page = urls.get("spotify") if isinstance(urls, dict) else None
    if isinstance(page, str) and page.startswith(SONG_PAGES):
        links["spotify"] = page
    return Suggestion(track, f"asked for {reason}", 1.0, links, tone, adapted=False)


def _refused(error: HTTPError) -> PocketAffectError:
    todo = {
        400: "look at the keys of the application",
        401: "look at the keys of the application",
        403: "use a catalogue: Spotify closed this service to new applications in November 2024",
        404: "use a catalogue: Spotify closed this service to new applications in November 2024",
        429: f"wait {error.headers.get('Retry-After', 'some')} seconds",
    }
    return PocketAffectError("Spotify: refused", found=f"HTTP {error.code} {error.reason}", todo=todo.get(error.code))
