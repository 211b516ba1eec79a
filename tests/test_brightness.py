"""Brightness (CC 74): the spectrum tilts, the loudness stays, nothing clicks, and in the middle nothing changes."""

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.voices import drum_voice
from miao.synth import oscillators
from miao.synth.brightness import FAR_DB, b_weight, brightened, brightened_numpy, brilliance
from miao.synth.course import Sound
from miao.synth.note import Strike, timbre
from miao.synth.player import Player

RATE = 44_100
FLUTE, STRINGS, TRUMPET, PIANO, BASS, SNARE = 73, 48, 56, 0, 33, 38


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm")


def played(bank, voice, steps=(), pitch=60, seconds=1.0, size=1024, velocity=0.7, rings=False, let_go=None):
    """The sound of one note, [2, n]; each step of brightness, (time, value of 127), is told just before it counts."""
    player, coming, blocks = Player(bank, (0,)), sorted(steps), []
    handle = player.start(Strike(0.0, 0, voice, pitch, velocity, rings))
    if let_go is not None:
        player.release(handle, let_go)
    while player.position < seconds * RATE:
        while coming and coming[0][0] * RATE < player.position + size:
            time, value = coming.pop(0)
            player.control(0, "brightness", value / 127, time)
        blocks.append(player.block(size).stems[0])
    return np.concatenate(blocks, axis=1)[:, : int(seconds * RATE)]


def loudness_and_centroid(sound):
    """B-weighted dB, and the mean frequency of what is heard, by its power and 6 dB an octave."""
    power = np.square(np.abs(np.fft.rfft(sound * np.hanning(sound.shape[1])))).sum(axis=0)
    hz = np.fft.rfftfreq(sound.shape[1], 1 / RATE)
    return 10 * np.log10((power * b_weight(hz) ** 2).sum()), (power * hz**3).sum() / (power * hz**2).sum()


@pytest.mark.parametrize(("voice", "pitch", "rings"), [
    (FLUTE, 60, False), (FLUTE, 84, False), (STRINGS, 67, False), (TRUMPET, 65, False), (PIANO, 40, False),
    (BASS, 33, False), (drum_voice(SNARE), SNARE, True),
])  # fmt: skip
def test_a_note_is_brighter_or_darker_and_as_loud(gm, voice, pitch, rings):
    values = (0, 32, 64, 96, 127)
    found = [loudness_and_centroid(played(gm, voice, [(0.0, v)], pitch, rings=rings, seconds=0.5)) for v in values]
    loudness, centroids = np.array(found).T
    assert (np.diff(centroids) > 0).all()
    assert centroids[4] > 1.08 * centroids[2] > 1.2 * centroids[0]
    assert (np.diff(loudness) > -0.1).all()
    assert loudness[0] - loudness[2] > -2 and loudness[4] - loudness[2] < 1.5


def test_in_the_middle_nothing_changes_and_coming_back_leaves_nothing_behind(gm):
    plain = played(gm, STRINGS)
    np.testing.assert_array_equal(played(gm, STRINGS, [(0.0, 64), (0.3, 64)]), plain)
    back = played(gm, STRINGS, [(0.2, 120), (0.4, 64)])
    assert np.abs(back - plain)[:, int(0.25 * RATE) : int(0.4 * RATE)].max() > 0.01
    np.testing.assert_array_equal(back[:, int(0.5 * RATE) :], plain[:, int(0.5 * RATE) :])


def test_a_step_changes_nothing_before_it_and_blocks_do_not_matter(gm):
    steps, at = [(0.1, 20), (0.4321, 127), (0.70001, 0)], int(0.4321 * RATE)
    whole = played(gm, FLUTE, steps, let_go=0.69, size=RATE)
    np.testing.assert_array_equal(played(gm, FLUTE, steps[:1], let_go=0.69, size=RATE)[:, :at], whole[:, :at])
    for size in (64, 441, 4096):
        np.testing.assert_allclose(played(gm, FLUTE, steps, let_go=0.69, size=size), whole, atol=1e-5)


def test_a_step_does_not_click(gm):
    def clicks(steps):
        """The loudest 2 ms above 6 kHz of a tone that has nothing there."""
        sound = played(gm, FLUTE, steps, pitch=72)[0, RATE // 4 :]
        spectrum = np.fft.rfft(sound)
        spectrum[np.fft.rfftfreq(len(sound), 1 / RATE) < 6000] = 0
        high = np.square(np.fft.irfft(spectrum, len(sound)))[2000:-2000]
        return np.sqrt(np.convolve(high, np.ones(88) / 88, "valid").max())

    assert clicks([(0.0, 0), (0.5, 127), (0.75, 0)]) < 1.3 * clicks([(0.0, 127)])


def rows_and_note(gm, n=40):
    note = timbre(gm.table, gm.sides, STRINGS, 60, RATE)
    zeros = np.zeros(len(note.ratios), np.float32)
    sound = Sound(note.ratios, note.cells, note.shares, zeros, note.gains, note.balance, note.is_wide)
    random = np.random.default_rng(1)
    rows = random.uniform(0, 60, (n, tk.N_CELLS)).astype(np.float32)
    rows[random.random(rows.shape) < 0.2] = 0
    rows[:, tk.PITCH_CELL] = random.random(n)
    return rows, brilliance(sound, note.hz, False)


@pytest.mark.skipif(oscillators.loops() is None, reason="nothing was compiled")
def test_compiled_rows_are_those_of_numpy(gm):
    rows, note = rows_and_note(gm)
    settings = np.linspace(-1, 1, len(rows)).astype(np.float32)
    settings[::7] = 0
    rows[3, : tk.PITCH_CELL] = 0
    np.testing.assert_allclose(brightened(rows, settings, *note), brightened_numpy(rows, settings, *note), atol=2e-4)


def test_what_is_far_below_the_rest_is_not_lifted_and_silence_stays_silent(gm):
    rows, (lifts, weights) = rows_and_note(gm)
    quiet = np.zeros_like(rows[:1])
    quiet[0, 0], quiet[0, 8], quiet[0, tk.N_PARTIALS + 28] = 60, 58, 60 - FAR_DB / tk.LEVEL_STEP_DB
    bright = brightened(quiet, np.ones(1, np.float32), lifts, weights)
    assert bright[0, 8] - bright[0, 0] > 4 and bright[0, tk.N_PARTIALS + 28] <= quiet[0, tk.N_PARTIALS + 28]
    np.testing.assert_array_equal(bright[quiet == 0], 0)
