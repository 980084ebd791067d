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
"""Seed genres of each expression (Hewitt & Gunes 2018), in the order of `labels.EXPRESSIONS`."""

PAPER_GENRES: Final = tuple(dict.fromkeys(genre for genres in GENRES.values() for genre in genres))

OTHER_GENRES: Final = ("hip-hop", "latin", "rnb", "world", "other")
"""Families that the paper has no expression for, but a listener may have a taste for; the last is for all the rest."""

_SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "acoustic": ("songwriter",),
    "afrobeat": ("world", "funk"),
    "alt": ("alt-rock",),
    "alternative": ("alt-rock",),
    "alternative-rock": ("alt-rock",),
    "americana": ("country", "folk"),
    "bluegrass": ("country",),
    "bossa-nova": ("jazz", "latin"),
    "broadway": ("show-tunes",),
    "brostep": ("edm",),
    "chill": ("ambient",),
    "dance-pop": ("dance", "pop"),
    "deep-house": ("house",),
    "dnb": ("drum-and-bass",),
    "drum-n-bass": ("drum-and-bass",),
    "dubstep": ("dub", "edm"),
    "edm-pop": ("edm", "pop"),
    "electro": ("electronic",),
    "electro-house": ("edm", "house"),
    "electronica": ("electronic",),
    "garage-rock": ("garage",),
    "hard-rock": ("rock", "metal"),
    "hardcore": ("punk",),
    "heavy-metal": ("metal",),
    "hiphop": ("hip-hop",),
    "idm": ("electronic",),
    "indie-pop": ("indie", "pop"),
    "indie-rock": ("indie", "rock"),
    "jungle": ("drum-and-bass",),
    "minimal-techno": ("techno",),
    "motown": ("soul",),
    "musical": ("show-tunes",),
    "musicals": ("show-tunes",),
    "neo-soul": ("soul", "rnb"),
    "new-wave": ("rock", "electronic"),
    "opera": ("classical",),
    "pop-rock": ("pop", "rock"),
    "progressive-house": ("edm", "house"),
    "psych-rock": ("rock",),
    "punk-rock": ("punk",),
    "r-and-b": ("rnb", "soul"),
    "r-n-b": ("rnb", "soul"),
    "rap": ("hip-hop",),
    "reggaeton": ("latin", "party"),
    "rhythm-and-blues": ("rnb", "soul"),
    "rock-n-roll": ("rock",),
    "salsa": ("latin",),
    "samba": ("latin",),
    "showtunes": ("show-tunes",),
    "singer-songwriter": ("songwriter",),
    "soundtrack": ("classical",),
    "synth-pop": ("electronic", "pop"),
    "trance": ("edm",),
    "trap": ("hip-hop",),
    "trip-hop": ("electronic",),
    "world-music": ("world",),
}
_KNOWN: Final = frozenset((*PAPER_GENRES, *OTHER_GENRES))


def normalise_genre(name: str) -> tuple[str, ...]:
    """The genres of `PAPER_GENRES` and `OTHER_GENRES` that a catalogue's own name stands for.

    "R&B" is soul too, "Alternative Rock" is alt-rock, "melodic techno" ends in a genre that we know. A name of
    nothing known is "other"; an empty one is none.
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
