"""What expression and mood promise, of scores that nobody would write: drums alone, one note, jumps of tempo."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from midi_bytes import control, off, on, program, smf, tempo, track

from miao.errors import ScoreError
from miao.expression import MOODS, Cues, cues_of, expressed
from miao.expression.beats import Pulse
from miao.midi.score import read_score

_spec = importlib.util.spec_from_file_location("promises", Path(__file__).parents[1] / "bench" / "promises.py")
assert _spec is not None and _spec.loader is not None
promises = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(promises)

gaps = st.sampled_from([0, 0, 0, 1, 7, 60, 120, 240, 240, 480, 481, 960, 5000])  # ticks
notes = st.tuples(
    gaps, st.sampled_from([0, 1, 30, 120, 240, 470, 480, 2000]), st.integers(20, 108), st.integers(1, 127)
)
pedals = st.tuples(gaps, st.sampled_from([control(64, 127), control(64, 0), control(66, 127), control(66, 0),
                                          control(11, 70), control(1, 50), control(120, 0)]))  # fmt: skip
parts = st.tuples(st.sampled_from([0, 1, 9]), st.sampled_from([0, 4, 24, 40, 48, 56, 73]),
                  st.lists(notes, min_size=1, max_size=24), st.lists(pedals, max_size=6))  # fmt: skip
tempi = st.lists(st.tuples(gaps, st.sampled_from([60_000, 300_000, 500_000, 510_000, 900_000, 3_000_000])), max_size=4)
meters = st.sampled_from([(), ((4, 2),), ((3, 2),), ((6, 3), (2, 2)), ((5, 3),)])


CAUGHT = [(0, 0, 20, 1), (960, 0, 28, 1), (0, 0, 20, 1), (0, 0, 30, 1)]  # by a pedal that goes down behind the key
TENUTO = [(480, 470, 60, 80)] * 24  # one key, which legato must not hold into its next stroke
REPEATED = [(120, 60, 60, 80)] * 24  # one key, faster than a pedal changes


def file_of(parts, tempi, meters):
    """The bytes of a file of parts, under a tempo map with jumps and with the time signatures at its head."""
    signatures = [(0 if n == 0 else 1920, b"\xff\x58\x04" + bytes([*m, 24, 8])) for n, m in enumerate(meters)]
    head = track(*[(gap, tempo(microseconds)) for gap, microseconds in tempi])
    tracks = []
    for channel, number, strokes, controls in parts:
        events, now = [(0, 0, program(number, channel))], 0
        for gap, length, pitch, velocity in strokes:
            now += gap
            events += [(now, 1, on(pitch, velocity, channel)), (now + length, 0 if length else 2, off(pitch, channel))]
        now = 0
        for gap, message in controls:
            now += gap
            events.append((now, 0, bytes([message[0] | channel, *message[1:]])))
        events.sort(key=lambda event: event[:2])
        ticks = np.diff([0, *(event[0] for event in events)]).tolist()
        tracks.append(track(*zip(ticks, [event[2] for event in events], strict=True)))
    return smf(track(*signatures), head, *tracks)


@settings(max_examples=40, deadline=None)
@given(st.lists(parts, min_size=1, max_size=3), tempi, meters, st.sampled_from(promises.HOWS), st.integers(0, 3))
@example([(0, 0, CAUGHT, [])], [], (), promises.HOWS[0], 0)
@example([(0, 0, REPEATED, [])], [], (), promises.HOWS[0], 0)
@example([(0, 0, REPEATED, [(0, control(64, 127))])], [], (), {"mood": "playful"}, 0)
@example([(0, 0, TENUTO, [])], [], (), {"mood": "calm:2"}, 0)
def test_no_promise_is_broken(parts, tempi, meters, how, seed):
    score = read_score(file_of(parts, tempi, meters))
    played = expressed(score, **how, seed=seed)
    assert promises.broken(score, played) == []
    assert promises.broken_by_the_file(played) == []
    assert expressed(score, seed=seed) is score


@settings(max_examples=12, deadline=None)
@given(st.lists(parts, min_size=1, max_size=3), tempi, meters, st.floats(0.05, 1))
@example([(0, 0, [(7, 0, 20, 1)], [(0, control(64, 127))])], [(120, 300_000)], (), 0.5)  # a tempo behind the last note
def test_the_common_time_departs_from_the_score_in_proportion_to_the_amount(parts, tempi, meters, share):
    score = read_score(file_of(parts, tempi, meters))
    less, more = (expressed(score, amount, style="rules", seed=1) for amount in (0.3 * share, 0.3))
    last = max(track.notes["start"].max() for track in score.tracks)  # behind it there is no time to be kept
    quarters = np.linspace(0, float(Pulse.of(score.tempi).quarters(np.array([last]))[0]), 40)
    written, few, many = (Pulse.of(s.tempi).seconds(quarters) for s in (score, less, more))
    steepest = (np.diff(many) / np.maximum(np.diff(written), 1e-9)).max() if last else 1.0
    if steepest < 2:  # what would stand still or run is held
        assert np.allclose(few - written, share * (many - written), atol=2e-3 * max(np.abs(many - written).max(), 1e-3))


@given(st.dictionaries(st.sampled_from(sorted(MOODS)), st.floats(0, 2), max_size=3), st.floats(0, 1))
def test_cues_are_the_sum_of_their_shares(shares, share):
    whole, part = cues_of(shares), cues_of({name: share * amount for name, amount in shares.items()})
    total = Cues()
    for name, amount in shares.items():
        total = total.plus(MOODS[name], amount)
    for one, other in ((whole, total), (part, Cues().plus(whole, share))):
        assert [getattr(one, f) for f in vars(one)] == pytest.approx([getattr(other, f) for f in vars(other)])


def test_a_file_without_a_note_is_refused_before_it_is_played():
    with pytest.raises(ScoreError, match="no notes"):
        read_score(file_of([(0, 0, [], [])], [], ()))
