"""The laws of the synthesis core: what is played live and what is rendered from a file are one thing."""

import dataclasses
import gc
import itertools
import weakref

import numpy as np
import pytest

from miao.bank.bank import Bank
from miao.bank.voices import drum_voice
from miao.midi.score import Curve, read_score
from miao.synth.note import Strike
from miao.synth.player import Player
from miao.synth.rendering import rows_of
from miao.synth.settings import PlaySettings
from miao.synth.stems import ScoreFeed, lots_of, stream_stems

RATE = 44_100
DB_90 = 10 ** (-90 / 20)


@pytest.fixture(scope="module")
def gm():
    return Bank.load("gm")


def played(bank, tell, seconds, size, channels=(0, 1), **settings):
    """What a player makes of events that are all told beforehand, in blocks of a size: [parts, 2, n]."""
    player = Player(bank, channels, PlaySettings(**settings))
    tell(player)
    n_blocks = int(seconds * player.sample_rate) // size + 1
    return np.concatenate([player.block(size).stems for _ in range(n_blocks)], axis=2)


def lively(player):
    """Notes that are held, let go within a chunk and cut, bends, vibrato, a drum, a glide."""
    notes = [
        player.start(Strike(time, part, voice, pitch, velocity, glide=glide, glide_seconds=0.2))
        for time, part, voice, pitch, velocity, glide in (
            (0.0, 0, 0, 60, 0.7, 0.0),
            (0.1003, 0, 0, 64, 0.4, 0.0),
            (0.25, 1, 73, 72, 0.9, -3.0),
            (0.4, 0, 19, 48, 0.6, 0.0),
        )
    ]
    player.start(Strike(0.33, 1, drum_voice(38), 38, 0.8, rings=True))
    shaped = player.start(Strike(0.05, 0, 48, 67, 0.5, attack=0.5, decay=-0.5, release=0.3))
    player.start(Strike(0.6, 1, 24, 55, 0.5, attack=-1.0, decay=1.0))
    caught = player.start(Strike(0.02, 0, 0, 36, 0.6))
    player.release(caught, 0.45)
    player.catch(caught, 0.4777)
    player.release(caught, 0.8)
    player.release(shaped, 0.2)
    player.release(notes[0], 0.5001)
    player.release(notes[1], 0.1103)
    player.cut(notes[3], 0.71)
    player.release(notes[2], 0.9)
    for time, name, value in (
        (0.3, "bend", 0.5),
        (0.42, "bend", 1.0),
        (0.55, "modulation", 0.8),
        (0.6, "bend", 0.0),
        (0.7, "pressure", 0.5),
    ):
        player.control(1, name, value, time)
    player.control(0, "bend", -0.25, 0.35)


def loudest(sound):
    return np.abs(sound).max()


@pytest.mark.parametrize("size", [64, 441, 1024, 4096])
def test_blocks_of_any_size_are_one_sound(gm, size):
    whole = played(gm, lively, 1.4, 65_536)
    parts = played(gm, lively, 1.4, size)
    n = min(whole.shape[2], parts.shape[2])
    assert np.abs(parts[..., :n] - whole[..., :n]).max() < DB_90 * loudest(whole)


@pytest.mark.parametrize("known", [0.5, 2.0])
def test_what_is_known_ahead_of_its_samples_makes_the_same_sound(gm, known):
    def steps_and_sound(known):
        player = Player(gm, (0, 1))
        lively(player)
        player.control(0, "volume", 0.5, 0.62)
        blocks = [player.begin(1024, known=known).wait() for _ in range(61)]
        told = [(block.start_sample, step) for block in blocks for step in block.steps]
        return told, np.concatenate([block.stems for block in blocks], axis=2)

    told, sound = steps_and_sound(0.0)
    told_ahead, ahead = steps_and_sound(known)
    assert np.abs(ahead - sound).max() < DB_90 * loudest(sound)
    assert told_ahead == told  # each with the block that it lies in


def test_a_note_that_is_over_when_another_needs_its_room_is_heard_to_its_end(toy_bank):
    def tell(player):
        first = player.start(Strike(0.0, 0, 0, 60, 0.8))
        player.cut(first, 0.1)
        player.start(Strike(0.2, 0, 0, 64, 0.8))
        player.start(Strike(0.3, 0, 0, 67, 0.8))

    whole = played(toy_bank, tell, 0.5, 65_536, channels=(0,), polyphony=1)
    parts = played(toy_bank, tell, 0.5, 1024, channels=(0,), polyphony=1)[..., : whole.shape[2]]
    assert loudest(whole[..., :4000]) > 0
    assert np.abs(parts - whole[..., : parts.shape[2]]).max() < DB_90 * loudest(whole)


@pytest.mark.parametrize(("let_go", "gap"), [(0.12, 0.03), (0.5, 0.01), (0.5, 0.06), (0.743, 0.06)])
def test_a_note_that_is_caught_is_damped_until_then_and_goes_on_as_if_it_had_not_been_let_go(gm, let_go, gap):
    def sound(*events):
        def tell(player):
            handle = player.start(Strike(0.1, 0, 0, 36, 0.8))
            for name, time in events:
                getattr(player, name)(handle, time)

        return played(gm, tell, 1.6, 512, channels=(0,))[0]

    def level(samples, begin, end):
        return 10 * np.log10(np.mean(samples[:, round(begin * RATE) : round(end * RATE)] ** 2))

    held = sound()
    caught, damped = sound(("release", let_go), ("catch", let_go + gap)), sound(("release", let_go))
    before = round(let_go * RATE)
    assert np.abs(caught[:, :before] - held[:, :before]).max() < DB_90 * loudest(held)
    meanwhile = slice(before, round((let_go + gap) * RATE) - 2)
    assert np.abs(caught[:, meanwhile] - damped[:, meanwhile]).max() < DB_90 * loudest(held)
    after = (let_go + gap + 0.03, 1.6)
    assert level(caught, *after) == pytest.approx(
        level(held, *after), abs=0.05
    )  # phases differ by cents of the release
    assert level(damped, *after) < level(held, *after) - 12


def told_late(bank, event_time=None, event=None, size=512, seconds=1.0):
    """`lively` and a held note; and one more event, told just before its block."""
    player = Player(bank, (0, 1))
    handle = player.start(Strike(0.0, 1, 0, 67, 0.7))
    lively(player)
    blocks = []
    while player.position < seconds * RATE:
        if event and player.position <= event_time * RATE < player.position + size:
            event(player, handle, event_time)
        blocks.append(player.block(size).stems)
    return np.concatenate(blocks, axis=2)


@pytest.fixture(scope="module")
def undisturbed(gm):
    return told_late(gm)


EVENTS = {
    "start": lambda player, handle, time: player.start(Strike(time, 1, 0, 62, 0.8)),
    "release": lambda player, handle, time: player.release(handle, time),
    "cut": lambda player, handle, time: player.cut(handle, time),
    "bend": lambda player, handle, time: player.control(1, "bend", 2.0, time),
    "modulation": lambda player, handle, time: player.control(1, "modulation", 1.0, time),
}


@pytest.mark.parametrize("time", [0.0123, 0.155, 0.163, 0.7975])
@pytest.mark.parametrize("name", EVENTS)
def test_a_later_event_changes_no_earlier_sample(gm, undisturbed, name, time):
    with_event = told_late(gm, time, EVENTS[name], seconds=time + 0.12)
    without = undisturbed[..., : with_event.shape[2]]
    border = int(np.ceil(time * RATE))
    # what sounds when a note is let go becomes a level, in single precision: 63 levels of 1.75 dB, and back
    rounding = 63 * np.finfo(np.float32).eps * 1.75 / 20 * np.log(10)
    np.testing.assert_allclose(with_event[..., :border], without[..., :border], atol=4 * rounding * loudest(without))
    after = slice(border, border + RATE // 10)
    assert np.abs(with_event[..., after] - without[..., after]).max() > 1e-4


@pytest.mark.parametrize("name", EVENTS)
def test_what_is_told_late_sounds_as_what_is_told_beforehand(gm, name):
    def beforehand(player):
        handle = player.start(Strike(0.0, 1, 0, 67, 0.7))
        lively(player)
        EVENTS[name](player, handle, 0.4321)

    known, late = played(gm, beforehand, 1.0, 512), told_late(gm, 0.4321, EVENTS[name])
    n = min(known.shape[2], late.shape[2])
    assert np.abs(known[..., :n] - late[..., :n]).max() < DB_90 * loudest(known)


@pytest.mark.parametrize(("voice", "pitch"), [(0, 28), (19, 36), (48, 40), (61, 34)])
def test_amplitudes_turn_on_the_lines_that_they_were_on_when_a_note_is_let_go_or_cut(gm, voice, pitch):
    """Low notes have many partials between two cells, whose lines are not those of their cells."""

    def sound(size, release=None, cut=None):
        player = Player(gm, (0,))
        handle = player.start(Strike(0.0, 0, voice, pitch, 0.8))
        if release:
            player.release(handle, release)
        if cut:
            player.cut(handle, cut)
        n_blocks = RATE // size + 1
        return np.concatenate([player.block(size).stems[0] for _ in range(n_blocks)], axis=1)[:, :RATE]

    held = sound(RATE + 1)
    for moment in (0.0123, 0.0871, 0.6543):
        border = int(np.ceil(moment * RATE))
        for ended in (sound(RATE + 1, release=moment), sound(RATE + 1, cut=moment)):
            assert np.abs(ended[:, :border] - held[:, :border]).max() < DB_90 * loudest(held)
            assert np.abs(np.diff(ended[:, border - 2 : border + 2])).max() < 0.3 * loudest(held)
        twice = {"release": moment, "cut": moment + 0.003}
        whole = sound(RATE + 1, **twice)
        assert np.abs(sound(512, **twice) - whole).max() < DB_90 * loudest(held)


def test_an_event_that_comes_too_late_counts_from_the_next_sample_on(toy_bank):
    player = Player(toy_bank, (0,))
    player.block(1000)
    player.start(Strike(0.0, 0, 0, 69, 0.8))
    sound = player.block(2000).stems[0]
    assert np.abs(sound[0, :3]).max() < 0.01 < loudest(sound)


def test_a_fader_step_changes_no_earlier_sample_and_does_not_click(toy_bank, midi):
    def rows(time):
        notes = [(0.0, 2.0, 69, 100)]
        score = read_score(midi({"notes": notes, "controls": [(0, 91, 0)] + ([(time, 7, 0)] if time else [])}))
        return np.concatenate(list(rows_of(toy_bank, score, PlaySettings(), {}, False)), axis=2)[0]

    plain, faded = rows(0), rows(1.0)
    np.testing.assert_array_equal(faded[:, :RATE], plain[:, :RATE])
    ramp = faded[:, RATE : RATE + 221] / plain[:, RATE : RATE + 221]
    assert not faded[:, RATE + 221 :].any()
    assert np.nanmax(np.abs(ramp - np.linspace(1, 0, 221))) < 0.02


def score_of(midi, end=9.0):
    return read_score(
        midi(
            {"notes": [(t, t + 0.45, 60 + n % 7, 80 + n) for n, t in enumerate(np.arange(0, end, 0.5))], "program": 0,
             "controls": [(t, 11, 60 + n) for n, t in enumerate(np.arange(0, end, 0.25))]},
            {"notes": [(0.5, end - 1, 55, 90)], "channel": 1, "program": 19, "controls": [(1.0, 1, 70)]},
            {"notes": [(t, t + 0.1, 42 + 4 * (n % 2), 100) for n, t in enumerate(np.arange(0.1, end, 0.6))],
             "channel": 9},
        )
    )  # fmt: skip


def test_playing_from_a_moment_is_what_rendering_from_the_beginning_gives_from_there_on(gm, midi):
    score = score_of(midi)
    whole, later = (
        np.concatenate(list(rows_of(gm, score, PlaySettings(start=start), {}, True)), axis=2) for start in (0.0, 6.2)
    )
    begin, fade = round(6.2 * RATE), round(0.01 * RATE) + 1
    whole = whole[..., begin:]
    n = min(whole.shape[2], later.shape[2])
    difference = np.abs(whole[..., fade:n] - later[..., fade:n]).max(axis=(1, 2))
    assert (difference < 10 ** (-60 / 20) * loudest(whole)).all()


def test_playing_from_a_moment_writes_no_chunk_of_what_has_died_away(toy_bank, midi):
    asked = []

    def decode(kind, **inputs):
        asked.extend((inputs["pitch"]).tolist())
        return toy_bank.decode(kind, **inputs)

    bank = dataclasses.replace(toy_bank, decode=decode)
    notes = [(float(t), t + 0.5, 30 + t, 100) for t in range(60)]
    for block in stream_stems(bank, read_score(midi({"notes": notes})), start=50.0):
        assert block.start_sample >= 50 * RATE
    assert min(asked) >= 30 + 43  # a release may last 5.2 s


def test_controllers_from_before_a_moment_stand_where_they_stood(toy_bank, midi):
    score = read_score(midi({"notes": [(float(t), t + 0.8, 69, 100) for t in range(9)]}))
    (track,) = score.tracks
    bend = Curve(np.array([0.1, 1.0, 2.0]), np.array([5.0, 3.0, -1.0]), 0.0)
    score = dataclasses.replace(score, tracks=(dataclasses.replace(track, controls={"bend": bend}),))
    whole, later = (
        np.concatenate([b.stems for b in stream_stems(toy_bank, score, start=start)], axis=2) for start in (0.0, 7.0)
    )
    whole = whole[..., 7 * RATE :]
    n = min(whole.shape[2], later.shape[2])
    np.testing.assert_allclose(later[..., :n], whole[..., :n], atol=DB_90)


# the order of things


def test_events_may_be_told_in_any_order(toy_bank):
    def tell(player, order):
        handles = {}
        events = [
            lambda: handles.setdefault("a", player.start(Strike(0.2, 0, 0, 60, 0.7))),
            lambda: player.control(0, "bend", 1.0, 0.1),
            lambda: player.start(Strike(0.05, 0, 0, 64, 0.7)),
            lambda: player.control(0, "bend", -1.0, 0.3),
        ]
        for place in order:
            events[place]()
        player.release(handles["a"], 0.25)

    sounds = [
        played(toy_bank, lambda player, o=order: tell(player, o), 0.5, 512)
        for order in itertools.permutations(range(4))
    ]
    for sound in sounds[1:]:
        np.testing.assert_array_equal(sound, sounds[0])


def test_at_one_instant_controllers_come_before_starts(toy_bank):
    def tell(player, soft_first):
        if soft_first:
            player.control(0, "soft", 1.0, 0.1)
        player.start(Strike(0.1, 0, 0, 60, 0.8))
        if not soft_first:
            player.control(0, "soft", 1.0, 0.1)

    first, last = (played(toy_bank, lambda p, f=f: tell(p, f), 0.5, 512) for f in (True, False))
    np.testing.assert_array_equal(first, last)
    plain = played(toy_bank, lambda p: p.start(Strike(0.1, 0, 0, 60, 0.8)), 0.5, 512)
    assert loudest(first) == pytest.approx(0.8 * loudest(plain), rel=0.02)


def test_a_note_that_is_let_go_where_it_starts_is_heard_and_one_that_is_cut_there_is_not(toy_bank):
    def tell(player, end):
        handle = player.start(Strike(0.1, 0, 0, 60, 0.8))
        getattr(player, end)(handle, 0.1)

    assert loudest(played(toy_bank, lambda p: tell(p, "release"), 0.5, 512)) > 0.01
    assert loudest(played(toy_bank, lambda p: tell(p, "cut"), 0.5, 512)) == 0


def test_however_soon_its_key_comes_up_a_note_is_held_for_two_milliseconds(toy_bank):
    def tell(player, held):
        player.release(player.start(Strike(0.1, 0, 0, 60, 0.8)), 0.1 + held)

    at_once, soon, later = (played(toy_bank, lambda p, s=s: tell(p, s), 0.5, 512) for s in (0.0, 0.002, 0.004))
    np.testing.assert_array_equal(at_once, soon)
    assert loudest(later - soon) > 1e-4


def test_an_unknown_handle_is_passed_over(toy_bank):
    player = Player(toy_bank, (0,))
    player.release(99, 0.0)
    player.cut(99, 0.0)
    assert not player.block(100).stems.any() and player.is_silent


def test_time_must_be_a_number(toy_bank):
    with pytest.raises(ValueError, match="nan"):
        Player(toy_bank, (0,)).control(0, "bend", 1.0, float("nan"))


# the polyphony limit


def survivors(bank, strikes, releases=(), polyphony=2):
    """Pitches that sound on, a little after notes were started one after another 0.2 s apart."""
    player = Player(bank, (0,), PlaySettings(polyphony=polyphony))
    handles = [player.start(strike) for strike in strikes]
    for place, time in releases:
        player.release(handles[place], time)
    player.block(int((strikes[-1].time + 0.04) * RATE))
    return sorted(note.strike.pitch for note in player._notes.values())


def strike(n, pitch, velocity=0.7, voice=0, rings=False):
    return Strike(0.2 * n, 0, voice, pitch, velocity, rings=rings)


def test_the_oldest_of_equals_goes_first(toy_bank):
    assert survivors(toy_bank, [strike(0, 60), strike(1, 61), strike(2, 62)]) == [61, 62]


def test_the_quiet_go_before_the_old(toy_bank):
    assert survivors(toy_bank, [strike(0, 60), strike(1, 61, 0.1), strike(2, 62)]) == [60, 62]


def test_what_is_let_go_goes_before_the_quiet(gm):
    strikes = [strike(0, 60, 0.2, 19), strike(1, 61, 0.7, 48), strike(2, 62, 0.7, 19)]
    assert survivors(gm, strikes, [(1, 0.395)]) == [60, 62]


def test_drums_go_last(gm):
    strikes = [strike(0, 49, 0.2, drum_voice(49), True), strike(1, 61, 0.9, 19), strike(2, 62, 0.9, 19)]
    assert survivors(gm, strikes) == [49, 62]


def test_a_chord_larger_than_the_limit_is_no_larger_than_the_limit(toy_bank):
    player = Player(toy_bank, (0,), PlaySettings(polyphony=16))
    for pitch in range(128):
        player.start(Strike(0.0, 0, 0, pitch, 0.5))
    player.block(256)
    assert player.n_notes == 16 and player.n_left_out == 112


def test_a_note_that_makes_room_is_gone_within_5_ms(toy_bank):
    player = Player(toy_bank, (0, 1), PlaySettings(polyphony=1))
    player.start(Strike(0.0, 0, 0, 60, 0.7))
    player.start(Strike(0.5, 1, 0, 64, 0.7))
    stolen = np.concatenate([player.block(RATE // 100).stems[0] for _ in range(70)], axis=1)
    assert np.abs(stolen[:, RATE // 2 - 200 : RATE // 2]).max() > 0.01
    assert np.abs(stolen[:, RATE // 2 : RATE // 2 + RATE // 500]).max() > 0.003  # 2 ms later it is not gone yet
    assert not stolen[:, RATE // 2 + round(0.005 * RATE) + 1 :].any()


# what a note may have of its own


def test_a_notes_gain_pan_and_send_are_its_own(toy_bank):
    def sound(**own):
        player = Player(toy_bank, (0,))
        player.start(Strike(0.0, 0, 0, 60, 0.7, **own))
        return player.block(8192)

    plain = sound().stems[0]
    np.testing.assert_allclose(sound(gain=0.5).stems[0], 0.5 * plain, atol=1e-6)
    np.testing.assert_allclose(sound(pan=1.0).stems[0][1], np.sqrt(2) * plain[1], atol=1e-6)  # constant power
    np.testing.assert_allclose(sound(pan=1.0).stems[0][0], 0, atol=1e-9)
    wet = sound(send=0.25)
    np.testing.assert_allclose(wet.stems[0], plain, atol=1e-6)
    np.testing.assert_allclose(wet.extra[0], -0.75 * plain, atol=1e-6)
    assert not sound().extra


def test_a_notes_tuning_and_glide_move_its_pitch(toy_bank):
    def hz(begin, **own):
        player = Player(toy_bank, (0,))
        player.start(Strike(0.0, 0, 0, 69, 0.7, **own))
        piece = player.block(2 * RATE).stems[0][0, begin : begin + 8192]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(8192), 1 << 18))
        return np.argmax(spectrum) * RATE / (1 << 18)

    assert hz(RATE, cents=50.0) == pytest.approx(440 * 2 ** (50 / 1200), rel=1e-3)
    assert hz(RATE, glide=-12.0, glide_seconds=0.5) == pytest.approx(440, rel=1e-3)
    assert hz(RATE, glide=-12.0, glide_seconds=1e5) == pytest.approx(220, rel=1e-3)
    middle = 440 * 2 ** (-0.5 * (1 - 8192 / RATE))
    assert hz(RATE // 2, glide=-12.0, glide_seconds=1.0) == pytest.approx(middle, rel=0.02)


def test_a_key_that_is_pressed_harder_has_vibrato_and_no_other_key(toy_bank):
    def sound(pitch, pressed):
        player = Player(toy_bank, (0,))
        player.start(Strike(0.0, 0, 0, pitch, 0.7))
        player.press(0, pressed, 1.0, 0.2)
        return player.block(RATE // 2).stems[0]

    border = RATE // 5
    np.testing.assert_array_equal(sound(60, 61), sound(60, 59))
    difference = np.abs(sound(60, 60) - sound(60, 61)).max(axis=0)
    assert not difference[:border].any() and difference[border:].max() > 0.01


def test_tracks_that_are_one_instrument_are_one_stem(toy_bank, midi):
    score = read_score(midi(*({"notes": [(0.1 * n, 0.5, 60 + n, 100)], "channel": n} for n in range(3))))
    tracks = [dataclasses.replace(t, stem=s) for t, s in zip(score.tracks, (7, None, 7), strict=True)]
    grouped = dataclasses.replace(score, tracks=tuple(tracks))
    apart, one = (
        np.concatenate(list(rows_of(toy_bank, s, PlaySettings(), {}, True)), axis=2) for s in (score, grouped)
    )
    assert len(apart) == 4 and len(one) == 3
    np.testing.assert_allclose(one, [apart[0] + apart[2], apart[1], apart[3]], atol=1e-6)


def test_a_score_is_told_in_time_whatever_the_blocks(toy_bank, song):
    score = read_score(song)
    feed, player = ScoreFeed(score), Player(toy_bank, lots_of(score.tracks))
    pieces = []
    for size in itertools.cycle((100, 5000, 64)):
        feed.tell(player, (player.position + size) / RATE)
        if feed.is_over and player.is_silent:
            break
        pieces.append(player.block(size).stems)
    ours = np.concatenate(pieces, axis=2)
    whole = np.concatenate([block.stems for block in stream_stems(toy_bank, score)], axis=2)
    n = min(ours.shape[2], whole.shape[2])
    np.testing.assert_allclose(ours[..., :n], whole[..., :n], atol=DB_90)


def test_a_player_is_gone_with_its_notes_as_soon_as_nobody_has_it(toy_bank):
    """What waits for the collector of cycles is some megabytes a song."""
    player = Player(toy_bank, (0,))
    player.start(Strike(0.0, 0, 0, 60, 0.7))
    player.block(4096)
    there, note = weakref.ref(player), weakref.ref(next(iter(player.notes.values())))
    gc.disable()
    try:
        del player
        assert there() is None and note() is None
    finally:
        gc.enable()
