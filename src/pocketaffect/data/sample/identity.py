"""Who is drawn: the shape and colours of a head, hair, and what the person wears."""

from typing import Final

from pocketaffect.data.sample.draws import Draws

Colour = tuple[int, int, int]
"""Red, green, blue in 0..255."""


def _colours(codes: str) -> tuple[Colour, ...]:
    """Reads hexadecimal codes as the web writes them."""
    return tuple((code[0], code[1], code[2]) for code in map(bytes.fromhex, codes.split()))


# From fair to dark in even steps of lightness, in the manner of the Monk skin tone scale.
SKIN_TONES: Final = _colours("f7ddcd f0cdb4 e5ba9a d5a581 c08c66 a67250 895a3e 6c4632 543629")
HAIR_COLOURS: Final = _colours("1c1818 2c201b 4a3222 704c2e a8804e d6b67c 924426 969492 d8d6d2")
IRIS_COLOURS: Final = _colours("482c1a 624224 46603c 486e96 606a70")
CLOTH_COLOURS: Final = _colours("282c3c b43c38 40786e dedad0 60548c d2a03c 6e7074")
HAIR_STYLES: Final = {
    "short": 4.0,
    "side": 3.0,
    "fringe": 2.0,
    "long": 4.0,
    "afro": 1.5,
    "bun": 1.5,
    "buzz": 1.5,
    "bald": 1.2,
    "scarf": 1.0,
    "cap": 0.7,
}
BEARDS: Final = {"none": 9.0, "stubble": 1.2, "moustache": 0.8, "full": 1.2, "goatee": 0.6}
GLASSES: Final = {"none": 9.0, "round": 1.0, "square": 1.0, "dark": 0.15}


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes the first colour with the given share of the second."""
    weight = max(0, min(256, int(share * 256)))
    red, green, blue = ((a * (256 - weight) + b * weight) // 256 for a, b in zip(first, second, strict=True))
    return red, green, blue


def darken(colour: Colour, share: float) -> Colour:
    """Moves the colour towards a warm dark one."""
    return mix(colour, (colour[0] // 4, colour[1] // 6, colour[2] // 6), share)


class Identity:
    """One person, drawn. Lengths are in units of half a head's height; see `geometry`."""

    def __init__(self, draws: Draws) -> None:
        tone = draws.uniform(0, len(SKIN_TONES) - 1.001)
        skin = mix(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone - int(tone))
        skin = mix(skin, draws.pick(((236, 160, 140), (226, 196, 130))), draws.uniform(0.0, 0.12))
        hair = mix(draws.pick(HAIR_COLOURS[: 9 if tone < 4 else 3]), (90, 70, 60), draws.uniform(0, 0.2))
        style = draws.pick_weighted(HAIR_STYLES)
        made_up = style in ("long", "bun", "scarf") and draws.chance(0.45)
        blush = (186, 44, 62) if made_up else (170, 70, 70)
        bearded = style in ("short", "side", "buzz", "bald", "afro", "cap")
        beard = draws.pick_weighted(BEARDS)
        self.head_width = draws.bell(0.74, 0.9)
        self.jaw_squareness = draws.bell(-0.5, 1.0)
        self.chin = draws.bell(0.95, 1.09)
        self.eye_distance = draws.bell(0.345, 0.405)
        self.eye_width = draws.bell(0.195, 0.245)
        self.eye_opening = draws.bell(0.85, 1.2)
        self.eye_slant = draws.bell(-0.03, 0.035)
        self.brow_height = draws.bell(0.245, 0.305)
        self.brow_thickness = draws.bell(0.06, 0.125)
        self.brow_arch = draws.bell(0.0, 0.05)
        self.nose_length = draws.bell(0.22, 0.31)
        self.nose_width = draws.bell(0.12, 0.18)
        self.mouth_height = draws.bell(0.54, 0.6)
        self.mouth_width = draws.bell(0.28, 0.36)
        self.upper_lip = draws.bell(0.045, 0.085)
        self.lower_lip = draws.bell(0.06, 0.105)
        self.mouth_rest = draws.bell(-0.015, 0.015)
        self.hair_volume = draws.uniform(0.0, 0.14)
        self.hairline = draws.bell(-0.78, -0.56)
        self.parting = draws.uniform(-0.35, 0.35)
        self.age = draws.uniform(0.0, 1.0)
        self.skin = skin
        self.hair = hair
        self.brow = mix(darken(hair, 0.25), skin, draws.uniform(0.0, 0.25))
        self.iris = draws.pick(IRIS_COLOURS[: 5 if tone < 4 else 2])
        self.lips = mix(skin, blush, 0.75 if made_up else draws.uniform(0.3, 0.5))
        self.cloth = draws.pick(CLOTH_COLOURS)
        self.wear = draws.pick(CLOTH_COLOURS)
        self.hair_style = style
        self.beard = beard if bearded else "none"
        self.glasses = draws.pick_weighted(GLASSES)
