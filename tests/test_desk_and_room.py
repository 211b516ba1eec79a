import itertools

import numpy as np
import pytest
from conftest import rounding

from miao.midi.score import Curve
from miao.sound.desk import Desk, Fader, pan_gains, send_gains, track_gains
from miao.sound.room import DrawnRoom, Room, _drawn

RATE = 44100


def steps(initial, *pairs):
    times, values = zip(*pairs, strict=True) if pairs else ((), ())
    return Curve(np.array(times, float), np.array(values, float), initial)


def in_pieces(process, samples, seed=0, longest=9000):
    rng, at, out = np.random.default_rng(seed), 0, []
    while at < samples.shape[1]:
        n = int(rng.integers(1, longest))
        out.append(process(samples[:, at : at + n]))
        at += n
    return np.concatenate(out, axis=1)


def noise(seconds, seed=0, rate=RATE):
    return np.random.default_rng(seed).standard_normal((2, int(seconds * rate))).astype(np.float32)


def test_pan_keeps_the_power_and_leaves_the_centre_alone():
    pan = np.linspace(-1, 1, 33)
    left, right = pan_gains(pan)
    np.testing.assert_allclose(left**2 + right**2, 2)
    assert pan_gains(0.0) == pytest.approx([1, 1])
    assert pan_gains(-1.0) == pytest.approx([np.sqrt(2), 0]) and pan_gains(1.0) == pytest.approx([0, np.sqrt(2)])
    assert (np.diff(left) < 0).all() and (np.diff(right) > 0).all()


def test_a_track_without_controllers_has_the_gain_of_general_midi():
    np.testing.assert_allclose(track_gains({}, 0, 10, RATE), (100 / 127) ** 2, rtol=rounding())


def test_volume_and_expression_are_squared_and_multiplied():
    controls = {"volume": steps(0.5), "expression": steps(0.8), "pan": steps(0.0)}
    np.testing.assert_allclose(track_gains(controls, 12345, 10, RATE), 0.25 * 0.64, rtol=rounding())


def test_a_step_is_a_straight_ramp_of_5_ms_that_begins_with_it():
    controls = {"volume": steps(1.0, (1.0, 0.0))}
    gains = track_gains(controls, 0, 2 * 8000, 8000)
    assert (gains[:, :8001] == 1).all() and (gains[:, 8000 + 40 :] == 0).all()
    np.testing.assert_allclose(gains[0, 8000 : 8000 + 40], np.arange(40, 0, -1) / 40, atol=rounding())


def test_what_is_set_at_time_zero_counts_from_the_first_sample():
    controls = {"volume": steps(1.0, (0.0, 0.5))}
    np.testing.assert_allclose(track_gains(controls, 0, 1000, RATE), 0.25, rtol=rounding())


def test_a_fader_jumps_where_its_part_is_silent_and_nowhere_else():
    def moved(busy):
        fader = Fader(8000, send_gains("reverb"), ("reverb",))
        fader.set("reverb", 0.0, 0.0)
        fader.set("reverb", 1.0, 0.5)
        return fader.gains(0, 8000, busy)[0]

    silent = moved([(0.0, 0.4), (0.5, 1.0)])
    np.testing.assert_array_equal(silent, np.arange(8000) >= 4000)
    sounding = moved([(0.0, 0.6)])
    np.testing.assert_allclose(sounding[4000:4041], np.arange(41) / 40, atol=rounding())
    np.testing.assert_array_equal(sounding[:4000], 0)


def test_the_desk_sends_what_is_behind_the_fader_and_more_where_it_is_asked():
    stems = np.stack([np.full((2, 100), 1.0, np.float32), np.full((2, 100), 0.5, np.float32)])
    desk = Desk(RATE, 2, ("reverb", "chorus"))
    for part, name, value in ((0, "volume", 0.5), (0, "pan", 1.0), (0, "reverb", 0.5), (1, "volume", 1.0),
                              (1, "reverb", 1.0), (1, "chorus", 0.25)):  # fmt: skip
        desk.set(part, name, value, 0.0)
    lines, sent = desk.mix(0, stems, ([], []), {1: np.full((2, 100), -0.5, np.float32)})
    right = 0.25 * np.sqrt(2)
    np.testing.assert_allclose(lines[:, :, 50], [[0, right], [0.5, 0.5]], atol=rounding())
    np.testing.assert_allclose(sent["reverb"][:, 50], [0, 0.5 * right], atol=rounding())
    np.testing.assert_allclose(sent["chorus"][:, 50], [0.125, 0.125], atol=rounding())


def test_gains_do_not_depend_on_how_the_song_is_cut():
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0, 0.5, 300))  # many within one ramp
    times[100:103] = times[100]  # several at once: the last one counts
    controls = {
        "volume": Curve(times, rng.random(300), 0.7),
        "expression": steps(1.0, (0.25, 0.5)),
        "pan": Curve(times[::3] + 0.01, rng.uniform(-1, 1, 100), 0),
    }
    whole = track_gains(controls, 0, RATE, RATE)
    cuts = [0, 1, 2, 700, 777, 11025, 11026, 20000, RATE]
    pieces = [track_gains(controls, a, b - a, RATE) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=rounding())


def test_gains_move_smoothly_and_stay_between_the_steps():
    rng = np.random.default_rng(2)
    times = np.arange(100) / 100
    values = rng.random(100)
    gains = track_gains({"volume": Curve(times, values, 0.5), "expression": steps(1.0)}, 0, RATE, RATE)
    assert np.abs(np.diff(gains)).max() <= 1 / (0.005 * RATE) + 1e-6
    assert gains.min() >= values.min() ** 2 - 1e-6 and gains.max() <= values.max() ** 2 + 1e-6
    in_the_middle = (np.arange(100) / 100 + 0.0075) * RATE
    np.testing.assert_allclose(gains[0, in_the_middle.astype(int)], values**2, atol=rounding())


def test_a_ramp_ten_hours_in_is_as_exact_as_the_first():
    start = 36000.0
    early = track_gains({"volume": steps(1.0, (1.0, 0.3))}, RATE - 500, 1000, RATE)
    late = track_gains({"volume": steps(1.0, (1.0 + start, 0.3))}, RATE - 500 + int(start * RATE), 1000, RATE)
    np.testing.assert_allclose(late, early, atol=rounding())


def test_the_room_is_the_convolution_with_its_response():
    sent = np.zeros((2, 30000), np.float32)
    sent[0, 5], sent[1, 20001] = 1.0, -0.5
    room = Room(RATE, DrawnRoom(0.8))
    heard = np.concatenate([room.process(sent), room.tail()], axis=1)
    response = DrawnRoom(0.8).response(RATE)
    expected = np.zeros((2, sent.shape[1] + response.shape[-1] - 1))
    expected[:, 5 : 5 + response.shape[-1]] += response[:, 0]
    expected[:, 20001 : 20001 + response.shape[-1]] -= 0.5 * response[:, 1]
    np.testing.assert_allclose(heard, expected, atol=1e-7)


@pytest.mark.parametrize("partition_samples", [1024, 16384])
def test_the_room_does_not_depend_on_how_the_song_is_cut(partition_samples):
    sent = 0.1 * noise(1.5)
    whole = Room(RATE, DrawnRoom(0.5), partition_samples=partition_samples).process(sent)
    assert whole.shape == sent.shape
    np.testing.assert_allclose(
        in_pieces(Room(RATE, DrawnRoom(0.5), partition_samples=partition_samples).process, sent), whole, atol=rounding()
    )
    np.testing.assert_allclose(Room(RATE, DrawnRoom(0.5)).process(sent), whole, atol=rounding())


def test_silence_stays_silence_and_a_room_falls_silent():
    room = Room(8000, DrawnRoom(0.4), partition_samples=512)
    assert not room.process(np.zeros((2, 3000), np.float32)).any()
    room.process(noise(0.2, rate=8000))
    assert room.tail().any()
    room.process(np.zeros((2, 1024), np.float32))
    assert not room.process(np.zeros((2, 1024), np.float32)).any()


def test_one_seed_is_one_room():
    drawn = DrawnRoom(0.5, seed=3).response(8000)
    _drawn.cache_clear()
    np.testing.assert_array_equal(DrawnRoom(0.5, seed=3).response(8000), drawn)
    assert not np.allclose(DrawnRoom(0.5, seed=4).response(8000), drawn)


def test_the_room_is_the_same_at_every_sample_rate():
    rates = (22_050, 44_100, 48_000, 96_000)
    spectra = [np.fft.rfft(DrawnRoom(0.8).response(rate), rate)[..., 30:9000] for rate in rates]  # bins of 1 Hz
    for spectrum in spectra[1:]:
        likeness = np.abs(np.vdot(spectra[0], spectrum)) / (np.linalg.norm(spectra[0]) * np.linalg.norm(spectrum))
        assert likeness > 0.99
        assert np.linalg.norm(spectrum) / np.linalg.norm(spectra[0]) == pytest.approx(1, abs=0.02)


@pytest.fixture(scope="module")
def response():
    return DrawnRoom().response(RATE)


def decay_seconds(response, hz):
    """Twice the time from -5 to -35 dB of the energy still to come, in an octave (Schroeder)."""
    n = 2 * response.shape[-1]
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / RATE), 1) / hz)
    band = np.fft.irfft(np.fft.rfft(response, n) * np.exp(-8 * octaves**2), n)[..., : response.shape[-1]]
    to_come = np.cumsum(np.sum(band**2, axis=(0, 1))[::-1])[::-1]
    level = 10 * np.log10(to_come / to_come[0])
    return 2 * (np.argmax(level < -35) - np.argmax(level < -5)) / RATE


def test_the_room_decays_as_asked_and_sooner_in_the_treble(response):
    assert decay_seconds(response, 1000) == pytest.approx(1.6, abs=0.1)
    assert decay_seconds(response, 8000) == pytest.approx(0.48 * 1.6, abs=0.15)
    assert decay_seconds(response, 125) == pytest.approx(1.1 * 1.6, abs=0.2)  # few waves fit into so low an octave
    assert decay_seconds(DrawnRoom(0.8).response(RATE), 1000) == pytest.approx(0.8, abs=0.1)


def test_the_room_is_silent_before_its_predelay_and_faded_at_its_end(response):
    assert not response[..., : int(0.014 * RATE)].any()
    assert np.abs(response[..., -2000:]).max() < 1e-5 * np.abs(response).max()


def test_a_send_of_one_gives_as_much_room_as_sound():
    def in_band(sound):
        spectrum = np.fft.rfft(sound, axis=-1)
        hz = np.fft.rfftfreq(sound.shape[-1], 1 / RATE)
        return np.fft.irfft(spectrum * ((hz > 200) & (hz < 2000)), sound.shape[-1])

    sent = in_band(noise(6)).astype(np.float32)
    heard = Room(RATE, DrawnRoom()).process(sent)[:, 2 * RATE :]
    np.testing.assert_allclose(np.std(heard, axis=1), np.std(sent, axis=1), rtol=0.1)


def test_echoes_are_dense_from_80_ms_on(response):
    # share of samples beyond one standard deviation, against that of Gaussian noise (Abel and Huang)
    for seconds in (0.1, 0.2, 0.4, 0.8):
        at = int(seconds * RATE)
        window = response[..., at - 441 : at + 441]
        share = np.mean(np.abs(window) > np.std(window, axis=-1, keepdims=True))
        assert share / 0.3173 == pytest.approx(1, abs=0.12)


def test_the_tail_has_no_ringing_modes(response):
    at = int(0.2 * RATE)
    spectrum = np.abs(np.fft.rfft(response[0, 0, at : at + 32768] * np.hanning(32768))) ** 2
    for low, high in ((200, 800), (1000, 4000)):
        band = spectrum[int(low * 32768 / RATE) : int(high * 32768 / RATE)]
        flatness = np.exp(np.mean(np.log(band))) / np.mean(band)
        assert flatness > 0.45  # exp(-0.577) = 0.56 for noise; modes would lower it


def test_reflections_end_with_the_build_up_are_weaker_from_further_and_stronger_on_the_speakers_own_side():
    own_sides, halves = [], []
    for seed in range(6):
        room = DrawnRoom(0.4, reflections=0.999999, seed=seed)  # nearly nothing but reflections
        power = np.square(room.response(16_000)).cumsum(axis=-1)
        ends = (power < 0.9995 * power[..., -1:]).sum(axis=-1) / 16_000  # those of 24 that are drawn lie evenly
        np.testing.assert_allclose(ends, room.predelay_seconds + 1.6 * room.build_up_seconds, atol=0.003)
        total = power[..., -1]
        halves.append((power < 0.5 * power[..., -1:]).sum(axis=-1).mean() / 16_000)
        own_sides.append(total[0, 0] / total[0, 1] * total[1, 1] / total[1, 0])
    # a power of 24 that overlap by chance spreads by some 15 %; of six rooms of four paths each by 5 %
    assert np.exp(np.mean(np.log(own_sides)) / 2) == pytest.approx(1 / 0.6**2, rel=0.15)
    # pressure falls as distance grows: of t / (t + 15 ms)^2 over 80 ms half has come after 35, and 15 before
    assert np.mean(halves) == pytest.approx(0.050, abs=0.008)


def test_the_two_ears_hear_different_tails(response):
    tails = response[..., int(0.1 * RATE) :].reshape(4, -1)
    assert np.abs(np.corrcoef(tails) - np.eye(4)).max() < 0.05
