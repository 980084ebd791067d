"""Who is drawn: the shape and colours of a head, hair, and what the person wears."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are in units of half a head's height; see `geometry`."""

    head_width: float
    jaw_squareness: float
    chin: float
    eye_distance: float
    eye_width: float
    eye_opening: float
    eye_slant: float
    brow_height: float
    brow_thickness: float
    brow_arch: float
    nose_length: float
    nose_width: float
    mouth_height: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    mouth_rest: float
    hair_volume: float
    hairline: float
    parting: float
    age: float
    skin: Colour
    hair: Colour
    brow: Colour
    iris: Colour
    lips: Colour
    cloth: Colour
    wear: Colour
    hair_style: str
    beard: str
    glasses: str


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Mixes the first colour with the given share of the second."""
    weight = max(0, min(256, int(share * 256)))
    red, green, blue = ((a * (256 - weight) + b * weight) // 256 for a, b in zip(first, second, strict=True))
    return red, green, blue


def darken(colour: Colour, share: float) -> Colour:
    """Moves the colour towards a warm dark one."""
    return mix(colour, (colour[0] // 4, colour[1] // 6, colour[2] // 6), share)


def sample_identity(draws: Draws) -> Identity:
    """Draws a person."""
    tone = draws.uniform(0, len(SKIN_TONES) - 1.001)
    skin = mix(SKIN_TONES[int(tone)], SKIN_TONES[int(tone) + 1], tone - int(tone))
    skin = mix(skin, draws.pick(((236, 160, 140), (226, 196, 130))), draws.uniform(0.0, 0.12))
    hair = mix(draws.pick(HAIR_COLOURS[: 9 if tone < 4 else 3]), (90, 70, 60), draws.uniform(0, 0.2))
    style = draws.pick_weighted(HAIR_STYLES)
    made_up = style in ("long", "bun", "scarf") and draws.chance(0.45)
    blush = (186, 44, 62) if made_up else (170, 70, 70)
    bearded = style in ("short", "side", "buzz", "bald", "afro", "cap")
    beard = draws.pick_weighted(BEARDS)
    return Identity(
        head_width=draws.bell(0.74, 0.9),
        jaw_squareness=draws.bell(-0.5, 1.0),
        chin=draws.bell(0.95, 1.09),
        eye_distance=draws.bell(0.345, 0.405),
        eye_width=draws.bell(0.195, 0.245),
        eye_opening=draws.bell(0.85, 1.2),
        eye_slant=draws.bell(-0.03, 0.035),
        brow_height=draws.bell(0.245, 0.305),
        brow_thickness=draws.bell(0.06, 0.125),
        brow_arch=draws.bell(0.0, 0.05),
        nose_length=draws.bell(0.22, 0.31),
        nose_width=draws.bell(0.12, 0.18),
        mouth_height=draws.bell(0.54, 0.6),
        mouth_width=draws.bell(0.28, 0.36),
        upper_lip=draws.bell(0.045, 0.085),
        lower_lip=draws.bell(0.06, 0.105),
        mouth_rest=draws.bell(-0.015, 0.015),
        hair_volume=draws.uniform(0.0, 0.14),
        hairline=draws.bell(-0.78, -0.56),
        parting=draws.uniform(-0.35, 0.35),
        age=draws.uniform(0.0, 1.0),
        skin=skin,
        hair=hair,
        brow=mix(darken(hair, 0.25), skin, draws.uniform(0.0, 0.25)),
        iris=draws.pick(IRIS_COLOURS[: 5 if tone < 4 else 2]),
        lips=mix(skin, blush, 0.75 if made_up else draws.uniform(0.3, 0.5)),
        cloth=draws.pick(CLOTH_COLOURS),
        wear=draws.pick(CLOTH_COLOURS),
        hair_style=style,
        beard=beard if bearded else "none",
        glasses=draws.pick_weighted(GLASSES),
    )
