import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from music_parts import SPOTIFY_HEADER, spotify_rows, write_list
from scipy import stats

from pocketaffect.app.music.catalogue import Catalogue, write_catalogue
from pocketaffect.app.music.import_tracks import import_tracks
from pocketaffect.errors import PocketAffectError

DEEZER_HEADER = ("dzr_sng_id", "MSD_sng_id", "valence", "arousal", "artist_name", "track_name")


def test_a_spotify_style_list_is_recognised_and_declared(tmp_path):
    imported = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, spotify_rows(50)))
    assert {
        "list: separated by ','",
        "title: column track_name",
        "mode: column mode",
        "not used: danceability",
        "scale of valence: 0-1",
        "scale of energy: 0-1",
    } <= set(imported.declarations)
    assert len(imported.tracks) == 50
    assert imported.problems == []
    assert imported.tracks[7].id == "id7"
    assert imported.tracks[7].mode == 1
    assert not imported.tracks[7].estimated


def test_a_deezer_style_list_s_z_scores_become_shares_of_a_normal_distribution(tmp_path):
    random = np.random.default_rng(1)
    scores = random.normal(0, 1, (300, 2)).round(3)
    rows = [(number, "x", *scores[number], f"A{number}", f"T{number}") for number in range(300)]
    imported = import_tracks(write_list(tmp_path / "d.csv", DEEZER_HEADER, rows))
    assert {"list: separated by ','", "energy: column arousal", "scale of energy: z"} <= set(imported.declarations)
    assert [track.valence for track in imported.tracks] == pytest.approx(stats.norm.cdf(scores[:, 0]).tolist())
    assert np.median([track.energy for track in imported.tracks]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("name", "scale"),
    [("0-1", lambda share: share), ("0-100", lambda share: 100 * share), ("-1-1", lambda share: 2 * share - 1)],
)
def test_every_scale_gives_the_same_catalogue(tmp_path, name, scale):
    shares = np.random.default_rng(2).random((60, 2))
    rows = [
        (f"T{number}", f"A{number}", *(repr(float(scale(share))) for share in pair))
        for number, pair in enumerate(shares)
    ]
    imported = import_tracks(write_list(tmp_path / "l.csv", ("title", "artist", "valence", "energy"), rows))
    assert f"scale of energy: {name}" in imported.declarations
    assert [track.valence for track in imported.tracks] == pytest.approx(shares[:, 0].tolist())


def test_energy_is_centred_in_its_order_so_that_calm_faces_find_songs(tmp_path):
    rows = spotify_rows(500)
    imported = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, rows))
    given_energy = np.array([row[4] for row in rows])
    energy = np.array([track.energy for track in imported.tracks])
    assert np.median(given_energy) > 0.7
    assert np.median(energy) == pytest.approx(0.5, abs=1e-4)
    assert (energy < 0.25).mean() > 5 * (given_energy < 0.25).mean()
    assert stats.spearmanr(given_energy, energy).statistic == pytest.approx(1)


def test_importing_an_imported_catalogue_changes_nothing(tmp_path):
    imported = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, spotify_rows(200)))
    write_catalogue(imported.tracks, tmp_path / "c.csv")
    again = import_tracks(tmp_path / "c.csv")
    assert again.tracks == list(Catalogue.load(tmp_path / "c.csv").tracks)
    assert (again.merged, again.problems) == (0, [])


def test_rows_of_one_song_are_merged(tmp_path):
    rows = [
        ("Yesterday - Remastered 2009", "The Beatles", "pop", 0, 0.2, 0.3, "", "a"),
        ("Yesterday", "the beatles", "folk", 0, 0.4, 0.5, 1, "b"),
        ("YESTERDAY (feat. Paul)", "The  Beatles", "pop", 0, 0.3, 0.4, 1, "c"),
        ("Yesterday - Live", "The Beatles", "pop", 0, 0.9, 0.4, 1, "d"),
        ("Café", "Zoë", "pop", 0, 0.9, 0.4, 1, "e"),
        ("Cafe", "Zoe", "pop", 0, 0.9, 0.4, 1, "e"),
    ]
    imported = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, rows))
    assert imported.merged == 3
    assert [track.id for track in imported.tracks] == ["a", "d", "e"]
    first = imported.tracks[0]
    assert (first.genres, first.mode) == (("folk", "pop"), 1)
    assert (first.energy, first.valence) == (pytest.approx(0.3), pytest.approx(0.4))


def test_one_id_for_two_songs_stays_with_the_first(tmp_path):
    rows = [("One", "A", "pop", 0, 0.2, 0.3, 1, "same"), ("Two", "A", "pop", 0, 0.2, 0.3, 1, "same")]
    first, second = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, rows)).tracks
    assert first.id == "same"
    assert second.id not in ("same", "")


def test_broken_rows_are_skipped_with_their_line_and_reason(tmp_path):
    rows = spotify_rows(100)
    rows[3] = ("", *rows[3][1:])
    rows[10] = (*rows[10][:4], "loud", *rows[10][5:])
    rows[20] = (*rows[20][:4], 73, *rows[20][5:])
    rows[30] = (*rows[30][:5], "inf", *rows[30][6:])
    rows[40] = rows[40][:3]
    rows[50] = (*rows[50][:6], "dorian", rows[50][7])
    imported = import_tracks(write_list(tmp_path / "s.csv", SPOTIFY_HEADER, rows))
    assert [problem.line for problem in imported.problems] == [5, 12, 22, 32, 42, 52]
    reasons = [problem.reason for problem in imported.problems]
    assert reasons[0] == "title: empty"
    assert reasons[1] == "energy: 'loud' is no number"
    assert reasons[2] == "energy: 73 is not on the column's scale 0-1"
    assert reasons[3] == "valence: 'inf' is no finite number"
    assert reasons[4] == "3 value(s) under 8 columns"
    assert "mode: 'dorian'" in reasons[5]
    assert (imported.rows, len(imported.tracks)) == (100, 94)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_spreadsheets_exports_are_read(tmp_path, encoding):
    rows = [("Déjà", "['Anna B', 'C']", "R&B; Pop", "0,25", "0,75", "minor", "2003-04-05")] * 1
    header = ("Track Name", "Artist Name(s)", "Genres", "Energy", "Valence", "Mode", "Release Date")
    file = write_list(tmp_path / "e.csv", header, rows, separator="\t", encoding=encoding)
    (track,) = import_tracks(file).tracks
    assert (track.title, track.artist, track.year, track.mode) == ("Déjà", "Anna B, C", 2003, 0)
    assert (track.genres, track.energy, track.valence) == (("pop", "rnb", "soul"), 0.25, 0.75)


def test_old_line_ends_are_read(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"title,artist,valence,energy\rA,B,.1,.2\rC,D,.3,.4\r")
    (tmp_path / "w.csv").write_bytes(b"title,artist,valence,energy\r\nA,B,.1,.2\r\nC,D,.3,.4\r\n")
    assert import_tracks(tmp_path / "m.csv").tracks == import_tracks(tmp_path / "w.csv").tracks


def test_a_quote_that_is_never_closed_spoils_one_row(tmp_path):
    lines = ["title,artist,valence,energy", 'A,"B,.1,.2', '12" mix,D,.3,.4', "E,F,.5,.6"]
    (tmp_path / "q.csv").write_text("\n".join(lines))
    imported = import_tracks(tmp_path / "q.csv")
    assert [problem.line for problem in imported.problems] == [2]
    assert [track.title for track in imported.tracks] == ['12" mix', "E"]


def test_a_missing_column_is_named_with_the_names_it_may_have(tmp_path):
    file = write_list(tmp_path / "x.csv", ("title", "artist", "tempo"), [("a", "b", 120)])
    with pytest.raises(PocketAffectError, match=r"no column for valence and energy(.|\n)*arousal(.|\n)*rename"):
        import_tracks(file)


@pytest.mark.parametrize("column", ["energy", "Arousal", "nrgy"])
def test_an_unknown_scale_is_refused_and_can_be_named_as_the_error_says(tmp_path, column):
    rows = [(f"T{number}", f"A{number}", 0.5, number * 10) for number in range(50)]
    file = write_list(tmp_path / "x.csv", ("title", "artist", "valence", column), rows)
    advice = rf"column {column} is on no scale(.|\n)*`--scale energy=0-100` keeps 11 of 50 rows"
    with pytest.raises(PocketAffectError, match=advice):
        import_tracks(file)
    imported = import_tracks(file, {"energy": "0-100"})
    assert (len(imported.tracks), len(imported.problems)) == (11, 39)
    with pytest.raises(PocketAffectError, match="--scale: unknown"):
        import_tracks(file, {"energy": "0-7"})


def test_a_scale_that_keeps_no_row_is_not_advised(tmp_path):
    rows = [(f"T{number}", f"A{number}", 0.5, number + 1000) for number in range(50)]
    with pytest.raises(PocketAffectError, match=r"column energy is on no scale") as caught:
        import_tracks(write_list(tmp_path / "x.csv", ("title", "artist", "valence", "energy"), rows))
    assert "--scale" not in str(caught.value)


def test_a_column_in_two_spellings_is_refused(tmp_path):
    file = write_list(tmp_path / "x.csv", ("title", "artist", "valence", "Energy", "energy"), [("a", "b", 0, 0, 1)])
    with pytest.raises(PocketAffectError, match=r"a column occurs twice\n.*Energy, energy"):
        import_tracks(file)


def test_a_list_without_a_sound_row_is_refused(tmp_path):
    file = write_list(tmp_path / "x.csv", ("title", "artist", "valence", "energy"), [("a", "b", "c", "d")])
    with pytest.raises(PocketAffectError, match="no sound row"):
        import_tracks(file)


@pytest.mark.slow
def test_25000_tracks_lose_no_row(tmp_path):
    rows = spotify_rows(24_000)
    imported = import_tracks(write_list(tmp_path / "l.csv", SPOTIFY_HEADER, rows + rows[:1000]))
    assert (imported.rows, imported.merged, len(imported.tracks)) == (25_000, 1_000, 24_000)


cells = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.floats().map(str) | st.just("0.5")


@settings(max_examples=60)
@given(
    st.lists(st.lists(cells, min_size=2, max_size=6).map(",".join), max_size=8), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_no_list_breaks_the_import(tmp_path_factory, lines, end):
    file = tmp_path_factory.mktemp("f") / "f.csv"
    file.write_bytes(end.join(["title,artist,valence,energy", *lines]).encode())
    try:
        imported = import_tracks(file)
    except PocketAffectError:
        return
    assert imported.rows == len(imported.tracks) + imported.merged + len(imported.problems)
    assert all(0 <= track.energy <= 1 and 0 <= track.valence <= 1 for track in imported.tracks)
    assert len({track.id for track in imported.tracks}) == len(imported.tracks)


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_import(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("f") / "f.csv"
    file.write_bytes(content)
    with pytest.raises(PocketAffectError):
        import_tracks(file)
