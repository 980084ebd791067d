import sqlite3
import struct
import threading

import numpy as np
import pytest
from music_parts import make_affect, make_tracks
from sklearn.linear_model import Ridge

from pocketaffect.app.music import recommend as recommend_module
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import MAX_RATINGS, Listeners, Rating
from pocketaffect.app.music.recommend import EXPLORATION, NAMES, NOISE, Features, Recommender, Taste
from pocketaffect.errors import PocketAffectError


@pytest.fixture
def listeners(tmp_path):
    opened = Listeners(tmp_path / "own" / "listeners.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rated():
    """Features and stars of 60 ratings."""
    random = np.random.default_rng(0)
    features = Features(make_tracks(60)).rows([make_affect("anger")] * 60, list(range(60)))
    return features, random.integers(1, 6, 60)


def test_the_mean_taste_is_a_ridge_regression_about_the_mapping(rated):
    features, stars = rated
    mean, scale = recommend_module.PRIOR_MEAN, recommend_module._PRIOR_SCALE
    ridge = Ridge(alpha=NOISE**2, fit_intercept=False).fit(features * scale, (stars - 1) / 4 - features @ mean)
    assert Taste(features, stars).mean == pytest.approx(mean + scale * ridge.coef_, abs=1e-6)


def test_samples_stray_by_the_posterior_s_covariance(rated):
    features, stars = rated
    taste, random = Taste(features, stars), np.random.default_rng(1)
    samples = np.array([taste.sample(random) for _ in range(4000)])
    precision = np.diag(1 / recommend_module._PRIOR_SCALE**2) + features.T @ features / NOISE**2
    expected = EXPLORATION**2 * np.linalg.inv(precision)
    assert np.cov(samples.T) == pytest.approx(expected, abs=0.1 * expected.max())
    assert samples.mean(0) == pytest.approx(taste.mean, abs=0.01)


def test_without_any_rating_the_taste_would_be_the_mapping():
    empty = Taste(np.zeros((0, len(NAMES))), np.zeros(0, np.int64))
    assert empty.mean == pytest.approx(recommend_module.PRIOR_MEAN)


def test_ratings_are_read_as_they_were_given_also_after_reopening(tmp_path):
    ratings = [Rating(make_affect("fear"), "t1", 2), Rating(make_affect("anger"), "t2", 5)]
    first = Listeners(tmp_path / "l.db")
    for rating in ratings:
        first.rate("anna", rating.affect, rating.track, rating.stars)
    first.rate("bob", make_affect(), "t3", 1)
    first.close()
    second = Listeners(tmp_path / "l.db")
    assert second.ratings("anna") == ratings
    assert len(second.ratings("bob")) == 1
    assert second.ratings("'; DROP TABLE ratings; --") == []
    second.close()


def test_stored_and_sent_ratings_suggest_the_same(listeners):
    catalogue = Catalogue(make_tracks(200))
    recommender, affect = Recommender(catalogue, listeners), make_affect()
    ratings = [Rating(affect, f"t{number}", 1 + number % 5) for number in range(12)]
    for rating in ratings:
        listeners.rate("anna", rating.affect, rating.track, rating.stars)
    stored = recommender.recommend(affect, listener="anna", seed=1)
    assert stored == recommender.recommend(affect, ratings=ratings, seed=1)
    assert all(each.adapted for each in stored)
    off = recommender.recommend(affect, listener=None, seed=1)
    assert off == Recommender(catalogue).recommend(affect, listener="anna", seed=1)
    assert off == recommender.recommend(affect, listener="bob", seed=1)


def test_a_new_rating_is_taken_up_at_once(listeners):
    recommender, affect = Recommender(Catalogue(make_tracks(50)), listeners), make_affect()
    plain = recommender.recommend(affect, listener="anna")
    listeners.rate("anna", affect, plain[0].id, 1)
    first = recommender.recommend(affect, listener="anna")
    for each in first:
        listeners.rate("anna", affect, each.id, 1)
    assert recommender.recommend(affect, listener="anna") != first
    listeners.forget("anna")
    assert recommender.recommend(affect, listener="anna") == plain


def test_forgetting_leaves_no_byte_of_the_listener_in_the_files(tmp_path):
    listeners = Listeners(tmp_path / "l.db")
    secret = make_affect(valence=0.123456789)
    for _ in range(30):
        listeners.rate("annabel-lee", secret, "t1", 4)
        listeners.rate("bob", make_affect(), "t2", 4)

    def bytes_on_disk():
        return b"".join(file.read_bytes() for file in sorted(tmp_path.iterdir()) if not file.name.endswith("-shm"))

    traces = (b"annabel-lee", struct.pack(">d", 0.123456789))
    assert all(trace in bytes_on_disk() for trace in traces)
    assert listeners.forget("annabel-lee") == 30
    assert not any(trace in bytes_on_disk() for trace in traces)
    assert len(listeners.ratings("bob")) == 30
    assert listeners.forget("annabel-lee") == 0
    listeners.close()


def test_the_oldest_ratings_make_room(listeners, monkeypatch):
    monkeypatch.setattr("pocketaffect.app.music.listeners.MAX_RATINGS", 5)
    for number in range(8):
        listeners.rate("anna", make_affect(), f"t{number}", 3)
    listeners.rate("bob", make_affect(), "t0", 3)
    assert [rating.track for rating in listeners.ratings("anna")] == ["t3", "t4", "t5", "t6", "t7"]
    assert MAX_RATINGS == 500


def test_threads_lose_no_rating(listeners):
    def rate(name):
        for number in range(10):
            listeners.rate(name, make_affect(), f"t{number}", 3)

    threads = [threading.Thread(target=rate, args=(f"listener {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(listeners.ratings(f"listener {number}")) for number in range(6)] == [10] * 6


@pytest.mark.parametrize("stars", [0, 6, 2.5, True, "5", None])
def test_impossible_stars_are_refused(listeners, stars):
    with pytest.raises(PocketAffectError, match="impossible stars"):
        listeners.rate("anna", make_affect(), "t1", stars)
    assert listeners.ratings("anna") == []


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\ud800", "a\0b"])
def test_impossible_names_are_refused(listeners, name):
    with pytest.raises(PocketAffectError, match="impossible name of a listener"):
        listeners.rate(name, make_affect(), "t1", 3)
    with pytest.raises(PocketAffectError, match="impossible name of a track"):
        listeners.rate("anna", make_affect(), name, 3)
    for ask in (listeners.ratings, listeners.forget, listeners.version):
        with pytest.raises(PocketAffectError, match="impossible name"):
            ask(name)


def test_another_database_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(PocketAffectError, match=r"(?s)cannot be used as the listeners store.*another database"):
        Listeners(file)
    assert file.read_bytes() == before
    (tmp_path / "text.db").write_text("no database at all" * 100)
    with pytest.raises(PocketAffectError, match="cannot be used"):
        Listeners(tmp_path / "text.db")
    with pytest.raises(PocketAffectError, match="cannot be used"):
        Listeners(tmp_path / "text.db" / "below.db")


def test_only_the_owner_may_read_and_git_does_not_see_the_folder(listeners, tmp_path):
    folder = tmp_path / "own"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "listeners.db").stat().st_mode & 0o077 == 0
    assert (folder / ".gitignore").read_text().endswith("*\n")
