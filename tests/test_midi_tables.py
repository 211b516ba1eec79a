"""The address tables of XG and GS, written down from the specifications once more: what rests is not told, what is
moved is played or told, and by its name."""

import pytest
from midi_bytes import gs, xg

from miao.midi.effects import XG_CHORUSES, XG_REVERBS
from miao.midi.exclusive import settings
from miao.midi.general_midi import CHOKES, KIT_CHOKES

# XG's multi part: address -> what System On sets
XG_PART = {
    0x0C: 0x40, 0x0D: 0x40, 0x0F: 0x00, 0x10: 0x7F, 0x11: 0x7F, 0x14: 0x00, 0x15: 0x40, 0x16: 0x40, 0x17: 0x40,
    0x19: 0x40, 0x1D: 0x40, 0x1E: 0x40, 0x1F: 0x40, 0x21: 0x00, 0x22: 0x00, 0x24: 0x40, 0x25: 0x40, 0x26: 0x00,
    0x27: 0x00, 0x28: 0x00, 0x4D: 0x40, 0x4E: 0x40, 0x4F: 0x40, 0x51: 0x00, 0x52: 0x00, 0x53: 0x40,
    0x54: 0x40, 0x55: 0x40,
    0x5A: 0x40, 0x5B: 0x40, 0x5C: 0x40, 0x61: 0x40, 0x62: 0x40, 0x63: 0x40,
    0x69: 0x40, 0x6A: 0x40, 0x6B: 0x40, 0x6C: 0x40, 0x6D: 0x01, 0x6E: 0x7F, 0x72: 0x40, 0x73: 0x40,
}  # fmt: skip
XG_PART_PLAYED = {
    0x01: "bank msb", 0x02: "bank lsb", 0x03: "program", 0x05: "poly", 0x07: "drums", 0x0B: "volume", 0x0E: "pan",
    0x12: "chorus", 0x13: "reverb", 0x18: "brightness", 0x1A: "attack", 0x1B: "decay", 0x1C: "release",
    0x67: "portamento", 0x68: "portamento time",
}  # fmt: skip
# GS's patch part, likewise
GS_PART = {
    0x1A: 0x40, 0x1B: 0x40, 0x1D: 0x00, 0x1E: 0x7F, 0x2C: 0x00, 0x30: 0x40, 0x31: 0x40, 0x33: 0x40, 0x37: 0x40,
}  # fmt: skip
GS_PART_PLAYED = {
    0x13: "poly", 0x15: "drums", 0x19: "volume", 0x1C: "pan", 0x21: "chorus", 0x22: "reverb",
    0x32: "brightness", 0x34: "attack", 0x35: "decay", 0x36: "release",
}  # fmt: skip
GS_EFFECTS = {  # what the eight types of its reverb and of its chorus set
    0x32: {0, 3, 4}, 0x33: {64}, 0x34: {32, 56, 64, 72, 80, 88}, 0x35: {0, 32, 40}, 0x37: {0},
    0x39: {0}, 0x3A: {64}, 0x3B: {0, 5, 8, 16, 64, 80, 112}, 0x3C: {64, 80, 112, 127}, 0x3D: {0, 1, 2, 3, 9},
    0x3E: {5, 16, 19, 24, 127}, 0x3F: {0}, 0x40: {0},
}  # fmt: skip
WRITERS = {
    "xg": (lambda low, *data: xg(0x08, 2, low, *data), XG_PART, XG_PART_PLAYED, 0x41),
    "gs": (lambda low, *data: gs(0x40, 0x13, low, *data), GS_PART, GS_PART_PLAYED, 0x40),
}


def asked(message):
    """What a system exclusive event sets."""
    return list(settings(message[2:-1]))


@pytest.mark.parametrize("standard", WRITERS)
def test_what_rests_is_not_told_and_what_moves_is_one_line_of_its_part(standard):
    write, rests, _, _ = WRITERS[standard]
    for low, rest in rests.items():
        assert asked(write(low, rest)) == [], hex(low)
        for value in {rest - 1, rest + 1, 5} & set(range(128)):
            ((kind, words),) = asked(write(low, value))
            assert kind == "told" and words.startswith(f"{standard.upper()}: part 3, "), hex(low)


def test_of_reverb_and_chorus_only_values_are_told_that_no_type_sets():
    for low, rests in GS_EFFECTS.items():
        told = {value for value in range(128) if asked(gs(0x40, 1, low, value))}
        assert told == set(range(128)) - rests, hex(low)


@pytest.mark.parametrize("standard", WRITERS)
def test_what_is_played_goes_to_its_part_by_its_name(standard):
    write, _, played, tones = WRITERS[standard]
    for low, name in played.items():
        assert asked(write(low, 33)) == [("part", 2, name, 33)], hex(low)
    for n in range(12):
        assert asked(write(tones + n, 70)) == [("part", 2, "tone", (n, 6.0))]
    assert not any(setting[0] == "part" for low in (tones - 1, tones + 12) for setting in asked(write(low, 70)))


def test_addresses_in_a_row_are_those_one_by_one():
    row = bytes(range(40, 50))
    assert asked(xg(0x08, 2, 0x0B, *row)) == [s for n, v in enumerate(row) for s in asked(xg(0x08, 2, 0x0B + n, v))]
    assert asked(gs(0x40, 0x13, 0x19, *row)) == [
        s for n, v in enumerate(row) for s in asked(gs(0x40, 0x13, 0x19 + n, v))
    ]


def test_twelve_tones_in_a_row_are_a_scale_and_fewer_are_tones():
    tones = tuple(float(n) for n in range(-6, 6))
    values = [64 + int(tone) for tone in tones]
    assert asked(gs(0x40, 0x13, 0x40, *values)) == [("scale", (2,), tones, False)]
    assert asked(gs(0x40, 0x13, 0x40, *values[:11])) == [("part", 2, "tone", (n, tones[n])) for n in range(11)]
    assert asked(gs(0x40, 0x13, 0x41, *values)) == [("part", 2, "tone", (n + 1, tones[n])) for n in range(11)]


def test_gs_parts_lie_in_blocks_10_first():
    """40 1x: x is 0 for part 10, 1 to 9 for those, A to F for 11 to 16; other blocks are no parts."""
    channels = [asked(gs(0x40, 0x10 + block, 0x19, 1))[0][1] for block in range(16)]
    assert channels == [9, *range(9), *range(10, 16)]
    assert not any(
        s[0] == "part" and s[2] == "volume" for block in (0x00, 0x30, 0x50) for s in asked(gs(0x40, block, 0x19, 1))
    )


def test_a_gs_part_out_of_tune_in_hertz_is_told_with_what_follows_it_played():
    assert asked(gs(0x40, 0x11, 0x17, 0x08, 0x00)) == []
    assert asked(gs(0x40, 0x11, 0x17, 0x07, 0x0B)) == [("told", "GS: part 1 out of tune by -0.5 Hz")]
    assert asked(gs(0x40, 0x11, 0x17, 0x08, 0x00, 99)) == [("part", 0, "volume", 99)]
    assert asked(xg(0x08, 0, 0x09, 0x08, 0x0A)) == [("told", "XG: part 1 out of tune by +1 Hz")]


def test_xg_system_on_leaves_effects_as_they_are():
    hall = [(0x02 + n, value) for n, value in enumerate((18, 10, 8, 13, 49, 0, 0, 0, 0, 64))] + [(0x0C, 64), (0x0D, 64)]
    for low, value in hall:
        assert asked(xg(2, 1, low, value)) == []
        assert asked(xg(2, 1, low, value + 1)) == [("told", "XG: level, time or tone of the reverb")], hex(low)
    chorus = enumerate((6, 54, 77, 106, 0, 28, 64, 46, 64, 64, 64, 64, 0), 0x22)
    for low, value in chorus:
        assert asked(xg(2, 1, low, value)) == []
        ((kind, words),) = asked(xg(2, 1, low, value + 1))
        assert kind == "told" and words.endswith("of the chorus"), hex(low)
    assert asked(xg(2, 1, 0x5B, 127)) == []
    assert asked(xg(2, 1, 0x5B, 4)) == [("told", "XG: part 5 through a variation effect")]


def test_types_of_xgs_effects_that_are_not_played_are_told_by_the_effect():
    for low, effect in ((0x00, "reverb"), (0x20, "chorus"), (0x40, "variation effect")):
        assert asked(xg(2, 1, low, 99, 0)) == [("told", f"XG: another type of {effect}")]
        assert asked(xg(2, 1, low, 0, 0)) == []
    assert asked(xg(2, 1, 0x40, 5, 0)) == []  # the delay, which waits for a part to send to it


def test_reverb_and_chorus_types_of_xg_are_those_of_its_effect_map():
    assert list(XG_REVERBS) == [
        1,
        2,
        3,
        4,
        16,
        17,
        18,
        19,
    ]  # hall, room, stage, plate, white room, tunnel, canyon, basement
    assert list(XG_CHORUSES) == [65, 66, 67]  # chorus, celeste, flanger


def test_keys_cut_each_other_in_the_groups_of_general_midi_2():
    groups = {}
    for key, group in CHOKES.items():
        groups.setdefault(group, []).append(key)
    # hi-hats, scratches, whistles, guiros, cuicas, triangles, surdos
    assert list(groups.values()) == [[42, 44, 46], [29, 30], [71, 72], [73, 74], [78, 79], [80, 81], [86, 87]]
    orchestra = KIT_CHOKES[48]
    assert orchestra[27] == orchestra[28] == orchestra[29] != orchestra[71] == orchestra[72] and 42 not in orchestra
    assert set(KIT_CHOKES[56]) == {41, 42}
