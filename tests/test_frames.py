"""Time, and the image x_m."""

import numpy as np
import pytest

from miao.bank.frames import FRAME_SECONDS, HOP_SECONDS, TOKEN_SECONDS, WINDOW_TOKENS, encode_frames, window_of

FIELDS = [("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2")]


def notes(*rows):
    return np.array(list(rows), FIELDS)


def test_transposing_the_notes_moves_the_columns():
    plain = encode_frames(notes((0.1, 0.5, 0.6, 60, 90), (1.0, 1.2, 1.2, 64, 50)), 0.0)
    up = encode_frames(notes((0.1, 0.5, 0.6, 62, 90), (1.0, 1.2, 1.2, 66, 50)), 0.0)
    np.testing.assert_array_equal(up[:4, :, 2:], plain[:4, :, :-2])


def test_shifting_the_notes_by_a_frame_moves_the_rows_by_one():
    plain = encode_frames(notes((0.1, 0.5, 0.6, 60, 90)), 0.0)
    late = encode_frames(notes((0.105, 0.505, 0.605, 60, 90)), 0.0)
    np.testing.assert_array_equal(late[:4, 1:], plain[:4, :-1])


def test_a_grace_note_shorter_than_a_frame_is_still_written():
    image = encode_frames(notes((0.5, 0.5004, 0.5004, 72, 30)), 0.0)
    assert image[0].sum() == pytest.approx(30 / 127)
    assert image[1].sum() == 1


def test_a_note_held_by_the_pedal_sounds_after_its_key_is_up():
    image = encode_frames(notes((0.0, 0.1, 1.0, 60, 90)), 0.0)
    row = round(0.5 / FRAME_SECONDS)
    assert image[1, row, 60] == 0
    assert image[2, row, 60] == 1


def test_a_note_that_began_before_the_window_is_held_but_has_no_onset_in_it():
    image = encode_frames(notes((1.0, 4.0, 4.0, 60, 90)), 2.0)
    assert image[0].sum() == 0
    assert image[1, 0, 60] == 1
    assert image[3, 0, 60] > encode_frames(notes((1.9, 4.0, 4.0, 60, 90)), 2.0)[3, 0, 60]


@pytest.mark.parametrize("seconds", [0.0, 0.019, 0.02, 1.0, 2.56, 2.58, 5.12, 5.1399, 7.7, 3600.03])
def test_context_never_holds_anything_at_or_after_the_moment_it_serves(seconds):
    window, token = window_of(seconds)
    assert -1 <= token < WINDOW_TOKENS
    end = window * HOP_SECONDS + (token + 1) * TOKEN_SECONDS
    assert end <= seconds + 1e-6
    assert seconds - end < TOKEN_SECONDS + 1e-6


def test_after_the_start_there_is_always_half_a_window_of_past():
    for seconds in np.arange(5.2, 20, 0.37):
        _, token = window_of(seconds)
        assert token >= WINDOW_TOKENS // 2 - 1
