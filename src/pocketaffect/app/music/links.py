"""Links that open a song in the search of somebody's music service: no account, no key, no call by us."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

SERVICES: Final[dict[str, tuple[str, str]]] = {
    "spotify": ("Spotify", "https://open.spotify.com/search/{path}"),
    "apple": ("Apple Music", "https://music.apple.com/search?{term}"),
    "youtube": ("YouTube", "https://www.youtube.com/results?{search_query}"),
    "youtube-music": ("YouTube Music", "https://music.youtube.com/search?{q}"),
    "deezer": ("Deezer", "https://www.deezer.com/search/{path}"),
    "tidal": ("TIDAL", "https://listen.tidal.com/search?{q}"),
    "amazon": ("Amazon Music", "https://music.amazon.com/search/{path}"),
    "soundcloud": ("SoundCloud", "https://soundcloud.com/search?{q}"),
}
"""Key to name and address. `{path}` is the search as part of the path, any other `{key}` the query key=search."""


def search_links(title: str, artist: str) -> dict[str, str]:
    """Key of each service to the address that searches it for a song."""
    text = f"{artist} {title}"
    links = {}
    for service, (_, address) in SERVICES.items():
        base, _, key = address.removesuffix("}").partition("{")
        links[service] = base + (quote(text, safe="") if key == "path" else urlencode({key: text}))
    return links
