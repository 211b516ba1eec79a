"""Who makes room for a new note is who would be found by asking every note that sounds."""

import math

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.voices import drum_voice
from miao.synth.chunks import ChunkWriter
from miao.synth.note import STOLEN_SECONDS, Note, Strike
from miao.synth.player import Player
from miao.synth.settings import PlaySettings

VOICES = (0, 19, 48, 73, 24, drum_voice(49))


class Plain(Player):
    """A player that asks all notes whenever one must make room."""

    def _make_room(self, moment):
        self._writer.write(self._notes.values(), moment)
        for handle in [handle for handle, note in self._notes.items() if note.end <= moment]:
            self._over[handle] = self._notes.pop(handle)
        whole = {handle: note for handle, note in self._notes.items() if math.isinf(note.cut_at)}
        if len(whole) < self.settings.polyphony and len(self._notes) < 2 * self.settings.polyphony:
            return
        self.n_left_out += 1
        choice = whole or self._notes
        handle = min(choice, key=lambda h: (*choice[h].worth(moment), h))
        if choice[handle].strike.time < moment and len(self._notes) < 2 * self.settings.polyphony:
            choice[handle].cut(moment, STOLEN_SECONDS)
        else:
            del self._notes[handle]


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm")


def crowd(player, seed, n_notes, seconds):
    """Notes in chords and alone, dense and sparse by turns, let go, caught and cut by lot."""
    random = np.random.default_rng(seed)
    times = np.sort(np.round(seconds * random.random(n_notes) ** 1.5, 2 if seed % 2 else 5))
    for time in times.tolist():
        voice = VOICES[int(random.integers(len(VOICES)))]
        rings = voice == VOICES[-1]
        pitch = 49 if rings else int(random.integers(40, 90))
        strike = Strike(time, int(random.integers(2)), voice, pitch, float(random.choice([0.1, 0.4, 0.7])), rings)
        handle, end = player.start(strike), time + float(random.choice([0.0, 0.001, 0.02, 0.1, 0.3, 1.0]))
        if random.random() < 0.8:
            player.release(handle, end)
        if random.random() < 0.2:
            player.catch(handle, end + 0.05)
            player.release(handle, end + 0.2)
        if random.random() < 0.1:
            player.cut(handle, time + 0.2 * float(random.random()))


@pytest.mark.parametrize("seed", range(6))
def test_who_makes_room_is_who_is_found_by_asking_all(gm, seed):
    heard, left_out = [], []
    for kind in (Plain, Player):
        player = kind(gm, (0, 1), PlaySettings(polyphony=(1, 3, 8, 8, 20, 20)[seed]))
        crowd(player, seed, 150, 1.5)
        blocks, size = [], (97, 512, 8192)[seed % 3]
        for _ in range(88_200 // size):
            blocks.append(player.block(size).stems.copy())
            assert player.n_notes <= 2 * player.settings.polyphony
        heard.append(np.concatenate(blocks, axis=2))
        left_out.append(player.n_left_out)
    assert left_out[0] == left_out[1] > 10
    np.testing.assert_array_equal(*heard)


def test_a_keyboard_steals_whom_a_file_steals(gm):
    players = [kind(gm, (0, 1), PlaySettings(polyphony=8)) for kind in (Plain, Player)]
    for player in players:
        crowd(player, 7, 150, 1.5)
    for n in range(200):  # as `live` asks: what happens is settled, chunks are written some time ahead
        for player in players:
            player.decide(0.01 * n)
            player.write(0.01 * n + 0.05, 4)
        alive = [[(h, note.cut_at, note.end) for h, note in player.notes.items()] for player in players]
        assert alive[0] == alive[1]
    assert players[0].n_left_out == players[1].n_left_out > 10


def test_a_note_is_worth_the_same_for_as_long_as_it_says(gm):
    player = Player(gm, (0,))
    for voice in (0, 24, 48):
        for start, end in ((0.0, 9.0), (0.0, 0.2), (0.249, 0.249), (0.2, 0.25), (0.25, 9.0)):
            player.release(player.start(Strike(start, 0, voice, 60, 0.7)), end)
    player.cut(player.start(Strike(0.1, 0, 0, 60, 0.7)), 0.24)
    player.decide(math.nextafter(0.25, 1))
    writer = ChunkWriter(gm, lambda notes: np.zeros((len(notes), gm.context_width), np.float32))
    for note in player.notes.values():
        moment = 0.25
        for _ in range(40):
            writer.write([note], moment)
            if note.end <= moment:
                break
            until = note.worth_until(moment)
            assert until >= moment
            for later in np.linspace(moment, min(until, moment + 1), 5):
                assert note.worth(later) == note.worth(moment) and note.end > later
            moment = math.nextafter(until, math.inf)


def test_of_a_crowd_few_are_asked_for_each_note_that_comes(toy_bank, monkeypatch):
    asked, plain = [], Note.worth
    monkeypatch.setattr(Note, "worth", lambda note, moment: asked.append(moment) or plain(note, moment))
    player = Player(toy_bank, (0,), PlaySettings(polyphony=256))
    for n in range(1256):
        player.start(Strike(0.001 * n, 0, 0, 21 + n % 88, 0.7))
    player.block(round(1.3 * player.sample_rate))
    assert player.n_left_out == 1000
    assert len(asked) < 12 * 1256  # asking all would be 256,000


def test_what_a_crowd_needed_is_forgotten_when_it_is_over(toy_bank):
    player = Player(toy_bank, (0,), PlaySettings(polyphony=16))
    for n in range(3000):
        player.release(player.start(Strike(0.001 * n, 0, 0, 21 + n % 88, 0.7)), 0.001 * n + 0.003)
    player.block(2 * player.sample_rate)
    ranking = player._ranking
    assert len(ranking._until) + len(ranking._worth) < 1000
    player.block(4 * player.sample_rate)
    player.start(Strike(5.9, 0, 0, 60, 0.7))
    player.start(Strike(6.1, 0, 0, 60, 0.7))
    player.block(player.sample_rate)
    assert player._ranking is None
