"""What a listener changes: the score that comes of it, and that changing nothing gives the very score."""

import json

import numpy as np
import pytest
from conftest import make_midi

from miao.errors import BankError, ConfigError
from miao.midi.score import read_score
from miao.synth.arrangement import Arrangement
from miao.synth.settings import PlaySettings

SETTINGS = PlaySettings(gain_db=6.0, room="hall")


@pytest.fixture(scope="module")
def score(song):
    return read_score(song)


def arranged(score, **told):
    return Arrangement.of(told).score(score)


def test_an_arrangement_of_nothing_is_the_score_itself(score):
    assert Arrangement.of({}).score(score) is score
    assert Arrangement.of({}).settings(score) == PlaySettings()
    assert not Arrangement.of({"room": "church", "wet": 0.5, "loudness": -20}).changes_notes


def test_half_the_tempo_takes_twice_as_long_in_all_that_has_a_time(score):
    slow = arranged(score, tempo=0.5)
    assert slow.duration == 2 * score.duration and slow.end == 2 * score.end
    for before, after in zip(score.tracks, slow.tracks, strict=True):
        for name in ("start", "end", "damp", "cut"):
            np.testing.assert_array_equal(after.notes[name], 2 * before.notes[name])
        for name, curve in before.controls.items():
            np.testing.assert_array_equal(after.controls[name].times, 2 * curve.times)
    assert slow.tempi.at(0.0) == score.tempi.at(0.0) / 2


def test_transposing_leaves_drums_and_drops_what_has_no_key(score):
    up = arranged(score, transpose=12)
    assert set(up.tracks[0].notes["pitch"]) == {93}
    np.testing.assert_array_equal(up.tracks[2].notes, score.tracks[2].notes)
    high = read_score(make_midi({"notes": [(0, 1, 120, 90), (1, 2, 60, 90)]}))
    assert list(arranged(high, transpose=10).tracks[0].notes["pitch"]) == [70]
    with pytest.raises(ConfigError, match="all notes leave the keys"):
        arranged(read_score(make_midi({"notes": [(0, 1, 120, 90)]})), transpose=24)


def test_a_muted_track_is_left_out_and_a_solo_leaves_out_all_others(score):
    assert [t.name for t in arranged(score, tracks={"1": {"muted": True}}).tracks] == ["Bass: a/b", ""]
    assert [t.name for t in arranged(score, tracks={"2": {"solo": True}, "3": {"muted": True}}).tracks] == ["Bass: a/b"]
    with pytest.raises(ConfigError, match="all tracks are muted"):
        arranged(score, tracks={str(n): {"muted": True} for n in (1, 2, 3)})


def test_a_track_gets_another_program_or_kit_for_all_its_notes(score):
    changed = arranged(score, tracks={"1": {"program": 41}, "3": {"kit": 16}})
    assert set(changed.tracks[0].notes["program"]) == {40} and not changed.tracks[0].notes["is_drum"].any()
    assert set(changed.tracks[2].notes["program"]) == {16} and changed.tracks[2].notes["is_drum"].all()
    varied = arranged(score, tracks={"1": {"program": 25, "variation": 8}}).tracks[0].notes
    assert set(varied["program"]) == {24} and set(varied["bank"]) == {8 << 7}
    drum = arranged(score, tracks={"1": {"kit": 0}}).tracks[0].notes
    assert drum["is_drum"].all() and changed.tracks[1] is score.tracks[1]


def test_a_fader_turns_the_sound_down_by_its_decibels(score, synthesizer):
    def level(told):
        audio = synthesizer.render(arranged(score, tracks={"2": {"solo": True} | told}), SETTINGS, room="none")
        return 10 * np.log10(np.square(audio.samples).mean(axis=1))

    plain, soft, right = level({}), level({"volume_db": -12}), level({"pan": 1.0})
    np.testing.assert_allclose(soft - plain, -12, atol=0.01)
    assert right[0] < -100 and right[1] > plain[1]


def test_a_voice_goes_to_the_place_that_its_track_has_among_those_heard(score):
    wished = Arrangement.of({"tracks": {"1": {"muted": True}, "3": {"voice": "my-drum"}}})
    assert wished.cast(score, find=lambda name: name.upper()) == {2: "MY-DRUM"}
    with pytest.raises(BankError, match="no voice"):
        wished.cast(score)


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ([], "JSON object"), ({"tempo": 3}, "tempo"), ({"tempo": "fast"}, "tempo"), ({"transpose": 1.5}, "transpose"),
        ({"nothing": 1}, '"nothing" is not a setting'), ({"tracks": []}, "by number"),
        ({"tracks": {"x": {}}}, "by number"), ({"tracks": {"²": {}}}, "by number"),
        ({"tracks": {"1": {"volume_db": 60}}}, "volume_db"),
        ({"tracks": {"1": {"variation": 8}}}, "a variation of no program"),
        ({"tracks": {"1": {"program": 3, "voice": "x"}}}, "several instruments"), ({"wet": float("nan")}, "wet"),
        ({"tracks": {"1": {"colour": 3}}}, "tracks.1.colour"), ({"loudness": True}, "loudness"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(told, what):
    with pytest.raises(ConfigError, match=what):
        Arrangement.of(told)


def test_a_track_that_is_not_there_is_an_error(score):
    with pytest.raises(ConfigError, match="there is no track 4; the song has tracks 1 to 3"):
        arranged(score, tracks={"4": {"muted": True}})


def test_the_file_says_the_same(tmp_path):
    told = {"tempo": 0.8, "tracks": {"2": {"volume_db": -3.5}}}
    path = tmp_path / "arrangement.json"
    path.write_text(json.dumps(told))
    assert Arrangement.load(path) == Arrangement.of(told)
    path.write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        Arrangement.load(path)
    path.write_text('{"tempo": "fast"}')
    with pytest.raises(ConfigError, match=r'arrangement.json: "tempo" is "fast"'):
        Arrangement.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        Arrangement.load(tmp_path / "none.json")
