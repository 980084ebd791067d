import math
from collections import Counter
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music_parts import make_affect, make_tracks

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import GENRES, Catalogue, Track
from pocketaffect.app.music.listeners import Rating
from pocketaffect.app.music.recommend import (
    ALL_GENRES,
    COUNT,
    FIT_NAMES,
    PRIOR_MEAN,
    SERVICES,
    Features,
    Recommender,
    explain,
    search_links,
)
from pocketaffect.errors import PocketAffectError
from pocketaffect.labels import EXPRESSIONS


@pytest.fixture(scope="module")
def curated():
    return Recommender(Catalogue.load())


def suggested(recommender, affect, **options):
    return [each.id for each in recommender.recommend(affect, **options)]


def map_as_the_paper_does(track, affect):
    """One track's score in plain Python."""
    shares = [
        sum(chance for name, chance in zip(EXPRESSIONS, affect.probabilities, strict=True) if genre in GENRES[name])
        for genre in track.genres
    ]
    valence, energy = (affect.valence + 1) / 2, (affect.arousal + 1) / 2
    closeness = 1 - math.dist((track.valence, track.energy), (valence, energy)) / math.sqrt(2)
    mode = 0.5 if track.mode is None else float(track.mode == (1 if affect.valence >= 0 else 0))
    return 0.35 * max(shares, default=0) + 0.6 * closeness + 0.05 * mode


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_scores_are_the_paper_s_mapping(curated, expression):
    affect = make_affect(expression)
    tracks = [*curated.catalogue.tracks, Track("x", "X", "Y", (), 0.3, 0.4, None, None, estimated=False)]
    expected = [map_as_the_paper_does(track, affect) for track in tracks]
    assert Features(tracks).weigh(affect, PRIOR_MEAN) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_gets_songs_of_its_genres_and_affect(curated, expression):
    affect = make_affect(expression)
    songs = [each for seed in range(5) for each in curated.recommend(affect, seed=seed)]
    fitting = [song for song in songs if set(song.genres) & set(GENRES[expression])]
    assert len(fitting) >= 0.7 * len(songs)
    chance = np.mean([math.dist((track.valence, track.energy), affect.target) for track in curated.catalogue.tracks])
    assert np.mean([math.dist((song.valence, song.energy), affect.target) for song in songs]) < 0.6 * chance


def test_equal_questions_get_equal_songs_and_another_seed_others(curated):
    affect = make_affect()
    assert suggested(curated, affect, seed=3) == suggested(curated, affect, seed=3)
    assert suggested(curated, affect, seed=3) != suggested(curated, affect, seed=4)


def test_songs_vary_from_seed_to_seed(curated):
    heard = Counter(name for seed in range(40) for name in suggested(curated, make_affect("neutral"), seed=seed))
    assert len(heard) >= 20
    assert max(heard.values()) <= 30


def test_recent_songs_do_not_come_back_before_all_others_were_heard():
    recommender = Recommender(Catalogue(make_tracks(30)))
    recent = []
    for seed in range(6):
        recent += suggested(recommender, make_affect(), recent=recent, seed=seed)
    assert len(set(recent)) == 30
    assert len(set(suggested(recommender, make_affect(), recent=recent))) == COUNT


def test_five_songs_are_of_five_artists_where_there_are_five():
    recommender = Recommender(Catalogue(make_tracks(60)))
    for seed in range(10):
        artists = [each.artist for each in recommender.recommend(make_affect(), seed=seed)]
        assert len(set(artists)) == COUNT
    one_artist = [Track(str(number), f"S{number}", "A", (), 0.5, 0.5, 1, None, estimated=True) for number in range(7)]
    assert len(set(suggested(Recommender(Catalogue(one_artist)), make_affect()))) == COUNT


def test_a_small_catalogue_gives_what_it_has():
    assert len(suggested(Recommender(Catalogue(make_tracks(3))), make_affect())) == 3


def test_a_large_catalogue_s_songs_are_among_its_best():
    tracks = make_tracks(5_000)
    recommender, affect = Recommender(Catalogue(tracks)), make_affect("anger")
    scores = Features(tracks).weigh(affect, PRIOR_MEAN)
    worst = min(scores[int(name[1:])] for name in suggested(recommender, affect))
    assert (scores > worst).sum() < 256


def test_a_reason_says_tone_and_numbers():
    track = Track("x", "X", "Y", (), 0.62, 0.21, 1, None, estimated=True)
    assert explain(track) == "calm and bright: valence .6, energy .2"
    loud = Track("x", "X", "Y", (), 0.04, 0.99, 1, None, estimated=True)
    assert explain(loud) == "lively and dark: valence .0, energy 1"


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
@settings(max_examples=50)
def test_links_search_for_the_song_whatever_its_name_holds(title, artist):
    try:
        text = f"{artist} {title}"
        text.encode()
    except UnicodeEncodeError:
        return
    links = search_links(title, artist)
    assert set(links) == set(SERVICES)
    for link in links.values():
        parts = urlsplit(link)
        assert parts.scheme == "https"
        assert not set(link) & set(" <>\"'\n") - {"'"}
        found = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else None
        assert (next(iter(found.values()))[0] if found else unquote(parts.path.rpartition("/")[2])) == text
        assert parts.fragment == ""


@pytest.mark.parametrize(
    "affect",
    [
        ((0.1,) * 8, 0.0, 0.0),
        ((0.125,) * 7, 0.0, 0.0),
        ((1.5, -0.5, 0, 0, 0, 0, 0, 0), 0.0, 0.0),
        ((math.nan,) * 8, 0.0, 0.0),
        ((0.125,) * 8, math.nan, 0.0),
        ((0.125,) * 8, 0.0, math.inf),
    ],
)
def test_an_impossible_affect_is_refused(affect):
    with pytest.raises(PocketAffectError, match="affect"):
        Affect(*affect)


def test_a_network_s_valence_beyond_the_scale_is_clipped():
    assert Affect((0.125,) * 8, 1.2, -1.01).target == (1.0, 0.0)


def test_rows_are_the_columns_that_all_tracks_are_weighed_by():
    tracks = make_tracks(40)
    features, random = Features(tracks), np.random.default_rng(0)
    affects = [make_affect(EXPRESSIONS[number % 8]) for number in range(40)]
    rows = features.rows(affects, list(range(40)))
    weights = random.normal(size=len(FIT_NAMES) + len(ALL_GENRES))
    weighed = [features.weigh(affect, weights)[index] for index, affect in enumerate(affects)]
    assert weighed == pytest.approx((rows @ weights).tolist(), abs=1e-4)


def test_stars_move_the_ranking_towards_what_was_liked(curated):
    affect = make_affect("happiness")
    tracks = curated.catalogue.tracks
    metal = [track.id for track in tracks if "metal" in track.genres]
    pop = [track.id for track in tracks if "pop" in track.genres]
    ratings = [Rating(affect, name, 5) for name in metal[:8]] + [Rating(affect, name, 1) for name in pop[:20]]
    before = [each for seed in range(10) for each in curated.recommend(affect, seed=seed)]
    after = [each for seed in range(10) for each in curated.recommend(affect, ratings=ratings, seed=seed)]
    for genre, grows in (("metal", True), ("pop", False)):
        counts = [sum(genre in track.genres for track in songs) for songs in (before, after)]
        assert (counts[1] > counts[0] + 5) if grows else (counts[1] < counts[0] - 5)


def test_ratings_of_unknown_tracks_change_nothing(curated):
    affect = make_affect()
    songs = curated.recommend(affect, ratings=[Rating(affect, "gone", 1)], seed=5)
    assert songs == curated.recommend(affect, seed=5)
    assert not any(song.adapted for song in songs)
