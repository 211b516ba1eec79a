"""What tells a room from an instrument: dampers, rests, and how rooms usually decay."""

from dataclasses import replace

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.tokens import LEVEL_STEP_DB
from miao.measuring.power import FRAME_SECONDS, note_courses
from miao.measuring.roundtrip import one_note_score, play
from miao.midi.score import notes_array
from miao.sound.room import DrawnRoom
from miao.sound.spectrum import SAMPLE_RATE

torch = pytest.importorskip("torch")

from miao.training.dampers import dampers, fall_rates  # noqa: E402
from miao.training.learn_music import Fitted  # noqa: E402
from miao.training.music_model import MusicConfig, Piece  # noqa: E402
from miao.training.new_voice import program_copy  # noqa: E402
from miao.training.rests import decays_in_rests, rests  # noqa: E402

N_BANDS = 73


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def piece_of(gm, starts, hold, seconds):
    """Piano chords at some times, not heard yet."""
    rows = [(s, s + hold, s + hold, pitch, 90, 0, 0, False) for s in starts for pitch in (48, 60, 67, 76)]
    courses = note_courses(gm, 0, notes_array(rows), int(seconds / FRAME_SECONDS))
    return Piece((courses,), np.zeros((courses.n_frames, N_BANDS), np.float32))


def test_a_room_costs_the_more_the_less_it_decays_like_the_usual_one(gm):
    music = Fitted(gm, [0], [piece_of(gm, np.arange(8), 1.02, 8.0)], MusicConfig()).music

    def cost(treble, ratio):
        with torch.no_grad():
            music.decay[:] = torch.log(torch.tensor(DrawnRoom().decays) * ratio)
            music.decay[5:] += treble  # from 2 kHz on
            return float(music.penalty(MusicConfig()))

    usual, longer_everywhere, shorter, longer = cost(0, 1), cost(0, 3), cost(-0.5, 1), cost(0.5, 1)
    assert longer_everywhere == pytest.approx(usual, abs=1e-6)
    assert usual + 0.1 < shorter < longer - 0.05


def resting_piece(gm, t60):
    """Chords with rests after them, as a room makes them sound that rings so long."""
    blank = piece_of(gm, (0.2, 1.6, 3.0, 4.4, 5.8, 7.2), 0.4, 9.0)
    fitted = Fitted(gm, [0], [blank], MusicConfig())
    with torch.no_grad():
        fitted.music.decay[:], fitted.music.tail[:], fitted.music.floor[:] = float(np.log(t60)), -6.0, -60.0
        return replace(blank, heard_db=fitted.predicted(fitted.ready[0], False).numpy())


@pytest.mark.parametrize("t60", [0.5, 1.2])
def test_rests_tell_how_long_a_room_rings_and_what_rings_into_one_of_them_does_not_matter(gm, t60):
    piece = resting_piece(gm, t60)
    fitted = Fitted(gm, [0], [piece], MusicConfig())
    np.testing.assert_allclose(fitted.told.t60_seconds[3:6], t60, rtol=0.06)
    noisy = piece.heard_db.copy()
    noisy[int(0.6 / FRAME_SECONDS) : int(1.6 / FRAME_SECONDS)] = piece.heard_db[int(0.55 / FRAME_SECONDS)]  # a string
    again = Fitted(gm, [0], [replace(piece, heard_db=noisy)], MusicConfig())
    np.testing.assert_allclose(again.told.t60_seconds[3:6], t60, rtol=0.06)


def test_rests_are_heard_from_when_dampers_are_done_where_they_last_so_long():
    shares = np.zeros((8, 9), np.float32)
    shares[:, 4] = 1
    seconds = np.arange(16) * FRAME_SECONDS
    fall = -np.where(
        np.arange(16) < 4, 200 * seconds, 500 * FRAME_SECONDS + 75 * seconds
    )  # dampers, then a room: 0.8 s
    told = []
    for n_rest, n_rests in ((16, 12), (8, 12), (16, 11)):
        music = np.tile(np.concatenate([np.zeros(20), fall[:n_rest]]), n_rests)
        level = np.concatenate([music, np.full(40, -70.0)])
        is_rest = np.concatenate([np.tile(np.arange(20 + n_rest) >= 20, n_rests), np.zeros(40, bool)])
        heard = np.repeat(level[:, None], 8, axis=1)
        told.append(decays_in_rests([heard], [is_rest], shares).t60_seconds[4])
    assert told[0] == pytest.approx(0.8, rel=1e-3)
    assert 0.3 < told[1] < 0.75  # too short for that: half of what is heard is dampers
    assert 0.3 < told[2] < 0.75  # and too few


def test_what_hardly_falls_in_rests_is_no_room():
    shares, seconds = np.ones((8, 9), np.float32), np.arange(16) * FRAME_SECONDS
    for t60, is_room in ((2.0, True), (20.0, False)):
        level = np.append(np.tile(np.append(np.zeros(20), -60 / t60 * seconds), 12), np.full(40, -70.0))
        is_rest = np.append(np.tile(np.arange(36) >= 20, 12), np.zeros(40, bool))
        told = decays_in_rests([np.repeat(level[:, None], 8, axis=1)], [is_rest], shares).t60_seconds
        assert told == pytest.approx(t60) if is_room else np.isnan(told).all()


def test_music_without_rests_tells_nothing_of_a_room_by_rests(gm):
    fitted = Fitted(gm, [0], [piece_of(gm, np.arange(8), 1.02, 8.0)], MusicConfig())
    assert np.isnan(fitted.told.t60_seconds).all() and not fitted.music.told_share.any()


def test_how_a_room_rings_is_told_by_cells_that_it_rules(gm):
    fitted = Fitted(gm, [0], [resting_piece(gm, 0.8)], MusicConfig())
    piece = fitted.ready[0]
    _, shares = fitted.music.heard(fitted.music.dry(piece, False))
    assert float(shares.min()) >= 0 and float(shares.max()) <= 1
    assert float(shares[piece.rests].median()) > 0.9 > 0.7 > float(shares[~piece.rests].median())
    in_notes, in_room = piece.heard.clone(), piece.heard.clone()
    in_notes[shares < 0.2] += 3
    in_room[shares > 0.8] += 3
    for wrong, counts_for_more in ((in_notes, False), (in_room, True)):
        assert bool(piece.loss(wrong, shares) > piece.loss(wrong)) is counts_for_more


def test_a_rest_is_where_every_note_was_let_go_and_nothing_else_plays(gm):
    piece = resting_piece(gm, 0.5)
    is_rest = rests(piece.n_frames, piece.courses, None)
    seconds = np.flatnonzero(is_rest) * FRAME_SECONDS
    since = np.where(seconds < 8.6, (seconds - 0.2) % 1.4, 1.4)
    assert (seconds > 0.6).all() and ((since > 0.4) | (since < FRAME_SECONDS)).all() and len(seconds) > 200
    others = np.zeros((piece.n_frames, 5), np.float32)
    others[int(3.6 / FRAME_SECONDS) :] = 1.0
    assert not rests(piece.n_frames, piece.courses, others)[int(3.6 / FRAME_SECONDS) :].any()


# dampers


def test_dampers_end_notes_within_a_fifth_of_a_second_and_leave_strings_that_have_none(gm):
    piano, harp, organ = dampers(gm, 0), dampers(gm, 46), dampers(gm, 18)
    assert (piano[2:, 7:30] <= 0).all() and (piano[-1, 7:28] < -100).all()
    assert not piano[:, 32:35].any()  # the highest strings of a piano have no dampers
    assert not harp[:, 8:38].any() and organ[-1].min() < 0


def test_until_its_damper_is_there_a_string_sounds_on_as_it_did(gm):
    added = dampers(gm, 0)
    notes = notes_array([(0.0, 0.6, 0.6, pitch, 80, 0, 0, False) for pitch in (45, 57, 69)])
    courses = note_courses(gm, 0, notes, 100)
    for pitch in (45, 57, 69):
        _, falls = fall_rates(gm, 0, pitch, courses)
        within = added[1, pitch // 3] * LEVEL_STEP_DB  # after 50 ms
        assert 0.6 * falls * 0.05 < within < 1.4 * falls * 0.05
    assert not added[0].any()


@pytest.mark.parametrize("pitch", [45, 57, 72])
def test_a_voice_with_dampers_falls_by_sixty_decibels_within_a_fifth_of_a_second(gm, pitch):
    music = Fitted(gm, [0], [resting_piece(gm, 0.5)], MusicConfig(steps=0, room_steps=1))
    music.learn()
    about = {"name": "dry", "bank": gm.name, "nets": gm.nets_checksum}
    voice = replace(program_copy(gm, 0, 0.0, about), shift=music.result(8000).shift)
    sound = play(gm.with_voices([voice]), one_note_score(0, pitch, 80, 0.6), voice=len(gm.table.kind))
    level = [np.square(sound[:, int(s * SAMPLE_RATE) : int((s + 0.02) * SAMPLE_RATE)]).sum() for s in (0.57, 0.79)]
    assert 10 * np.log10(level[1] / level[0]) < -55
