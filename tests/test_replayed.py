"""Measured tokens are put right by the sound that they make."""

import dataclasses

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.partials import harmonic_partials
from miao.bank.voices import HARMONIC
from miao.measuring.power import band_shares
from miao.measuring.replayed import measure_note, missing_over_time, put_right
from miao.measuring.voice_fit import VoiceFit
from miao.sound import spectrum

RATE = spectrum.SAMPLE_RATE
A4, FIT = 69, VoiceFit(HARMONIC)
LAST = round((0.7 - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN])


@pytest.fixture(scope="module")
def sound():
    """A tone with five harmonics and some hiss, which stop after 0.8 s."""
    t = np.arange(round(0.8 * RATE)) / RATE
    tone = sum(0.2 / k * np.sin(2 * np.pi * 440 * k * t + k) for k in range(1, 6))
    return np.stack([tone + np.random.default_rng(0).normal(0, 1e-3, len(t))] * 2).astype(np.float32)


@pytest.fixture(scope="module")
def measured(sound):
    return measure_note(sound, A4, 0.7, FIT).tokens


def moved(tokens, cells, levels):
    held = tokens.held.astype(float)
    held[..., cells] += np.where(held[..., cells] >= 0.5, levels, 0)
    return dataclasses.replace(tokens, held=np.clip(held, 0, tk.N_LEVELS - 1).astype(np.uint8))


@pytest.mark.parametrize(("cells", "levels"), [(slice(0, 1), 3), (slice(2, 4), -4), (slice(63, 76), 4)])
def test_levels_that_are_off_are_put_right_and_others_stay(sound, measured, cells, levels):
    again = put_right(moved(measured, cells, levels), sound, FIT.table(), 0, A4)
    off = again.held[1, 2:LAST].astype(float) - measured.held[1, 2:LAST]
    audible = np.r_[0:5, 63:76]  # of hiss the bands above the harmonics
    assert np.abs(off[:, audible].mean(axis=0)).max() < 2  # bands are shared by the highest harmonic and the hiss
    assert np.abs(off[:, audible]).mean() < 1


def test_what_is_wrong_for_a_tenth_of_a_second_is_put_right_there(sound, measured):
    held = measured.held.copy()
    held[1, 10:15, :5] -= 6
    again = put_right(dataclasses.replace(measured, held=held), sound, FIT.table(), 0, A4).held[1].astype(float)
    assert np.abs(again[11:14, :5] - measured.held[1, 11:14, :5]).mean() < 2
    assert np.abs(again[18:LAST, :5] - measured.held[1, 18:LAST, :5]).mean() < 1


def test_silent_cells_stay_silent_and_sounding_ones_sound(sound, measured):
    silent = measured.held == 0
    again = put_right(measured, sound, FIT.table(), 0, A4)
    assert not again.held[silent].any()
    assert (again.held[1, :LAST, :5] > 0).all()


def test_the_pitch_and_how_long_a_note_is_held_are_left_alone(sound, measured):
    again = put_right(measured, 0.1 * sound, FIT.table(), 0, A4)
    np.testing.assert_array_equal(again.held[..., tk.PITCH_CELL], measured.held[..., tk.PITCH_CELL])
    assert again.hold_seconds == 0.7 and again.release.shape == measured.release.shape


def test_what_a_softer_sound_lacks_is_what_it_is_softer(sound):
    lacks = missing_over_time(sound, 0.5 * sound)
    assert lacks.max() == pytest.approx(20 * np.log10(2), abs=0.1)
    assert lacks.min() >= 0 and np.median(lacks[:, spectrum_hz() < 2500]) > 5
    assert not missing_over_time(sound, sound).any()


def test_bands_are_shared_out_whole_and_near_their_cells():
    shares = band_shares(harmonic_partials(1.0, 0, 0), 440.0)
    used = shares.sum(axis=0)
    np.testing.assert_allclose(used[used > 0], 1.0, rtol=1e-5)
    assert used[:24].all() and not used[32 : tk.N_PARTIALS].any()  # harmonics up to 16 kHz
    assert used[tk.N_PARTIALS :].all()
    np.testing.assert_allclose(shares[:, 0].argmax(), np.abs(spectrum_hz() - 440).argmin(), atol=1)


def spectrum_hz():
    filters, bins = spectrum.mel_filters(), np.arange(spectrum.FRAME_SAMPLES // 2 + 1)
    return (filters @ bins) / filters.sum(axis=1) * RATE / spectrum.FRAME_SAMPLES
