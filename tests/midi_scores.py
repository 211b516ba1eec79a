"""Scores of events written byte by byte, and what is asked of them."""

from midi_bytes import off, on, smf, track, wheel

from miao.bank.kits import GENERAL_MIDI
from miao.midi.score import read_score
from miao.midi.told import missing_sounds

GM2_ON = bytes([0x7E, 0x7F, 0x09, 0x03])


def setup(*events):
    """Events at the start."""
    return [(0, event) for event in events]


def score_of(*events, **header):
    return read_score(smf(track(*events), **header))


def told(*events, **header):
    """All that `miao info` says will not sound as the file asks."""
    score = score_of(*events, **header)
    return (*score.ignored, *missing_sounds(score.tracks, GENERAL_MIDI))


def note(channel=0, pitch=60, ticks=960):
    return [(0, on(pitch, channel=channel)), (ticks, off(pitch, channel))]


def is_drum(*events, channel):
    return score_of(*setup(*events), *note(channel)).tracks[0].notes["is_drum"].tolist() == [True]


def bend_of(*events, at=0.5, channel=0, wheel_at=8191):
    (played,) = score_of(*setup(*events, wheel(wheel_at, channel)), *note(channel)).tracks
    return float(played.controls["bend"].at(at))
