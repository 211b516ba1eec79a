"""Notes that are let go set out from where they are, and those that waver go on with it."""

import numpy as np
import pytest

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.level_shift import set_out
from miao.bank.voices import program_voice
from miao.bank.waver import PARTS, STEP_SECONDS
from miao.bank.wavers import Wavering, Wavers
from miao.measuring.roundtrip import one_note_score, play
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.training.courses import held_chunks

TRUMPET, SAW = 56, program_voice(81)
OBOE = 68


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm", 1)


def test_a_release_begins_where_its_note_is_and_is_soon_as_it_was_written():
    written = np.full((2, tk.CHUNK_STEPS, tk.N_CELLS), 30.0, np.float32)
    written[:, :, 3], written[:, 20:, 4] = 0, 0  # silent from the start, and later
    reached = np.full((2, tk.N_CELLS), 26.0, np.float32)
    reached[1] = 35
    reached[:, 7] = 0
    found = set_out(written, reached)
    assert (found[0, 0, :3] == 26).all() and (found[1, 0, :3] == 35).all()
    np.testing.assert_array_equal(found[:, 15:], written[:, 15:])
    assert (np.diff(found[0, :16, 0]) > 0).all() and (np.diff(found[1, :16, 0]) < 0).all()
    for cell in (3, 7, tk.PITCH_CELL):
        np.testing.assert_array_equal(found[..., cell], written[..., cell])
    assert not found[:, 20:, 4].any()
    far = set_out(written, np.full((2, tk.N_CELLS), 5.0, np.float32))
    assert (far[:, 0, 0] == 22).all()  # what has died away does not silence what nets know of an end


def asked(voice, previous, age, index=0):
    return {"voice": np.array([voice]), "pitch": np.array([60.0], np.float32), "velocity": np.array([0.7], np.float32),
            "index": np.array([index]), "age": np.array([age], np.float32), "previous": previous[None],
            "context": np.zeros((1, 96), np.float32)}  # fmt: skip


@pytest.mark.parametrize("off", [-4.0, 4.0])
def test_nets_release_a_note_from_a_trough_and_from_a_crest(gm, off):
    still = gm.with_wavers(None)
    held = held_chunks(still, SAW, np.array([60]), 89, 1)[1][0, -1]
    previous = np.where(held > 10, held + off, held).astype(np.float32)
    first, later = (still.decode(tk.RELEASE, **asked(SAW, previous, 0.8, n))[0][0, 0] for n in (0, 1))
    loud = previous[: tk.PITCH_CELL] > 30
    assert loud.sum() > 10
    np.testing.assert_allclose(first[: tk.PITCH_CELL][loud], previous[: tk.PITCH_CELL][loud], atol=1e-3)
    assert np.abs(later - previous)[: tk.PITCH_CELL][loud].max() > 0.5  # the next chunk is its own


def test_what_recorded_notes_lead_sets_out_as_they_say(gm, monkeypatch):
    asked_of = []
    monkeypatch.setattr("miao.bank.bank.set_out", lambda release, _: asked_of.append(len(release)) or release)
    number = gm.voice(OBOE, 60, is_drum=False)
    for voice in (number, OBOE):
        gm.decode(tk.RELEASE, **asked(voice, np.full(tk.N_CELLS, 30.0, np.float32), 1.0))
    assert asked_of == [0, 1]


def test_a_note_in_a_trough_does_not_swell_when_it_is_let_go(gm):
    """Let go wherever its beats are; a synth brass rose by up to 5 dB."""
    for hold in (0.6, 0.75, 0.9, 1.05, 1.2, 2.2, 2.35):
        sound = play(gm, one_note_score(0, 60, 90, hold), voice=62)
        before, after = (
            10 * np.log10(np.square(sound[:, round((hold + a) * 44100) : round((hold + b) * 44100)]).mean())
            for a, b in ((-0.03, 0.0), (0.02, 0.05))
        )
        assert after - before < 1.0, hold


RISE = np.minimum(np.arange(73), 60)[:, None] * np.ones(tk.N_CELLS) / 10
WAVERS = Wavers.of([None, Wavering(np.array([60], np.uint8), np.rint(RISE[None] * PARTS).astype(np.int8))])


def of(method, *args):
    return getattr(WAVERS, method)(*args)


def test_a_note_goes_on_wavering_once_it_is_let_go_but_not_one_that_had_repeated_itself():
    chunk = np.full((1, tk.CHUNK_STEPS, tk.N_CELLS), 30.0, np.float32)
    voice, pitch = np.array([1]), np.array([60.0], np.float32)

    def added(let_go, index):
        age = np.array([let_go + index * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE]])
        return of("added", tk.RELEASE, chunk, voice, pitch, np.array([index]), age)[0, :, 0] - 30

    np.testing.assert_allclose(added(0.4, 0)[:3], [2.0, 2.05, 2.1], atol=0.07)
    np.testing.assert_allclose(added(0.4, 1)[:1], [3.6], atol=0.07)
    for index in (0, 1):
        assert added(1.4, index).any() and not added(72 * STEP_SECONDS, index).any()


def test_what_its_last_token_had_of_it_is_taken_off_before_nets_are_asked_for_the_release():
    voice, pitch = np.array([1]), np.array([60.0], np.float32)
    for age, moment in ((0.399, 0.38), (0.4, 0.38), (0.401, 0.4)):
        off = 30 - of("taken_off", tk.RELEASE, np.full((1, tk.N_CELLS), 30.0, np.float32), voice, pitch,
                      np.array([0]), np.array([age]))[0, 0]  # fmt: skip
        assert off == pytest.approx(moment / STEP_SECONDS / 10, abs=0.07)


def test_the_token_before_a_release_is_the_one_that_notes_take(gm):
    times = np.array([0.003, 0.005, 0.012, 0.16, 0.163, 0.18, 0.1801, 0.7995, 0.8, 0.81, 1.3])
    wanted = [0.0, 0.0, 0.01, 0.155, 0.16, 0.16, 0.18, 0.78, 0.78, 0.8, 1.28]
    np.testing.assert_allclose(tk.held_time_before(times), wanted, atol=1e-9)
    for moment, time in zip(times.tolist(), wanted, strict=True):
        player = Player(gm, (0,))
        handle = player.start(Strike(0.0, 0, TRUMPET, 60, 0.7))
        player.release(handle, moment)
        player.decide(moment + 0.01)
        note = player.notes[handle]
        n = round(time / 0.005) if time < 0.16 else 32 + round((time - 0.16) / 0.02)
        while note.kind != tk.RELEASE and note.wants(moment + 0.01):
            player.write(moment + 0.01, 1)
        assert note.n_held == n + 1, moment


def test_live_is_as_from_a_file(gm):
    """A wavering voice, let go on its way: told of at once, or when it happens."""
    sounds = []
    for sizes, is_late in (([4096] * 12, False), ([64] * 768, True)):
        player, stems = Player(gm, (0,)), []
        handle = player.start(Strike(0.0, 0, SAW, 60, 0.7))
        for size in sizes:
            if player.position >= (0.769 * 44100 if is_late else 0):
                player.release(handle, 0.77)
            stems.append(player.block(size).stems[0])
        sounds.append(np.concatenate(stems, axis=1))
    assert np.abs(sounds[0][:, int(0.78 * 44100) :]).max() > 0.01
    np.testing.assert_allclose(*sounds, atol=2e-5)
