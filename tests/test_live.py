"""The live instrument: it sounds as the file does, obeys its limits, and never keeps the sound card waiting."""

import time
from pathlib import Path

import numpy as np
import pytest
from midi_bytes import off, on, program, smf, sysex, track

import miao.live.stage as stage_module
from miao.bank.bank import Bank
from miao.cli.live import _no_variation, _program, _Rooms
from miao.errors import AudioError, ConfigError, MiaoError
from miao.live.card import open_card
from miao.live.instrument import Instrument
from miao.live.routing import Routing, key_number, zones_of
from miao.live.take import Take
from miao.live.tape import Tape
from miao.live.terminal_keys import Piano
from miao.midi.events import NOTE_ON
from miao.midi.score import read_score
from miao.sound.audio import read_audio
from miao.sound.chorus import USUAL, Chorus
from miao.sound.desk import Desk
from miao.sound.room import Room
from miao.sound.rooms import room_paths
from miao.synth.note import Strike
from miao.synth.player import FLOOR, Player
from miao.synth.rendering import ROOM_LEVEL, acoustics_of, rows_of
from miao.synth.settings import PlaySettings
from miao.synth.stems import ScoreFeed, lots_of

if stage_module._compiled is None:
    pytest.skip("the package was installed without a compiler", allow_module_level=True)
Stage = stage_module.Stage

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DB_90 = 10 ** (-90 / 20)


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm")


def played(stage, seconds, size, tell=None):
    """What the engine makes in blocks of a size, each told of just before it is made: [2, n]."""
    blocks, position = [], 0
    while position < seconds * stage.sample_rate:
        end = (position + size) / stage.sample_rate
        if tell is not None:
            tell(stage.player, end)
        stage.advance(end)
        stage.look_ahead(end)
        block = np.empty((2, size), np.float32)
        stage.engine.render(block)
        blocks.append(block)
        position += size
    return np.concatenate(blocks, axis=1)


def offline(bank, score, rate):
    rows = rows_of(bank, score, PlaySettings(sample_rate=rate), {}, with_stems=False)
    return np.concatenate(list(rows), axis=2).sum(axis=0)


def rich_score(midi):
    """Pedals, bends, vibrato, faders that move while their part sounds, brightness, envelopes, a choke, pan, room."""
    wave = [(t, 11, int(90 + 30 * np.sin(9 * t))) for t in np.arange(0.1, 3, 0.05)]
    return read_score(
        midi(
            {"notes": [(t, t + 0.3, 60 + int(7 * t) % 12, 90) for t in np.arange(0, 3, 0.21)], "program": 0,
             "controls": [(0.0, 64, 127), (1.1, 64, 0), (1.5, 64, 127), (2.9, 64, 0), (0.5, 10, 20), (1.2, 91, 120),
                          (0.8, 75, 30), (1.4, 73, 10)]},
            {"notes": [(0.3, 2.8, 55, 90), (0.9, 1.7, 62, 70)], "channel": 1, "program": 48,
             "controls": [*wave, (0.6, 1, 90), (1.6, 1, 0), (1.0, 74, 110), (2.0, 74, 30), (0.8, 93, 100),
                          (0.0, 73, 90), (0.5, 72, 90)]},
            {"notes": [(t, t + 0.1, (42, 46)[n % 2], 100) for n, t in enumerate(np.arange(0.1, 2.5, 0.17))],
             "channel": 9},
        )
    )  # fmt: skip


@pytest.mark.parametrize(("size", "rate"), [(64, 44_100), (441, 48_000)])
def test_live_is_offline(gm, midi, size, rate):
    score = rich_score(midi)
    whole = offline(gm, score, rate)
    channels = lots_of(score.tracks)
    stage = Stage(gm, channels, PlaySettings(sample_rate=rate, polyphony=128), is_plain=True)
    live = played(stage, whole.shape[1] / rate, size, ScoreFeed(score).tell)
    n = min(live.shape[1], whole.shape[1])
    error = np.abs(live[:, :n] - whole[:, :n]).max()
    # a partial weaker than the floor is left out of a block, and blocks are not the same here and there
    assert error < DB_90 * np.abs(whole).max() + FLOOR
    assert stage.engine.counts()["late"] == stage.engine.counts()["waited"] == 0


def test_keys_that_are_tuned_while_they_sound_are_the_same_live(gm):
    def now(*what):
        return sysex(bytes([0x7F, 0x7F, 8, *what]))

    notes = [(0, program(73)), (0, on(69)), (48, on(76)), (0, program(48, 1)), (0, on(69, channel=1))]
    moves = [(200, now(8, 3, 127, 127, *[64] * 9, 104, 64, 64)), (100, now(2, 0, 1, 69, 70, 0, 0)), (0, on(81)),
             (150, now(8, 0, 0, 1, *[64] * 12))]  # fmt: skip
    ends = [(100, off(69)), (0, off(76)), (30, off(81)), (0, off(69, 1))]
    score = read_score(smf(track(*notes, *moves, *ends)))
    whole = offline(gm, score, 44_100)
    stage = Stage(gm, lots_of(score.tracks), PlaySettings(polyphony=128), is_plain=True)
    live = played(stage, whole.shape[1] / 44_100, 256, ScoreFeed(score).tell)
    n = min(live.shape[1], whole.shape[1])
    assert np.abs(live[:, :n] - whole[:, :n]).max() < DB_90 * np.abs(whole).max() + FLOOR


def in_blocks(bank, score, size):
    """What the player, the desk, the room and the chorus of files make in blocks of a size: [2, n]."""
    rate, channels, pieces = 44_100, lots_of(score.tracks), []
    player, feed = Player(bank, channels, PlaySettings(polyphony=256)), ScoreFeed(score)
    desk, chorus = Desk(rate, len(channels), ("reverb", "chorus")), Chorus(rate, score.chorus or USUAL)
    room = Room(rate, acoustics_of(score, PlaySettings()))
    while not (feed.is_over and player.is_silent):
        feed.tell(player, (player.position + size) / rate)
        block = player.block(size)
        for step in block.steps:
            desk.set(*step)
        lines, sent = desk.mix(block.start_sample, block.stems, block.busy, block.extra)
        wet = room.process(np.float32(ROOM_LEVEL) * sent["reverb"]) + chorus.process(sent["chorus"])
        pieces.append(lines.sum(axis=0) + wet)
    return np.concatenate(pieces, axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("song", ["ode_to_joy", "greensleeves", "gymnopedie"])
def test_an_arrangement_is_the_same_live(gm, song):
    score = read_score(EXAMPLES / f"{song}.mid").between(0, 12)
    same = in_blocks(gm, score, 256)
    channels = lots_of(score.tracks)
    stage = Stage(gm, channels, PlaySettings(polyphony=256), is_plain=True, room=acoustics_of(score, PlaySettings()))
    live = played(stage, same.shape[1] / 44_100, 256, ScoreFeed(score).tell)
    n = min(live.shape[1], same.shape[1])
    assert np.abs(live[:, :n] - same[:, :n]).max() < DB_90 * np.abs(same).max()


# what comes too late


def held(stage, voice=19, pitch=57, time=0.0, seconds=1e9):
    handle = stage.player.start(Strike(time, 0, voice, pitch, 0.7))
    if seconds < 1e9:
        stage.player.release(handle, time + seconds)


def steepest(sound):
    return np.abs(np.diff(sound)).max()


def test_a_chunk_that_comes_too_late_is_waited_for_and_nothing_clicks(toy_bank):
    def sound(is_late):
        stage = Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=None)
        held(stage, voice=0)
        pieces = []
        for n in range(400):
            end = (n + 1) * 256 / stage.sample_rate
            if n == 0 or not (is_late and n < 200):
                stage.advance(end)
            if not is_late or n >= 200:
                stage.look_ahead(end)
            pieces.append(np.empty((2, 256), np.float32))
            stage.engine.render(pieces[-1])
        return np.concatenate(pieces, axis=1), stage.engine.counts()

    plain, _ = sound(False)
    late, counts = sound(True)
    assert counts["waited"] > 0
    np.testing.assert_allclose(late, plain, atol=1e-3 * np.abs(plain).max())  # its sine goes on, whatever is missing


def test_what_is_not_needed_at_once_waits_while_a_key_does(toy_bank):
    """Of forty notes what is heard soon is written, the rest while nobody calls, and the most urgent first."""
    stage = Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=None)
    for n in range(40):
        stage.player.start(Strike(0.002 * (39 - n), 0, 0, 40 + n, 0.7))
    stage.advance(0.1)

    def n_known(until):
        return sum(note.known_until >= until for note in stage.player.notes.values())

    stage.look_ahead(0.1, 2.0, is_called=lambda: True)
    assert n_known(0.1 + stage_module.SOON_SECONDS) == 40 > n_known(2.1)
    urgent = sorted(stage.player.notes.values(), key=lambda note: note.known_until)[: 2 * 8]
    answers = iter([False, False, True])
    stage.look_ahead(0.1, 2.0, is_called=lambda: next(answers))
    assert n_known(2.1) == 2 * 8 == sum(note.known_until >= 2.1 for note in urgent)
    stage.look_ahead(0.1, 2.0)
    assert n_known(2.1) == 40


def test_a_key_that_waits_is_served_before_what_is_needed_later(toy_bank):
    stage = Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=None)
    instrument = Instrument(stage)
    for n in range(40):
        instrument.put(bytes([NOTE_ON, 40 + n, 80]))
    instrument.round()
    asked, write = [], stage.player.write

    def counted(until, most=None):
        if not asked:
            instrument.put(bytes([NOTE_ON, 90, 80]))  # while chunks are being written
        asked.append(most)
        return write(until, most)

    stage.player.write = counted
    instrument.round()
    assert len(asked) <= 7  # forty notes in eights, as far as they are needed soon, and no more


def test_an_engine_that_nothing_plays_says_when_it_can_take_no_more(toy_bank):
    stage = Stage(toy_bank, (0,), PlaySettings(), is_plain=True, room=None)
    handle = stage.player.start(Strike(0.0, 0, 0, 60, 0.7))
    stage.advance(0.01)
    while stage.engine.step(0, 0, 0.0, 0.0):
        pass
    for asked in (lambda: stage.begin_again(0.0), lambda: stage.change_room(None)):
        with pytest.raises(MiaoError, match="anything playing"):
            asked()
    assert handle in stage.player.notes, "it goes on as it was"
    stage.engine.render(np.empty((2, 256), np.float32))
    stage.begin_again(0.0)
    assert not stage.player.notes


def test_a_release_that_comes_too_late_counts_from_now_on_and_does_not_click(gm):
    stage = Stage(gm, (0,), PlaySettings(), is_plain=True, room=None)
    rate = stage.sample_rate
    handle = stage.player.start(Strike(0.0, 0, 19, 57, 0.7))
    stage.advance(0.01)
    stage.look_ahead(0.01, 0.6)
    before = np.empty((2, 13_000), np.float32)
    stage.engine.render(before)
    stage.player.release(handle, 0.2)  # the engine is at 0.295 s
    stage.advance(0.21)
    stage.look_ahead(0.21, 2.0)
    after = np.empty((2, 2 * rate), np.float32)
    stage.engine.render(after)
    assert stage.engine.counts()["late"] == 1
    whole = np.concatenate([before, after], axis=1)
    assert steepest(whole[:, 12_000:14_000]) < 1.2 * steepest(before)
    assert np.abs(after[:, -1000:]).max() < 1e-3 * np.abs(before).max()


def test_a_note_that_is_told_late_has_its_whole_attack(gm):
    def attack(told_at):
        stage = Stage(gm, (0,), PlaySettings(), is_plain=True, room=None)
        out = np.empty((2, 4410), np.float32)
        if told_at:
            stage.engine.render(out)
        held(stage, pitch=60, voice=0)
        stage.advance(0.01)
        stage.engine.render(out)
        return out

    early, late = attack(0), attack(1)
    levels = [np.abs(sound[0, :600]).max() for sound in (early, late)]
    assert levels[1] == pytest.approx(levels[0], rel=0.35)  # phases differ, as another moment draws other lots
    assert np.abs(late[0, 0]) < 1e-3


def test_a_pedal_shortly_after_the_key_catches_the_string_live_as_in_the_player(gm):
    """The messages of a keyboard, against a player that is told of release, catch and the end of the pedal."""
    stage = Stage(gm, (0,), PlaySettings(), is_plain=True, room=None)
    instrument = Instrument(stage)

    def keys(player, until):
        for moment, message in messages:
            if until - 512 / 44_100 <= moment < until:
                instrument.play(moment, bytes(message))

    messages = [(0.1, (0x90, 36, 100)), (0.5, (0x80, 36, 64)), (0.53, (0xB0, 64, 127)), (1.2, (0xB0, 64, 0))]
    live = played(stage, 1.6, 512, keys)
    player = Player(gm, (0,), PlaySettings())
    note = player.start(Strike(0.1, 0, gm.voice(0, 36, is_drum=False), 36, 100 / 127))
    for tell, moment in ((player.release, 0.5), (player.catch, 0.53), (player.release, 1.2)):
        tell(note, moment)
    made = np.concatenate([player.block(512).stems[0] for _ in range(live.shape[1] // 512)], axis=1)
    fader = live[:, 11_000:20_000].std() / made[:, 11_000:20_000].std()  # a part's usual volume and pan
    n = made.shape[1]
    assert np.abs(live[:, :n] - fader * made).max() < 10 * DB_90 * np.abs(live).max() + FLOOR
    assert np.abs(live[:, 40_000:50_000]).max() > 0.1 * np.abs(live).max()


# limits


def test_a_chord_of_all_keys_in_one_block_obeys_the_limit(gm):
    stage = Stage(gm, range(16), PlaySettings(polyphony=16), is_plain=True)
    instrument = Instrument(stage)
    for key in range(128):
        instrument.put(bytes([0x90, key, 100]))
    instrument.round()
    out = np.empty((2, 256), np.float32)
    stage.engine.render(out)
    assert stage.engine.counts()["voices"] == 16
    assert instrument.n_thinned == 112 and np.isfinite(out).all()


def test_who_is_stolen_fades_and_the_newest_is_heard(gm):
    stage = Stage(gm, (0,), PlaySettings(polyphony=4), is_plain=True, room=None)
    for n in range(12):
        held(stage, pitch=48 + 2 * n, time=0.1 * n)
    played(stage, 1.2, 256)
    assert stage.engine.counts()["voices"] == 4
    assert stage.engine.counts()["most_voices"] <= 8
    assert max(note.strike.pitch for note in stage.player.notes.values()) == 70


def test_ten_thousand_note_ons_a_second_leave_it_playing(toy_bank):
    stage = Stage(toy_bank, range(16), PlaySettings(polyphony=32), is_plain=True, room=None)
    instrument = Instrument(stage)
    out, random = np.empty((2, 441), np.float32), np.random.default_rng(3)
    for _ in range(30):  # hundredths of a second
        for _ in range(100):
            instrument.put(bytes([0x90 | int(random.integers(16)), int(random.integers(128)), 100]))
        instrument.round()
        stage.engine.render(out)
        assert np.isfinite(out).all()
    counts = stage.engine.counts()
    assert counts["most_voices"] <= 2 * 32 + stage_module.SPARE_SLOTS and instrument.n_thinned > 0
    instrument.put(b"\xff")
    assert silence_after(instrument, 0.1)


# keyboards that go away, and panic


def silence_after(instrument, seconds):
    """Whether nothing is heard from some seconds after what has been put was played."""
    stage = instrument.stage
    out = np.empty((2, 441), np.float32)
    for _ in range(int(seconds * 100)):
        instrument.round()
        stage.engine.render(out)
    stage.engine.render(out)
    return not np.abs(out).max() > 1e-6


def test_a_channel_plays_a_variation_that_is_chosen_or_that_the_keyboard_asks_for(gm):
    by_choice, by_message = (
        Instrument(Stage(gm, range(16), PlaySettings(), is_plain=True, room=None)) for _ in range(2)
    )
    by_choice.choose(0, 24, 8)
    for message in (b"\xb0\x00\x08", b"\xc0\x18"):
        by_message.put(message, source=1)
    wanted = gm.voice(24, 60, is_drum=False, bank=8 << 7)
    for instrument in (by_choice, by_message):
        instrument.put(b"\x90\x3c\x64", source=1)
        instrument.round()
        assert [note.strike.voice for note in instrument.stage.player.notes.values()] == [wanted] != [24]


def test_a_program_is_said_with_its_channel_and_its_variation(gm):
    assert [_program(text) for text in ("5", "2=5", "25/8", "16=25/16")] == [
        (0, (4, 0)), (1, (4, 0)), (0, (24, 8)), (15, (24, 16))
    ]  # fmt: skip
    for wrong in ("0", "129", "5/", "5/128", "17=5", "/8", "5/x", "5/²"):
        with pytest.raises(ConfigError, match="say a program from 1 to 128"):
            _program(wrong)
    assert _no_variation(gm.kits, 24, 16) == "program 25 (Nylon Guitar) has no variation 16; it has 8 (Ukulele)"


def sounding(bank, *messages, polyphony=64):
    instrument = Instrument(Stage(bank, range(16), PlaySettings(polyphony=polyphony), is_plain=True, room=None))
    instrument.choose(0, 19)
    for message in messages:
        instrument.put(message, source=1)
    assert not silence_after(instrument, 0.3)
    return instrument


HELD = (b"\x90\x3c\x64", b"\xb0\x40\x7f", b"\x90\x40\x64", b"\x80\x40\x40", b"\x99\x31\x7f")


@pytest.mark.parametrize("panic", [b"\xff", b"\xb0\x78\x00"])
def test_panic_silences_all_at_once(gm, panic):
    instrument = sounding(gm, *HELD[: 5 if panic == b"\xff" else 4])
    instrument.put(panic, source=1)
    assert silence_after(instrument, 0.1)
    instrument.put(b"\x90\x3c\x64", source=1)
    assert not silence_after(instrument, 0.1)


def test_a_keyboard_that_is_unplugged_falls_silent_within_a_second(gm):
    instrument = sounding(gm, *HELD)
    instrument.put(b"", source=1)
    assert silence_after(instrument, 0.5)


def test_a_sender_that_stops_sensing_falls_silent_within_a_second(gm, monkeypatch):
    now = [0]
    monkeypatch.setattr("miao.live.instrument.clock_ns", lambda: now[0])
    instrument = sounding(gm, *HELD, b"\xfe")
    now[0] = int(0.3e9)
    assert not silence_after(instrument, 0.1)
    now[0] = int(0.45e9)
    assert silence_after(instrument, 0.5)


def test_who_has_never_sensed_may_be_silent_for_long(gm, monkeypatch):
    now = [0]
    monkeypatch.setattr("miao.live.instrument.clock_ns", lambda: now[0])
    instrument = sounding(gm, *HELD)
    now[0] = int(60e9)
    assert not silence_after(instrument, 0.2)


def test_events_at_one_moment_are_all_played(toy_bank):
    instrument = Instrument(Stage(toy_bank, range(16), PlaySettings(), is_plain=True, room=None))
    for _ in range(3):
        instrument.play(0.0, b"\x90\x3c\x64")
        instrument.round()
        instrument.play(0.0, b"\x80\x3c\x40")
        instrument.round()
    assert instrument.stage.player.is_settled(1.0)


# where messages go


def test_splits_layers_and_curves():
    routing = Routing(transpose=12, curve=2.0, zones=zones_of(60, True))
    assert list(routing.route(b"\x90\x3c\x40")) == [b"\x90\x48\x20", b"\x92\x48\x20"]
    assert list(routing.route(b"\x90\x3b\x40")) == [b"\x91\x47\x20", b"\x92\x47\x20"]
    assert list(routing.route(b"\xb0\x40\x7f")) == [b"\xb0\x40\x7f", b"\xb1\x40\x7f", b"\xb2\x40\x7f"]
    assert list(routing.route(b"\xc0\x05")) == []
    plain = Routing(transpose=-1, velocity=77)
    assert list(plain.route(b"\x99\x26\x01")) == [b"\x99\x26\x4d"]  # drums stay where they are
    assert list(plain.route(b"\x90\x00\x01")) == []
    assert list(plain.route(b"\x90\x3c\x00")) == [b"\x90\x3b\x00"]  # a note-off stays one
    assert list(plain.route(b"\xfe")) == [b"\xfe"]


def test_keys_have_names():
    assert [key_number(text) for text in ("60", "C4", "c-1", "Bb3", "F#5", "G9")] == [60, 60, 0, 58, 78, 127]
    for text in ("", "H4", "C", "128", "C#", "C--1", "²", "C²"):
        with pytest.raises(ConfigError, match="no key"):
            key_number(text)


def test_the_computers_keys_are_a_piano():
    sent = []
    piano = Piano(sent.append)
    piano.press("a", 0.0)
    piano.press("a", 0.5)  # it repeats
    piano.let_go(0.6)
    piano.press("x", 0.6)
    piano.press("W", 0.62)
    piano.let_go(0.66)
    piano.press(" ", 0.7)
    piano.let_go(9.0)
    assert sent == [b"\x90\x3c\x60", b"\x90\x49\x60", b"\x80\x3c\x40", b"\xff"]
    piano.press("", 9.0)
    assert len(sent) == 4
    rooms = []
    Piano(sent.append, next_room=lambda: rooms.append("next")).press("R", 9.1)
    assert rooms == ["next"] and len(sent) == 4


def test_the_rooms_of_the_terminal_follow_each_other_and_come_round(gm):
    stage = Stage(gm, (0,), PlaySettings(), room=None)
    asked = []
    stage.change_room = asked.append
    rooms = _Rooms(stage, "none")
    names = []
    for _ in range(len(room_paths()) + 1):
        rooms.next()
        names.append(rooms.name)
    assert names == [*room_paths(), "none"] and asked[-1] is None and None not in asked[:-1]


# the clock, takes and tapes


def test_a_take_is_what_was_played_and_how_it_sounded(gm, tmp_path):
    stage = Stage(gm, range(16), PlaySettings(polyphony=32))
    instrument = Instrument(stage)
    with open_card(stage, "none", 256):
        instrument.start()
        with Take(instrument, tmp_path / "take") as take:
            began = time.monotonic()
            instrument.put(b"\x90\x45\x64")
            time.sleep(0.4)
            instrument.put(b"\x80\x45\x40")
            time.sleep(0.2)
            take.collect()
            seconds = time.monotonic() - began
        instrument.stop()
    note = read_score(tmp_path / "take.mid").tracks[0].notes[0]
    assert note["pitch"] == 69 and 0.35 < note["end"] - note["start"] < seconds
    sound = read_audio(tmp_path / "take.wav")
    assert 0.5 < sound.duration < seconds + 0.1
    spectrum = np.abs(np.fft.rfft(sound.samples[0] * np.hanning(sound.samples.shape[1])))
    harmonic = np.argmax(spectrum) / sound.duration / 440
    assert harmonic == pytest.approx(max(round(harmonic), 1), rel=0.01)
    with pytest.raises(AudioError, match="exists"):
        Take(instrument, tmp_path / "take")


class Reel:
    """A tape whose card is asked by hand."""

    def __init__(self, bank, score, polyphony=64):
        channels = lots_of(score.tracks)
        self.stage = Stage(bank, channels, PlaySettings(polyphony=polyphony), is_plain=True, room=None)
        self.tape = Tape(self.stage, score)

    def play(self, seconds):
        pieces = []
        for _ in range(int(seconds * 100)):
            self.tape.round()
            pieces.append(np.empty((2, 441), np.float32))
            self.stage.engine.render(pieces[-1])
        return np.concatenate(pieces, axis=1)


def pitch_of(sound, seconds=0.3):
    piece = sound[0, -int(seconds * 44_100) :]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 18))
    return 69 + 12 * np.log2(np.argmax(spectrum) * 44_100 / (1 << 18) / 440)


@pytest.fixture
def scale(midi):
    """A held note a second on one track, C4 to G4, and a low one throughout on another."""
    notes = [(float(n), n + 0.98, 60 + n, 100) for n in range(8)]
    return read_score(midi({"notes": notes}, {"notes": [(0.0, 8.0, 36, 20)], "channel": 1}))


def test_a_tape_plays_seeks_pauses_and_ends(toy_bank, scale):
    reel = Reel(toy_bank, scale)
    assert pitch_of(reel.play(0.8)) == pytest.approx(60, abs=0.1)
    assert reel.tape.position == pytest.approx(0.77, abs=0.02)
    reel.tape.seek(5.3)
    assert pitch_of(reel.play(0.5)) == pytest.approx(65, abs=0.1)
    reel.tape.pause()
    reel.play(0.1)
    assert np.abs(reel.play(0.5)).max() < 1e-6
    reel.tape.pause()
    assert pitch_of(reel.play(0.8)) == pytest.approx(66, abs=0.1)
    reel.play(1.8)
    assert reel.tape.is_over


def test_a_tape_is_heard_at_once_from_the_middle_of_a_note(toy_bank, scale):
    reel = Reel(toy_bank, scale)
    reel.tape.seek(3.5)
    assert np.abs(reel.play(0.06)[:, -441:]).max() > 0.01


def test_tempo_transposition_and_tracks_by_themselves(toy_bank, scale):
    reel = Reel(toy_bank, scale)
    reel.tape.change(tempo=2.0, transpose=12)
    assert pitch_of(reel.play(0.93)) == pytest.approx(73, abs=0.1)  # the second note, an octave up
    reel.tape.toggle(reel.tape.muted, 0)
    assert pitch_of(reel.play(0.5)) == pytest.approx(48, abs=0.1)
    reel.tape.toggle(reel.tape.alone, 0)
    assert pitch_of(reel.play(0.45)) > 70


def test_a_tape_from_a_moment_is_as_loud_as_one_that_has_come_there(gm, midi):
    score = rich_score(midi)
    whole = Reel(gm, score).play(3.0)
    reel = Reel(gm, score)
    reel.tape.seek(1.0)
    live = reel.play(1.5)
    for begin in (0.2, 0.5, 0.9, 1.2):
        there = slice(int(begin * 44_100), int((begin + 0.25) * 44_100))
        ours, theirs = live[:, there], whole[:, 44_100:][:, there]
        levels = [20 * np.log10(np.sqrt(np.mean(sound**2))) for sound in (ours, theirs)]
        assert levels[0] == pytest.approx(levels[1], abs=1.5)


def test_what_a_tape_had_told_of_the_time_to_come_is_taken_back_by_a_jump(gm, midi):
    notes = [(t, t + 0.2, 60, 90) for t in np.arange(0, 3, 0.2)]
    late = read_score(midi({"notes": notes, "controls": [(0.05, 10, 64), (0.5, 10, 0)]}))
    reel = Reel(gm, late)  # the pan of its first moments is on its way
    reel.tape.seek(1.0)
    left, right = np.square(reel.play(1.0)[:, 4410:]).mean(axis=1)
    assert right < 1e-3 * left, "what was told before the jump came after it"
    sounds = []
    for controls in ([(0.05, 1, 127), (0.5, 1, 0)], [(0.05, 1, 0)]):  # vibrato is over by then
        reel = Reel(gm, read_score(midi({"notes": notes, "program": 73, "controls": controls})))
        reel.tape.seek(1.0)
        sounds.append(reel.play(1.0))
    assert np.abs(sounds[0] - sounds[1]).max() < 1e-4


def test_a_thread_that_does_nothing_counts_what_the_machine_withholds():
    began = time.monotonic()
    watch = stage_module._compiled.Watch(0.002)
    time.sleep(0.1)
    watch.stop()
    woken, late, worst = watch.counts()
    most = (time.monotonic() - began) / 0.002 + 1
    assert 1 <= woken <= most and 0 <= late <= woken and worst > 0 and (worst >= 0.002) == (late > 0)
