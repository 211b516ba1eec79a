"""What GM2, GS, XG and MPE ask for, in the many ways in which it is written; and what of it is told."""

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
    sysex,
    wheel,
    xg,
)  # fmt: skip
from midi_scores import GM2_ON, bend_of, is_drum, note, score_of, setup, told

# drums by bank


def test_a_standard_counts_until_another_is_switched_on():
    bank = [control(0, 127, 4), program(0, 4)]
    assert is_drum(sysex(XG_ON), *bank, channel=4)
    assert not is_drum(sysex(XG_ON), sysex(GM_ON), *bank, channel=4)
    assert is_drum(sysex(GM_ON), sysex(XG_ON), *bank, channel=4)
    assert not is_drum(sysex(XG_ON), sysex(GS_ON), *bank, channel=4)
    assert is_drum(xg(0, 0, 0x7F, 0), *bank, channel=4)


def test_a_drum_bank_counts_from_the_program_change_on_and_goes_with_the_next():
    assert not is_drum(sysex(XG_ON), control(0, 127, 4), channel=4)
    assert not is_drum(sysex(XG_ON), control(0, 127, 4), program(0, 4), control(0, 0, 4), program(0, 4), channel=4)
    assert is_drum(sysex(GM2_ON), control(0, 120, 10), program(0, 10), channel=10)
    assert not is_drum(
        sysex(GM2_ON), control(0, 120, 10), program(0, 10), control(0, 121, 10), program(0, 10), channel=10
    )


@pytest.mark.parametrize("mode", [1, 2])
def test_gs_rhythm_parts_are_drums_and_melodic_again(mode):
    assert is_drum(sysex(GS_ON), gs(0x40, 0x1A, 0x15, mode), channel=10)
    assert not is_drum(sysex(GS_ON), gs(0x40, 0x1A, 0x15, mode), gs(0x40, 0x1A, 0x15, 0), channel=10)
    assert not is_drum(sysex(GS_ON), gs(0x40, 0x10, 0x15, 0), channel=9)


def test_xg_part_modes_are_drums_and_melodic_again():
    assert is_drum(sysex(XG_ON), xg(8, 10, 7, 1), channel=10)
    assert is_drum(sysex(XG_ON), xg(8, 10, 7, 3), channel=10)
    assert not is_drum(sysex(XG_ON), xg(8, 9, 7, 0), channel=9)


def test_the_second_drum_set_of_gs_has_changes_of_its_own():
    """40 1x 15 02 gives a part the second set, whose keys 41 1m rr changes; the first keeps its own."""
    events = [sysex(GS_ON), gs(0x40, 0x1A, 0x15, 2), gs(0x41, 0x12, 38, 64), *nonregistered(28, 38, 127, 10)]
    first, second = score_of(*setup(*events), *note(9, 38), *note(10, 38)).tracks
    assert first.notes[["gain", "pan"]].tolist() == [(1, 0)]
    assert second.notes["pan"].tolist() == [1] and second.notes["gain"][0] < 0.3


# what is told


def test_sound_effect_kits_of_xg_are_told():
    (line,) = told(*setup(sysex(XG_ON), control(0, 126, 9), program(0, 9)), *note(9, 38))
    assert line.startswith("XG SFX Kit 1 (program 1): ") and "Standard Kit plays instead" in line


def test_all_that_is_missing_is_told_melodies_and_drums():
    banks = [control(0, 99), program(4), control(0, 98, 1), program(5, 1), program(8, 9)]
    lines = told(*setup(*banks), *note(0), *note(1), *note(9, 38))
    assert [any(word in line for line in lines) for word in ("Electric Piano 1", "Electric Piano 2", "Room Kit")] == [
        True
    ] * 3


def test_other_xg_sounds_are_told_and_the_plain_ones_are_not():
    def melody(msb, lsb):
        return told(*setup(sysex(XG_ON), control(0, msb), control(32, lsb), program(4)), *NOTE_OF_A_SECOND)

    assert melody(0, 0) == ()
    (line,) = melody(0, 40)
    assert "XG" in line and "40" in line and "Electric Piano 1 plays instead" in line


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (gs(0x40, 1, 0x33, 100), "reverb"), (gs(0x40, 1, 0x34, 100), "reverb"), (gs(0x40, 1, 0x3A, 100), "chorus"),
        (gs(0x40, 1, 0x3D, 20), "chorus"), (gs(0x40, 0x12, 0x2C, 40), "delay"),
        (gs(0x40, 2, 1, 70), "equalizer"), (gs(0x40, 0x42, 0x22, 1), "insertion effect"),
        (gs(0x40, 0x12, 0x03, 0), "part 2"), (gs(0x40, 0x22, 0x01, 80), "part 2"),
        (gs(0x41, 0x03, 38, 3), "drum key 38"), (gs(0x41, 0x06, 38, 3), "drum key 38"),
        (xg(2, 1, 2, 20), "reverb"), (xg(2, 1, 0x0C, 80), "reverb"), (xg(2, 1, 0x2C, 20), "chorus"),
        (xg(2, 1, 0x40, 0x48, 0), "variation"), (xg(3, 0, 0, 0x49, 0), "insertion"), (xg(2, 0x40, 0, 2), "equalizer"),
        (xg(8, 1, 0x14, 50), "part 2"), (xg(8, 1, 0x69, 64 + 5), "part 2"), (xg(8, 1, 0x30, 0), "part 2"),
        (xg(8, 1, 0x72, 80), "part 2"),
        (xg(0x30, 38, 0x0B, 80), "drum key 38"), (xg(0x30, 38, 3, 5), "drum key 38"), (xg(0x32, 38, 2, 5), "drum"),
        (sysex(bytes([0x7F, 0x7F, 4, 2, 0, 0x20])), "balance"),
    ],
)  # fmt: skip
def test_settings_of_modules_that_are_not_played_are_told(message, words):
    first = GS_ON if message[3] == 0x41 or message[2] == 0x41 else XG_ON
    lines = told((0, sysex(first)), (0, message), *NOTE_OF_A_SECOND)
    assert len(lines) == 1 and words in lines[0]


@pytest.mark.parametrize(
    "message",
    [
        gs(0x40, 1, 0x33, 64), gs(0x40, 1, 0x31, 4), gs(0x40, 1, 0x3A, 64), gs(0x40, 1, 0x3C, 80), gs(0x40, 0x12, 3, 1),
        gs(0x40, 0x12, 0x2C, 0), gs(0x40, 0x12, 0x1F, 16), gs(0x40, 0x22, 1, 64), gs(0x40, 0x22, 4, 10),
        gs(0x40, 0x12, 0x1A, 64), gs(0x40, 1, 0, *b"Piece name      "), gs(0x40, 1, 0x10, *[2] * 16),
        gs(0x40, 0x12, 0x17, 8, 0), gs(0x40, 0x12, 0x14, 1), gs(0x40, 0x42, 0x22, 0),
        xg(2, 1, 0x0C, 64), xg(2, 1, 0x2C, 64), xg(2, 1, 0x00, 1, 0), xg(8, 1, 0x0D, 64), xg(8, 1, 0x11, 127),
        xg(8, 1, 0x30, 1), xg(8, 1, 0x06, 1), xg(0x30, 38, 0x0B, 64), xg(6, 0, 0, *b"Hello"), xg(8, 1, 0x0F, 0, 127),
        xg(8, 1, 0, 8), xg(8, 1, 0x72, 64), xg(8, 1, 0x69, 64), xg(2, 1, 0x40, 5, 0), gs(0x40, 1, 0x50, 3),
        sysex(bytes([0x7F, 0x7F, 1, 1, 0, 0, 0, 0])), sysex(bytes([0x7E, 0x7F, 9, 2])), b"\xb0\x78\x00", control(88, 5),
        sysex(bytes([0x7F, 0x7F, 9, 1, 0, 0, 64, 1, 64, 2, 64, 3, 11, 4, 0, 5, 0])),
    ],
)  # fmt: skip
def test_settings_that_change_nothing_are_not_told(message):
    first = XG_ON if message[2] == 0x43 else GS_ON
    assert told((0, sysex(first)), (0, message), *NOTE_OF_A_SECOND) == ()


# parameters


def test_no_parameter_is_chosen_at_first_after_the_null_one_and_after_a_reset():
    assert bend_of(control(6, 12)) == pytest.approx(2, abs=1e-2)
    null = [control(101, 127), control(100, 127)]
    assert bend_of(control(101, 0), control(100, 0), *null, control(6, 12)) == pytest.approx(2, abs=1e-2)
    assert bend_of(
        control(101, 0), control(100, 0), control(99, 127), control(98, 127), control(6, 12)
    ) == pytest.approx(2, abs=1e-2)
    assert bend_of(control(101, 0), control(100, 0), control(121, 0), control(6, 12)) == pytest.approx(2, abs=1e-2)


def test_increments_stop_at_the_limits_and_go_to_the_parameter_chosen():
    assert bend_of(*registered(1, 127, 127), *[control(96, 0)] * 9, wheel_at=0) == pytest.approx(8191 / 8192)
    assert bend_of(*registered(1, 0, 0), *[control(97, 0)] * 9, wheel_at=0) == -1
    assert bend_of(*registered(2, 127), control(96, 0), wheel_at=0) == 63
    assert bend_of(*registered(0, 24, 0), control(96, 0), control(97, 0)) == pytest.approx(24, abs=1e-2)
    assert bend_of(*registered(0, 2), *nonregistered(1, 8, 64), control(96, 0), wheel_at=8191) == pytest.approx(
        2, abs=1e-2
    )
    assert bend_of(*registered(0, 1, 99), control(96, 0)) == pytest.approx(2, abs=1e-2)
    assert bend_of(*registered(0, 1, 0), control(97, 0)) == pytest.approx(0.99, abs=1e-2)


def test_an_increment_carries_no_number_in_its_value():
    """RP-018: the value byte of CC 96 and 97 is not looked at."""
    assert bend_of(*registered(0, 2), control(96, 127)) == pytest.approx(2.01, abs=1e-3)


def test_fine_and_coarse_tuning_add_up_in_any_order():
    assert bend_of(*registered(2, 64 + 3), *registered(1, 96, 0), wheel_at=0) == 3.5
    assert bend_of(*registered(1, 64, 64), wheel_at=0) == pytest.approx(64 / 8192)
    assert bend_of(control(101, 0), control(100, 1), control(38, 64), control(6, 0), wheel_at=0) == pytest.approx(
        -1 + 64 / 8192
    )


def test_mono_mode_goes_for_melodies_alone_and_ends_with_poly_mode_and_resets():
    def damps(*first, second=(), channel=0):
        events = [*setup(*first), (0, on(60, channel=channel)), (0, b"\xff\x01\x00"), *[(0, e) for e in second]]
        played = score_of(
            *events, (480, on(64, channel=channel)), (480, off(60, channel)), (0, off(64, channel))
        ).tracks[0]
        return played.notes["damp"].tolist()

    assert damps(control(126, 1)) == [0.5, 1]
    assert damps(control(126, 0)) == [0.5, 1]
    assert damps(control(126, 1), control(127, 0)) == [1, 1]
    assert damps(control(126, 1), sysex(GM_ON)) == [1, 1]
    assert damps(gs(0x40, 0x11, 0x13, 0)) == [0.5, 1] and damps(gs(0x40, 0x11, 0x13, 0), gs(0x40, 0x11, 0x13, 1)) == [
        1,
        1,
    ]
    assert damps(xg(8, 0, 5, 0)) == [0.5, 1]
    assert damps(control(126, 1), control(121, 0)) == [0.5, 1]


def test_portamento_from_a_named_key_works_in_mono_mode_and_with_the_pedal_of_portamento_off():
    events = setup(control(126, 1), control(5, 64), control(84, 48))
    notes = score_of(*events, *note(0, 60), *note(0, 62)).tracks[0].notes
    assert notes["glide"].tolist() == [-12, 0]
    gliding = score_of(*setup(control(126, 1), control(65, 127), control(5, 64)), *note(0, 60), *note(0, 62)).tracks[0]
    assert gliding.notes["glide"].tolist() == [0, -2]


# MPE


def test_both_zones_have_their_own_members_and_masters():
    zones = setup(
        *registered(6, 7, channel=0), *registered(6, 7, channel=15), wheel(4096, 0), program(9, 0), program(19, 15)
    )
    score = score_of(*zones, *note(1), *note(7), *note(8), *note(14))
    assert [(t.channel, t.notes["program"][0], float(t.controls["bend"].at(0.5))) for t in score.tracks] == [
        (1, 9, 1), (7, 9, 1), (8, 19, 0), (14, 19, 0)
    ]  # fmt: skip


def test_a_new_zone_takes_members_from_the_other_and_gives_channels_back():
    zones = setup(*registered(6, 15, channel=0), *registered(6, 5, channel=15), program(9, 0), program(19, 15))
    score = score_of(*zones, *note(9), *note(10), *note(15))
    assert [(t.channel, t.notes["program"][0]) for t in score.tracks] == [(9, 9), (10, 19), (15, 19)]
    gone = score_of(*zones, *setup(*registered(6, 0, channel=0)), *note(9, 38), *note(5))
    assert [(t.channel, t.notes["is_drum"][0]) for t in gone.tracks] == [(5, False), (9, True)]
    assert bend_of(*registered(6, 15), *registered(6, 0), channel=3) == pytest.approx(2, abs=1e-2)


def test_members_bend_press_and_shine_by_themselves():
    events = setup(*registered(6, 3), wheel(-8192, 1), wheel(1024, 2), control(74, 100, 2), b"\xd2\x50")
    first, second = score_of(*events, *note(1), *note(2)).tracks
    assert (first.controls["bend"].at(0.5), second.controls["bend"].at(0.5)) == (-48, 6)
    assert second.controls["brightness"].at(0.5) == 100 / 127 and second.controls["pressure"].at(0.5) == 80 / 127
    assert first.controls["pressure"].at(0.5) == 0


def test_a_zone_is_made_by_channels_1_and_16_alone():
    assert bend_of(*registered(6, 5, channel=4), channel=5) == pytest.approx(2, abs=1e-2)


# system exclusive


def test_gs_writes_levels_pans_and_bend_ranges_with_any_device_number():
    message = bytearray(gs(0x40, 0x11, 0x19, 50))
    message[3] = 0x1F
    played = score_of(
        (0, sysex(GS_ON)), (0, bytes(message)), (0, gs(0x40, 0x11, 0x1C, 0x7F)), *NOTE_OF_A_SECOND
    ).tracks[0]
    assert (played.controls["volume"].at(0.5), played.controls["pan"].at(0.5)) == (50 / 127, 1)
    assert bend_of(gs(0x40, 0x21, 0x10, 64 + 12)) == pytest.approx(12, abs=0.01)
    assert bend_of(xg(8, 0, 0x23, 64 + 7)) == pytest.approx(7, abs=0.01)
    assert bend_of(xg(8, 0, 8, 64 - 12), wheel_at=0) == -12


def test_xg_bulk_dumps_are_taken_like_parameter_changes():
    """43 0n 4C: byte count, address, data, checksum."""
    body = bytes([0, 3, 8, 0, 0x0B, 50, 64, 64])
    dump = bytes([0x43, 0x00, 0x4C, *body, -sum(body) & 127])
    assert (
        score_of((0, sysex(XG_ON)), (0, sysex(dump)), *NOTE_OF_A_SECOND).tracks[0].controls["volume"].at(0.5)
        == 50 / 127
    )
    wrong = bytes([*dump[:-1], dump[-1] ^ 1])
    score = score_of((0, sysex(XG_ON)), (0, sysex(wrong)), *NOTE_OF_A_SECOND)
    assert score.tracks[0].controls["volume"].at(0.5) == 100 / 127 and "checksum" in score.ignored[0]


def test_master_tuning_fine_and_coarse_goes_for_all_channels_and_coarse_not_for_drums():
    fine, coarse = sysex(bytes([0x7F, 0x7F, 4, 3, 0, 0x60])), sysex(bytes([0x7F, 0x7F, 4, 4, 0, 64 - 5]))
    melody, drums = score_of((0, fine), (0, coarse), *note(2), *note(9)).tracks
    assert (melody.controls["bend"].at(0.5), drums.controls["bend"].at(1.5)) == (-4.5, 0.5)


def test_gs_master_tuning_and_key_shift():
    assert bend_of(gs(0x40, 0, 0, 0, 7, 14, 8), wheel_at=0) == pytest.approx(1.0)
    assert bend_of(gs(0x40, 0, 5, 64 + 2), wheel_at=0) == 2
    assert bend_of(xg(0, 0, 0, 0, 3, 0xE, 8), wheel_at=0) == pytest.approx((0x3E8 - 0x400) / 1000)
    assert bend_of(xg(0, 0, 6, 64 - 3), wheel_at=0) == -3


TUNED = [
    sysex(bytes([0x7F, 0x7F, 8, 8, 3, 127, 127, *[64] * 9, 104, 64, 64])),
    sysex(bytes([0x7E, 0x7F, 8, 9, 3, 127, 127, *[64, 0] * 9, 89, 77, *[64, 0] * 2])),
    sysex(bytes([0x7F, 0x7F, 8, 9, 0, 0, 1, *[64, 0] * 9, 89, 77, *[64, 0] * 2])),
    sysex(bytes([0x7F, 0x7F, 8, 2, 0, 2, 60, 60, 0, 0, 69, 69, 0x33, 0x1A])),
    sysex(bytes([0x7E, 0x7F, 8, 7, 0, 0, 1, 69, 69, 0x33, 0x1A])),
    sysex(bytes([0x7F, 0x7F, 8, 7, 0, 0, 1, 69, 69, 0x33, 0x1A])),
    gs(0x40, 0x11, 0x49, 104),
    xg(8, 0, 0x4A, 104),
]


@pytest.mark.parametrize("message", TUNED)
def test_tunings_in_all_their_forms(message):
    notes = score_of((0, message), *note(0, 69), *note(0, 60)).tracks[0].notes
    assert notes["tuning"].tolist() == pytest.approx([40, 0], abs=0.02)


def test_a_tuning_program_is_chosen_by_registered_parameters():
    bank_2 = sysex(bytes([0x7E, 0x7F, 8, 7, 2, 5, 1, 69, 69, 0x33, 0x1A]))
    plain = score_of((0, bank_2), *note(0, 69)).tracks[0].notes
    chosen = score_of(*setup(bank_2, *registered(4, 2), *registered(3, 5)), *note(0, 69)).tracks[0].notes
    assert (plain["tuning"][0], chosen["tuning"][0]) == (0, pytest.approx(40, abs=0.02))


@pytest.mark.parametrize("kit", [0, 8, 25, 40, 48])
def test_drum_edits_go_for_the_kit_that_plays(kit):
    events = [sysex(GS_ON), program(kit, 9)]
    events += [*nonregistered(24, 60, 64 + 5, 9), *nonregistered(26, 60, 64, 9), *nonregistered(28, 60, 0x7F, 9)]
    events += nonregistered(29, 60, 0, 9)
    changed, other = score_of(*setup(*events), *note(9, 60), *note(9, 61)).tracks[0].notes
    assert (changed["tuning"], changed["pan"], changed["send"]) == (500, 1, 0)
    assert changed["gain"] == pytest.approx((64 / 127) ** 2)
    assert other[["tuning", "pan", "send", "gain"]].tolist() == (0, 0, 1, 1)


@pytest.mark.parametrize(
    "message", [gs(0x41, 0x02, 38, 0), gs(0x41, 0x08, 38, 0), xg(0x30, 38, 0x0A, 0), xg(0x30, 38, 2, 0)]
)
def test_a_key_that_is_switched_off_in_its_kit_is_silent(message):
    assert score_of((0, message), *note(9, 38)).tracks[0].notes["gain"].tolist() == [0]
