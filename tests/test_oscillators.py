"""Partials and noise: what a block of samples must be, whichever loop makes it."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.synth import oscillators
from miao.synth.band_noise import noise_table
from miao.synth.oscillators import NotePart, add_notes_numpy, add_partials_numpy

RATE = 44100
ACCURACY = 1e-5  # of a partial's amplitude, as add_partials promises; those of a note add up to 1 here
LOOPS = {"numpy": (add_partials_numpy, add_notes_numpy)}
if oscillators.KERNELS == "compiled":
    LOOPS |= dict(oscillators._compiled.variants)  # all that this processor can run


@pytest.fixture(params=LOOPS)
def add_partials(request):
    return LOOPS[request.param][0]


@pytest.fixture(params=LOOPS)
def add_notes(request):
    return notes_by(request.param)


@pytest.fixture(params=[name for name in LOOPS if name != "numpy"])
def add_notes_compiled(request):
    return notes_by(request.param)


def notes_by(name):
    """`oscillators.add_notes` with one kind of loop."""
    loop = LOOPS[name][1]
    if name == "numpy":
        return loop

    def add(out, parts, table, places, begin, floor, is_extra=False):
        loop(out, parts, table, places, begin, is_extra, oscillators._SILENT, oscillators._OCTAVES, floor)

    return add


@pytest.fixture(scope="module")
def small_table():
    return noise_table([100, 1000, 5000, 15000], RATE, seed=3, n_samples=4096)


def steady(frequencies, n_knots=2, start=0.0, end=4000.0, gains=(1.0, 1.0)):
    """Arguments after `out` for partials of steady frequency (cycles per sample) and amplitude 1."""
    knots = np.linspace(start, end, n_knots)
    count = len(frequencies)
    amplitudes = np.ones((n_knots, count), np.float32)
    stereo = np.tile(np.float32(gains), (count, 1))
    return knots, knots - start, amplitudes, np.array(frequencies, float), np.zeros(count, np.float32), stereo


def lively_note(seed=0, n_knots=30, n_partials=150, spread=True):
    """A note with everything in it: bends, silent partials, partials above half the sample rate, odd knots."""
    rng = np.random.default_rng(seed)
    knots = np.cumsum(rng.uniform(20, 900, n_knots)) - 3000.4
    phase = np.append(0, np.cumsum(np.diff(knots) * rng.uniform(0.003, 0.005, n_knots - 1)))
    amplitudes = rng.random((n_knots, n_partials), dtype=np.float32) / n_partials
    amplitudes[:, 2::7] = 0
    amplitudes[10:15, 3] = 0
    offsets = rng.uniform(-2, 2, n_partials).astype(np.float32)
    gains = rng.random((n_partials, 2), dtype=np.float32)
    if not spread:
        gains[:, 1] = 0.3 * gains[:, 0]
    return knots, phase, amplitudes, np.arange(1.0, n_partials + 1), offsets, gains


def lively_parts(table, seed=0, count=3, is_wide=True):
    """Notes as the engine hands them over: loud, soft, silent and very soft cells, an odd number of knots; every other
    one has partials that are ahead on the right."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in range(count):
        knots, phase, _, ratios, offsets, gains = lively_note(rng.integers(1000), n_partials=60)
        levels = rng.uniform(0, 63, (len(knots), tk.N_CELLS)).astype(np.float32)
        levels[:, 5:9] = 0
        levels[:, 20:30] *= 0.3
        levels[:, tk.N_PARTIALS :] *= 0.7
        levels[:, oscillators.REACHED] = 1
        levels[rng.integers(1, len(knots), 2), oscillators.REACHED] = (0.3, 0.8)
        cells, shares = np.sort(rng.integers(0, tk.N_PARTIALS - 1, 60)).astype(np.int32), rng.random(60, np.float32)
        shares[:20] = 0
        shares[-3:] = 1
        balance = rng.random((len(table), 2), np.float32)
        # the pitch has more knots than the levels, and turns there
        pitch_knots = np.sort(np.concatenate([knots, rng.uniform(knots[0], knots[-1], 20)]))
        phase = np.interp(pitch_knots, knots, phase) + 0.3 * np.sin(np.arange(len(pitch_knots)))
        ahead = (n % 2 == 0) * rng.normal(0, 0.3, (60, 1)).astype(np.float32)
        rest = (offsets, ratios, cells, shares, np.concatenate([gains, ahead], axis=1), balance, is_wide)
        parts.append(NotePart(knots, pitch_knots, phase, levels, *rest))
    return parts


def amplitude_of(parts):
    """What the partials and bands of notes add up to where all are loudest."""
    return sum(float(tk.level_to_amplitude(part.levels[:, :-1].max(axis=0)).sum()) for part in parts)


def block_of(n):
    return np.zeros((2, n), np.float32)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@pytest.mark.parametrize("frequency", [20 / RATE, 440.7 / RATE, 0.2499, 0.2501, 0.4, 0.499, -0.1, -0.3])
def test_a_partial_is_the_sine_that_was_asked_for(add_partials, frequency):
    out = block_of(4000)
    add_partials(out, *steady([frequency], gains=(1.0, 0.25)), 1e-5)
    sine = np.sin(2 * np.pi * frequency * np.arange(4000))
    np.testing.assert_allclose(out, np.outer([1, 0.25], sine), atol=ACCURACY)


def test_amplitude_offset_and_ratio_are_those_of_the_formula(add_partials):
    knots, phase = np.array([-10.5, 990.25, 1900.0]), np.array([3.0, 23.0, 71.0])
    amplitudes = np.float32([[0, 1], [1, 0.5], [0.5, 0]])
    ratios, offsets = np.array([1.0, 2.76]), np.float32([0.1, -0.4])
    out = block_of(2000)
    add_partials(out, knots, phase, amplitudes, ratios, offsets, np.float32([[1, 0], [0, 1]]), 1e-6)
    s = np.arange(1900)
    base = np.interp(s, knots, phase)
    for p in (0, 1):
        expected = np.interp(s, knots, amplitudes[:, p]) * np.sin(2 * np.pi * (ratios[p] * base + offsets[p]))
        np.testing.assert_allclose(out[p, :1900], expected, atol=ACCURACY)


def test_a_note_sounds_from_its_first_knot_up_to_its_last(add_partials):
    out = block_of(1000)
    knots, *rest = steady([0.01], start=100.25, end=200.0)
    rest[3] = np.float32([0.25])  # starts at its crest
    add_partials(out, knots, *rest, 1e-5)
    assert (np.flatnonzero(out[0])[[0, -1]] == [101, 199]).all()
    assert out[0, 101] == pytest.approx(1, abs=2e-3)


def test_partials_at_half_the_sample_rate_and_above_are_left_out(add_partials):
    out = block_of(4000)
    add_partials(out, *steady([0.5, 0.51, 0.75, 1.01, 40.0, -0.5]), 1e-5)
    assert not out.any()


def test_a_partial_is_left_out_only_where_both_its_ends_are_below_the_floor(add_partials):
    knots, phase, amplitudes, *rest = steady([0.01], n_knots=4, end=3000.0)
    amplitudes[:, 0] = [9e-4, 9e-4, 0.5, 9e-4]
    out = block_of(3000)
    add_partials(out, knots, phase, amplitudes, *rest, 1e-3)
    assert not out[:, :1000].any()
    assert rms(out[:, 1000:2000]) > 0.1 and rms(out[:, 2000:]) > 0.1


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("size", [256, 1000])
def test_any_split_of_partials_into_blocks_equals_the_whole(add_partials, spread, size):
    knots, *rest = lively_note(spread=spread)
    whole, parts = block_of(8000), block_of(8000)
    add_partials(whole, knots, *rest, 1e-5)
    for start in range(0, 8000, size):
        add_partials(parts[:, start : start + size], knots - start, *rest, 1e-5)
    assert rms(whole) > 0.01
    np.testing.assert_allclose(parts, whole, atol=ACCURACY)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_all_loops_make_the_same_partials(add_partials, spread, seed):
    ours, oracle = block_of(8000), block_of(8000)
    note = lively_note(seed, n_partials=(4, 20, 300)[seed], spread=spread)
    add_partials(ours, *note, 1e-5)
    add_partials_numpy(oracle, *note, 1e-5)
    assert oracle.any()
    np.testing.assert_allclose(ours, oracle, atol=ACCURACY)


@pytest.fixture(scope="module")
def token_table():
    return noise_table(tk.NOISE_EDGES_HZ, RATE, seed=3, n_samples=8192)


def places_in(table, seed=5):
    return np.random.default_rng(seed).integers(0, table.shape[1], (len(table), 2))


@pytest.fixture(scope="module")
def wanted(token_table):
    """The notes of a seed and what they are to sound like, computed once for all loops: [(parts, more, oracle)]."""

    @cache
    def of(seed, is_wide):
        parts, found = lively_parts(token_table, seed, is_wide=bool(is_wide)), []
        if is_wide is None:  # one is wide, the others are not
            parts[1] = parts[1]._replace(is_wide=True)
        moved = [part._replace(factor=factor) for part, factor in zip(parts, (-1.0, 0.0, 0.7), strict=True)]
        for some, more in ((parts, ()), (moved, (True,))):
            oracle = block_of(8000)
            add_notes_numpy(oracle, some, token_table, places_in(token_table), 12345, 1e-5, *more)
            found.append((some, more, oracle))
        return found

    return of


@pytest.mark.parametrize(("seed", "is_wide"), [(0, False), (1, True), (2, None)])
def test_all_loops_make_the_same_notes(add_notes_compiled, token_table, wanted, seed, is_wide):
    for parts, more, oracle in wanted(seed, is_wide):
        ours = block_of(8000)
        add_notes_compiled(ours, parts, token_table, places_in(token_table), 12345, 1e-5, *more)
        assert rms(oracle) > 0.01
        np.testing.assert_allclose(ours, oracle, atol=ACCURACY * amplitude_of(parts))


@pytest.mark.parametrize(("size", "begin"), [(256, 0), (1000, 1001), (37, 1001)])
def test_any_split_of_notes_into_blocks_equals_the_whole(add_notes, token_table, size, begin):
    parts = lively_parts(token_table, count=2)
    whole, split = block_of(4000), block_of(4000)
    add_notes(whole, parts, token_table, places_in(token_table), begin, 1e-5)
    for start in range(0, 4000, size):
        here = [p._replace(knots=p.knots - start, pitch_knots=p.pitch_knots - start) for p in parts]
        add_notes(split[:, start : start + size], here, token_table, places_in(token_table), begin + start, 1e-5)
    np.testing.assert_allclose(split, whole, atol=ACCURACY * amplitude_of(parts))


def hissing(table, level, start=0.0, end=20000.0, side=(1.0, 1.0), is_wide=False, factor=1.0):
    """A note of noise alone, all bands alike, in an amplitude."""
    levels = np.zeros((2, tk.N_CELLS), np.float32)
    levels[:, tk.N_PARTIALS : tk.PITCH_CELL] = tk.db_to_level(20 * np.log10(level))
    levels[:, oscillators.REACHED] = 1
    knots, none = np.array([start, end]), np.zeros(0, np.float32)
    balance = np.tile(np.float32(side), (len(table), 1))
    return NotePart(
        knots, knots, np.zeros(2), levels, none, np.zeros(0), np.zeros(0, np.int32), none, np.zeros((0, 3), np.float32),
        balance, is_wide, factor,
    )  # fmt: skip


@pytest.mark.parametrize("frequency", [0.0003, 0.11, 0.249, 0.251, 0.38, 0.49])
@pytest.mark.parametrize("turn", [0.1, -0.25, 0.45])
def test_a_partial_is_ahead_on_the_right_as_far_as_its_gains_say(add_notes, token_table, frequency, turn):
    levels = np.zeros((2, tk.N_CELLS), np.float32)
    levels[:, 0], levels[:, oscillators.REACHED] = tk.N_LEVELS - 1, 1
    knots, none = np.array([0.0, 3000.0]), np.zeros(1, np.float32)
    gains = np.float32([[0.6, 0.8 * np.cos(2 * np.pi * turn), 0.8 * np.sin(2 * np.pi * turn)]])
    part = NotePart(
        knots, knots, frequency * knots, levels, none, np.ones(1), np.zeros(1, np.int32), none, gains,
        np.ones((len(token_table), 2), np.float32), False, 0.5,
    )  # fmt: skip
    out, cycles = block_of(3000), frequency * np.arange(3000.0)
    add_notes(out, [part], token_table, places_in(token_table), 0, 1e-6)
    loud = 0.5 * float(tk.level_to_amplitude(np.float32(tk.N_LEVELS - 1)))
    wanted = loud * np.stack([0.6 * np.sin(2 * np.pi * cycles), 0.8 * np.sin(2 * np.pi * (cycles + turn))])
    np.testing.assert_allclose(out, wanted, atol=3 * ACCURACY * loud)


def test_the_noises_of_notes_are_one_whose_power_is_the_sum_of_theirs(add_notes, token_table):
    places = places_in(token_table)
    both, alone = block_of(8000), block_of(8000)
    add_notes(both, [hissing(token_table, 0.03), hissing(token_table, 0.04)], token_table, places, 0, 1e-6)
    add_notes(alone, [hissing(token_table, 0.05)], token_table, places, 0, 1e-6)
    assert rms(alone) > 0.1
    np.testing.assert_allclose(both, alone, atol=1e-4)
    np.testing.assert_array_equal(alone[0], alone[1])


def test_a_wide_note_is_heard_as_two_noises_and_one_at_the_side_there_alone(add_notes, token_table):
    places, wide, left = places_in(token_table), block_of(8000), block_of(8000)
    add_notes(wide, [hissing(token_table, 0.05, is_wide=True)], token_table, places, 0, 1e-6)
    assert abs(np.corrcoef(wide)[0, 1]) < 0.1 and rms(wide[0]) == pytest.approx(rms(wide[1]), rel=0.1)
    add_notes(left, [hissing(token_table, 0.05, side=(1, 0))], token_table, places, 0, 1e-6)
    np.testing.assert_allclose(left, [wide[0], np.zeros(8000)], atol=1e-6)


def test_noise_tells_nothing_of_a_note_before_it_starts_and_nothing_two_moments_after_it_ends(add_notes, token_table):
    out = block_of(3000)
    add_notes(out, [hissing(token_table, 0.05, 1000.0, 2000.0)], token_table, places_in(token_table), 7, 1e-6)
    assert not out[:, :1000].any() and not out[:, 2000 + 2 * oscillators.GRID :].any()
    assert out[:, 1000 + 2 * oscillators.GRID : 2000].any()


def test_what_the_room_gets_beyond_a_part_makes_up_what_is_sent_of_each_note(add_notes, token_table):
    places, heard, more, sent = places_in(token_table), block_of(8000), block_of(8000), block_of(8000)
    notes = [hissing(token_table, 0.03), hissing(token_table, 0.04)]
    add_notes(heard, notes, token_table, places, 0, 1e-6)
    add_notes(more, [notes[0]._replace(factor=-1.0), notes[1]._replace(factor=0.0)], token_table, places, 0, 1e-6, True)
    add_notes(sent, notes[1:], token_table, places, 0, 1e-6)  # the first one is not sent at all
    np.testing.assert_allclose(heard + more, sent, atol=1e-5)


def test_notes_that_do_not_fit_together_are_refused(token_table):
    (part,), places = lively_parts(token_table, count=1), places_in(token_table)
    for wrong in (part._replace(phase=part.phase[1:]), part._replace(cells=part.cells + tk.N_CELLS)):
        with pytest.raises((ValueError, IndexError)):
            oscillators.add_notes(block_of(100), [wrong], token_table, places, 0, 1e-5)
    with pytest.raises((ValueError, IndexError)):
        oscillators.add_notes(block_of(100), [part], token_table, places[1:], 0, 1e-5)
    with pytest.raises(ValueError, match="out is float64"):
        oscillators.add_notes(np.zeros((2, 10)), [part], token_table, places, 0, 1e-5)


def test_both_functions_add_to_what_is_there(token_table):
    once, twice = block_of(4000), block_of(4000)
    for out, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            oscillators.add_partials(out, *lively_note(), 1e-5)
            oscillators.add_notes(out, [hissing(token_table, 0.05)], token_table, places_in(token_table), 0, 1e-5)
    np.testing.assert_allclose(twice, 2 * once, atol=ACCURACY)


def test_the_level_of_a_noise_band_is_its_rms(add_notes, token_table):
    note, out = hissing(token_table, 0.2), block_of(token_table.shape[1])
    note.levels[:, np.arange(tk.N_CELLS) != tk.N_PARTIALS + 20] = 0  # one band alone
    note.levels[:, oscillators.REACHED] = 1
    note = note._replace(knots=note.knots - 1000)
    add_notes(out, [note], token_table, places_in(token_table), 0, 1e-5)
    assert rms(out[0]) == pytest.approx(0.2, rel=1e-3)
    loop = np.roll(token_table[20], -places_in(token_table)[20, 0])
    np.testing.assert_allclose(out[0], rms(out[0]) * loop, atol=1e-3)


def test_a_note_without_knots_or_partials_is_silent(token_table):
    out = block_of(100)
    oscillators.add_partials(out, *steady([]), 1e-5)
    oscillators.add_partials(out, *steady([0.1], n_knots=1), 1e-5)
    note = hissing(token_table, 0.05)
    one = note._replace(knots=note.knots[:1], pitch_knots=note.knots[:1], phase=note.phase[:1], levels=note.levels[:1])
    for parts in ([], [one]):
        oscillators.add_notes(out, parts, token_table, places_in(token_table), 0, 1e-5)
    assert not out.any()


def test_arguments_that_do_not_fit_are_refused(small_table):
    knots, phase, *rest = steady([0.1])
    with pytest.raises(ValueError, match=r"phase has shape \(1,\), expected \(2,\)"):
        oscillators.add_partials(block_of(10), knots, phase[:1], *rest, 1e-5)
    with pytest.raises(ValueError, match="out is float64"):
        oscillators.add_partials(np.zeros((2, 10)), knots, phase, *rest, 1e-5)
    with pytest.raises(ValueError, match="contiguous along samples"):
        oscillators.add_partials(block_of(20)[:, ::2], knots, phase, *rest, 1e-5)
    with pytest.raises(ValueError, match="power of two"):
        oscillators.add_notes(block_of(10), [], small_table[:, :1000], np.zeros((3, 2), int), 0, 1e-5)


def test_the_slow_loops_warn_once_and_only_when_used(monkeypatch, caplog):
    monkeypatch.setattr(oscillators, "_kernels", None)
    monkeypatch.setattr(oscillators, "_warned", False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            oscillators.add_partials(block_of(10), *steady([0.1]), 1e-5)
    assert [record.message.split(",")[0] for record in caplog.records] == ["the compiled kernels are missing"]


@pytest.mark.parametrize("name", oscillators.variants())
def test_stems_that_threads_share_are_each_the_notes_of_their_part(monkeypatch, token_table, name):
    monkeypatch.setattr(oscillators, "_kernels", oscillators._kernels)  # put back afterwards
    oscillators.set_variant(name)
    n_orders, places = 5, [places_in(token_table, seed) for seed in range(5)]
    parts = [lively_parts(token_table, seed, is_wide=False)[: 1 + seed % 3] for seed in range(n_orders)]
    outs = [np.full((2, 900), np.float32(7)) for _ in range(n_orders)]  # what was there before is gone
    orders = [(outs[i], parts[i], places[i], i == 3) for i in range(n_orders)]
    work = oscillators.work_on_notes(orders, token_table, 12345, 1e-5)
    with ThreadPoolExecutor(3) as pool:
        for job in [pool.submit(work) for _ in range(3)]:
            job.result()
    for i, out in enumerate(outs):
        alone = block_of(900)
        oscillators.add_notes(alone, parts[i], token_table, places[i], 12345, 1e-5, i == 3)
        np.testing.assert_array_equal(out, alone)
        assert alone.any() or i == 3
    work()  # there is nothing left: nothing happens
    with pytest.raises((ValueError, IndexError)):
        oscillators.work_on_notes([(outs[0], parts[0], places[0][1:], False)], token_table, 0, 1e-5)()
    with pytest.raises(ValueError, match="contiguous along samples"):
        oscillators.work_on_notes([(outs[0][:, ::2], parts[0], places[0], False)], token_table, 0, 1e-5)


def test_each_kind_of_loop_can_be_chosen(monkeypatch):
    monkeypatch.setattr(oscillators, "_kernels", oscillators._kernels)  # put back afterwards
    made = {}
    for name in oscillators.variants():
        oscillators.set_variant(name)
        made[name] = block_of(8000)
        oscillators.add_partials(made[name], *lively_note(), 1e-5)
        alone = block_of(8000)
        LOOPS[name][0](alone, *lively_note(), 1e-5)
        np.testing.assert_array_equal(made[name], alone)
    assert oscillators.variants()[-1] == "numpy" and set(made) == set(LOOPS)
    with pytest.raises(ValueError, match=r'no loops "abacus"; on this processor there are .*numpy'):
        oscillators.set_variant("abacus")


def test_loading_the_kernels_leaves_subnormal_numbers_alone():
    assert np.float32(1e-40) * np.float32(0.5) > 0


@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_a_noise_band_has_its_power_between_its_edges_at_any_rate(rate):
    edges = np.array([100, 300, 1000, 3000, 7000])
    table = noise_table(edges, rate, seed=1)
    hz = np.fft.rfftfreq(table.shape[1], 1 / rate)
    power = np.abs(np.fft.rfft(table.astype(float), axis=1) / table.shape[1]) ** 2 * 2
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        reach = 0.25 * np.diff(edges).max()
        assert power[band, (hz > low) & (hz < high)].sum() > 0.85
        assert power[band, (hz < low - reach) | (hz > high + reach)].sum() < 1e-6
        assert rms(table[band]) == pytest.approx(1, abs=1e-3)
        assert abs(np.mean(table[band].astype(float) ** 4) - 3) < 0.5  # as a normal distribution has it


@pytest.mark.parametrize("rate", [16000, 44100, 96000])
def test_bands_of_equal_density_add_up_to_white_noise(rate):
    edges = np.array([0, 200, 500, 1200, 3000, 8000, 20000])
    table = noise_table(edges, rate, seed=2)
    density = np.abs(np.fft.rfft(table.astype(float), axis=1)) ** 2 * np.diff(edges)[:, None] / rate / table.shape[1]
    hz = np.fft.rfftfreq(table.shape[1], 1 / rate)
    inside = (hz > 1) & (hz < min(rate / 2, 16000))
    np.testing.assert_allclose(density.sum(axis=0)[inside], 0.5, rtol=0.02)  # one-sided: half a unit per Hz


def test_what_lies_above_half_the_sample_rate_is_missing():
    edges = [1000, 7000, 9000, 12000]
    full, cut = noise_table(edges, 44100, seed=1), noise_table(edges, 16000, seed=1)
    assert rms(full[1]) == pytest.approx(1, abs=1e-3)
    assert rms(cut[1]) == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert not cut[2].any()


def test_noise_tables_are_equal_for_equal_seeds_and_unrelated_for_others():
    edges = [100, 1000, 4000]
    first, again, other = (noise_table(edges, RATE, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first[1], other[1])[0, 1]) < 0.05
    assert abs(np.corrcoef(first)[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("edges", "n_samples", "message"),
    [
        ([100, 100], 4096, "increasing frequencies"),
        ([-1, 100], 4096, "increasing frequencies"),
        ([100, 200], 1000, "power of two"),
        ([101, 102], 4096, "band 101-102 Hz is too narrow"),
    ],
)
def test_noise_tables_that_cannot_be_made_are_refused(edges, n_samples, message):
    with pytest.raises(ValueError, match=message):
        noise_table(edges, RATE, seed=1, n_samples=n_samples)


def test_a_block_of_one_sample_may_lie_anywhere():
    """NumPy gives an axis of one whatever stride it likes."""
    out = np.zeros((2, 3), np.float32)[:, ::3]
    assert out.shape == (2, 1) and out.strides[1] != 4
    oscillators._check_block(out)
    with pytest.raises(ValueError, match="contiguous"):
        oscillators._check_block(np.zeros((2, 6), np.float32)[:, ::3])
