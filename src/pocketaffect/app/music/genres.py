"""Genres: the paper's table from expression to music, and the names that other catalogues give the same genres."""

from __future__ import annotations

import re
from typing import Final

GENRES: Final[dict[str, tuple[str, ...]]] = {
    "neutral": ("jazz", "ambient", "reggae", "indie", "alt-rock"),
    "happiness": ("dance", "pop", "rock", "show-tunes", "party"),
    "sadness": ("sad", "classical", "folk", "songwriter", "blues"),
    "surprise": ("funk", "electronic", "techno", "disco", "ska"),
    "fear": ("classical", "soul", "piano"),
    "disgust": ("drum-and-bass", "dub", "edm", "house", "club"),
    "anger": ("metal", "grunge", "punk", "industrial", "garage"),
    "contempt": ("blues", "soul", "country"),
}
"""Seed genres by expression (Hewitt & Gunes 2018), in the order of `labels.EXPRESSIONS`."""

PAPER_GENRES: Final = tuple(dict.fromkeys(genre for genres in GENRES.values() for genre in genres))

OTHER_GENRES: Final = ("hip-hop", "latin", "rnb", "world", "other")
"""Families without an expression in the paper, which a listener may still like; the last one holds all the rest."""

_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(genres.split())
    for genres, names in {
        "alt-rock": "alt alternative alternative-rock",
        "ambient": "chill",
        "classical": "opera soundtrack",
        "country": "bluegrass",
        "country folk": "americana",
        "dance pop": "dance-pop",
        "drum-and-bass": "dnb drum-n-bass jungle",
        "dub edm": "dubstep",
        "edm": "brostep trance",
        "edm house": "electro-house progressive-house",
        "edm pop": "edm-pop",
        "electronic": "electro electronica idm trip-hop",
        "electronic pop": "synth-pop",
        "garage": "garage-rock",
        "hip-hop": "hiphop rap trap",
        "house": "deep-house",
        "indie pop": "indie-pop",
        "indie rock": "indie-rock",
        "jazz latin": "bossa-nova",
        "latin": "salsa samba",
        "latin party": "reggaeton",
        "metal": "heavy-metal",
        "pop rock": "pop-rock",
        "punk": "hardcore punk-rock",
        "rnb soul": "neo-soul r-and-b r-n-b rhythm-and-blues",
        "rock": "psych-rock rock-n-roll",
        "rock electronic": "new-wave",
        "rock metal": "hard-rock",
        "show-tunes": "broadway musical musicals showtunes",
        "songwriter": "acoustic singer-songwriter",
        "soul": "motown",
        "techno": "minimal-techno",
        "world": "world-music",
        "world funk": "afrobeat",
    }.items()
    for name in names.split()
}
_KNOWN: Final = frozenset((*PAPER_GENRES, *OTHER_GENRES))


def normalise_genre(name: str) -> tuple[str, ...]:
    """Translates a catalogue's own name of a genre to `PAPER_GENRES` and `OTHER_GENRES`.

    "R&B" is soul too, "Alternative Rock" is alt-rock, "melodic techno" ends in a known genre. An unknown name is
    "other"; an empty one is none.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold().replace("&", " n ")).strip("-")
    if not slug:
        return ()
    words = slug.split("-")
    for start in range(len(words)):
        ending = "-".join(words[start:])
        if ending in _SYNONYMS:
            return _SYNONYMS[ending]
        if ending in _KNOWN:
            return (ending,)
    return ("other",)
