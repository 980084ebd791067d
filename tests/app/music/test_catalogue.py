from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketaffect.app.music.catalogue import (
    COLUMNS,
    CURATED,
    GENRES,
    OTHER_GENRES,
    PAPER_GENRES,
    Catalogue,
    Track,
    normalise_genre,
    write_catalogue,
)
from pocketaffect.app.music.import_tracks import import_tracks
from pocketaffect.errors import PocketAffectError

GOOD = "a,Song,Artist,2001,pop|rock,0.5,0.25,1,1"


def write_lines(folder, *lines):
    file = folder / "catalogue.csv"
    file.write_text("\n".join([",".join(COLUMNS), *lines]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def curated():
    return Catalogue.load()


def test_the_curated_catalogue_holds_at_least_200_sound_tracks_whose_values_are_marked_as_estimates(curated):
    assert len(curated) >= 200
    assert curated.problems == ()
    assert all(track.estimated for track in curated.tracks)
    assert all(track.mode is not None for track in curated.tracks)


def test_the_curated_catalogue_covers_every_genre_of_the_paper(curated):
    counts = Counter(genre for track in curated.tracks for genre in track.genres)
    assert min(counts[genre] for genre in PAPER_GENRES) >= 8
    assert set(counts) <= {*PAPER_GENRES, *OTHER_GENRES}


def test_the_curated_catalogue_is_balanced_over_valence_and_energy(curated):
    valence, energy = (np.array([getattr(track, name) for track in curated.tracks]) for name in ("valence", "energy"))
    assert abs(np.median(valence) - 0.5) < 0.05
    assert abs(np.median(energy) - 0.5) < 0.05
    for bright in (True, False):
        for lively in (True, False):
            assert (((valence >= 0.5) == bright) & ((energy >= 0.5) == lively)).mean() > 0.15


def test_the_curated_catalogue_names_no_song_twice_and_is_what_an_import_of_it_gives(curated):
    imported = import_tracks(CURATED)
    assert imported.merged == 0
    assert imported.tracks == list(curated.tracks)


def test_the_curated_file_is_what_writing_it_gives(curated, tmp_path):
    write_catalogue(curated.tracks, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == CURATED.read_bytes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b,Song,Artist,2001,pop,x,0.2,1,1", "valence: 'x' is no number"),
        ("b,Song,Artist,2001,pop,nan,0.2,1,1", "valence: nan is not in 0..1"),
        ("b,Song,Artist,2001,pop,0.5,1.2,1,1", "energy: 1.2 is not in 0..1"),
        ("b,Song,Artist,2001,pop,0.5,0.2,2,1", "mode: '2', not 0, 1 or empty"),
        ("b,Song,Artist,MMI,pop,0.5,0.2,1,1", "year: 'MMI' does not begin with one"),
        ("b,,Artist,2001,pop,0.5,0.2,1,1", "title: empty"),
        ("b,\x07\u200b,Artist,2001,pop,0.5,0.2,1,1", "title: empty"),
        ("a,Song,Artist,2001,pop,0.5,0.2,1,1", "id 'a' occurred before"),
        ("b,Song,Artist", "3 value(s) under 9 columns"),
        ('"b,Song,Artist,2001,pop,0.5,0.2,1,1', "1 value(s) under 9 columns"),
        ("b," + "x" * 301 + ",Artist,2001,pop,0.5,0.2,1,1", "title: 301 characters, more than 300"),
    ],
)
def test_a_broken_row_is_skipped_with_its_line_and_reason(tmp_path, line, reason):
    catalogue = Catalogue.load(write_lines(tmp_path, GOOD, "", line, "z,Last,Artist,,,0,1,,0"))
    assert [track.id for track in catalogue.tracks] == ["a", "z"]
    assert catalogue.problems == ((4, reason),)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no header line"),
        (b"title,artist\nx,y\n", "not one of our catalogues"),
        (",".join(COLUMNS).encode(), "no track"),
        (b"\xff\xfeodd", "not readable as text"),
        (b"title,\xe9\n", "not readable as text"),
        (b"id,id,title\n1,1,1", "a column occurs twice"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path, content, problem):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(PocketAffectError, match=problem):
        Catalogue.load(tmp_path / "c.csv")


def test_a_catalogue_s_columns_are_found_in_any_case_and_order(curated, tmp_path):
    table = [line.split(",") for line in CURATED.read_text(encoding="utf-8").splitlines() if '"' not in line]
    table[0] = [name.upper() for name in table[0]]
    (tmp_path / "c.csv").write_text("\n".join(",".join(cells[::-1]) for cells in table), encoding="utf-8")
    found = Catalogue.load(tmp_path / "c.csv")
    assert len(found) == len(table) - 1
    assert set(found.tracks) <= set(curated.tracks)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PocketAffectError, match="not readable"):
        Catalogue.load(tmp_path / "no.csv")


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
fractions = st.integers(0, 10000).map(lambda number: number / 10000)


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            Track,
            id=texts,
            title=texts,
            artist=texts,
            genres=st.sets(st.sampled_from(PAPER_GENRES)).map(lambda genres: tuple(sorted(genres))),
            valence=fractions,
            energy=fractions,
            mode=st.sampled_from([None, 0, 1]),
            year=st.none() | st.integers(1000, 2100),
            estimated=st.booleans(),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda track: track.id,
    )
)
def test_what_is_written_is_read_again(tmp_path_factory, tracks):
    file = tmp_path_factory.mktemp("c") / "c.csv"
    write_catalogue(tracks, file)
    catalogue = Catalogue.load(file)
    assert list(catalogue.tracks) == tracks
    assert catalogue.problems == ()


@pytest.mark.parametrize(
    ("name", "genres"),
    [
        ("Pop", ("pop",)),
        ("R&B", ("rnb", "soul")),
        ("Alternative Rock", ("alt-rock",)),
        ("Drum and Bass", ("drum-and-bass",)),
        ("drum'n'bass", ("drum-and-bass",)),
        ("melodic techno", ("techno",)),
        ("Singer/Songwriter", ("songwriter",)),
        ("hip hop", ("hip-hop",)),
        ("vaporwave", ("other",)),
        (" - ", ()),
        *((genre, (genre,)) for genre in PAPER_GENRES),
    ],
)
def test_a_genre_is_known_by_its_other_names(name, genres):
    assert normalise_genre(name) == genres


def test_the_genres_are_those_of_the_paper():
    assert len(PAPER_GENRES) == 33
    assert max(len(genres) for genres in GENRES.values()) == 5
    assert GENRES["contempt"] == ("blues", "soul", "country")
