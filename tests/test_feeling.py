"""A mood under a player's hands: what acts on a note as it is struck is as in files, and moves while playing."""

from dataclasses import replace

import numpy as np
import pytest

import miao.live.stage as stage_module
from miao.errors import ConfigError
from miao.expression import MOODS, Cues, cues_of, expressed
from miao.live.feeling import Feeling
from miao.midi.events import Control, Event
from miao.midi.module import Module
from miao.midi.score import read_score

STRINGS, VIOLIN = 48, 40


class Hands:
    """A sound module with a feeling behind it, and what is told of its first channel."""

    def __init__(self, cues=None, program=STRINGS, channel=0):
        self.stands, self.told, self.velocities, self.channel = {}, [], [], channel
        self.feeling, self.module, self.time = Feeling(self.tell), Module(), 0.0
        self.feeling.set(cues or Cues(), 0.0)
        self.message(0xC0, program, program)

    def tell(self, lane, name, value, time):
        self.stands[name] = value
        self.told.append((lane, name, value, time))

    def message(self, kind, first, second, time=0.0):
        self.time = max(self.time, time)
        for action in self.module.feed(self.time, Event(kind, self.channel, first, second)):
            if type(action).__name__ == "Start":
                self.velocities.append(self.feeling.start(action).velocity)
            elif isinstance(action, Control):
                self.feeling.control(action)

    def strike(self, velocity=60, pitch=60, time=0.0):
        self.message(0x90, pitch, velocity, time)


@pytest.mark.parametrize("mood", MOODS)
def test_a_note_that_is_struck_gets_what_a_file_gives_it(midi, mood, monkeypatch):
    cues = replace(MOODS[mood], contrast=0.0, phrasing=0.0)  # of these each note has its own share
    monkeypatch.setattr("miao.expression.play.cues_of", lambda *_: cues)
    track = {"notes": [(0, 1, 60, 40), (1, 2, 62, 40)], "program": STRINGS, "controls": [(0, 74, 80), (0, 91, 60)]}
    of_file = expressed(read_score(midi(track)), mood=mood).tracks[0]
    hands = Hands(cues)
    hands.message(0xB0, 74, 80)
    hands.message(0xB0, 91, 60)
    hands.strike(40)
    assert hands.velocities == [of_file.notes["velocity"].max()]  # doublings are softer
    for name in ("brightness", "attack", "decay", "release", "reverb"):
        assert hands.stands.get(name) == pytest.approx(float(of_file.controls[name].at(0.5))), name


def test_without_a_mood_all_is_told_as_it_is_played():
    hands = Hands()
    for number in (1, 7, 10, 11, 64, 72, 73, 74, 75, 91, 93):
        hands.message(0xB0, number, 77)
    hands.strike(91)
    plain, module = [], Module()
    for number in (1, 7, 10, 11, 64, 72, 73, 74, 75, 91, 93):
        plain += module.feed(0.0, Event(0xB0, 0, number, 77))
    assert [(name, value) for _, name, value, _ in hands.told] == [(a.name, a.value) for a in plain]
    assert hands.velocities == [91]


def test_a_mood_moves_while_a_note_is_held_and_the_middle_is_as_it_was():
    hands = Hands()
    hands.message(0xB0, 74, 90)
    hands.strike()
    as_played = dict(hands.stands)
    hands.feeling.set(cues_of(valence=-1, arousal=-1), 0.5)
    assert hands.stands["brightness"] < as_played["brightness"] and hands.told[-1][3] == 0.5
    hands.strike(time=0.6)
    hands.feeling.set(Cues(), 0.7)
    hands.strike(time=0.8)
    assert {name: hands.stands[name] for name in as_played} == as_played
    assert hands.stands["reverb"] == 40 / 127 and hands.velocities[1] < hands.velocities[0] == hands.velocities[2]


def test_what_a_hand_moves_under_a_mood_moves_by_as_much():
    hands = Hands(Cues(brightness=0.4))
    hands.strike()
    low = hands.stands["brightness"]
    hands.message(0xB0, 74, 64 + 10)
    assert hands.stands["brightness"] - low == pytest.approx(10 / 127)
    hands.message(0xB0, 74, 127)
    assert hands.stands["brightness"] == 1


def test_of_drums_only_the_room_and_the_level_move():
    hands = Hands(Cues(level=6, brightness=1, attack=-1, articulation=1, room=0.5, vibrato=1), program=0, channel=9)
    hands.strike(60, 38)
    assert hands.stands["reverb"] == pytest.approx(40 / 127 + 0.25) and hands.velocities == [85]
    assert [hands.stands[name] for name in ("brightness", "attack", "decay", "release")] == [64 / 127] * 4
    assert hands.stands["modulation"] == 0


def test_a_vibrato_grows_from_each_note_s_start_in_instruments_that_can():
    hands, piano = Hands(Cues(vibrato=0.6), VIOLIN), Hands(Cues(vibrato=0.6), 0)
    depths = {}
    for start in (0.0, 3.0):
        for one in (hands, piano):
            one.strike(time=start)
        for step in range(1, 140):
            time = start + step / 100
            hands.feeling.grow(time)
            depths[round(time, 2)] = hands.stands["modulation"]
            assert not piano.feeling.grow(time)
    for start in (0.0, 3.0):
        assert depths[start + 0.2] == 0 and depths[start + 1.2] == pytest.approx(0.3)
        assert 0.1 < depths[start + 0.65] < 0.2
    hands.message(0xB0, 1, 100, 5.0)  # a wheel that asks for more gets it
    assert hands.stands["modulation"] == pytest.approx(100 / 127)


# the instrument and the command

needs_engine = pytest.mark.skipif(stage_module._compiled is None, reason="the package was installed without a compiler")


@needs_engine
def test_two_controllers_steer_an_instrument_over_the_plane(toy_bank):
    from miao.live.instrument import Instrument
    from miao.synth.settings import PlaySettings

    stage = stage_module.Stage(toy_bank, range(16), PlaySettings(polyphony=32), is_plain=True, room=None)
    instrument = Instrument(stage, mood=cues_of("sad:0.5"), plane=(20, 21))
    velocities = []
    for n, point in enumerate(((64, 64), (127, 127), (0, 0))):
        for number, value in zip((20, 21), point, strict=True):
            instrument.play(0.1 * n, bytes([0xB0, number, value]))
        instrument.play(0.1 * n, bytes([0x90, 60 + n, 60]))
        stage.player.decide(0.1 * n + 0.05)
        velocities.append(next(reversed(stage.player.notes.values())).strike.velocity * 127)
    corner = [cues_of(valence=v, arousal=v).level for v in (0, 1, -1)]
    assert velocities == [round(60 * 10 ** ((MOODS["sad"].level / 2 + level) / 40)) for level in corner]


@needs_engine
def test_a_mood_is_heard_live(toy_bank):
    from miao.live.instrument import Instrument
    from miao.synth.settings import PlaySettings

    def heard(mood):
        stage = stage_module.Stage(toy_bank, range(16), PlaySettings(polyphony=32), is_plain=True, room=None)
        instrument = Instrument(stage, mood=mood)
        instrument.put(bytes([0x90, 60, 80]))
        out = np.empty((2, 4096), np.float32)
        for _ in range(4):
            instrument.round()
            stage.engine.render(out)
        return np.abs(out).max()

    plain, sad = heard(None), heard(cues_of("sad"))
    assert heard(Cues()) == plain and sad < 0.9 * plain


def test_a_plane_is_two_controllers_and_moods_are_known():
    from miao.cli.live import _plane

    assert _plane("20,21") == (20, 21)
    for text in ("20", "20,20", "20,120", "a,b", "1,2,3", "20,21,x", "²,3"):
        with pytest.raises(ConfigError, match="say two controllers"):
            _plane(text)
