"""What a bank gets after its nets are trained: even keys, courses, voices beside the nets."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.lasting import KNOT_SECONDS, Courses, as_key_offsets, next_chunk
from miao.bank.voices import N_PITCHES, PITCH_NODES, drum_voice
from miao.datasets.notes import HELD_OUT_PITCHES, NoteData
from miao.training.courses import (
    FIRSTS,
    KEY_KNOTS,
    NODES,
    course,
    held_chunks,
    key_offsets,
    played_db,
    repeated_db,
)
from miao.training.evenness import key_trims
from miao.training.extras import ExtrasConfig, learn_rows, starting_drums

N_MOMENTS = len(FIRSTS) + len(KNOT_SECONDS) - 1


def held(levels_db):
    """What `measure_held` gives for a teacher whose cells all have these levels (dB) at the moments."""
    found = np.full((PITCH_NODES, N_MOMENTS, tk.N_CELLS), np.nan, np.float32)
    found[NODES.start : NODES.stop] = np.asarray(levels_db, np.float32)[None, :, None]
    return found


def test_a_course_makes_up_for_what_the_nets_are_off_and_for_what_the_teacher_loses():
    begin, falls = -20.0, -3.0 * np.arange(len(KNOT_SECONDS) - 1)
    moved = course(held([begin] * len(FIRSTS) + (begin + falls).tolist()), np.full(PITCH_NODES, -24.0), 2)
    expected = (4.0 + falls) / tk.LEVEL_STEP_DB
    np.testing.assert_allclose(moved[20, :-1, 5], expected, atol=1e-4)
    assert moved[20, -1, 5] < moved[20, -2, 5]  # and goes on falling behind the last measured moment
    assert not moved[..., tk.PITCH_CELL].any()


def test_a_note_that_beats_is_kept_at_its_mean_power():
    beats = [-20.0] * len(FIRSTS) + [-20.0, -19.0, -21.0, -19.0, -21.0, -19.0, -21.0]
    moved = course(held(beats), np.full(PITCH_NODES, -20.0), 2)
    mean = 10 * np.log10(np.mean(10 ** (np.array([-19.0, -21.0] * 3) / 10)))
    np.testing.assert_allclose(moved[20, 1:, 5], (mean + 20) / tk.LEVEL_STEP_DB, atol=1e-4)


def test_along_its_course_a_note_of_the_nets_has_the_teachers_level(toy_bank):
    teacher = [-20.0] * len(FIRSTS) + [-20.0, -22.0, -26.0, -32.0, -40.0, -50.0, -60.0]
    moved = course(held(teacher), repeated_db(toy_bank, 0, 2), 2)
    chunk = held_chunks(toy_bank, 0, np.array([60]), 100, 2)[-1][0]
    late = next_chunk((chunk, chunk), chunk[-1], 3, KNOT_SECONDS[2] - 0.31, moved[20])
    assert played_db(toy_bank.table, 0, 60, late) == pytest.approx(-26.0, abs=0.3)


def test_each_key_is_set_to_the_level_that_was_measured_whatever_its_course_says(toy_bank):
    wanted = np.full((N_PITCHES, KEY_KNOTS), np.nan, np.float32)
    wanted[60] = [-20.0, -23.0, -29.0, -34.0, -40.0]
    wanted[61] = [-30.0, -60.0, -130.0, -130.0, -130.0]
    offsets = np.full((PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), -4, np.int8)
    moved = key_offsets(toy_bank, 0, wanted, 2, offsets)
    assert not moved[59].any() and moved[60, -1] == moved[60, KEY_KNOTS - 1]
    assert (moved[61, 2:] == moved[61, 1]).all()  # what cannot be heard is not corrected
    courses = Courses(np.zeros(1, np.int16), np.array([2], np.uint8), offsets[None], as_key_offsets(moved[None]))
    chunk = held_chunks(toy_bank, 0, np.array([60]), 100, 2)[-1][0]
    for knot in range(1, KEY_KNOTS):
        late = next_chunk((chunk, chunk), chunk[-1], 3, KNOT_SECONDS[knot] - 0.31, courses.at(0, 60))
        assert played_db(toy_bank.table, 0, 60, late[15:17]) == pytest.approx(wanted[60, knot], abs=0.5)


@pytest.mark.parametrize("louder_db", [0.0, 3.0, -3.0])
def test_trims_make_keys_as_even_as_the_teachers_and_look_at_none_that_is_held_out(toy_bank, louder_db):
    silent = dataclasses.replace(toy_bank, encode=None)
    chunks = held_chunks(silent, 0, np.array([60]), 100, 1)
    ours = played_db(silent.table, 0, 60, chunks[-1][0])
    keys = np.full(N_PITCHES, np.nan, np.float32)
    keys[55:66] = ours + louder_db + np.linspace(-2.5, 2.5, 11)
    keys[62] = ours + 8  # held out
    assert 62 in HELD_OUT_PITCHES
    trims = key_trims(silent, 0, keys)
    even = np.array([*trims[55:62], *trims[63:66]]) - np.delete(np.linspace(-2.5, 2.5, 11), 7)
    assert np.ptp(even) < 0.2
    common = np.median(np.delete(keys[55:66] - ours, 7))
    assert even[0] == pytest.approx(louder_db - np.clip(common, -0.5, 0.5), abs=0.1)
    assert trims[62] == pytest.approx(0.5 * (trims[61] + trims[63]), abs=0.01)
    assert trims[20] == trims[55] and trims[100] == trims[65]


def test_a_drum_learnt_beside_the_nets_comes_near_its_notes():
    gm = Bank.load("gm", n_threads=1)
    target = held_chunks(gm, drum_voice(40), np.array([40]), 100, 2)
    tokens = np.rint(np.concatenate(target)).astype(np.uint8)
    tokens[0, :, :10] = np.minimum(tokens[0, :, :10] + 6, 63)  # no drum of the bank is so bright
    notes = [NoteData(300, 40, v, tk.NoteTokens(tokens, tokens[:0], 1.4), is_drum=True) for v in (90, 100, 110)]
    errors = []
    start = starting_drums(gm, [notes])
    learnt = learn_rows(
        gm, [notes], start, ExtrasConfig(steps=12, batch_notes=3), lambda _, error: errors.append(error)
    )
    assert np.mean(errors[-2:]) < 0.8 * np.mean(errors[:2])
    assert learnt.attack.shape == (1, 6, 2, tk.N_CELLS) and np.abs(learnt.attack).max() > 0
