"""What an audio token is: levels, cells, times."""

import numpy as np
import pytest

from miao.bank import tokens as tk


def test_levels_and_decibels_are_inverse_within_the_range():
    levels = np.arange(tk.N_LEVELS)
    np.testing.assert_allclose(tk.db_to_level(tk.level_to_db(levels)), levels)


def test_twenty_decibels_are_a_factor_of_ten_in_amplitude():
    high, low = tk.level_to_amplitude(np.array([50.0, 50.0 - 20 / tk.LEVEL_STEP_DB]))
    assert high / low == pytest.approx(10, rel=1e-4)


def test_the_lowest_level_is_silence():
    assert tk.level_to_amplitude(np.zeros(3)).max() == 0


def test_the_centre_of_the_pitch_cell_is_no_deviation():
    assert tk.level_to_cents(np.array(tk.CENTS_CENTRE)) == 0
    np.testing.assert_allclose(tk.level_to_cents(tk.cents_to_level(np.array([-12.5, 0, 30.0]))), [-12.5, 0, 30])


def test_low_harmonics_have_a_cell_of_their_own_and_high_ones_share():
    np.testing.assert_array_equal(tk.HARMONIC_SPREAD[: tk.N_SINGLE, : tk.N_SINGLE], np.eye(tk.N_SINGLE))
    np.testing.assert_allclose(tk.HARMONIC_SPREAD.sum(axis=0), 1, rtol=1e-5)
    assert (tk.HARMONIC_SPREAD[:, tk.N_SINGLE :] > 0).sum(axis=0).max() <= 2


def test_sustain_tokens_go_on_where_the_attack_ends():
    times = tk.held_times(3)
    assert len(times) == 3 * tk.CHUNK_STEPS
    assert times[tk.CHUNK_STEPS] == pytest.approx(tk.ATTACK_SECONDS)
    assert np.all(np.diff(times) > 0)


def test_a_token_between_two_others_lies_on_the_line_between_them():
    tokens, times = np.array([[0.0, 10.0], [10.0, 20.0]]), np.array([0.0, 1.0])
    np.testing.assert_allclose(tk.tokens_at(tokens, times, np.array([0.25, 7.0])), [[2.5, 12.5], [10, 20]])
