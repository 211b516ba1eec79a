"""The one log-mel definition."""

import numpy as np
import pytest

from miao.sound import spectrum


def sine(hz, amplitude=1.0, seconds=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(int(44_100 * seconds)) / 44_100)).astype(np.float32)


def test_a_full_scale_sine_reads_about_zero_decibels_in_its_band():
    level = spectrum.log_mel(sine(1000))[20:30]
    assert level.max() == pytest.approx(0, abs=2.5)
    assert spectrum.log_mel(sine(1000, 0.1))[20:30].max() == pytest.approx(level.max() - 20, abs=0.01)


@pytest.mark.parametrize("n_mels", [spectrum.N_MELS, 400])  # of 400 the lowest are narrower than a bin
def test_no_mel_band_is_empty(n_mels):
    assert spectrum.mel_filters(n_mels).sum(axis=1).min() > 0


def test_bands_lie_evenly_on_the_mel_scale():
    mel = 1127.01048 * np.log(1 + np.array([30.0, 16_000.0]) / 700)  # HTK's scale by its other formula
    centres = 700 * np.expm1(np.linspace(*mel, 98)[1:-1] / 1127.01048)
    bins = np.arange(1025) * 44_100 / 2048
    for band, (hz, weights) in enumerate(zip(centres, spectrum.mel_filters(), strict=True)):
        assert abs(bins[weights.argmax()] - hz) <= bins[1], band
    assert all(
        weights[np.abs(bins - hz).argmin()] > 0 for hz, weights in zip(centres, spectrum.mel_filters(), strict=True)
    )
    wide = spectrum.mel_filters()[60]  # a triangle over some ten bins, whose foot is where its neighbours' tops are
    expected = np.interp(bins, centres[59:62], [0, 1, 0])
    np.testing.assert_allclose(wide, expected, atol=1e-6)


def test_channels_of_opposite_phase_do_not_cancel():
    x = sine(500)
    np.testing.assert_allclose(spectrum.log_mel(np.stack([x, -x])), spectrum.log_mel(x), atol=1e-3)


def test_a_sound_has_no_error_against_itself_and_a_gain_costs_what_it_is():
    x = spectrum.log_mel(sine(300) + sine(2000))
    assert spectrum.log_mel_error(x, x) == 0
    assert spectrum.log_mel_error(x, x + 3, clamp=False) == pytest.approx(3, abs=1e-4)


def test_missing_and_added_sound_both_cost():
    both, one = spectrum.log_mel(sine(300) + sine(2000)), spectrum.log_mel(sine(300))
    assert spectrum.log_mel_error(both, one) > 5
    assert spectrum.log_mel_error(one, both) > 5


def test_the_shorter_sound_is_continued_by_silence():
    x = spectrum.log_mel(sine(300))
    assert spectrum.log_mel_error(x, x[: len(x) // 2]) > 10


def test_an_empty_reference_is_refused():
    with pytest.raises(ValueError, match="holds no frame"):
        spectrum.log_mel_error(np.zeros((0, 96)), np.zeros((4, 96)))


def test_the_filters_agree_with_librosa_where_bands_are_wide():
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=44_100, n_fft=2048, n_mels=96, fmin=30, fmax=16_000, htk=True, norm=None)
    np.testing.assert_allclose(spectrum.mel_filters()[20:], theirs[20:], atol=1e-4)
