import numpy as np
import pytest
import soxr
from conftest import rounding

from miao.sound.limiter import Limiter, true_peak
from miao.sound.loudness import Loudness, k_weighting

RATE = 44100


def decibels(amplitude):
    return 20 * np.log10(amplitude)


def sine(hz, seconds, amplitude=1.0, rate=RATE, phase=0.0):
    t = np.arange(int(seconds * rate)) / rate
    return np.tile(amplitude * np.sin(2 * np.pi * hz * t + phase), (2, 1)).astype(np.float32)


def noise(seconds, level=1.0, seed=0, rate=RATE):
    return (level * np.random.default_rng(seed).standard_normal((2, int(seconds * rate)))).astype(np.float32)


def measure(samples, rate=RATE, n=None):
    meter = Loudness(rate, len(samples))
    for start in range(0, samples.shape[1], n or samples.shape[1]):
        meter.add(samples[:, start : start + (n or samples.shape[1])])
    return meter.integrated()


def limit(samples, n=None, **settings):
    limiter = Limiter(RATE, **settings)
    n = n or samples.shape[1]
    pieces = [limiter.process(samples[:, start : start + n]) for start in range(0, samples.shape[1], n)]
    return np.concatenate([*pieces, limiter.finish()], axis=1), limiter


def hard_signals():
    t = np.arange(2 * RATE) / RATE
    square = np.stack([np.sign(np.sin(2 * np.pi * 997 * t)), np.sign(np.sin(2 * np.pi * 60 * t))])
    clicks = np.zeros((2, len(t)))
    clicks[:, ::3000], clicks[0, 1::3000] = 4, -4
    burst = np.zeros((2, len(t)))
    burst[:, RATE : RATE + 400] = noise(1, 3)[:, :400]
    drums = noise(2) * np.exp(-6 * (4 * t % 1)) + 1.2 * np.sin(2 * np.pi * 55 * t)
    return {
        "white noise": noise(2),
        "between the samples": sine(RATE / 4, 2, 2, phase=np.pi / 4),
        "square": 1.5 * square,
        "clicks": clicks,
        "burst": burst,
        "drums and bass": drums,
        "close to the rate": sine(19900, 2, 1.5),
        "one sample": np.full((2, 1), 3.0),
    }


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_a_full_scale_tone_of_1_khz_in_one_channel_is_minus_3_lufs(rate):
    assert measure(sine(997, 3, rate=rate)[:1], rate) == pytest.approx(-3.01, abs=0.02)  # from BS.1770 itself
    assert measure(sine(997, 3, rate=rate), rate) == pytest.approx(0.0, abs=0.02)


def test_at_48_khz_the_weighting_is_that_of_the_recommendation():
    z = np.exp(-2j * np.pi * np.array([20, 100, 1000, 5000, 20000]) / 48000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - z) ** 2 / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    response = k_weighting(48000)
    ours = np.array([np.sum(response * one ** np.arange(len(response))) for one in z])
    np.testing.assert_allclose(ours, shelf * high_pass, rtol=1e-4)


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
def test_loudness_agrees_with_pyloudnorm(rate):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    loud_and_quiet = noise(6.37, 0.2, rate=rate) + sine(80, 6.37, 0.3, rate)
    loud_and_quiet[:, rate : 2 * rate] *= 0.1  # below the relative gate
    loud_and_quiet[:, 4 * rate : 5 * rate] = 0  # below the absolute gate
    theirs = pyloudnorm.Meter(rate).integrated_loudness(loud_and_quiet.T.astype(float))
    assert measure(loud_and_quiet, rate) == pytest.approx(theirs, abs=0.05)


def test_a_tone_below_the_high_pass_has_no_clicks_where_the_meter_cuts():
    pyloudnorm = pytest.importorskip("pyloudnorm")
    samples = sine(10.3, 4, phase=1.0)
    assert measure(samples) == pytest.approx(
        pyloudnorm.Meter(RATE).integrated_loudness(samples.T.astype(float)), abs=0.05
    )


def test_loudness_does_not_depend_on_how_the_song_is_cut_and_can_be_asked_at_any_time():
    samples = noise(3.21, 0.1)
    meter = Loudness(RATE)
    for start in range(0, samples.shape[1], 777):
        meter.add(samples[:, start : start + 777])
        if start % 20 == 0:
            meter.integrated()
    assert meter.integrated() == pytest.approx(measure(samples), abs=1e-5)


def test_twice_the_amplitude_is_6_db_louder():
    assert measure(noise(2, 0.2)) - measure(noise(2, 0.1)) == pytest.approx(6.02, abs=0.001)


def test_short_sound_is_measured_and_silence_is_minus_infinity():
    assert measure(sine(997, 0.25)) == pytest.approx(0.0, abs=0.2)
    assert measure(np.zeros((2, RATE), np.float32)) == -np.inf
    assert measure(noise(1, 1e-5)) == -np.inf
    assert Loudness(RATE).integrated() == -np.inf


def test_true_peak_finds_what_is_between_the_samples():
    # a quarter of the rate, 45 degrees off: the samples are at 0.707 of the peak
    samples = sine(RATE / 4, 0.5, 0.5, phase=np.pi / 4) * np.hanning(RATE // 2).astype(np.float32)
    assert np.abs(samples).max() == pytest.approx(0.354, abs=0.001)
    assert true_peak(samples) == pytest.approx(0.5, rel=0.005)
    assert true_peak(np.zeros((2, 0), np.float32)) == 0


def test_true_peak_agrees_with_soxr():
    spectrum = np.fft.rfft(noise(2))
    spectrum[:, int(0.9 * spectrum.shape[1]) :] = 0
    samples = np.fft.irfft(spectrum).astype(np.float32)
    theirs = np.abs(soxr.resample(samples.T, RATE, 4 * RATE, quality="VHQ")).max()
    assert decibels(true_peak(samples)) == pytest.approx(decibels(theirs), abs=0.1)


@pytest.mark.parametrize("name", hard_signals())
def test_nothing_passes_the_ceiling(name):
    samples = hard_signals()[name].astype(np.float32)
    limited, limiter = limit(samples)
    assert limited.shape == samples.shape
    around = np.pad(limited, ((0, 0), (1000, 1000)))
    assert decibels(np.abs(soxr.resample(around.T, RATE, 4 * RATE, quality="VHQ")).max()) < -0.9
    assert decibels(np.abs(limited).max()) <= -1
    assert limiter.reduction_db > 3


def test_the_ceiling_can_be_chosen_and_is_used():
    limited, _ = limit(sine(441, 2, 2.0), ceiling_db=-6.0)
    assert decibels(true_peak(limited)) == pytest.approx(-6.25, abs=0.02)


@pytest.mark.parametrize("name", ["white noise", "clicks", "burst", "drums and bass"])
@pytest.mark.parametrize("n", [333, 4096, 40001])
def test_the_limiter_does_not_depend_on_how_the_song_is_cut(name, n):
    samples = hard_signals()[name].astype(np.float32)
    np.testing.assert_allclose(limit(samples, n)[0], limit(samples)[0], atol=rounding())


def test_the_limiter_knows_what_it_let_pass_before_it_had_to_work():
    samples = np.concatenate([sine(RATE / 4, 1, 0.2, phase=np.pi / 4), sine(RATE / 4, 0.2, 2, phase=np.pi / 4)], axis=1)
    np.testing.assert_allclose(limit(samples, RATE)[0], limit(samples, 12345)[0], atol=rounding())


def test_what_is_below_the_ceiling_passes_bit_by_bit():
    for samples in (noise(1, 0.1), sine(1000, 1, 0.85), noise(1, 0.01)[:, :7]):
        limited, limiter = limit(samples)
        np.testing.assert_array_equal(limited, samples)
        assert limiter.reduction_db == 0


def test_only_what_is_near_a_peak_is_turned_down():
    samples = sine(441, 4, 0.3)
    samples[:, 2 * RATE : 2 * RATE + 10] = 2.0
    limited, _ = limit(samples)
    np.testing.assert_array_equal(limited[:, : 2 * RATE - 300], samples[:, : 2 * RATE - 300])
    np.testing.assert_allclose(
        limited[:, 2 * RATE + int(1.5 * RATE) :], samples[:, 2 * RATE + int(1.5 * RATE) :], atol=rounding()
    )


def test_both_channels_are_turned_down_together():
    samples = np.stack([sine(441, 1, 3.0)[0], sine(441, 1, 0.3)[0]])
    limited, _ = limit(samples)
    np.testing.assert_allclose(limited[1], 0.1 * limited[0], atol=rounding())


def test_the_limiter_changes_loudness_and_nothing_else_of_a_steady_tone():
    limited, _ = limit(sine(55, 2, 2.0))
    middle = limited[0, RATE // 2 : -RATE // 2].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    at = round(55 * len(middle) / RATE)
    distortion = spectrum.sum() - spectrum[at - 4 : at + 5].sum()
    assert 10 * np.log10(distortion / spectrum.sum()) < -30


@pytest.mark.parametrize("n", [40_000, 40_001, 40_003])
def test_a_long_block_is_as_loud_as_all_its_parts(n):
    """Long ones are measured in stretches side by side."""
    samples = np.random.default_rng(n).normal(0, 0.1, (2, n)).astype(np.float32) + np.float32(0.05)
    whole, parts = Loudness(8000), Loudness(8000)
    for begin in (0, 100, 20_000):  # on from what was before, too
        whole.add(samples[:, begin:])
        for start in range(begin, n, 700):
            parts.add(samples[:, start : start + 700])
    assert whole.integrated() == pytest.approx(parts.integrated(), abs=1e-9)
