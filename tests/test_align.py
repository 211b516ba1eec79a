"""Alignment finds what was planted: offset, drift, tuning, warp; and says no to a wrong pair.

How near is a bar of method: a token of 20 ms in time, two where the tempo breathes, and what is just heard in tuning.
"""

import numpy as np
import pytest

from miao.bank.voices import drum_voice
from miao.datasets.pairs import PAIR_NOTE
from miao.measuring.align import CONFIDENT, align

RATE = 16_000


def melody(seed, seconds=26.0, voice=0):
    """Two voices of random notes, sorted by start."""
    rng = np.random.default_rng(seed)
    notes = []
    for low in (48, 64):
        t = 0.5
        while t < seconds:
            length = float(rng.choice([0.25, 0.375, 0.5]))
            notes.append((t, t + 0.9 * length, t + 0.9 * length, int(low + rng.integers(0, 14)), 80, voice))
            t += length
    notes = np.array(notes, PAIR_NOTE)
    return notes[np.lexsort((notes["pitch"], notes["start"]))]


def played(notes, place=lambda t: t, cents=0.0):
    """The notes as plucked tones with five harmonics, each at its place in time; drums as bursts of noise."""
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 1e-3, int((place(notes["damp"].max()) + 1) * RATE))
    for note in notes:
        first, n = round(float(place(note["start"])) * RATE), int(0.4 * RATE)
        if first < 0:
            continue
        t = np.arange(min(n, len(sound) - first)) / RATE
        hz = 440 * 2 ** ((note["pitch"] - 69) / 12 + cents / 1200)
        tone = sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 6))
        if note["voice"] >= 128:
            tone = rng.normal(0, 1, len(t)) * np.exp(-20 * t)
        sound[first : first + len(t)] += 0.1 * tone * np.exp(-4 * t)
    return sound[None].astype(np.float32)


@pytest.mark.parametrize("offset", [-0.3, 0.3])
def test_an_offset_is_found_within_eight_milliseconds(offset):
    notes = melody(1, seconds=20.0)
    found = align(played(notes, lambda t: t + offset), RATE, notes)
    assert found.confidence > CONFIDENT
    np.testing.assert_allclose(found.at([2.0, 16.0]), [2.0 + offset, 16.0 + offset], atol=0.008)


@pytest.mark.parametrize("silent_seconds", [8.0, -8.0])
def test_notes_are_found_where_a_recording_begins_far_later_or_sooner_than_they_do(silent_seconds):
    notes = melody(7, seconds=12.0)
    written = notes.copy()
    for name in ("start", "end", "damp"):
        written[name] += max(-silent_seconds, 0)
    hiss = np.random.default_rng(1).normal(0, 1e-3, (1, round(max(silent_seconds, 0) * RATE)))
    found = align(np.concatenate([hiss.astype(np.float32), played(notes)], axis=1), RATE, written)
    assert found.confidence > CONFIDENT
    np.testing.assert_allclose(found.moved(written)["start"], notes["start"] + max(silent_seconds, 0), atol=0.010)


def test_channels_that_cancel_each_other_are_heard():
    notes = melody(1, seconds=12.0)
    assert align(np.concatenate([played(notes), -0.95 * played(notes)]), RATE, notes).confidence > CONFIDENT


@pytest.mark.parametrize("drift", [-3e-4, 1e-2])
def test_a_drift_is_followed(drift):
    notes = melody(2, seconds=40.0 if drift < 1e-2 else 26.0)
    found = align(played(notes, lambda t: t * (1 + drift) + 0.1), RATE, notes)
    assert found.drift == pytest.approx(drift, abs=1e-4)
    times = np.array([3.0, 20.0])
    np.testing.assert_allclose(found.at(times), times * (1 + drift) + 0.1, atol=0.010)


def test_no_drift_is_no_drift():
    notes = melody(3, seconds=20.0)
    assert align(played(notes), RATE, notes).drift == 0.0


@pytest.mark.parametrize("cents", [-30.0, 30.0])
def test_tuning_is_found_within_three_cents(cents):
    notes = melody(4, seconds=15.0)
    assert align(played(notes, cents=cents), RATE, notes).tuning_cents == pytest.approx(cents, abs=3.0)


def test_a_performance_that_breathes_is_followed_by_a_warp():
    def place(t):
        return t + 0.15 * np.sin(2 * np.pi * np.asarray(t) / 50.0)

    notes = melody(5, seconds=70.0)
    found = align(played(notes, place), RATE, notes)
    assert len(found.knots) > 3
    times = np.linspace(8, 62, 20)
    assert np.median(np.abs(found.at(times) - place(times))) < 0.04
    moved = found.moved(notes)
    assert (moved["damp"] > moved["start"]).all()


def test_a_wrong_pair_has_low_confidence():
    sound = played(melody(6, seconds=20.0))
    assert align(sound, RATE, melody(6, seconds=20.0)).confidence > 2 * CONFIDENT
    for other in (7, 8):
        assert align(sound, RATE, melody(other, seconds=20.0)).confidence < CONFIDENT


def test_drums_are_aligned_by_their_strokes_alone():
    rng = np.random.default_rng(3)
    starts = np.sort(rng.uniform(0.5, 20, 60))
    notes = np.array([(t, t + 0.1, t + 0.1, 38, 90, drum_voice(38)) for t in starts], PAIR_NOTE)
    found = align(played(notes, lambda t: t + 0.12), RATE, notes)
    assert found.confidence > CONFIDENT
    assert float(found.at(5.0)) == pytest.approx(5.12, abs=0.01)
    assert found.tuning_cents == 0.0


def test_silence_and_an_empty_score_have_no_confidence():
    notes = melody(1, seconds=3.0)
    assert align(np.zeros((1, 4 * RATE), np.float32), RATE, notes).confidence == 0.0
    assert align(played(notes), RATE, notes[:0]).confidence == 0.0
