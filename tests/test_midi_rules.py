"""What a sound module does by the standards; each rule's document stands in the docstring of what does it."""

import numpy as np
import pytest
from midi_bytes import (
    GM_ON,
    GS_ON,
    NOTE_OF_A_SECOND,
    XG_ON,
    control,
    gs,
    nonregistered,
    off,
    on,
    program,
    registered,
    smf,
    sysex,
    text,
    track,
    wheel,
    xg,
)  # fmt: skip
from midi_scores import GM2_ON, bend_of, score_of, setup

from miao.midi.channel import DEFAULTS
from miao.midi.events import Catch, Control, Event, KeyUp, Release, Silence, Start
from miao.midi.keys import RINGING_STROKES
from miao.midi.module import Module
from miao.midi.score import read_score


def only_track(*events):
    (only,) = score_of(*events).tracks
    return only


# online


def feed(module, *messages, port=0):
    """The actions of (time, bytes) pairs."""
    return [a for time, message in messages for a in module.feed(time, Event.of(message, port))]


def test_a_note_starts_and_is_let_go_as_its_events_come():
    start, control_event, release = feed(Module(), (0.5, on(61, 77)), (0.75, control(7, 90)), (1.0, off(61)))
    assert isinstance(start, Start) and (start.time, start.pitch, start.velocity, start.note) == (0.5, 61, 77, 0)
    assert control_event == Control(0.75, 0, "volume", 90 / 127)
    assert release == Release(1.0, 0)


def test_a_pedal_holds_until_it_comes_up_and_the_key_is_told():
    events = [(0, control(64, 127)), (0, on(60)), (1, off(60)), (2, control(64, 0))]
    actions = feed(Module(), *events)
    assert [a for a in actions if not isinstance(a, Control | Start)] == [KeyUp(1, 0), Release(2, 0)]


def test_what_is_said_twice_is_one_action():
    assert len(feed(Module(), (0, control(10, 20)), (1, control(10, 20)))) == 1


def test_a_file_and_a_keyboard_take_the_same_way():
    module = Module()
    live = feed(module, (0, on(60)), (0.25, control(64, 127)), (0.5, off(60)), (1.5, control(64, 0)))
    notes = only_track((0, on(60)), (240, control(64, 127)), (240, off(60)), (960, control(64, 0))).notes
    (release,) = [a for a in live if isinstance(a, Release)]
    assert notes["damp"].tolist() == [release.time]


def test_what_says_nothing_to_a_module_is_no_event():
    for message in (b"", b"\xf8", b"\xfe", b"\x90\x3c", b"\x90\x3c\x80", b"\xf1\x00", b"\x3c\x40"):
        assert Event.of(message) is None
    assert Event.of(b"\xf0\x7e\x7f\x09\x01\xf7").message == GM_ON
    assert Event.of(b"\xc3\x05", port=2).lane == 35


# drums by bank


@pytest.mark.parametrize(
    ("switch", "msb", "is_drum"),
    [
        (None, 127, False), (None, 126, False), (None, 120, False), (XG_ON, 127, True), (XG_ON, 126, True),
        (XG_ON, 120, False), (GS_ON, 127, False), (GS_ON, 120, False), (GM2_ON, 120, True), (GM2_ON, 127, False),
        (GM_ON, 127, False), (XG_ON, 64, False),
    ],
)  # fmt: skip
def test_a_bank_means_drums_only_in_its_own_standard(switch, msb, is_drum):
    switches = [sysex(switch)] if switch else []
    events = setup(*switches, control(0, msb, 4), program(48, 4), on(69, channel=4))
    assert score_of(*events, (9, off(69, 4))).tracks[0].notes["is_drum"].tolist() == [is_drum]
    on_ten = setup(*switches, control(0, msb, 9), program(48, 9), on(69, channel=9))
    assert score_of(*on_ten, (9, off(69, 9))).tracks[0].notes["is_drum"].tolist() == [True]


def test_general_midi_2_makes_channel_10_melodic_by_bank_121_and_drums_again_by_bank_120():
    for switch, melodic in (([sysex(GM2_ON)], True), ([], True), ([sysex(XG_ON)], False)):
        events = setup(*switch, control(0, 121, 9), program(73, 9), on(69, channel=9))
        notes = score_of(*events, (9, off(69, 9))).tracks[0].notes
        assert notes[["is_drum", "program"]].tolist() == [(not melodic, 73)]
    back = setup(
        sysex(GM2_ON), control(0, 121, 9), program(73, 9), control(0, 120, 9), program(0, 9), on(38, channel=9)
    )
    assert score_of(*back, (9, off(38, 9))).tracks[0].notes["is_drum"].tolist() == [True]


# restrikes and pedals


def test_strokes_of_a_key_under_the_pedal_ring_on_each_to_the_pedals_end():
    strokes = [(0, on(36, 120)), (240, off(36)), (480, on(36, 20)), (240, off(36))]
    notes = only_track((0, control(64, 127)), *strokes, (960, control(64, 0))).notes
    assert notes["damp"].tolist() == [2.0, 2.0]


def test_of_many_strokes_the_oldest_that_was_no_harder_is_taken_over_and_a_hard_one_rings_on():
    strokes = [event for n in range(8) for event in ((48, on(36, 120 if n == 0 else 50)), (48, off(36)))]
    notes = only_track((0, control(64, 127)), *strokes, (960, control(64, 0))).notes
    rings = notes["damp"] == notes["damp"].max()
    assert rings[0] and rings[-1] and rings.sum() == RINGING_STROKES


@pytest.mark.parametrize(
    ("ticks", "program_number", "is_caught"), [(10, 0, True), (48, 3, True), (96, 0, False), (10, 19, False)]
)
def test_a_pedal_shortly_after_the_key_catches_a_piano_string(ticks, program_number, is_caught):
    events = [
        (0, program(program_number)),
        (0, on(36)),
        (480, off(36)),
        (ticks, control(64, 127)),
        (960, control(64, 0)),
    ]
    damp = only_track(*events).notes["damp"][0]
    assert damp == (pytest.approx((480 + ticks + 960) / 960) if is_caught else 0.5)


def test_a_caught_note_is_told_and_let_go_with_the_pedal():
    actions = feed(Module(), (0, on(36)), (0.5, off(36)), (0.51, control(64, 127)), (2, control(64, 0)))
    assert [a for a in actions if not isinstance(a, Control | Start)] == [
        Release(0.5, 0),
        Catch(0.51, 0),
        Release(2, 0),
    ]


def test_what_the_pedal_itself_let_go_is_not_caught_by_the_next_pedal():
    events = [(0, control(64, 127)), (0, on(60)), (480, off(60)), (480, control(64, 0)), (10, control(64, 127))]
    assert only_track(*events, (960, control(64, 0))).notes["damp"].tolist() == [1.0]


def test_two_tracks_that_hold_one_key_are_two_holds():
    right, left = track((0, on(60)), (3840, off(60))), track((960, on(60)), (960, off(60)))
    score = read_score(smf(right, left))
    assert [t.notes[["start", "damp"]].tolist() for t in score.tracks] == [[(0, 4.0)], [(1.0, 2.0)]]


# choking and cutting


@pytest.mark.parametrize(
    ("first", "second", "is_cut"),
    [
        (46, 42, True), (46, 44, True), (42, 46, True), (29, 30, True), (72, 71, True), (74, 73, True), (79, 78, True),
        (81, 80, True), (87, 86, True), (46, 38, False), (49, 57, False), (81, 79, False),
    ],
)  # fmt: skip
def test_drums_of_one_group_cut_each_other_across_tracks_but_not_across_ports(first, second, is_cut):
    early, late = [(0, on(first, channel=9)), (9, off(first, 9))], [(240, on(second, channel=9)), (9, off(second, 9))]
    score = read_score(smf(track(*early), track(*late)))
    assert score.tracks[0].notes["cut"].tolist() == [0.25 if is_cut else np.inf]
    assert score.tracks[1].notes["cut"].tolist() == [np.inf]
    apart = read_score(smf(track(*early), track((0, b"\xff\x21\x01\x01"), *late)))
    assert apart.tracks[0].notes["cut"].tolist() == [np.inf]


def test_drum_kits_have_groups_of_their_own():
    """General MIDI 2, appendix B: hi-hats of the orchestra kit lie on 27 to 29; its 42 and 46 are timpani."""
    events = setup(program(48, 9), on(29, channel=9), on(46, channel=9))
    events += [(240, on(27, channel=9)), (0, on(42, channel=9)), *((0, off(k, 9)) for k in (29, 46, 27, 42))]
    notes = only_track(*events).notes
    assert dict(zip(notes["pitch"].tolist(), notes["cut"].tolist(), strict=True)) == {
        29: 0.25, 46: np.inf, 27: np.inf, 42: np.inf,
    }  # fmt: skip


@pytest.mark.parametrize("silence", [control(120, 0, 9), *map(sysex, (GM_ON, GM2_ON, GS_ON, XG_ON))])
def test_all_sound_off_and_resets_cut_drums_too_and_nothing_that_comes_later(silence):
    crash = [(0, on(49, channel=9)), (48, off(49, 9))]
    notes = only_track(*crash, (432, silence), *crash).notes
    assert notes["cut"].tolist() == [0.5, np.inf]


def test_all_sound_off_silences_what_is_released_but_still_sounds():
    actions = feed(Module(), (0, on(60)), (0.1, off(60)), (0.2, control(120, 0)))
    assert actions[-1] == Silence(0.2, 0)


def test_a_key_that_comes_up_after_all_sound_off_lets_nothing_go_again():
    module = Module()
    feed(module, (0, on(60)), (0.1, control(64, 127)), (0.2, on(64)), (0.25, off(64)), (0.3, control(120, 0)))
    assert feed(module, (0.4, off(60)), (0.5, control(64, 0))) == [Control(0.5, 0, "sustain", 0.0)]


# ports


def test_a_reset_goes_for_its_port_alone():
    softly = sysex(bytes([0x7F, 0x7F, 4, 1, 0, 32]))
    a = track((0, program(73)), (0, control(10, 20)), *NOTE_OF_A_SECOND)
    b = track((0, b"\xff\x21\x01\x01"), (240, sysex(GM_ON)), (0, softly), *NOTE_OF_A_SECOND)
    first, second = read_score(smf(a, b)).tracks
    assert first.notes[["program", "damp", "cut"]].tolist() == [(73, 1.0, np.inf)]
    assert first.controls["pan"].at(0.5) < 0 and first.controls["volume"].at(1.0) == 100 / 127
    assert second.controls["volume"].at(1.0) == pytest.approx(100 / 127 * 32 / 128, abs=1e-3)
    assert (first.port, second.port) == (0, 1)


def test_rhythm_parts_and_tuning_stay_with_their_port():
    b = track(
        (0, b"\xff\x21\x01\x01"),
        (0, gs(0x40, 0x11, 0x15, 1)),
        (0, sysex(bytes([0x7F, 0x7F, 4, 3, 0, 0x60]))),
        *NOTE_OF_A_SECOND,
    )
    first, second = read_score(smf(track(*NOTE_OF_A_SECOND), b)).tracks
    assert [t.notes["is_drum"].tolist() for t in (first, second)] == [[False], [True]]
    assert [float(t.controls["bend"].at(0.5)) for t in (first, second)] == [0, 0.5]


def test_device_names_are_ports_and_tracks_without_one_go_with_the_first():
    def part(device, number, position):
        head = [(0, text(9, device))] if device else []
        return track(*head, (0, program(number)), (0, control(10, position)), *NOTE_OF_A_SECOND)

    a, b, none = read_score(smf(part(b"A", 73, 10), part(b"B", 56, 117), track((480, on(61)), (9, off(61))))).tracks
    assert [t.notes["program"].tolist() for t in (a, b, none)] == [[73], [56], [73]]
    assert a.controls["pan"].at(0.5) < -0.8 and b.controls["pan"].at(0.5) > 0.8
    assert a.port == none.port != b.port


# order


def test_settings_in_a_later_track_come_before_the_notes_of_their_tick():
    setup_track = track((0, program(56)), (0, control(7, 100)))
    assert read_score(smf(track(*NOTE_OF_A_SECOND), setup_track)).tracks[0].notes["program"].tolist() == [56]
    reset_behind = track((0, sysex(GM_ON)))
    assert read_score(smf(track((0, program(9)), *NOTE_OF_A_SECOND), reset_behind)).tracks[0].notes[
        "program"
    ].tolist() == [9]


def test_within_a_track_the_order_of_the_file_counts():
    assert only_track((0, on(60)), (0, program(56)), (480, off(60))).notes["program"].tolist() == [0]


# parameters


def test_registered_and_non_registered_numbers_are_kept_apart():
    """MIDI 1.0: CC 100 alone after an NRPN chooses the registered parameter whose MSB was sent before."""
    events = [*registered(0, 12), *nonregistered(1, 8, 70), control(100, 0), control(6, 5)]
    assert bend_of(*events) == pytest.approx(5, abs=1e-2)
    assert bend_of(*registered(0, 12), *nonregistered(1, 8, 70), wheel_at=4096) == 6


def test_data_increment_and_decrement_step_by_the_lsb():
    """RP-018: of the bend range a cent, of fine tuning one of 16,384; coarse tuning by semitones."""
    assert bend_of(*registered(0, 2), *[control(96, 0)] * 50) == pytest.approx(2.5, abs=1e-3)
    assert bend_of(*registered(0, 2), *[control(97, 0)] * 50) == pytest.approx(1.5, abs=1e-3)
    assert bend_of(control(101, 0), control(100, 1), *[control(96, 0)] * 3, wheel_at=0) == pytest.approx(3 / 8192)
    assert bend_of(control(101, 0), control(100, 2), *[control(97, 0)] * 3, wheel_at=0) == -3


def test_the_bend_range_stays_within_its_limits():
    assert bend_of(*registered(0, 127)) == pytest.approx(96, abs=0.1)
    assert bend_of(*registered(0, 0), *[control(97, 0)] * 9) == 0
    assert bend_of(control(101, 0), control(100, 0), control(38, 50), control(6, 0)) == pytest.approx(0.5, abs=1e-3)


def test_modulation_depth_scales_the_wheel():
    """General MIDI 2, RPN 5: 50 cents at power-up."""
    curve = only_track(*setup(*registered(5, 1, 0), control(1, 127)), *NOTE_OF_A_SECOND).controls["modulation"]
    assert curve.at(0.5) == 2


def test_general_midi_on_puts_the_bend_range_back():
    assert bend_of(*registered(0, 12), sysex(GM_ON)) == pytest.approx(2, abs=1e-3)


# modes, portamento, MPE


def test_in_mono_mode_a_new_note_ends_the_one_before_and_poly_mode_ends_that():
    events = [(0, control(126, 1)), (0, on(69)), (480, on(76)), (480, off(69)), (0, off(76))]
    notes = only_track(*events, (0, control(127, 0)), (0, on(60)), (480, on(62)), (9, off(60)), (0, off(62))).notes
    assert notes[["start", "damp", "cut"]].tolist()[:2] == [(0, 0.5, 0.5), (0.5, 1.0, np.inf)]
    assert notes["damp"][2] > notes["start"][3]
    assert only_track(*setup(gs(0x40, 0x11, 0x13, 0)), *events[1:]).notes["cut"][0] == 0.5
    assert only_track(*setup(sysex(XG_ON), xg(8, 0, 5, 0)), *events[1:]).notes["cut"][0] == 0.5


def test_portamento_glides_from_the_note_before_only_while_it_is_on():
    notes = [(0, on(60)), (480, off(60)), (0, on(72)), (480, off(72))]
    plain = only_track((0, control(5, 64)), *notes).notes
    assert plain["glide"].tolist() == [0, 0]
    gliding = only_track((0, control(5, 64)), (0, control(65, 127)), *notes).notes
    assert gliding["glide"].tolist() == [0, -12]
    assert 0.3 < gliding["glide_seconds"][1] < 1.2
    assert only_track((0, control(65, 127)), *notes).notes["glide"].tolist() == [0, 0]  # its time is 0


def test_portamento_control_names_the_key_that_one_note_glides_from():
    notes = [(0, on(60)), (480, off(60)), (0, on(62)), (480, off(62))]
    played = only_track((0, control(5, 40)), (0, control(84, 48)), *notes).notes
    assert played["glide"].tolist() == [-12, 0]


MPE_ON = registered(6, 15)


def test_mpe_members_have_a_wide_bend_no_drums_and_their_masters_settings():
    events = setup(*MPE_ON, program(73), control(7, 50), wheel(4096), wheel(341, 2), on(69, channel=2))
    score = score_of(*events, (480, off(69, 2)), (0, on(60, channel=9)), (480, off(60, 9)))
    member, tenth = score.tracks
    assert [t.notes[["program", "is_drum"]].tolist() for t in score.tracks] == [[(73, False)], [(73, False)]]
    assert member.controls["volume"].at(0.1) == 50 / 127
    assert float(member.controls["bend"].at(0.1)) == pytest.approx(1 + 48 * 341 / 8192)
    assert member.stem is not None and member.stem == tenth.stem


def test_a_bend_range_on_a_member_goes_for_all_members_and_no_zone_ends_mpe():
    events = setup(*MPE_ON, *registered(0, 24, channel=3), wheel(4096, 5), on(60, channel=5))
    assert score_of(*events, (480, off(60, 5))).tracks[0].controls["bend"].at(0.1) == 12
    ended = setup(*MPE_ON, *registered(6, 0), on(38, channel=9))
    assert score_of(*ended, (480, off(38, 9))).tracks[0].notes["is_drum"].tolist() == [True]


def test_the_upper_zone_counts_down_from_channel_15():
    events = setup(
        *registered(6, 2, channel=15), wheel(4096, 13), on(60, channel=13), wheel(4096, 12), on(60, channel=12)
    )
    score = score_of(*events, (480, off(60, 13)), (0, off(60, 12)))
    assert {t.channel: float(t.controls["bend"].at(0.1)) for t in score.tracks} == {12: 1.0, 13: 24.0}


# system exclusive


def test_a_gs_part_has_its_key_shift_level_pan_sends_bend_range_and_tuning():
    messages = [(0x16, 0x34), (0x19, 64), (0x1C, 0x7F), (0x22, 0), (0x21, 127)]
    events = setup(*(gs(0x40, 0x11, *m) for m in messages), gs(0x40, 0x21, 0x10, 64 + 12), wheel(4096))
    controls = only_track(*events, *NOTE_OF_A_SECOND).controls
    values = {name: float(controls[name].at(0.5)) for name in ("bend", "volume", "pan", "reverb", "chorus")}
    assert values == {"bend": -12 + 6, "volume": 64 / 127, "pan": 1, "reverb": 0, "chorus": 1}


def test_a_gs_part_is_tuned_in_cents():
    """40 1x 2A, pitch fine tune: two bytes around 40 00, a semitone up and down."""
    assert bend_of(gs(0x40, 0x11, 0x2A, 0x60, 0x00), wheel_at=0) == pytest.approx(0.5)
    assert bend_of(gs(0x40, 0x11, 0x2A, 0x20, 0x00), wheel_at=0) == pytest.approx(-0.5)


def test_sound_controllers_in_the_middle_are_as_if_they_had_not_come():
    plain = only_track(*NOTE_OF_A_SECOND).controls
    middle = only_track(*setup(*(control(number, 64) for number in (72, 73, 74, 75))), *NOTE_OF_A_SECOND).controls
    for name in ("release", "attack", "brightness", "decay"):
        values = [float(controls[name].at(0.5)) if name in controls else DEFAULTS[name] for controls in (plain, middle)]
        assert values == [64 / 127, 64 / 127], name


def test_xg_parts_have_the_same():
    messages = [(0x08, 0x34), (0x0B, 64), (0x0E, 0x7F), (0x13, 0), (0x12, 127), (0x23, 64 + 12)]
    events = setup(sysex(XG_ON), *(xg(8, 0, *m) for m in messages), wheel(4096))
    controls = only_track(*events, *NOTE_OF_A_SECOND).controls
    values = {name: float(controls[name].at(0.5)) for name in ("bend", "volume", "pan", "reverb", "chorus")}
    assert values == {"bend": -12 + 6, "volume": 64 / 127, "pan": 1, "reverb": 0, "chorus": 1}
    program_and_bank = setup(sysex(XG_ON), xg(8, 0, 1, 8, 1, 33))
    assert only_track(*program_and_bank, *NOTE_OF_A_SECOND).notes[["program", "bank"]].tolist() == [(33, 8 * 128 + 1)]


def test_one_message_writes_to_addresses_that_follow_each_other():
    controls = only_track(*setup(gs(0x40, 0x11, 0x21, 10, 20)), *NOTE_OF_A_SECOND).controls
    assert (controls["chorus"].at(0.5), controls["reverb"].at(0.5)) == (10 / 127, 20 / 127)


def test_a_gs_message_with_a_wrong_checksum_is_passed_over_and_told():
    right = bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x11, 0x15, 0x01, 0x19])
    for message, is_drum in ((right, True), (right[:-1] + b"\x18", False)):
        score = score_of(*setup(sysex(message)), *NOTE_OF_A_SECOND)
        assert score.tracks[0].notes["is_drum"].tolist() == [is_drum]
        assert ("checksum" in "".join(score.ignored)) != is_drum


SCALE = [64] * 9 + [104] + [64] * 2  # A 40 cents up


@pytest.mark.parametrize(
    "message",
    [
        sysex(bytes([0x7E, 0x7F, 8, 8, 3, 0x7F, 0x7F, *SCALE])),
        sysex(bytes([0x7F, 0x7F, 8, 8, 0, 0, 1, *SCALE])),
        sysex(bytes([0x7E, 0x7F, 8, 9, 3, 0x7F, 0x7F, *([64, 0] * 9), 89, 77, *([64, 0] * 2)])),
        gs(0x40, 0x11, 0x40, *SCALE),
        xg(8, 0, 0x41, *SCALE),
        sysex(bytes([0x7F, 0x7F, 8, 2, 0, 1, 69, 69, 51, 26])),
    ],
)
def test_scales_and_single_tunings_tune_the_notes_that_they_name(message):
    events = setup(message, on(69), on(70))
    notes = only_track(*events, (9, off(69)), (0, off(70))).notes
    assert notes["tuning"].tolist() == [pytest.approx(40, abs=0.1), 0]


def test_a_scale_goes_for_the_channels_of_its_mask():
    message = sysex(bytes([0x7E, 0x7F, 8, 8, 0, 0, 0b10, *SCALE]))
    events = setup(message, on(69), on(69, channel=1))
    score = score_of(*events, (9, off(69)), (0, off(69, 1)))
    assert [t.notes["tuning"].tolist() for t in score.tracks] == [[0], [40]]


def test_drum_keys_are_changed_by_nrpn_by_gs_and_by_xg():
    for events in (
        [
            *nonregistered(26, 38, 64, 9),
            *nonregistered(28, 38, 127, 9),
            *nonregistered(24, 38, 67, 9),
            *nonregistered(29, 38, 0, 9),
        ],
        [sysex(XG_ON), xg(0x30, 38, 0, 67), xg(0x30, 38, 2, 64), xg(0x30, 38, 4, 127, 0)],
    ):
        notes = only_track(
            *setup(*events, on(38, channel=9), on(40, channel=9)), (9, off(38, 9)), (0, off(40, 9))
        ).notes
        changed, other = notes[["tuning", "gain", "pan", "send"]].tolist()
        assert changed == (300, pytest.approx((64 / 127) ** 2), 1, 0)
        assert other == (0, 1, 0, 1)
    by_gs = setup(gs(0x41, 0x02, 38, 64), gs(0x41, 0x04, 38, 127), gs(0x41, 0x05, 38, 0), on(38, channel=9))
    (note,) = only_track(*by_gs, (9, off(38, 9))).notes
    assert note[["gain", "pan", "send"]].tolist() == (pytest.approx((64 / 127) ** 2), 1, 0)


def test_master_volume_and_tuning_of_gs_and_xg():
    for events in ([gs(0x40, 0, 4, 64), gs(0x40, 0, 5, 66)], [sysex(XG_ON), xg(0, 0, 4, 64), xg(0, 0, 6, 66)]):
        controls = only_track(*setup(*events), *NOTE_OF_A_SECOND).controls
        assert controls["volume"].at(0.5) == pytest.approx(100 / 127 * 64 / 127)
        assert controls["bend"].at(0.5) == 2
    tuned = only_track(*setup(gs(0x40, 0, 0, 0, 6, 4, 4)), *NOTE_OF_A_SECOND).controls["bend"]
    assert tuned.at(0.5) == pytest.approx((0x644 - 0x400) / 1000)


@pytest.mark.parametrize(
    ("message", "room", "chorus"),
    [
        (sysex(bytes([0x7F, 0x7F, 4, 5, 1, 1, 1, 1, 1, 0, 0])), "small room", None),
        (sysex(bytes([0x7F, 0x7F, 4, 5, 1, 1, 1, 1, 1, 0, 8])), "plate", None),
        (sysex(bytes([0x7F, 0x7F, 4, 5, 1, 1, 1, 1, 2, 0, 5])), None, "flanger"),
        (gs(0x40, 1, 0x30, 3), "medium hall", None),
        (gs(0x40, 1, 0x38, 4), None, "feedback chorus"),
        (xg(2, 1, 0, 4, 0), "plate", None),
        (xg(2, 1, 0, 1, 1), "medium hall", None),
        (xg(2, 1, 0, 2, 0), "small room", None),
        (xg(2, 1, 0, 2, 1), "medium room", None),
        (xg(2, 1, 0, 2, 2), "large room", None),
        (xg(2, 1, 0, 3, 0), "medium hall", None),
        (xg(2, 1, 0, 3, 1), "large hall", None),
        (xg(2, 1, 0, 16, 0), "small room", None),
        (xg(2, 1, 0, 17, 0), "large hall", None),
        (xg(2, 1, 0, 19, 0), "large room", None),
        (xg(2, 1, 0x20, 65, 2), None, "chorus 3"),
        (xg(2, 1, 0x20, 66, 1), None, "chorus 4"),
        (xg(2, 1, 0x20, 67, 0), None, "flanger"),
    ],
)
def test_reverb_and_chorus_types_are_known_by_their_names(message, room, chorus):
    score = score_of(*setup(message), *NOTE_OF_A_SECOND)
    assert (score.room, score.chorus, score.ignored) == (room, chorus, ())


def test_the_type_counts_that_is_in_force_while_most_notes_start():
    notes = [event for _ in range(4) for event in NOTE_OF_A_SECOND]
    score = score_of((0, gs(0x40, 1, 0x30, 5)), *notes, (0, gs(0x40, 1, 0x30, 0)), *NOTE_OF_A_SECOND)
    assert score.room == "plate"
