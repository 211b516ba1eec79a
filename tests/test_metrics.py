"""Metrics equal what others have published, other programs' numbers and cases worked by hand; floors come last.

Where a sound is measured, how near is a bar of method: a few samples of an onset, a cent, a hundredth of a decibel.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from golden.regenerate import chirp

from miao.evaluation import distances, harmony, sound
from miao.evaluation import transcription as tr
from miao.measuring.attack import attack_time
from miao.midi.score import notes_array
from miao.sound.spectrum import log_mel, log_mel_error

RATE = 44_100
GOLDEN = json.loads((Path(__file__).parent / "golden" / "librosa.json").read_text())


def heard(*notes):
    return np.array(list(notes), tr.HEARD)


def gaussian(n, mean, scale, seed):
    return mean + scale * np.random.default_rng(seed).standard_normal((n, len(scale)))


# Fréchet distance


def test_frechet_distance_of_two_lines_by_hand():
    """Means 1 and 2, variances 2 and 8: 1 + 2 + 8 - 2 √16."""
    assert distances.frechet_distance([[0], [2]], [[0], [4]]) == pytest.approx(3)


def test_frechet_distance_of_two_planes_by_hand():
    """Means (0, 0) and (3, 4); standard deviations (1, 2) and (3, 1), axes apart: 25 + (1 - 3)² + (2 - 1)²."""
    cross = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # covariance 1 by n - 1
    a, b = cross * [1, 2], cross * [3, 1] + [3, 4]
    assert distances.frechet_distance(a, b) == pytest.approx(25 + 4 + 1)


@pytest.mark.parametrize("n", [40, 6])
def test_frechet_distance_equals_the_root_of_the_matrix_product(n):
    """Also with fewer frames (6) than dimensions (8), where the roots of the eigenvalues are summed instead."""
    mix = np.random.default_rng(0).standard_normal((8, 8))
    a, b = gaussian(n, 0.0, np.arange(1, 9.0), 1) @ mix, gaussian(n, 0.5, np.ones(8), 2)
    product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    root = np.sqrt(np.maximum(np.linalg.eigvals(product).real, 0)).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum() - 2 * root
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_0_to_itself_and_the_same_both_ways():
    a, b = gaussian(30, 0.0, np.ones(5), 1), gaussian(50, 1.0, np.ones(5), 2)
    assert distances.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert distances.frechet_distance(a, b) == pytest.approx(distances.frechet_distance(b, a))


def test_extrapolation_takes_away_most_of_the_bias():
    scale = 1 / np.arange(1, 101)
    errors, biases = [], []
    for seed in range(6):
        a, b = gaussian(300, 0.0, scale, 2 * seed), gaussian(301, 0.0, scale, 2 * seed + 1)
        fit = distances.frechet_infinity(a, b)
        assert fit.plain == pytest.approx(distances.frechet_distance(a, b))
        assert fit.n == 300
        errors.append(fit.value)
        biases.append(fit.plain)
    assert min(biases) > 0.01
    assert abs(np.mean(errors)) < 0.3 * np.mean(biases)


def test_extrapolation_finds_the_true_distance_of_two_gaussians():
    scale = 1 / np.arange(1, 51)
    true = 0.01 * 50 + 0.25 * np.square(scale).sum()  # means 0.1 apart in 50 dimensions, deviations 1 and 1.5
    fit = distances.frechet_infinity(gaussian(800, 0.0, scale, 0), gaussian(800, 0.1, 1.5 * scale, 1))
    assert fit.value == pytest.approx(true, rel=0.12)


def test_extrapolation_is_seeded_and_0_for_frames_of_the_same_sound():
    a, b = gaussian(60, 0.0, np.ones(6), 0), gaussian(60, 0.0, np.ones(6), 1)
    assert distances.frechet_infinity(a, b, seed=4) == distances.frechet_infinity(a, b, seed=4)
    itself = distances.frechet_infinity(a, a)
    assert itself.value == pytest.approx(0, abs=1e-9)
    assert itself.floor != pytest.approx(0, abs=1e-3)  # other music than its own half


def test_too_few_or_unlike_embeddings_are_refused():
    with pytest.raises(ValueError, match="15 frames are too few; it takes 16"):
        distances.frechet_infinity(np.zeros((15, 2)), np.zeros((20, 2)))
    with pytest.raises(ValueError, match="1 and 4 frames of embeddings are too few"):
        distances.frechet_distance(np.zeros((1, 2)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"not of shapes \(4, 2\) and \(4, 3\)"):
        distances.kernel_distance(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="all frames of the reference are alike"):
        distances.kernel_distance(np.ones((4, 2)), np.zeros((4, 2)))


# kernel distance


def test_kernel_distance_by_hand():
    """Reference 0, 1, 3 on a line: distances 1, 2, 3, so the width is 2. Rendered 0, 2."""
    k = lambda d: np.exp(-d * d / 8)  # noqa: E731
    within, other = (k(1) + k(2) + k(3)) / 3, k(2)
    between = (k(0) + k(2) + k(1) + k(1) + k(3) + k(1)) / 6
    assert distances.kernel_distance([[0], [1], [3]], [[0], [2]]) == pytest.approx(within + other - 2 * between)


def test_kernel_distance_of_as_many_frames_leaves_out_their_pairs():
    """Reference 0, 2 (width 2), rendered 1, 2: between, only 0 with 2 and 2 with 1."""
    k = lambda d: np.exp(-d * d / 8)  # noqa: E731
    expected = k(2) + k(1) - 2 * (k(2) + k(1)) / 2
    assert distances.kernel_distance([[0], [2]], [[1], [2]]) == pytest.approx(expected)
    a = gaussian(40, 0.0, np.ones(3), 0)
    assert distances.kernel_distance(a, a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n_rendered", [12, 13])
def test_kernel_distance_is_unbiased_even_of_a_dozen_frames(n_rendered):
    scale = np.ones(20)
    values = [
        distances.kernel_distance(gaussian(12, 0.0, scale, s), gaussian(n_rendered, 0.0, scale, 1000 + s))
        for s in range(300)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    assert min(values) < 0 < max(values)


def test_kernel_distance_sees_what_two_moments_do_not():
    """Two points of equal mean and variance as a Gaussian: the Fréchet distance takes them for the same."""
    smooth = gaussian(600, 0.0, np.ones(1), 0)
    smooth = (smooth - smooth.mean()) / smooth.std(ddof=1)
    lumps = np.tile([[-1.0], [1.0]], (300, 1)) * np.sqrt(599 / 600)
    assert distances.frechet_distance(smooth, lumps) < 1e-6
    assert distances.kernel_distance(smooth, lumps) > 0.02


def test_kernel_distance_does_not_depend_on_the_scale_nor_on_blocks():
    a, b = gaussian(1500, 0.0, np.ones(2), 0), gaussian(1100, 0.3, np.ones(2), 1)
    value = distances.kernel_distance(a, b)
    assert distances.kernel_distance(100 * a, 100 * b) == pytest.approx(value, rel=1e-6)
    width = np.median(np.sqrt(((a[:, None] - a) ** 2).sum(-1))[np.triu_indices(1500, 1)])
    k = [np.exp(-((x[:, None] - y) ** 2).sum(-1) / (2 * width**2)) for x, y in ((a, a), (b, b), (a, b))]
    expected = (k[0].sum() - 1500) / 1500 / 1499 + (k[1].sum() - 1100) / 1100 / 1099 - 2 * k[2].mean()
    assert value == pytest.approx(expected, rel=1e-6)


# RED


def test_relative_embedding_distance_by_hand_cut_to_the_shorter():
    reference, rendered = [[0, 0], [1, 1], [9, 9]], [[3, 4], [1, 2]]
    assert distances.relative_embedding_distance(reference, rendered) == pytest.approx((5 + 1) / 2)
    assert distances.relative_embedding_distance(rendered, reference) == pytest.approx((5 + 1) / 2)
    assert distances.relative_embedding_distance(reference, reference) == 0


# harmony


def melody(*pitches, seconds=1.0):
    return heard(*[(i, i + seconds, p) for i, p in enumerate(pitches)])


@pytest.mark.parametrize("root", range(12))
def test_scale_consistency_of_scales_is_1_in_every_key(root):
    major, minor, harmonic = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 8, 11)
    share = {steps: harmony.scale_consistency(melody(*[48 + root + s for s in steps])) for steps in (major, minor)}
    assert share == {major: 1, minor: 1}
    assert harmony.scale_consistency(melody(*[48 + root + s for s in harmonic])) == pytest.approx(6 / 7)


def test_scale_consistency_of_all_semitones_is_seven_twelfths():
    assert harmony.scale_consistency(melody(*range(60, 72))) == pytest.approx(7 / 12)


def test_scale_consistency_weighs_notes_by_how_long_they_last():
    """C major, a second each, and C# for 3 s: D major holds 8 s of 10 (counted, C major holds 7 of 8)."""
    notes = np.concatenate([melody(60, 62, 64, 65, 67, 69, 71), heard((7.0, 10.0, 61))])
    assert harmony.scale_consistency(notes) == pytest.approx(8 / 10)


@pytest.mark.parametrize(("pitches", "bits"), [
    ((60, 72, 48), 0.0),
    ((60, 67), 1.0),
    ((60, 60, 64, 67), 1.5),
    (range(36, 84), np.log2(12)),
])  # fmt: skip
def test_pitch_class_entropy_of_known_cases(pitches, bits):
    assert harmony.pitch_class_entropy(melody(*pitches)) == pytest.approx(bits)


def test_drums_have_no_harmony_and_nor_has_silence():
    notes = notes_array([(0, 1, 1, 60, 90, 0, 0, False), (0, 1, 1, 61, 90, 0, 0, True)])
    assert harmony.pitch_class_entropy(notes) == 0
    assert harmony.scale_consistency(notes) == 1
    assert harmony.roughness(notes) == harmony.roughness(notes[:1])
    assert np.isnan(harmony.scale_consistency(heard()))
    assert np.isnan(harmony.pitch_class_entropy(heard()))
    assert harmony.roughness(heard()) == 0


@pytest.mark.parametrize(("chord", "published"), [
    ((60, 64, 67), 0.1202426),
    ((60, 63, 67), 0.1300830),
    ((60, 61), 0.484),
])  # fmt: skip
def test_roughness_of_chords_is_as_published(chord, published):
    """Numbers that the R packages incon and dycon give."""
    notes = heard(*[(0.0, 1.0, p) for p in chord])
    assert harmony.roughness(notes) == pytest.approx(published, abs=5e-4 if published == 0.484 else 1e-6)


def test_roughness_of_two_partials_is_as_published():
    """dycon's tests: the band around 400 and 440 Hz is 87.225 Hz wide, g(0.5) = 0.5413, g(1.5) = 0."""
    y = 40 / 87.225
    g = (4 * np.e * y * np.exp(-4 * y)) ** 2
    assert harmony.spectrum_roughness([400, 440], [1, 2]) == pytest.approx(2 * g / 5, rel=1e-4)
    half = 1.72 * 1000**0.65 / 4  # half a band apart, around 1 kHz
    assert harmony.spectrum_roughness([1000 - half, 1000 + half], [1, 1]) == pytest.approx(0.5413 / 2, abs=1e-4)
    assert harmony.spectrum_roughness([1000 - 3 * half, 1000 + 3 * half], [1, 1]) == 0
    assert harmony.spectrum_roughness([], []) == 0


def test_roughness_is_a_mean_over_the_time_in_which_anything_sounds():
    """A major triad for 1 s, a pause, then a minor one for 3 s."""
    notes = heard((0, 1, 60), (0, 1, 64), (0, 1, 67), (5, 8, 60), (5, 8, 63), (5, 8, 67))
    assert harmony.roughness(notes) == pytest.approx((0.1202426 + 3 * 0.1300830) / 4, abs=1e-6)


def test_roughness_knows_microtones():
    fifth = heard((0, 1, 60), (0, 1, 67))
    assert harmony.roughness(fifth, np.array([0, 0.5])) > 1.5 * harmony.roughness(fifth)
    up = heard((0, 1, 61), (0, 1, 68))
    assert harmony.roughness(fifth, 1.0) == pytest.approx(harmony.roughness(up))


def test_roughness_rises_from_triads_to_clusters():
    chords = [(48, 55, 64), (48, 52, 55), (48, 52, 55, 59), (48, 49, 54), (48, 49, 50, 51, 52)]
    values = [harmony.roughness(heard(*[(0.0, 1.0, p) for p in chord])) for chord in chords]
    assert values == sorted(values)


# one sound against another

ONSETS = np.arange(0.2, 3.8, 0.35)


def song(shift=0.0, cents=0.0, attack_seconds=0.002, n_partials=8, right=0.7, slope=1.0):
    """Two voices of plucked tones that overlap, [2, 4 s]; the second voice is softer on the right."""
    sound_of = np.zeros((2, 5 * RATE))
    for i, onset in enumerate(ONSETS):
        for voice, pitch in enumerate((48 + 5 * i % 24, 60 + 7 * i % 17)):
            t = np.arange(RATE // 2) / RATE
            hz = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
            wave = sum(np.sin(2 * np.pi * k * hz * t + k) / k**slope for k in range(1, n_partials + 1))
            wave *= np.exp(-3 * t) * np.minimum(t / attack_seconds, 1) * np.minimum((0.5 - t) / 0.02, 1)
            first = round((onset + shift) * RATE)
            sound_of[:, first : first + len(t)] += 0.1 * wave * np.array([[1.0], [right if voice else 2 - right]])
    return sound_of[:, : 4 * RATE]


@pytest.fixture(scope="module")
def reference():
    return song()


def test_equal_sounds_have_no_errors(reference):
    errors = sound.sound_errors(reference, reference, ONSETS)
    for name, value in vars(errors).items():
        assert value == pytest.approx(0, abs=1e-4), name


def test_log_mel_error_is_that_of_spectrum(reference):
    other = song(n_partials=3)
    expected = log_mel_error(log_mel(reference), log_mel(other))
    assert expected > 1
    assert sound.sound_errors(reference, other).log_mel_db == pytest.approx(expected)


def test_a_shift_in_time_is_the_lag_at_every_onset(reference):
    np.testing.assert_allclose(sound.rise_lags(reference, song(shift=0.012), ONSETS), 0.012, atol=1.5e-3)
    np.testing.assert_allclose(sound.rise_lags(reference, song(shift=-0.02), ONSETS), -0.02, atol=1.5e-3)
    assert sound.attack_error(reference, song(shift=0.012), ONSETS) == pytest.approx(0.012, abs=1e-3)


def test_softer_attacks_in_a_mix_lag_as_much_as_those_of_one_note(reference):
    alone = attack_time(song(attack_seconds=0.03)[:, : RATE // 2]) - attack_time(reference[:, : RATE // 2])
    assert 0.008 < alone < 0.014
    assert sound.attack_error(reference, song(attack_seconds=0.03), ONSETS) == pytest.approx(alone, abs=0.005)
    one = reference[:, : RATE // 2], song(attack_seconds=0.03)[:, : RATE // 2]
    assert sound.attack_error(*one) == pytest.approx(alone)


def test_an_onset_that_is_not_there_is_as_late_as_can_be(reference):
    without = reference.copy()
    without[:, : round(0.4 * RATE)] = 0
    lags = sound.rise_lags(reference, without, ONSETS[:1])
    np.testing.assert_allclose(lags, sound.LONGEST_LAG_SECONDS)
    assert len(sound.rise_lags(reference, without, np.array([0.05]))) == 0  # nothing starts there


@pytest.mark.parametrize("cents", [-12.0, 25.0])
def test_a_detuned_song_is_off_by_its_cents(reference, cents):
    assert sound.pitch_error(reference, song(cents=cents), ONSETS) == pytest.approx(abs(cents), abs=0.7)


def test_half_the_level_is_6_lu_less(reference):
    assert sound.loudness_error(reference, 0.5 * reference) == pytest.approx(20 * np.log10(2), abs=0.01)
    assert sound.loudness_error(0.5 * reference, reference) == pytest.approx(20 * np.log10(2), abs=0.01)


@pytest.mark.skipif(importlib.util.find_spec("pyloudnorm") is None, reason="pyloudnorm is not installed")
def test_loudness_error_agrees_with_pyloudnorm(reference):
    import pyloudnorm

    other = song(n_partials=2)
    meter = pyloudnorm.Meter(RATE)
    expected = meter.integrated_loudness(other.T) - meter.integrated_loudness(reference.T)
    assert sound.loudness_error(reference, other) == pytest.approx(abs(expected), abs=0.05)


def test_centroid_of_a_chirp_is_librosas():
    np.testing.assert_allclose(sound.centroids(chirp(RATE)[None])[0], GOLDEN["centroid_hz"], atol=0.01)


def test_centroid_error_of_sines_is_their_interval():
    t = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * hz * t)[None] for hz in (1000, 3000))
    assert sound.centroid_error(low, high) == pytest.approx(np.log2(3), abs=0.03)
    assert sound.centroid_error(low, low[:, ::-1]) == pytest.approx(0, abs=1e-3)
    quiet_end = high.copy()
    quiet_end[:, RATE // 2 :] = 0
    expected = np.log2(3) / 2 + sound.FARTHEST_OCTAVES / 2
    assert sound.centroid_error(low, quiet_end) == pytest.approx(expected, abs=0.1)  # frames reach over the end


def test_stereo_width_of_known_sounds():
    left, right = np.random.default_rng(0).standard_normal((2, RATE))
    for channels, width in (((left, left), 0), ((left, right), 0.5), ((left, 0 * left), 0.5), ((left, -left), 1)):
        assert sound.stereo_width(np.stack(channels)) == pytest.approx(width, abs=0.01)
    assert sound.stereo_width(left[None]) == 0
    assert sound.width_error(np.stack([left, left]), np.stack([left, 0.5 * left])) == pytest.approx(0.25 / 2.5)


def test_the_shorter_sound_goes_on_in_silence(reference):
    whole = np.pad(reference[:, : 2 * RATE], ((0, 0), (0, 2 * RATE)))
    assert sound.sound_errors(reference, reference[:, : 2 * RATE], ONSETS) == sound.sound_errors(
        reference, whole, ONSETS)  # fmt: skip


def test_a_silent_reference_has_nothing_to_compare():
    silence = np.zeros((2, RATE), np.float32)
    errors = sound.sound_errors(silence, song(), ONSETS)
    assert all(np.isnan(x) for x in (errors.attack_seconds, errors.pitch_cents, errors.centroid_octaves, errors.width))
    assert errors.loudness_lu > 40
    assert sound.width_error(song(), silence) == 1, "what is not there is as far off as can be"


# floors


@pytest.fixture(scope="module")
def players(reference):
    """Another honest instrument, and the floors: silence, noise of the same power, a sine for each note."""
    noise = np.random.default_rng(0).standard_normal(reference.shape)
    return {
        "other": song(slope=1.2, attack_seconds=0.004),
        "silence": np.zeros_like(reference),
        "noise": noise * np.sqrt(np.square(reference).mean()),
        "sine": song(n_partials=1),
    }


FLOORS = ("silence", "noise", "sine")


def embedded(samples):
    """A plain embedding: log-mel bands, eight at a time, means over 0.19 s: [n, 12]."""
    levels = np.maximum(log_mel(samples), -90)
    levels = levels[: len(levels) // 16 * 16].reshape(-1, 16, 12, 8)
    return levels.mean(axis=(1, 3))


@pytest.mark.parametrize("metric", [
    distances.frechet_distance,
    lambda a, b: distances.frechet_infinity(a, b).value,
    distances.kernel_distance,
    distances.relative_embedding_distance,
])  # fmt: skip
def test_distances_put_the_reference_first_and_floors_last(reference, players, metric):
    theirs = embedded(reference)
    cost = {name: metric(theirs, embedded(sound_of)) for name, sound_of in players.items()}
    assert metric(theirs, theirs) == pytest.approx(0, abs=1e-6)
    assert 1e-6 < cost["other"] < min(cost[name] for name in FLOORS)


@pytest.fixture(scope="module")
def errors(reference, players):
    return {name: vars(sound.sound_errors(reference, x, ONSETS)) for name, x in players.items()}


def test_log_mel_error_puts_the_reference_first_and_floors_last(errors):
    cost = {name: e["log_mel_db"] for name, e in errors.items()}
    assert 0 < cost["other"] < min(cost[name] for name in FLOORS)


def test_silence_costs_the_most_in_every_error_of_sound(errors):
    """Noise and sines do not in all of them: a sine is in tune and in time. They diagnose, they do not rank."""
    for key in errors["silence"]:
        assert errors["silence"][key] == max(e[key] for e in errors.values()), key
    assert errors["sine"]["pitch_cents"] < 1
    assert errors["sine"]["attack_seconds"] < 0.005
    assert errors["noise"]["attack_seconds"] > 0.01
    assert errors["noise"]["pitch_cents"] > 10


@pytest.mark.skipif(tr.model_path() is None, reason="basic-pitch is not installed")
@pytest.mark.skipif(importlib.util.find_spec("mir_eval") is None, reason="mir_eval is not installed")
def test_note_f1_puts_silence_and_noise_last(reference, players):
    """Not the sine: every note of it is there to be heard."""
    played = heard(*[(t, t + 0.5, p) for i, t in enumerate(ONSETS) for p in (48 + 5 * i % 24, 60 + 7 * i % 17)])
    model = tr.BasicPitch(n_threads=1)
    asked = {name: players[name] for name in ("other", "silence", "noise")} | {"reference": reference}
    f1 = {name: tr.note_f1(played, model(x, RATE)).f1 for name, x in asked.items()}
    assert min(f1["reference"], f1["other"]) > 0.5
    assert f1["silence"] == 0
    assert f1["noise"] < 0.1
