"""The course of a note: the compiled one is the one in NumPy, whatever happens to the note."""

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.synth import course as twin
from miao.synth import oscillators
from miao.synth.course import Rows, Sound

RATE = 44100
pytestmark = pytest.mark.skipif(oscillators.KERNELS != "compiled", reason="there is nothing to compare")


def sound(rng, n=20):
    return Sound(
        np.arange(1.0, n + 1), rng.integers(0, tk.N_PARTIALS - 1, n).astype(np.int32), rng.random(n, np.float32),
        rng.random(n, np.float32), rng.random((n, 3), np.float32), rng.random((tk.N_NOISE, 2), np.float32),
        True,
    )  # fmt: skip


def rows(rng, n=tk.CHUNK_STEPS):
    levels = rng.uniform(0, 63, (n, tk.N_CELLS)).astype(np.float32)
    levels[:, oscillators.REACHED] = 1
    return Rows(levels, rng.uniform(0.9, 1.1, n))


class Both:
    """Does the same to both courses."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        its = sound(rng)
        self.courses = (twin.Course(220.0, tk.N_CELLS, *its), oscillators._compiled.Course(220.0, tk.N_CELLS, *its))

    def append(self, heard, *rest):
        self.courses[0].append(heard, *rest)
        self.courses[1].append(oscillators._compiled.Rows(*heard), *rest)

    def __getattr__(self, name):
        def do(*arguments):
            found = [getattr(course, name)(*arguments) for course in self.courses]
            assert found[0] == pytest.approx(found[1])
            return found[0]

        return do

    def are_alike(self):
        ours, theirs = self.courses
        assert len(ours) == len(theirs) and ours.last == theirs.last and ours.changes == theirs.changes
        np.testing.assert_array_equal(ours.times, theirs.times)
        np.testing.assert_array_equal(ours.levels, theirs.levels)
        np.testing.assert_allclose(ours.hz, theirs.hz, rtol=1e-12)
        assert ours.phase == pytest.approx(theirs.phase, abs=1e-9)

    def part(self, *arguments):
        name = "part" if len(arguments) == 3 else "bent_part"
        ours, theirs = (getattr(course, name)(*arguments) for course in self.courses)
        assert (ours is None) == (theirs is None)
        for mine, other in zip(ours.arrays() if ours else (), theirs.arrays() if theirs else (), strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-7, rtol=1e-9)
        return ours


@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_course_is_the_one_in_numpy(seed):
    rng, both = np.random.default_rng(seed), Both(seed)
    begin, n, steps = 0, int(rng.integers(100, 3000)), np.arange(tk.CHUNK_STEPS) * 0.005
    for turn in range(12):
        start = both.courses[0].last + 0.005 if turn else 0.01
        both.append(rows(rng), start, steps * rng.uniform(0.5, 2), int(rng.integers(0, 3)))
        both.are_alike()
        bent = (np.arange(0, 4000, 7) * 128 / RATE, rng.uniform(0.9, 1.1, 572)) if turn % 3 == 2 else ()
        for _ in range(int(rng.integers(1, 6))):
            both.part(begin, n, RATE, *bent)
            begin += n
            both.are_alike()
        last, first = both.courses[0].last, both.courses[0].times[0]
        if turn % 4 == 1:  # let go, then caught
            kept = [course.copy() for course in both.courses]
            moment = rng.uniform(max(first, begin / RATE), max(last, begin / RATE)) if last > begin / RATE else last
            both.truncate(moment)
            both.are_alike()
            both.append(rows(rng, 3), both.courses[0].last, np.array([0.01, 0.02, 0.03]), 1)
            both.part(begin, 50, RATE)
            for course, other in zip(both.courses, kept, strict=True):
                course.rejoin(other)
            both.are_alike()
        both.loudest_at(rng.uniform(first, last + 1))
        both.span(begin, n, RATE)
        both.pass_by(begin / RATE - 0.05)
        both.are_alike()
    both.truncate(both.courses[0].last - 0.003)
    both.fall_silent(0.02)
    both.are_alike()
    both.truncate(both.courses[0].times[0])  # to its first knot
    both.are_alike()
    assert both.part(begin, 10**6, RATE) is None


def test_what_was_heard_of_a_course_is_not_changed_by_what_becomes_of_it():
    rng, both = np.random.default_rng(9), Both(9)
    both.append(rows(rng), 0.0, np.arange(tk.CHUNK_STEPS) * 0.005, 0)
    parts = [course.part(0, 4000, RATE) for course in both.courses]
    before = [[np.array(array) for array in part.arrays()] for part in parts]
    both.truncate(0.05)
    both.append(rows(rng), 0.06, np.arange(tk.CHUNK_STEPS) * 0.01, 0)
    for part, arrays in zip(parts, before, strict=True):
        for now, then in zip(part.arrays(), arrays, strict=True):
            np.testing.assert_array_equal(now, then)


def test_a_part_that_is_scaled_is_so_many_times_as_loud():
    rng, both = np.random.default_rng(3), Both(3)
    both.append(rows(rng), 0.0, np.arange(tk.CHUNK_STEPS) * 0.005, 0)
    for course in both.courses:
        part = course.part(0, 4000, RATE)
        half = oscillators.NotePart(*part.scaled(-0.5).arrays())
        whole = oscillators.NotePart(*part.arrays())
        assert (half.factor, whole.factor) == (-0.5, 1.0)
        np.testing.assert_array_equal(half.levels, whole.levels)


def test_what_does_not_fit_a_course_is_refused():
    its = sound(np.random.default_rng(0))
    for wrong in (its._replace(cells=its.cells + tk.N_CELLS), its._replace(shares=its.shares[1:])):
        with pytest.raises(ValueError, match="do not fit together"):
            oscillators._compiled.Course(220.0, tk.N_CELLS, *wrong)
    with pytest.raises(ValueError, match="do not fit together"):
        oscillators._compiled.Rows(np.zeros((3, tk.N_CELLS), np.float32), np.ones(2))
    course = oscillators._compiled.Course(220.0, tk.N_CELLS, *its)
    narrow = oscillators._compiled.Rows(np.zeros((3, 40), np.float32), np.ones(3))
    with pytest.raises(ValueError, match="do not fit together"):
        course.append(narrow, 0.0, np.zeros(3), 0)
