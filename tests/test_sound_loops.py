"""The sound chain's compiled loops against what they are to compute, in double precision; and that both kinds agree."""

import numpy as np
import pytest

from miao.sound import convolution, desk, limiter, loudness, quantiser
from miao.sound.limiter import Limiter

RATE = 44100
VARIANTS = [] if convolution._loops is None else list(convolution._loops.variants)
needs_loops = pytest.mark.skipif(not VARIANTS, reason="the package was installed without a compiler")


def noise(n, seed=0, channels=2):
    return np.random.default_rng(seed).standard_normal((channels, n)).astype(np.float32)


def in_pieces(process, samples, longest, seed=0):
    rng, at, out = np.random.default_rng(seed), 0, []
    while at < samples.shape[1]:
        n = int(rng.integers(1, longest))
        out.append(process(samples[:, at : at + n]))
        at += n
    return np.concatenate(out, axis=-1)


def convolved(samples, responses):
    """In double precision, at once."""
    n = samples.shape[1]
    size = n + responses.shape[-1]
    spectra = np.fft.rfft(samples.astype(float), size)
    heard = np.einsum("esf,sf->ef", np.fft.rfft(responses.astype(float), size), spectra)
    return np.fft.irfft(heard, size)[:, :n]


def kinds_of_convolver():
    yield lambda responses, size: convolution.Convolver(convolution.Partitions(responses, size))
    for variant in VARIANTS:
        yield lambda responses, size, variant=variant: convolution.CompiledConvolver(
            convolution._loops.Responses(responses, size, variant)
        )


@pytest.mark.parametrize("size", [512, 1024, 8192])  # transforms of 4^n points and of twice as many
@pytest.mark.parametrize("make", list(kinds_of_convolver()), ids=["numpy", *VARIANTS])
def test_each_ear_hears_both_speakers_by_its_own_responses(make, size):
    responses = noise(2 * 5001).reshape(2, 2, 5001) * np.exp(-np.arange(5001) / 800).astype(np.float32)
    samples = noise(30_000, seed=1)
    samples[:, 9_000:20_000] = 0  # longer than the responses
    samples[1, :9_000] = 0
    expected = convolved(samples, responses)
    heard = in_pieces(make(responses, size).process, samples, 4000)
    np.testing.assert_allclose(heard, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("is_compiled", [False, True])
def test_convolvers_that_share_responses_hear_nothing_of_each_other(is_compiled):
    make = convolution.partitions if is_compiled else convolution.Partitions
    parts = make(responses := noise(2 * 3000).reshape(2, 2, 3000), 512)
    one, other = convolution.convolver(parts), convolution.convolver(parts)
    del parts
    one.process(noise(4000, seed=1))
    samples = noise(4000, seed=2)
    expected = convolved(samples, responses)
    np.testing.assert_allclose(other.process(samples), expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("make", list(kinds_of_convolver()), ids=["numpy", *VARIANTS])
def test_responses_shorter_than_a_partition_are_one_partition(make):
    responses, samples = noise(2 * 20).reshape(2, 2, 20), noise(2000, seed=1)
    expected = convolved(samples, responses)
    heard = in_pieces(make(responses, 512).process, samples, 300)
    np.testing.assert_allclose(heard, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("make", list(kinds_of_convolver()), ids=["numpy", *VARIANTS])
def test_a_convolver_is_silent_before_and_after_sound(make):
    process = make(noise(4 * 700).reshape(2, 2, 1400), 512).process
    assert not process(np.zeros((2, 3000), np.float32)).any()
    assert process(noise(100)).any()
    process(np.zeros((2, 2500), np.float32))
    assert not process(np.zeros((2, 3000), np.float32)).any()


def biquads(filters, samples):
    """The difference equations as they stand in BS.1770, sample by sample."""
    out = samples.astype(float)
    for b0, b1, b2, a1, a2 in filters:
        for row in out:
            x1 = x2 = y1 = y2 = 0.0
            for n, x in enumerate(row.copy()):
                y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
                x1, x2, y1, y2 = x, x1, y, y1
                row[n] = y
    return out


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", ["Weighting", pytest.param("CompiledWeighting", marks=needs_loops)])
def test_the_loudness_filters_are_their_difference_equations(kind, channels):
    samples = noise(3000, channels=channels)
    expected = np.square(biquads(loudness.k_filters(8000), samples)).sum(axis=0)
    squares = in_pieces(getattr(loudness, kind)(8000, channels).squares, samples, 500)
    np.testing.assert_allclose(squares, expected, rtol=1e-7, atol=1e-9)


def hard_to_limit():
    rng = np.random.default_rng(5)
    loud = noise(60_000) * 0.4
    loud[:, 20_000:35_000] *= 0.02  # quiet: the limiter comes to rest
    loud[:, 30_000] = 3.0  # and wakes for one sample
    loud[0, 50_000:50_003] = -2.5
    loud[1, rng.integers(0, 20_000, 30)] *= 4
    return loud


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("longest", [17, 700, 40_000])
def test_the_compiled_limiter_is_the_one_in_numpy(variant, longest):
    samples = hard_to_limit()

    def limit(kind, longest):
        device = Limiter(RATE, -1.0, variant=kind)
        out = in_pieces(device.process, samples, longest)
        return np.concatenate([out, device.finish()], axis=1), device.reduction_db

    ours, reduction = limit(variant, longest)
    theirs, expected = limit("numpy", 40_000)
    np.testing.assert_allclose(ours, theirs, atol=4e-6)
    assert reduction == pytest.approx(expected, abs=1e-3)
    assert expected > 8


@pytest.mark.parametrize("variant", ["numpy", *VARIANTS])
def test_a_limiter_that_has_come_to_rest_lets_samples_pass_as_they_are(variant):
    samples = hard_to_limit()
    device = Limiter(RATE, -1.0, variant=variant)
    out = np.concatenate([device.process(samples), device.finish()], axis=1)
    before_the_wake = slice(29_000, 30_000 - 2 * device.latency)  # 0.2 s after the loud part, with all of it let go
    rest = np.zeros((2, 3 * RATE), np.float32)
    rest[:, :] = 0.01
    long_after = device.process(rest)[:, -RATE:]
    np.testing.assert_array_equal(long_after, rest[:, -RATE:])
    assert np.abs(out[:, before_the_wake]).max() <= np.abs(samples[:, before_the_wake]).max()


@needs_loops
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("bits", "is_dithered"), [(16, True), (16, False), (24, False)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_compiled_quantiser_makes_the_same_numbers(variant, bits, is_dithered, channels):
    samples = 0.5 * noise(20_000, channels=channels)
    samples[:, 100:200] = 0
    samples[0, 5:9] = [1, -1, 1.0001, -1.5]
    first = 2**32 // channels - 7_000  # the position wraps within
    ours = quantiser.quantise(samples, first, bits, is_dithered, variant)
    theirs = quantiser.quantise(samples, first, bits, is_dithered, "numpy")
    np.testing.assert_array_equal(ours.steps, theirs.steps)
    assert ours.n_beyond == theirs.n_beyond == np.count_nonzero(np.abs(samples) > 1)
    assert ours.n_not_finite == 0


@pytest.mark.parametrize("variant", ["numpy", *VARIANTS])
def test_dither_is_triangular_white_and_free_of_the_signal(variant):
    samples = np.full((2, 200_000), 0.3 / 32768, np.float32)
    steps = quantiser.quantise(samples, 0, 16, True, variant).steps.astype(float)
    assert steps.mean() == pytest.approx(0.3, abs=0.01)  # what lies below a step is kept in the mean
    for level in (0.0, 0.3, 0.5):
        samples[:] = (level + 3) / 32768
        error = quantiser.quantise(samples, 0, 16, True, variant).steps - (level + 3)
        assert error.var() == pytest.approx(0.25, abs=0.01)  # two uniform noises and the rounding
    rows = error.T - error.mean()
    assert abs(np.mean(rows[0] * rows[1])) < 0.005 and abs(np.mean(rows[0, 1:] * rows[0, :-1])) < 0.005


@pytest.mark.parametrize("variant", ["numpy", *VARIANTS])
def test_zeros_stay_zero_and_what_is_not_finite_is_counted(variant):
    samples = np.zeros((2, 5000), np.float32)
    assert not quantiser.quantise(samples, 0, 16, True, variant).steps.any()
    samples[0, 17], samples[1, 18], samples[1, 4999] = np.nan, np.inf, -np.inf
    assert quantiser.quantise(samples, 0, 16, True, variant).n_not_finite == 3


def test_true_peaks_are_looked_for_with_the_taps_that_the_loops_are_made_for():
    assert limiter.interpolation().shape == (7, 96)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [1, 33, 2500])
def test_the_compiled_desk_is_the_one_in_numpy(variant, n):
    stem, moving = noise(n), noise(n, seed=1)
    still = np.broadcast_to(np.array([[0.5], [-2.0]], np.float32), (2, n))
    for gains, fader, extra in ((still, moving, None), (moving, still, noise(n, seed=2)), (still, still, moving)):
        sums = [noise(n, seed=seed) for seed in (3, 4, 5)]
        expected = [each.copy() for each in sums]
        desk._loops.mix(stem, gains, sums[0], [(None, fader, sums[1]), (extra, still, sums[2])], variant)
        desk.mix_numpy(stem, gains, expected[0], [(None, fader, expected[1]), (extra, still, expected[2])])
        for found, wished in zip(sums, expected, strict=True):
            np.testing.assert_allclose(found, wished, atol=3e-6 * np.abs(wished).max())


@needs_loops
@pytest.mark.parametrize("n", [0, 1, 5000])
def test_silence_and_peaks_are_found_wherever_they_lie(n):
    samples = np.zeros((2, n), np.float32)
    assert desk.is_silent(samples) and desk.highest(samples) == 0
    for at in range(0, n, 617):
        samples[1, at] = -0.25
        assert not desk.is_silent(samples) and desk.highest(samples) == 0.25
        samples[1, at] = 0
    pause = np.broadcast_to(np.float32(0), (2, n))  # without memory
    assert desk.is_silent(pause) and desk.highest(pause) == 0
