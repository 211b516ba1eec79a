"""What the encoder is given to hear of each part, and what is kept of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from miao.bank.frames import HOP_SECONDS, TOKEN_SECONDS, WINDOW_SECONDS, WINDOW_TOKENS, encode_frames
from miao.synth.ear import Ear
from miao.synth.note import Strike

WIDTH = 3
PLAYED = np.dtype([("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2")])


@pytest.fixture
def heard():
    """An ear, and a list of the images that its encoder has been given; a context is its token's number, from 1."""
    images = []

    def encode(frames):
        images.extend(frames)
        tokens = np.arange(1, WINDOW_TOKENS + 1, dtype=np.float32)[None, :, None]
        return np.broadcast_to(tokens, (len(frames), WINDOW_TOKENS, WIDTH))

    return Ear(SimpleNamespace(encode=encode, context_width=WIDTH)), images


def strike(time, pitch, velocity=100, part=0):
    return Strike(time, part, 0, pitch, velocity / 127)


def asked(ear, moment, part=0):
    """The context of a note of that part whose next chunk is heard from that moment on."""
    note = SimpleNamespace(strike=SimpleNamespace(part=part), known_until=moment)
    return float(ear.contexts([note], moment)[0, 0])


def image(*rows, start=0.0):
    return encode_frames(np.array(list(rows), PLAYED), start)


def test_notes_are_shown_from_their_start_to_their_key_and_their_damping(heard):
    ear, images = heard
    ear.start(0, strike(0.5, 60, 127))
    ear.start(1, strike(0.6, 64, 1))
    ear.start(2, strike(0.7, 67))
    ear.lift(0, 0.9)  # under the pedal
    ear.release(1, 1.2)
    asked(ear, 2.0)
    far = 2 * WINDOW_SECONDS
    rows = (0.5, 0.9, far, 60, 127), (0.6, 1.2, 1.2, 64, 1), (0.7, far, far, 67, 100)
    np.testing.assert_array_equal(images[-1], image(*rows))
    ear.release(0, 2.5)
    asked(ear, 3.0)
    assert images[-1][1, 100:180, 60].all() and not images[-1][1, 180:, 60].any(), "its key came up long before"
    assert images[-1][2, :500, 60].any() and not images[-1][2, 500:, 60].any()


def test_a_part_hears_itself_alone(heard):
    ear, images = heard
    ear.start(0, strike(0.5, 60, part=1))
    ear.start(1, strike(0.5, 70, part=2))
    asked(ear, 2.0, part=2)
    np.testing.assert_array_equal(images[-1], image((0.5, 99, 99, 70, 100)))


def test_a_context_is_the_last_token_that_has_ended_and_nothing_before_the_first_has(heard):
    ear, images = heard
    ear.start(0, strike(0.0, 60))
    assert asked(ear, 0.9 * TOKEN_SECONDS) == 0 and not images
    assert asked(ear, TOKEN_SECONDS) == 1
    assert asked(ear, 10.5 * TOKEN_SECONDS) == 10
    assert asked(ear, WINDOW_SECONDS) == WINDOW_TOKENS
    assert asked(ear, WINDOW_SECONDS + TOKEN_SECONDS) == WINDOW_TOKENS // 2 + 1, "of the window that started later"


def test_a_window_is_encoded_again_only_when_there_is_more_to_hear(heard):
    ear, images = heard
    ear.start(0, strike(0.0, 60))
    for _ in range(2):
        asked(ear, 1.0)
        assert len(images) == 1
    asked(ear, 1.1)
    assert len(images) == 2


def test_a_note_may_be_written_before_anything_has_been_decided(heard):
    ear, images = heard
    note = SimpleNamespace(strike=SimpleNamespace(part=0), known_until=1.0)
    assert ear.contexts([note], -np.inf)[0, 0] == round(1.0 / TOKEN_SECONDS)
    np.testing.assert_array_equal(images[-1], image())


def test_what_a_window_to_come_can_hold_is_kept_and_the_rest_is_not(heard):
    ear, images = heard
    now = 20.0
    window = now - WINDOW_SECONDS - HOP_SECONDS  # no later one begins before it
    ear.start(0, strike(1.0, 60))
    ear.start(1, strike(1.0, 62))
    ear.start(2, strike(2.0, 64))
    ear.release(0, window - 0.1)
    ear.release(1, window + 0.1)
    ear.forget(now)
    ear.release(0, 99.0)  # nobody is meant any more
    asked(ear, now)
    played = {int(pitch) for pitch in np.flatnonzero(images[-1][2].any(axis=0))}
    assert 64 in played and 60 not in played
    asked(ear, window + HOP_SECONDS)  # an earlier window can still be asked for
    assert {int(pitch) for pitch in np.flatnonzero(images[-1][2].any(axis=0))} == {62, 64}
