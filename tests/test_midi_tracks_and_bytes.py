"""Keys that tracks share, chokes, ports, and bytes as programs write them: ends, packets, running status, RIFF."""

import struct

import numpy as np
import pytest
from midi_bytes import (
    END,
    GM_ON,
    GS_ON,
    NOTE_OF_A_SECOND,
    control,
    gs,
    off,
    on,
    program,
    smf,
    sysex,
    tempo,
    text,
    track,
    varint,
)  # fmt: skip
from midi_scores import note, score_of, setup

from miao.midi.score import read_score
from miao.midi.writing import write_score

# pauses


@pytest.mark.parametrize(("written", "ticks"), [
    (b"\x87\x40", 960), (b"\x80\x87\x40", 960), (b"\x80\x80\x87\x40", 960), (b"\x80\x60", 96),
    (b"\x82\x80\x00", 32_768),
])  # fmt: skip
def test_a_pause_is_read_seven_bits_a_byte_also_if_it_begins_with_zeros(written, ticks):
    body = b"\x00" + on(60) + written + off(60) + b"\x00" + END
    score = read_score(smf(b"MTrk" + struct.pack(">I", len(body)) + body))
    assert score.tracks[0].notes["end"].tolist() == [ticks / 960] and not score.warnings


# restrikes


def test_a_second_note_off_of_one_track_does_not_end_the_other_tracks_note():
    """A track that plays on a channel by itself ends its own notes; programs send more note-offs than notes."""
    left = track((480, on(60)), (480, off(60)), (240, off(60)), (1440, b"\xff\x01\x00"))
    right = track((0, on(60)), (3840, off(60)))
    for order in ((left, right), (right, left)):
        assert sorted(t.notes["end"][0] for t in read_score(smf(*order)).tracks) == [1, 4]


def test_a_track_that_plays_nothing_may_end_the_notes_of_others():
    assert read_score(smf(track((0, on(60))), track((960, off(60))))).tracks[0].notes["end"].tolist() == [1]


def test_three_staves_that_hold_one_key_are_three_holds():
    parts = [track((0, on(60)), (480 * n, off(60))) for n in (1, 3, 2)]
    score = read_score(smf(*parts))
    assert [t.notes["end"][0] for t in score.tracks] == [0.5, 1.5, 1]


def test_a_unison_under_the_pedal_is_let_go_with_it():
    parts = (
        track((0, control(64, 127)), (0, on(60)), (480, off(60)), (960, control(64, 0))),
        track((0, on(60)), (96, off(60))),
    )
    assert [t.notes["damp"].tolist() for t in read_score(smf(*parts)).tracks] == [[1.5], [1.5]]


# choking


@pytest.mark.parametrize(
    ("long", "short"), [(72, 71), (74, 73), (79, 78), (81, 80), (87, 86), (46, 44), (30, 29), (46, 46)]
)
@pytest.mark.parametrize("channel", [9, 11])
def test_all_groups_choke_on_every_rhythm_channel(long, short, channel):
    rhythm = [gs(0x40, 0x1B, 0x15, 1)]
    events = [
        *setup(*rhythm),
        (0, on(long, channel=channel)),
        (240, on(short, channel=channel)),
        (9, off(short, channel)),
    ]
    assert score_of(*events, (0, off(long, channel))).tracks[0].notes["cut"].tolist() == [0.25, np.inf]


def test_rhythm_channels_do_not_choke_each_other():
    events = [
        (0, gs(0x40, 0x1B, 0x15, 2)),
        (0, on(46, channel=9)),
        (240, on(42, channel=11)),
        (9, off(42, 11)),
        (0, off(46, 9)),
    ]
    assert [t.notes["cut"].tolist() for t in score_of(*events).tracks] == [[np.inf], [np.inf]]


# ports


def port(number):
    return text(0x21, bytes([number]))


def test_settings_without_a_port_go_for_the_ports_that_play():
    """A setting-up track names no port, and all that plays goes to others than the first."""
    head = track((0, sysex(GS_ON)), (0, gs(0x40, 0, 4, 64)))
    parts = [track((0, port(n)), *NOTE_OF_A_SECOND) for n in (1, 2)]
    for played in read_score(smf(head, *parts)).tracks:
        assert played.controls["volume"].at(0.5) == pytest.approx(100 / 127 * 64 / 127)
    beside = read_score(smf(head, track(*NOTE_OF_A_SECOND), *parts)).tracks
    assert [round(float(t.controls["volume"].at(0.5)) * 127) for t in beside] == [50, 100, 100]
    named = read_score(smf(track((0, port(0)), (0, gs(0x40, 0, 4, 64))), *parts)).tracks
    assert [round(float(t.controls["volume"].at(0.5)) * 127) for t in named] == [100, 100]


def test_a_track_may_change_its_port_and_both_kinds_of_names_make_ports():
    a = track((0, text(9, b"A")), (0, port(0)), (0, program(9)), *NOTE_OF_A_SECOND)
    b = track((0, port(1)), (0, text(9, b"A")), (0, program(19)), *NOTE_OF_A_SECOND)
    c = track((0, text(9, b"B")), (0, program(29)), *NOTE_OF_A_SECOND, (0, text(9, b"A")), *NOTE_OF_A_SECOND)
    score = read_score(smf(a, b, c))
    assert sorted((t.name, t.notes["program"].tolist()) for t in score.tracks) == [
        ("", [9]), ("", [9]), ("", [19]), ("", [29])
    ]  # fmt: skip
    assert len({t.port for t in score.tracks}) == 3


def test_channel_10_is_drums_on_every_port_and_its_kit_its_own():
    parts = [track((0, port(n)), (0, program(8 * n, 9)), *note(9, 38)) for n in range(3)]
    played = read_score(smf(*parts)).tracks
    assert [(t.notes["is_drum"][0], t.notes["program"][0]) for t in played] == [(True, 0), (True, 8), (True, 16)]


def test_all_sound_off_and_pedals_stay_with_their_port():
    a = track((0, port(0)), (0, control(64, 127)), *note(0, 60, 480), (480, control(120, 0)), (960, control(64, 0)))
    b = track((0, port(1)), *note(0, 60, 1920))
    first, second = read_score(smf(a, b)).tracks
    assert (first.notes["cut"][0], second.notes["cut"][0], second.notes["damp"][0]) == (1, np.inf, 2)


# bytes


@pytest.mark.parametrize("between", [
    sysex(GM_ON), text(1, b"x"), b"\xf0\x03\x7e\x7f\x09", b"\xf7\x01\x33", b"\xf7\x02\xf8\xfe", tempo(500_000),
    b"\xf8", b"\xf9", b"\xf4",
])  # fmt: skip
def test_running_status_goes_on_behind_anything_between(between):
    """Against the letter of the format, and what programs write."""
    score = score_of((0, b"\x90\x45\x64"), (480, between), (0, b"\x45\x00"), (0, b"\x4c\x64"), (480, b"\x4c\x00"))
    assert sorted(score.tracks[0].notes[["start", "end", "pitch"]].tolist()) == [(0, 0.5, 69), (0.5, 1, 76)]


def test_a_message_in_packets_is_one_message():
    whole = gs(0x40, 0x11, 0x15, 1)[2:]
    packets = [
        (0, b"\xf0" + varint(4) + whole[:4]),
        (48, b"\xf7" + varint(3) + whole[4:7]),
        (48, b"\xf7" + varint(len(whole) - 7) + whole[7:]),
    ]
    assert score_of(*packets, *note(0)).tracks[0].notes["is_drum"].tolist() == [True]
    assert score_of((0, b"\xf7" + varint(6) + b"\xf0" + GM_ON + b"\xf7"), *note(0)).n_notes == 1


def test_several_ends_in_the_middle_of_a_track_lose_no_note():
    for middle in ([(0, END)], [(0, END), (0, END)], [(0, END), (0, text(1, b"joined")), (0, END)]):
        score = read_score(smf(track(*note(0, 60), *middle, *note(0, 62), *middle, *note(0, 64)), kind=0))
        assert score.tracks[0].notes["pitch"].tolist() == [60, 62, 64] and len(score.warnings) == 1


def test_notes_behind_an_end_that_cannot_be_read_are_told():
    body = track(*note(0, 60), (0, END), *note(0, 62), (0, b"\xff\x51\x7f"))
    score = read_score(smf(body, kind=0))
    assert score.n_notes == 1 and "behind an end of track" in score.warnings[0]


@pytest.mark.parametrize("status", [0xF4, 0xF5, 0xF9, 0xFD])
def test_undefined_status_bytes_cost_nothing_but_themselves(status):
    score = score_of(*note(0, 69), (0, bytes([status])), *note(0, 76), (0, bytes([status])), (0, bytes([status])))
    assert score.n_notes == 2 and len(score.warnings) == 1


# containers


def riff(*chunks, kind=b"RMID"):
    body = kind + b"".join(tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for tag, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


DLS = (b"RIFF", b"DLS colh\x04\0\0\0\0\0\0\0")
SF2 = (b"RIFF", b"sfbkLIST\x04\0\0\0INFO")
INFO = (b"LIST", b"INFOINAM\x05\0\0\0Tune\0\0")
DISP = (b"DISP", b"\x01\0\0\0MThd! a title")


@pytest.mark.parametrize("odd", [b"", b"\0"])
@pytest.mark.parametrize(
    ("before", "behind", "bank"),
    [
        ([], [], ""), ([INFO], [DISP], ""), ([DISP, INFO], [], ""), ([INFO], [DLS], "DLS"),
        ([], [SF2, INFO], "SoundFont"),
        ([DLS], [], "DLS"), ([], [(b"DLS ", b"colh\x04\0\0\0\0\0\0\0")], "DLS"),
    ],
)  # fmt: skip
def test_a_riff_is_read_whatever_lies_beside_its_music(odd, before, behind, bank):
    music = smf(track((0, text(3, b"Odd" + odd)), *note(0)))
    score = read_score(riff(*before, (b"data", music), *behind))
    assert score.n_notes == 1 and not score.warnings
    assert [bank in line for line in score.ignored] == [True] * bool(bank)


@pytest.mark.parametrize("size", [0, 1, 0xFFFFFFFF])
def test_a_riff_with_a_wrong_size_is_read(size):
    data = bytearray(riff((b"data", smf(track(*note(0)))), DLS))
    data[16:20] = struct.pack("<I", size)
    score = read_score(bytes(data))
    assert score.n_notes == 1 and "DLS" in score.ignored[0]


def test_karaoke_is_read_as_music():
    head = track((0, text(1, b"@KMIDI KARAOKE FILE")), (0, text(1, b"@V0100")))
    words = track(
        (0, text(3, b"Words")),
        (0, text(1, b"@LENGL")),
        (0, text(1, b"@TTitle")),
        (96, text(1, b"\\Hel")),
        (96, text(1, b"lo")),
    )
    score = read_score(smf(head, words, track((0, text(3, b"Piano")), *note(0))))
    assert [t.name for t in score.tracks] == ["Piano"] and not score.ignored and not score.warnings


def test_a_reset_ends_what_has_no_end_of_its_own_and_other_messages_do_not():
    rest = [(4800, on(72)), (960, off(72))]
    for message, ends in ((GM_ON, True), (GS_ON, True), (bytes([0x7F, 0x7F, 4, 1, 0, 127]), False)):
        score = score_of((0, on(60)), (960, sysex(message)), *rest)
        (lost,) = score.tracks[0].notes[score.tracks[0].notes["pitch"] == 60]
        assert (lost["damp"] == 1) == ends
        assert any("never ended" in line for line in score.warnings) != ends


def test_channels_are_those_of_their_ports():
    second = track((0, b"\xff\x21\x01\x01"), (0, on(60, channel=3)), (960, off(60, 3)))
    first = track((0, on(62, channel=3)), (960, off(62, 3)))
    assert [(t.port, t.channel) for t in read_score(smf(first, second)).tracks] == [(0, 3), (1, 3)]


def test_a_score_that_is_written_switches_each_of_its_ports_on_once(tmp_path):
    def part(port, pitch):
        return track((0, b"\xff\x21\x01" + bytes([port])), (0, on(pitch, channel=port)), (960, off(pitch, port)))

    write_score(read_score(smf(part(0, 60), part(1, 62), part(1, 64), part(2, 65))), tmp_path / "song.mid")
    assert (tmp_path / "song.mid").read_bytes().count(GS_ON) == 3
    again = read_score(tmp_path / "song.mid")
    assert [(t.port, int(t.notes["pitch"][0])) for t in again.tracks] == [(0, 60), (1, 62), (1, 64), (2, 65)]
