"""Analysis measures what is there: sounds made in NumPy, whose answer is known."""

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.partials import harmonic_partials, mode_partials
from miao.measuring import partials
from miao.measuring.note import analyse_note
from miao.measuring.partials import find_modes, fit_harmonics
from miao.measuring.roundtrip import encoded_bank, one_note_score, play
from miao.sound import spectrum

RATE = 44_100


def tone(hz, levels, seconds=1.0, cents=None, decay=0.0):
    """Harmonics of hz with the given amplitudes; pitch deviation in cents as a function of time."""
    t = np.arange(int(RATE * seconds)) / RATE
    deviation = np.zeros_like(t) if cents is None else cents(t)
    phase = 2 * np.pi * np.cumsum(hz * 2 ** (deviation / 1200)) / RATE
    sound = sum(a * np.sin((k + 1) * phase + k) for k, a in enumerate(levels))
    return np.stack([sound * np.exp(-decay * t)] * 2).astype(np.float32)


def cell_db(measured, cell, chunk=1, step=8):
    return float(tk.level_to_db(measured.tokens.held[chunk, step, cell].astype(float)))


@pytest.mark.parametrize("hz", [41.2, 110.0, 440.0, 1760.0])
def test_the_levels_of_harmonics_are_measured_within_a_level(hz):
    amplitudes = [0.3, 0.1, 0.03]
    measured = analyse_note(tone(hz, amplitudes), RATE, hz, 0.9, harmonic_partials(1.0, 0, 0))
    for k, a in enumerate(amplitudes):
        assert cell_db(measured, k) == pytest.approx(20 * np.log10(a), abs=tk.LEVEL_STEP_DB)


def test_a_pure_tone_leaves_no_noise_within_hearing_of_it():
    measured = analyse_note(tone(440, [0.3]), RATE, 440, 0.9, harmonic_partials(1.0, 0, 0))
    noise = tk.level_to_db(measured.tokens.held[1, 8, tk.N_PARTIALS : tk.PITCH_CELL].astype(float))
    assert noise.max() < 20 * np.log10(0.3) - 55


@pytest.mark.parametrize("hz", [41.2, 110.0, 440.0])
def test_a_tone_that_dies_quickly_leaves_no_noise(hz):
    measured = analyse_note(tone(hz, [0.3, 0.1], decay=20.0), RATE, hz, 0.9, harmonic_partials(1.0, 0, 0))
    levels = tk.level_to_db(measured.tokens.held[0, 4:].astype(float))  # 4: what begins in a frame is noise
    noise = 10 * np.log10((10 ** (levels[:, tk.N_PARTIALS : tk.PITCH_CELL] / 10)).sum(axis=1))
    assert (noise - levels[:, 0]).max() < -36


def test_white_noise_is_measured_as_noise_of_its_power():
    rng = np.random.default_rng(0)
    sound = np.stack([rng.normal(0, 0.05, RATE)] * 2).astype(np.float32)
    measured = analyse_note(sound, RATE, 440, 0.9, mode_partials(np.zeros(tk.N_PARTIALS)))
    bands = tk.level_to_db(measured.tokens.held[1, :8, tk.N_PARTIALS : tk.PITCH_CELL].astype(float))
    total = np.log10((10 ** (bands / 10)).sum(axis=1).mean())
    expected = np.log10(0.05**2 * (20_000 - 30) / (RATE / 2))
    assert 10 * total == pytest.approx(10 * expected, abs=1.0)


def test_vibrato_is_followed_in_the_pitch_cell():
    measured = analyse_note(
        tone(440, [0.3, 0.2, 0.1], 1.5, lambda t: 30 * np.sin(2 * np.pi * 5 * t)),
        RATE,
        440,
        1.4,
        harmonic_partials(1, 0, 0),
    )
    cents = tk.level_to_cents(measured.tokens.held[1:, :, tk.PITCH_CELL].astype(float)).ravel()
    times = tk.held_times(len(measured.tokens.held))[tk.CHUNK_STEPS :]
    inside = times < 1.3
    error = cents[inside] - 30 * np.sin(2 * np.pi * 5 * times[inside])
    assert np.abs(error).mean() < 5


def test_tuning_and_stretch_are_found():
    t = np.arange(RATE) / RATE
    k = np.arange(1, 21)[:, None]
    hz = 220 * 2 ** (7 / 1200) * k * np.sqrt(1 + 3e-4 * k**2)
    sound = (np.sin(2 * np.pi * hz * t) / k).sum(axis=0) * 0.2
    tune, stretch = fit_harmonics(np.stack([sound, sound]).astype(np.float32), RATE, 220, 1.0)
    assert tune == pytest.approx(7, abs=1.5)
    assert stretch == pytest.approx(3e-4, rel=0.15)


def test_a_tone_without_stretch_is_given_none():
    assert fit_harmonics(tone(220, 0.2 / np.arange(1, 20)), RATE, 220, 1.0)[1] == 0


def test_free_modes_are_found_where_they_are():
    t = np.arange(RATE) / RATE
    wanted = [1.0, 2.76, 5.4, 8.93]  # a free bar
    sound = sum(np.sin(2 * np.pi * 300 * r * t) * np.exp(-4 * t) for r in wanted) * 0.1
    found = find_modes(np.stack([sound, sound]).astype(np.float32), RATE, 300)
    for ratio in wanted:
        assert np.abs(found / ratio - 1).min() < 0.002


def test_modes_keep_their_cells_from_pitch_to_pitch():
    t = np.arange(RATE) / RATE

    def bar(hz):
        sound = sum(np.sin(2 * np.pi * hz * r * t) * np.exp(-4 * t) for r in (1.0, 2.76, 5.4)) * 0.1
        return np.stack([sound, sound]).astype(np.float32)

    first = find_modes(bar(300), RATE, 300)
    np.testing.assert_allclose(partials.matched_modes(bar(330), RATE, 330, first), first, rtol=1e-4)


def test_a_mode_stays_in_its_cell_where_another_note_has_lost_one():
    common = np.zeros(tk.N_PARTIALS)
    common[:4] = 1.0, 2.0, 2.76, 5.4
    matched = partials.matched_modes(tone_of(300, (1.0, 2.77, 5.4)), RATE, 300, common)
    np.testing.assert_allclose(matched[:4], [1.0, 0.0, 2.77, 5.4], rtol=2e-3)


def test_common_modes_are_those_that_most_notes_have():
    found = [np.array([1.0, 2.76, 5.4, 0.0]), np.array([1.002, 2.75, 5.41, 7.0]), np.array([0.999, 2.77, 5.39, 0.0])]
    common = partials.common_modes(found)
    np.testing.assert_allclose(common[:4], [1.0, 2.76, 5.4, 7.0], rtol=1e-3)
    assert not common[4:].any()
    assert not partials.common_modes([]).any()


@pytest.mark.parametrize("tracking", [1.0, 0.5, 0.0])
def test_key_tracking_is_how_far_the_spectrum_moves(tracking):
    ratios = (1.0, 2.76, 5.4, 8.93)
    low, high = tone_of(300, ratios), tone_of(300 * 2 ** (tracking * 4 / 12), ratios)
    assert abs(partials.key_tracking(low, high, RATE, 4) - tracking) < 0.03


def tone_of(hz, ratios):
    t = np.arange(RATE) / RATE
    sound = sum(np.sin(2 * np.pi * hz * r * t) * np.exp(-4 * t) for r in ratios) * 0.1
    return np.stack([sound, sound]).astype(np.float32)


def test_a_click_ends_when_it_ends():
    click = np.zeros((2, int(0.03 * RATE)), np.float32)
    click[:, : int(0.02 * RATE)] = np.random.default_rng(0).normal(0, 0.1, int(0.02 * RATE))
    partials = mode_partials(find_modes(click, RATE, 440))
    assert len(partials.ratios) > 5  # a click has no peaks that stand out, and is sampled all the same
    tokens = analyse_note(click, RATE, 440, 0.03, partials).tokens
    assert tokens.held[0, 0, : tk.PITCH_CELL].any()
    assert not tokens.held[0, 6:, : tk.PITCH_CELL].any()


def test_the_onset_is_not_smeared_by_more_than_five_milliseconds():
    sound = np.pad(tone(440, [0.3, 0.2]), ((0, 0), (int(0.05 * RATE), 0)))
    measured = analyse_note(sound, RATE, 440, 0.9, harmonic_partials(1.0, 0, 0))
    level = tk.level_to_db(measured.tokens.held[0, :, 0].astype(float))
    rise = tk.held_times(1)[np.argmax(level > 20 * np.log10(0.3) - 6)]
    assert abs(rise - 0.05) <= 0.005


def test_a_hard_panned_note_is_measured_on_its_side():
    sound = tone(440, [0.3, 0.1])
    sound[1] = 0
    measured = analyse_note(sound, RATE, 440, 0.9, harmonic_partials(1.0, 0, 0))
    assert measured.is_wide
    assert measured.balance[0] > 0.98


def test_round_trip_through_tokens_and_oscillators_stays_within_two_decibels(toy_bank):
    rng = np.random.default_rng(1)
    sound = tone(261.63, 0.3 / np.arange(1, 15), 1.2, decay=2.0)
    sound = sound + rng.normal(0, 1e-3, sound.shape[1]).astype(np.float32)
    measured = analyse_note(sound, RATE, 261.63, 1.0, harmonic_partials(1.0, 0, 0))
    bank = encoded_bank(measured.tokens, toy_bank.table)
    played = play(bank, one_note_score(0, 60, 100, 1.0))
    assert spectrum.log_mel_error(spectrum.log_mel(sound), spectrum.log_mel(played[:, : sound.shape[1]])) < 2.0


def test_the_beginning_of_what_is_played_is_that_of_the_whole(toy_bank):
    score = one_note_score(0, 60, 90, 2.0)
    whole, some = play(toy_bank, score), play(toy_bank, score, seconds=1.0)
    assert RATE <= some.shape[1] < whole.shape[1] - RATE // 2
    np.testing.assert_array_equal(some, whole[:, : some.shape[1]])
