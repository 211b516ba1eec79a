"""Notes that are held for minutes: what repeats, along which course, and that all voices of the bank do so."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.lasting import (
    CHUNK_SECONDS,
    FIRST_CHUNK,
    KNOT_SECONDS,
    STEADY_CHUNK,
    Courses,
    as_key_offsets,
    as_offsets,
    next_chunk,
    without_slope,
)
from miao.bank.voices import N_PITCHES, PITCH_NODES
from miao.errors import BankError
from miao.measuring.roundtrip import one_note_score, play

RATE = 44100


def wavering(level, fall=0.0, seed=0):
    """A chunk around a level that falls by so many levels from its beginning to its end."""
    chunk = np.full((tk.CHUNK_STEPS, tk.N_CELLS), level, np.float32)
    chunk += np.random.default_rng(seed).normal(0, 0.3, chunk.shape).astype(np.float32)
    chunk -= np.linspace(-0.5, 0.5, tk.CHUNK_STEPS, dtype=np.float32)[:, None] * fall
    return chunk


def goes_on(recent, n, course=None, age=2.0):
    """So many chunks more of a note."""
    chunks, last = [], recent[-1][-1]
    for number in range(n):
        chunks.append(next_chunk(recent, last, number, age + number * CHUNK_SECONDS, course))
        last = chunks[-1][-1]
    return chunks


def test_a_note_that_neither_rises_nor_falls_is_the_same_after_ten_minutes():
    recent = (wavering(40), wavering(40, seed=1))
    chunks = goes_on(recent, 1000)
    np.testing.assert_array_equal(chunks[999], chunks[1])
    np.testing.assert_allclose(chunks[999].mean(axis=0), recent[1].mean(axis=0), atol=0.1)


def test_what_wavers_goes_back_and_forth_without_a_jump():
    chunks = goes_on((wavering(40), wavering(40, seed=1)), 6)
    np.testing.assert_array_equal(chunks[2], chunks[3][::-1])
    for before, after in pairwise(chunks[1:]):
        np.testing.assert_array_equal(before[-1], after[0])


def test_a_falling_note_goes_on_at_each_cells_own_rate():
    falls = np.linspace(1.0, 4.0, tk.N_CELLS, dtype=np.float32)  # levels a chunk
    recent = tuple(np.broadcast_to(50 - n * falls, (tk.CHUNK_STEPS, tk.N_CELLS)).astype(np.float32) for n in (0, 1))
    after = goes_on(recent, 5)[-1]  # its middle lies five chunks behind that of the last
    expected = np.clip(50 - 6 * falls, 0, 63)[: tk.PITCH_CELL]
    np.testing.assert_allclose(after.mean(axis=0)[: tk.PITCH_CELL], expected, atol=0.05)


def test_vibrato_neither_stops_nor_drifts():
    chunk = wavering(40)
    chunk[:, tk.PITCH_CELL] = tk.CENTS_CENTRE + 5 * np.sin(np.arange(tk.CHUNK_STEPS))
    after = goes_on((wavering(60), chunk), 200)[-1][:, tk.PITCH_CELL]
    np.testing.assert_array_equal(np.sort(after), np.sort(chunk[:, tk.PITCH_CELL]))


def test_a_note_follows_its_course_cell_by_cell():
    course = np.zeros((len(KNOT_SECONDS), tk.N_CELLS), np.float32)
    course[:, 0], course[:, 1] = -np.arange(len(KNOT_SECONDS)), 2.0
    recent = (wavering(40), wavering(40, fall=6.0, seed=1))
    chunks = goes_on(recent, 100, course)
    times = 2.0 + np.arange(100 * tk.CHUNK_STEPS) * tk.STEP_SECONDS[tk.SUSTAIN]
    levels = np.concatenate(chunks)
    for knot, moment in enumerate(KNOT_SECONDS[1:], start=1):
        around = np.abs(times - moment) < 0.3
        assert abs(levels[around, 0].mean() - (recent[1][:, 0].mean() - knot)) < 0.3
        assert abs(levels[around, 1].mean() - (recent[1][:, 1].mean() + 2)) < 0.3


def test_a_course_sets_in_where_the_note_is():
    course = np.full((len(KNOT_SECONDS), tk.N_CELLS), 10.0, np.float32)
    recent = (wavering(30), wavering(30, seed=1))
    first = next_chunk(recent, recent[-1][-1], 0, 2.0, course)
    assert np.abs(first[0] - recent[-1][-1])[: tk.PITCH_CELL].max() < 1.0
    assert abs(first[-1, : tk.PITCH_CELL].mean() - 40) < 0.5


def test_a_repeated_chunk_has_no_slope_left():
    flat = without_slope(wavering(40, fall=8.0))
    slope = np.polyfit(np.arange(tk.CHUNK_STEPS), flat[:, : tk.PITCH_CELL], 1)[0]
    assert np.abs(slope).max() < 1e-4


def test_courses_lie_between_their_pitch_nodes_and_come_back_from_a_file(tmp_path):
    offsets = np.zeros((1, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), np.float32)
    offsets[0, 20], offsets[0, 21] = -4.0, -10.0
    courses = Courses(np.array([-1, 0], np.int16), np.array([2], np.uint8), as_offsets(offsets))
    courses.save(tmp_path / "courses.safetensors")
    again = Courses.load(tmp_path / "courses.safetensors")
    assert again.at(0, 61) is None and again.at(7, 61) is None
    np.testing.assert_allclose(again.at(1, 61), -6.0, atol=1e-5)
    assert (again.starts_at(1), again.starts_at(0), again.starts_at(7)) == (2, FIRST_CHUNK, FIRST_CHUNK)
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(BankError, match="not a readable"):
        Courses.load(tmp_path / "bad.safetensors")


def test_a_key_may_be_louder_at_a_moment_than_those_around_it(tmp_path):
    offsets = np.zeros((1, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), np.float32)
    keys = np.zeros((1, N_PITCHES, len(KNOT_SECONDS)), np.float32)
    keys[0, 61, 2] = -3.0
    courses = Courses(np.array([0], np.int16), np.array([2], np.uint8), as_offsets(offsets), as_key_offsets(keys))
    courses.save(tmp_path / "courses.safetensors")
    again = Courses.load(tmp_path / "courses.safetensors")
    assert [float(again.at(0, pitch)[2, 9]) for pitch in (60, 61, 61.5, 62, 127)] == [0, -3, -1.5, 0, 0]
    assert again.at(0, 61)[1, 9] == 0 and again.at(0, 61)[2, tk.PITCH_CELL] == 0


def test_voices_that_are_known_to_last_are_steady_behind_those_with_courses():
    offsets = np.full((1, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), 5, np.int8)
    courses = Courses(np.array([0], np.int16), np.array([3], np.uint8), offsets).with_own({2: None, 4: None})
    assert not courses.at(2, 60).any() and not courses.at(4, 60).any() and courses.at(0, 60).any()
    assert courses.at(3, 60) is None
    assert [courses.starts_at(v) for v in (0, 2, 3, 4)] == [3, STEADY_CHUNK, FIRST_CHUNK, STEADY_CHUNK]


def asked_of(bank, seconds):
    """How many sustain chunks nets are asked for while a note of voice 0 is held."""
    indices = []

    def decode(kind, index, **inputs):
        indices.extend(index.tolist() if kind == tk.SUSTAIN else [])
        return bank.decode(kind, index=index, **inputs)

    play(dataclasses.replace(bank, decode=decode), one_note_score(0, 60, 100, seconds))
    return indices


def test_nets_are_asked_for_the_first_chunks_only(toy_bank):
    never = dataclasses.replace(toy_bank, encode=None)
    assert max(asked_of(never, 8.0)) > FIRST_CHUNK
    assert asked_of(dataclasses.replace(never, courses=Courses.none()), 8.0) == list(range(FIRST_CHUNK))


def levels_at(sound, moments):
    around = [sound[:, int((m - 0.5) * RATE) : int((m + 0.5) * RATE)] for m in moments]
    return np.array([10 * np.log10(np.square(piece).sum() / (2 * RATE) + 1e-12) for piece in around])


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", n_threads=1)


def test_a_minute_long_organ_note_and_a_half_minute_pad_hold(gm):
    for program, seconds in ((19, 61.0), (90, 31.0)):
        levels = levels_at(play(gm, one_note_score(program, 57, 100, seconds)), [2.0, 10.0, 20.0, seconds - 1])
        assert np.abs(levels - levels[0]).max() < 4.0, (program, levels)


def test_a_note_that_was_held_for_long_still_falls_silent_when_it_is_let_go(gm):
    for program in (0, 19, 48):
        sound = play(gm, one_note_score(program, 60, 100, 20.0))
        assert sound.shape[1] < 28 * RATE


@pytest.mark.slow
def test_what_neither_rises_nor_falls_by_fifteen_seconds_is_there_after_a_minute(gm):
    lasting = 0
    for program in range(120):
        for pitch in (45, 60, 76):
            levels = levels_at(play(gm, one_note_score(program, pitch, 100, 61.0)), [5.0, 10.0, 15.0, 30.0, 60.0])
            if np.ptp(levels[:3]) < 0.5 and levels[0] > -70:
                lasting += 1
                assert np.ptp(levels) < 6, (program, pitch, levels)
    assert lasting > 120
