import pytest
from click.testing import CliRunner
from music_parts import SPOTIFY_HEADER, spotify_rows, write_list

from pocketaffect.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["music", *map(str, arguments)])


def test_a_list_is_imported_described_and_recommended_from(tmp_path):
    rows = spotify_rows(200)
    rows[1] = (*rows[1][:4], "x", *rows[1][5:])
    file, target = write_list(tmp_path / "s.csv", SPOTIFY_HEADER, [*rows, rows[0]]), tmp_path / "c.csv"
    done = run("import", file, "--to", target)
    assert done.exit_code == 0, done.output
    assert "list: separated by" in done.output
    assert "line 3: energy: 'x' is no number" in done.output
    assert f"{target}: 199 tracks of 201 rows, 1 merged, 1 skipped" in done.output
    described = run("describe", target)
    assert "199 tracks by 199 artists" in described.output
    songs = run("recommend", "happiness", "--catalogue", target, "--service", "deezer")
    assert songs.output.count("https://www.deezer.com/search/") == 5


def test_the_curated_catalogue_is_the_default():
    assert "values estimated" in run("describe").output
    assert run("recommend", "sadness").output == run("recommend", "sadness").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recommend", "joy"), "unknown expression"),
        (("recommend", "anger", "--service", "napster"), "--service: unknown"),
        (("recommend", "anger", "--valence", "nan"), "valence is no number"),
        (("import", "no.csv"), "no.csv: not readable"),
        (("import", "no.csv", "--scale", "tempo=z"), "--scale: unknown number"),
        (("describe", "no.csv"), "no.csv: not readable"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 1
    assert message in done.output
