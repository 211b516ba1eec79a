"""Whatever bytes and events come: a sound score or one line, and a module that keeps its word."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_bytes import GM_ON, GS_ON, XG_ON, gs, smf, sysex, track

from miao.errors import ScoreError
from miao.midi.channel import DEFAULTS
from miao.midi.events import Catch, Control, Cut, Event, KeyUp, Release, Start
from miao.midi.module import Module
from miao.midi.score import read_score
from miao.midi.text import decode, find_encoding


@pytest.fixture(autouse=True, scope="module")
def quiet():
    """Thousands of damaged files are thousands of warnings; other tests look for theirs."""
    logger = logging.getLogger("miao.midi.score")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


seven = st.integers(0, 127)
keys = st.builds(lambda kind, channel, key, value: bytes([kind | channel, key, value]),
                 st.sampled_from([0x80, 0x90, 0x90, 0xA0]), st.integers(0, 15), st.integers(27, 60), seven)  # fmt: skip
controls = st.builds(lambda channel, number, value: bytes([0xB0 | channel, number, value]), st.integers(0, 15),
                     st.sampled_from([0, 1, 5, 6, 7, 10, 11, 32, 38, 64, 64, 65, 66, 67, 74, 84, 91, 93, 96, 97, 98, 99,
                                      100, 101, 120, 121, 123, 126, 127]), seven)  # fmt: skip
others = st.builds(lambda kind, a, b: bytes([kind, a, b][: 2 if kind & 0xE0 == 0xC0 else 3]),
                   st.integers(0xC0, 0xEF), seven, seven)  # fmt: skip
exclusives = st.one_of(
    st.sampled_from([sysex(m) for m in (GM_ON, GS_ON, XG_ON)]),
    st.lists(seven, min_size=3, max_size=20).map(lambda body: gs(*body)),
    st.lists(seven, max_size=20).map(lambda body: sysex(bytes([0x43, 0x10, 0x4C, *body]))),
    st.lists(seven, max_size=20).map(lambda body: sysex(bytes([0x7F, 0x7F, *body]))),
    st.lists(seven, max_size=20).map(lambda body: sysex(bytes([0x7E, 0x7F, 8, *body]))),
    st.binary(max_size=12).map(lambda body: b"\xf0" + bytes([len(body)]) + body),
)
messages = st.one_of(keys, keys, controls, others, exclusives)
tracks = st.lists(st.tuples(st.integers(0, 2000), messages), max_size=40)


def check(score):
    for played in score.tracks:
        notes = played.notes
        for name in ("start", "end", "damp", "glide", "glide_seconds", "tuning", "gain", "pan", "send"):
            assert np.isfinite(notes[name]).all()
        assert (notes["end"] >= notes["start"]).all() and (notes["damp"] >= notes["end"]).all()
        assert (notes["cut"] >= notes["start"]).all() and (np.abs(notes["pan"]) <= 1).all()
        for name, curve in played.controls.items():
            assert (np.diff(curve.times) > 0).all() and np.isfinite(curve.values).all()
            if name not in ("bend", "modulation"):
                assert ((curve.values >= -1) & (curve.values <= 1)).all()
        assert (np.abs(played.controls["bend"].values) < 400).all()
    assert score.end >= score.duration


def read_or_refuse(data):
    try:
        check(read_score(data))
    except ScoreError as error:
        assert "\n" not in str(error)


@settings(max_examples=50, deadline=None)
@given(st.lists(tracks, min_size=1, max_size=3), st.sampled_from([1, 480, 0xE728]))
def test_any_events_make_a_sound_score(parts, division):
    read_or_refuse(smf(*(track(*part) for part in parts), division=division))


@settings(max_examples=50, deadline=None)
@given(tracks, st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=6), st.integers(0, 400))
def test_any_damage_makes_a_sound_score_or_one_line(part, patches, end):
    data = bytearray(smf(track(*part)))
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    read_or_refuse(bytes(data[: len(data) - end]) if end < len(data) else bytes(data))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_behind_a_header_make_a_sound_score_or_one_line(body):
    read_or_refuse(smf() + b"MTrk" + len(body).to_bytes(4) + body)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.2), messages), max_size=60))
def test_a_module_starts_each_note_once_and_lets_go_only_what_sounds(events):
    module, time, state = Module(), 0.0, {}
    actions = []
    for pause, message in events:
        time += pause
        body = message if message[0] != 0xF0 else b"\xf0" + message[2:]
        event = Event.of(body)
        if event is not None:
            actions += module.feed(time, event)
    actions += module.finish(time)
    for action in actions:
        if isinstance(action, Start):
            assert action.note == len(state) and 1 <= action.velocity <= 127
            state[action.note] = "down"
        elif isinstance(action, KeyUp):
            assert state[action.note] == "down"
            state[action.note] = "held"
        elif isinstance(action, Release):
            assert state[action.note] in ("down", "held")
            state[action.note] = "released"
        elif isinstance(action, Catch):
            assert state[action.note] == "released"
            state[action.note] = "held"
        elif isinstance(action, Cut):
            assert action.note in state
        elif isinstance(action, Control):
            assert action.name in DEFAULTS and np.isfinite(action.value)
    assert set(state.values()) <= {"released"}
    assert [a.time for a in actions] == sorted(a.time for a in actions)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=4))
def test_any_text_is_one_printable_line(texts):
    encoding = find_encoding(texts)
    for text in texts:
        assert decode(text, encoding).isprintable()


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_utf_8_is_read_as_it_is(text):
    expected = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    assert decode(text.encode(), find_encoding([text.encode()])) == expected
