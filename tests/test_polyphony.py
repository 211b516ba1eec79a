"""Notes that sound together are measured as if each were alone: sounds made of known partials.

How near is a bar of method: a level of the tokens, a few cents.
"""

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.partials import harmonic_partials
from miao.bank.voices import HARMONIC, drum_voice, pitch_hz
from miao.datasets.pairs import PAIR_NOTE
from miao.measuring.note import analyse_note
from miao.measuring.part_voices import fit_voices, table_of
from miao.measuring.polyphony import measure_notes
from miao.measuring.voice_fit import VoiceFit

RATE = 44_100
N_HARMONICS = 16
ROLLOFF = np.arange(1, N_HARMONICS + 1) ** -1.2


def tone(pitch, seconds, amplitude, cents=0.0, stretch=0.0):
    """Harmonics that decay by 2 nepers a second, released over 60 ms."""
    t = np.arange(int((seconds + 0.06) * RATE)) / RATE
    k = np.arange(1, N_HARMONICS + 1)
    hz = float(pitch_hz(pitch)) * k * 2 ** (cents / 1200) * np.sqrt(1 + stretch * k**2)
    sound = sum(a * np.sin(2 * np.pi * f * t + 7 * i) for i, (a, f) in enumerate(zip(ROLLOFF, hz, strict=True)))
    return amplitude * sound * np.exp(-2 * t) * np.clip((seconds + 0.06 - t) / 0.06, 0, 1)


def mix(notes, seconds, **how):
    """Notes (start, damp, pitch, amplitude, voice) as a part: sound and PAIR_NOTEs."""
    sound = np.zeros(int(seconds * RATE))
    for start, damp, pitch, amplitude, _ in notes:
        piece = tone(pitch, damp - start, amplitude, **how)
        first = round(start * RATE)
        sound[first : first + len(piece)] += piece
    table = np.array([(s, d, d, p, 80, v) for s, d, p, _, v in notes], PAIR_NOTE)
    return sound[None].astype(np.float32), table[np.lexsort((table["pitch"], table["start"]))]


def level_error(tokens, pitch, seconds, amplitude, n_harmonics=6):
    """Mean distance (dB) of the sustained levels of the first harmonics from those of the same note alone."""
    alone = analyse_note(tone(pitch, seconds, amplitude)[None], RATE, float(pitch_hz(pitch)), seconds,
                         harmonic_partials(1, 0, 0)).tokens  # fmt: skip
    last = int((seconds - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN]) - 3
    pairs = [x.held[1, 2:last, :n_harmonics].astype(float) for x in (alone, tokens)]
    return np.abs(pairs[0] - pairs[1]).mean() * tk.LEVEL_STEP_DB


FIT = VoiceFit(HARMONIC)


def test_a_note_alone_is_measured_as_analysis_measures_it():
    sound, notes = mix([(0.0, 0.7, 60, 0.2, 0)], 1.5)
    measured = measure_notes(sound, RATE, notes, fits={(0, 60): FIT})
    alone = analyse_note(sound, RATE, float(pitch_hz(60)), 0.7, harmonic_partials(1, 0, 0)).tokens
    np.testing.assert_array_equal(measured.tokens[0].held, alone.held)
    np.testing.assert_array_equal(measured.tokens[0].release[:1], alone.release[:1])
    assert measured.sure[0] > 0.95


def test_a_chord_without_shared_partials_comes_apart():
    chord = [(0.2, 0.9, 50, 0.2, 0), (0.25, 0.95, 61, 0.1, 0), (0.3, 1.0, 67, 0.05, 0)]
    sound, notes = mix(chord, 2.2)
    measured = measure_notes(sound, RATE, notes)
    for n, (start, damp, pitch, amplitude, _) in enumerate(chord):
        assert level_error(measured.tokens[n], pitch, damp - start, amplitude) < 2.5


def test_an_octave_is_shared_by_what_is_known_from_elsewhere():
    alone = [(0.2, 0.8, 50, 0.2, 0), (2.0, 2.6, 62, 0.1, 0)]
    octave = [(4.0, 4.8, 50, 0.15, 0), (4.0, 4.8, 62, 0.15, 0)]
    sound, notes = mix(alone + octave, 6.2)
    measured = measure_notes(sound, RATE, notes)
    naive = analyse_note(sound[:, 4 * RATE :], RATE, float(pitch_hz(50)), 0.8, harmonic_partials(1, 0, 0)).tokens
    joint = level_error(measured.tokens[2], 50, 0.8, 0.15)
    assert joint < 2.5
    assert joint < 0.7 * level_error(naive, 50, 0.8, 0.15)
    assert measured.sure[3] < measured.sure[1]


def test_a_note_ends_where_its_key_is_struck_again():
    sound, notes = mix([(0.2, 0.6, 60, 0.1, 0), (0.7, 1.2, 60, 0.2, 0)], 2.5)
    first = measure_notes(sound, RATE, notes).tokens[0]
    after = tk.release_times(len(first.release)).reshape(-1, tk.CHUNK_STEPS) + 0.4 > 0.52
    assert not first.release[after][:, : tk.PITCH_CELL].any()


def test_noise_goes_rather_to_the_note_that_has_just_started():
    sound, notes = mix([(0.2, 1.6, 55, 0.1, 0), (0.9, 1.6, 62, 0.1, 0)], 3.0)
    hiss = np.random.default_rng(0).normal(0, 0.05, int(0.04 * RATE))
    sound[0, round(0.9 * RATE) : round(0.9 * RATE) + len(hiss)] += hiss
    old, new = (measure_notes(sound, RATE, notes).tokens[n] for n in (0, 1))
    at = int((0.7 + 0.02 - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN])
    band = slice(tk.N_PARTIALS + 5, tk.N_PARTIALS + 15)
    before = old.held[1:].reshape(-1, tk.N_CELLS)[at, band].astype(float).mean()
    assert new.held[0, 3, band].astype(float).mean() > before


def test_the_sound_of_an_empty_room_is_taken_off():
    rng = np.random.default_rng(0)
    sound, notes = mix([(3.5, 4.2, 60, 0.2, 0)], 8.0)
    noisy = (sound + rng.normal(0, 3e-3, sound.shape)).astype(np.float32)
    hiss = slice(tk.N_PARTIALS + 20, tk.PITCH_CELL)
    levels = measure_notes(noisy, RATE, notes).tokens[0].held[1, 2:20, hiss].astype(float)
    alone = analyse_note(noisy[:, round(3.5 * RATE) :], RATE, float(pitch_hz(60)), 0.7, harmonic_partials(1, 0, 0))
    assert levels.mean() < alone.tokens.held[1, 2:20, hiss].astype(float).mean() - 4


def test_tuning_and_stretch_are_found_in_chords():
    rng = np.random.default_rng(1)
    chords = [(0.2 + t, 0.75 + t, int(p), 0.1, 0) for t in np.arange(0, 8, 0.8)
              for p in rng.choice(np.arange(40, 64), 3, replace=False)]  # fmt: skip
    sound, notes = mix(chords, 9.5, cents=12.0, stretch=2e-4)
    fits = fit_voices(sound, RATE, notes, tuning_cents=5.0)
    assert np.median([fit.tune_cents for fit in fits.values()]) == pytest.approx(12, abs=2)
    assert np.median([fit.stretch for fit in fits.values()]) == pytest.approx(2e-4, rel=0.25)
    table = table_of(fits)
    assert table.tune_cents[0, 100] == pytest.approx(12, abs=4)  # a pitch that was not played takes its neighbour's


def test_drums_ring_until_their_key_is_struck_again_and_have_no_release():
    rng = np.random.default_rng(2)
    sound = np.zeros((1, 4 * RATE), np.float32)
    starts = (0.1, 1.1, 2.1)
    for start in starts:
        t = np.arange(int(0.5 * RATE)) / RATE
        stroke = 0.3 * np.exp(-12 * t) * np.sin(2 * np.pi * 190 * t) + rng.normal(0, 0.05, len(t)) * np.exp(-15 * t)
        sound[0, int(start * RATE) : int(start * RATE) + len(t)] += stroke
    notes = np.array([(s, s + 0.05, s + 0.05, 38, 90, drum_voice(38)) for s in starts], PAIR_NOTE)
    measured = measure_notes(sound, RATE, notes)
    assert sorted(measured.tokens) == [0, 1, 2]
    for tokens in measured.tokens.values():
        assert 0.3 < tokens.hold_seconds <= 1.0
        assert not tokens.release[:, :, : tk.PITCH_CELL].any()
    held = measured.tokens[1].held
    assert held[0, 2].max() > held[-1, -1, : tk.PITCH_CELL].max() + 10


def test_nothing_gives_nothing():
    sound, notes = mix([(0.2, 0.5, 60, 0.1, 0)], 1.0)
    assert not measure_notes(np.zeros_like(sound), RATE, notes).tokens
    assert not measure_notes(sound, RATE, notes[:0]).tokens
    assert not measure_notes(sound[:, :0], RATE, notes).tokens


def test_measured_notes_played_again_sound_like_what_was_measured():
    from miao.evaluation.encoded import measured_bank, measured_track
    from miao.measuring.roundtrip import play
    from miao.midi.score import Curve, Score
    from miao.sound import spectrum

    sound, notes = mix([(0.2, 0.8, 50, 0.2, 0), (0.3, 3.6, 57, 0.1, 0), (0.9, 1.5, 50, 0.1, 0)], 4.6)
    measured = measure_notes(sound, RATE, notes)
    score = Score((measured_track(notes),), 3.6, Curve(np.zeros(1), np.full(1, 120.0), 120.0))
    again = play(measured_bank(measured.tokens, table_of(measured.fits)), score)[:, : sound.shape[1]]
    assert spectrum.log_mel_error(spectrum.log_mel(sound), spectrum.log_mel(again)) < 2.5
