"""Default voices learnt from music: what is taken of a shift, and what stays the program's."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.level_shift import AGES, SINCE, LevelShift
from miao.bank.surface import FADE_SEMITONES
from miao.bank.voices import N_PITCHES, PITCH_NODES
from miao.training import default_voice
from miao.training.common_tone import _partials_hz, common_tone
from miao.training.default_voice import Range, default_from_music
from miao.training.heard_ages import heard_ages, program_lasts, settled

VIOLIN, PARTIAL, NOISE = 40, 4, tk.N_PARTIALS + 9
RECORDED = Range(55, 88)


@pytest.fixture(scope="module")
def taught():
    """What the nets of the bank were taught of General MIDI."""
    return Bank.load("gm", 1, has_more=False)


def shift(everywhere=0.0):
    """Partials 3 levels down and noise 6, 40 after half a second; keys with their own, notes that end sooner."""
    held = np.zeros((len(AGES), 2, PITCH_NODES, tk.PITCH_CELL), np.float16)
    held[:, 0] = everywhere
    held[:, 0, :, : tk.N_PARTIALS] -= 3
    held[:, 0, :, tk.N_PARTIALS :] -= 6
    held[AGES > 0.5, 0] = -40
    held[:, 1] = 2
    keys = np.zeros((2, N_PITCHES, tk.PITCH_CELL), np.float16)
    keys[:, RECORDED.low : 61] = 2
    let_go = np.full((len(SINCE), PITCH_NODES, tk.PITCH_CELL), -5, np.float16)
    return LevelShift(held, let_go, np.array([0.6], np.float32), keys)


@pytest.fixture
def learnt(taught, monkeypatch):
    """A voice of the shift, from notes of some lengths."""
    monkeypatch.setattr(default_voice, "even_voice", lambda bank, voice, program, recorded, heard: voice)
    about = {"name": "violin", "licence": "", "origin": ""}
    return lambda *seconds, everywhere=0.0: default_from_music(
        taught, shift(everywhere), VIOLIN, RECORDED, np.array(seconds), about
    )


@pytest.fixture
def voice(learnt):
    return learnt(*[0.3] * 99, 4.0)


def moved(voice, pitch, age=0.1, since=None):
    """What is added to a note of some age, by cell."""
    asked = np.array([pitch], np.float32), np.array([0.6], np.float32), np.array([[age]], np.float32)
    return voice.shift.at(*asked, None if since is None else np.array([[since]], np.float32))[0, 0]


def test_within_the_pitches_played_the_program_is_moved_and_beyond_it_is_left(voice):
    far = FADE_SEMITONES + 3
    for pitch in (57, 70, 87):
        assert moved(voice, pitch)[PARTIAL] == pytest.approx(moved(voice, 64)[PARTIAL], abs=0.35)
    for pitch in (55 - far, 88 + far):
        assert not moved(voice, pitch).any()
    assert 0.2 < moved(voice, 88 + FADE_SEMITONES // 2)[PARTIAL] / moved(voice, 70)[PARTIAL] < 0.8


def test_all_ages_and_strengths_and_keys_are_moved_alike(learnt):
    voice = learnt(*[0.25] * 99, 0.4)
    for age in (0.0, 0.8, 2.0, 10.0):
        np.testing.assert_array_equal(moved(voice, 70, age), moved(voice, 70))
    assert voice.shift.keys is None and not voice.shift.held[:, 1].any()
    assert moved(voice, 70)[PARTIAL] == pytest.approx(-3, abs=0.1)


def test_notes_count_at_ages_as_long_as_they_sound(learnt):
    short, long = learnt(0.3, 0.4), learnt(6.0, 6.0)
    assert moved(long, 70)[PARTIAL] < -25 < -5 < moved(short, 70)[PARTIAL]


def test_partials_and_noise_have_each_their_own_tone(voice):
    apart = moved(voice, 70)[PARTIAL] - moved(voice, 70)[NOISE]
    assert 2 < apart < 3.1


def test_what_a_partial_is_moved_by_depends_on_its_frequency_and_not_on_its_number(taught):
    steep = shift()
    held = np.zeros_like(steep.held)
    hz = np.stack([_partials_hz(taught.table, VIOLIN, node) for node in range(PITCH_NODES)])
    held[:, 0, :, : tk.N_PARTIALS] = -4 * np.log2(np.maximum(hz, 20) / 20)
    held[:, 0, 20] += 12 * (np.arange(tk.PITCH_CELL) % 2 - 0.5)  # of one key, up and down from partial to partial
    played = np.zeros(PITCH_NODES, bool)
    played[19:30] = True
    tone = common_tone(dataclasses.replace(steep, held=held), taught.table, VIOLIN, np.full(9, 0.3), played)
    found = tone.held[0, 0, :, : tk.N_PARTIALS].astype(np.float32)
    inside = played[:, None] & (hz > 400) & (hz < 9000)
    np.testing.assert_allclose(found[inside], -4 * np.log2(hz[inside] / 20), atol=1.5)


def test_what_was_heard_counts_by_how_long_it_was_heard():
    heard = heard_ages(np.array([0.03, 0.1]))
    assert heard.sum() == pytest.approx(1)
    assert not heard[AGES > 0.1].any()
    assert heard[AGES == 0.03] == pytest.approx((0.015 * 2 + 0.035) / 0.13, abs=0.05)


def test_a_note_ends_as_the_programs_does(voice):
    np.testing.assert_array_equal(moved(voice, 70, since=0.3), moved(voice, 70))


def test_what_is_raised_everywhere_is_not_as_levels_end_at_the_top_of_their_scale(learnt):
    raised = moved(learnt(0.3, 0.3, everywhere=12), 70)
    assert raised[PARTIAL] == pytest.approx(0, abs=0.1) and raised[NOISE] == pytest.approx(-3, abs=0.1)
    assert moved(learnt(0.3, 0.3, everywhere=-12), 70)[PARTIAL] == pytest.approx(-15, abs=0.1)


def test_what_the_program_has_by_key_stays(voice, taught):
    theirs = taught.additions.key_levels.alone(VIOLIN)
    np.testing.assert_array_equal(voice.key_levels.levels, theirs.levels)
    assert int(voice.table.kind[0]) == int(taught.table.kind[VIOLIN])


def test_it_says_what_it_is(voice):
    about = voice.about
    assert (about["program"], about["lowest"], about["highest"], about["lasts"]) == ("41", "55", "88", "yes")
    assert about["set_out_from"] == "program 41, Violin"
    assert dataclasses.is_dataclass(voice.shift)


def test_programs_that_last_are_told_from_those_that_die_away(taught):
    lasting = [
        program for program in (0, 6, 12, 16, 24, 33, 40, 46, 52, 56, 66, 71, 73) if program_lasts(taught, program)
    ]
    assert lasting == [16, 40, 52, 56, 66, 71, 73]
    assert not program_lasts(dataclasses.replace(taught, courses=None), VIOLIN)


def test_what_is_settled_once_is_settled():
    once = settled(shift(), np.full(9, 0.25))
    twice = settled(once, np.full(9, 0.25))
    np.testing.assert_allclose(once.held.astype(float), twice.held.astype(float), atol=0.05)
    np.testing.assert_array_equal(once.keys, twice.keys)
