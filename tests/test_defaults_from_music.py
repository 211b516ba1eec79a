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
from miao.training.default_voice import Range, default_from_music
from miao.training.heard_ages import heard_ages, program_lasts, settled

VIOLIN, CELL, OTHER = 40, 4, 9
RECORDED = Range(55, 88)


@pytest.fixture(scope="module")
def taught():
    """What the nets of the bank were taught of General MIDI."""
    return Bank.load("gm", 1, has_more=False)


def shift(everywhere=0.0):
    """3 levels in one cell everywhere, and -40 after half a second; in another cell 2 for keys up to 60 and 1 for
    those from 62 on, of the keys from 55 to 88."""
    held = np.zeros((len(AGES), 2, PITCH_NODES, tk.PITCH_CELL), np.float16)
    held[:, 0] = everywhere
    held[:, 0, :, CELL] += 3
    held[AGES > 0.5, 0, :, CELL] = -40
    keys = np.zeros((2, N_PITCHES, tk.PITCH_CELL), np.float16)
    keys[0, RECORDED.low : 61, OTHER] = 2
    keys[0, 62 : RECORDED.high + 1, OTHER] = 1
    keys[1, RECORDED.low : RECORDED.high + 1, OTHER + 1] = 4  # louder with age
    keys[:, 61] = 0  # which nobody played
    let_go = np.full((len(SINCE), PITCH_NODES, tk.PITCH_CELL), -5, np.float16)
    return LevelShift(held, let_go, np.array([0.6], np.float32), keys)


@pytest.fixture
def learnt(taught, monkeypatch):
    """A voice of the shift, from notes of some lengths."""
    monkeypatch.setattr(default_voice, "even_voice", lambda bank, voice, program, recorded: voice)
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
    for pitch in (55, 70, 88):
        assert moved(voice, pitch)[CELL] == pytest.approx(3, abs=0.35)
    for pitch in (55 - far, 88 + far):
        assert not moved(voice, pitch).any()
    between = moved(voice, 88 + FADE_SEMITONES // 2)[CELL]
    assert 0.5 < between < 2.5


def test_ages_that_few_notes_reach_sound_as_notes_do_on_the_whole(learnt):
    short, long = learnt(*[0.25] * 99, 0.4), learnt(*[6.0] * 99, 0.3)
    for age in (0.8, 2.0, 10.0):
        assert moved(short, 70, age)[CELL] == pytest.approx(3, abs=0.1)
        assert moved(long, 70, age)[CELL] == pytest.approx(-40)
    assert moved(short, 70, 0.1)[CELL] == moved(long, 70, 0.1)[CELL] == 3


def test_what_was_heard_counts_by_how_long_it_was_heard():
    heard = heard_ages(np.array([0.03, 0.1]))
    assert heard.sum() == pytest.approx(1)
    assert not heard[AGES > 0.1].any()
    assert heard[AGES == 0.03] == pytest.approx((0.015 * 2 + 0.035) / 0.13, abs=0.05)


def test_no_key_decays_by_itself(voice):
    np.testing.assert_allclose(moved(voice, 60, 0.9), moved(voice, 60, 4.5), atol=1e-5)
    assert -2 < moved(voice, 60)[OTHER + 1] < -0.5  # as it was while most notes sounded


def test_a_note_ends_as_the_programs_does(voice):
    np.testing.assert_array_equal(moved(voice, 70, since=0.3), moved(voice, 70))


def test_a_key_has_its_own_colour_and_one_that_nobody_played_that_of_those_around(voice):
    assert [moved(voice, pitch)[OTHER] for pitch in (60, 62)] == pytest.approx([2, 1])
    assert 1.3 < moved(voice, 61)[OTHER] < 1.7
    assert 0.3 < moved(voice, RECORDED.high + FADE_SEMITONES // 2)[OTHER] < 0.7
    assert not moved(voice, RECORDED.high + FADE_SEMITONES)[OTHER]


def test_what_is_raised_everywhere_is_not_as_levels_end_at_the_top_of_their_scale(learnt):
    raised = moved(learnt(0.3, 0.3, everywhere=12), 70)
    assert raised[CELL] == pytest.approx(3, abs=0.1) and raised[CELL + 1] == pytest.approx(0, abs=0.1)
    assert moved(learnt(0.3, 0.3, everywhere=-12), 70)[CELL + 1] == pytest.approx(-12)


def test_what_the_program_has_by_key_stays(voice, taught):
    theirs = taught.key_levels.alone(VIOLIN)
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
