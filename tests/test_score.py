"""MIDI files are written here byte by byte, from the format's own tables: an oracle apart from every library."""

import io
import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from midi_bytes import (
    GM_ON,
    GS_ON,
    NOTE_OF_A_SECOND,
    XG_ON,
    control,
    off,
    on,
    program,
    registered,
    smf,
    sysex,
    tempo,
    text,
    track,
    wheel,
)

from miao.errors import ScoreError
from miao.midi.general_midi import GM_DRUMS, GM_PROGRAMS
from miao.midi.notes import KEY_PRESSURE_EVENT, notes_array
from miao.midi.score import read_score
from miao.midi.writing import write_score

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "midi"


def notes_of(*events, **header):
    """The notes of a file of one track; 960 ticks are one second."""
    (only,) = read_score(smf(track(*events), **header)).tracks
    return only.notes


SYSEX_OF_ANOTHER_LENGTH = b"\xf0\x40\x7e"  # more bytes than there are


# the file


def test_a_note_is_read_with_its_times_in_seconds_its_pitch_and_its_velocity():
    (note,) = notes_of((480, on(61, 77)), (240, off(61)))
    assert note[["start", "end", "damp", "pitch", "velocity"]].tolist() == (0.5, 0.75, 0.75, 61, 77)


def test_running_status_repeats_the_last_channel_message_even_across_meta_events():
    notes = notes_of((0, on(60)), (480, b"\x3c\x00"), (0, text(1, b"hm")), (0, b"\x40\x50"), (480, b"\x40\x00"))
    assert notes[["start", "end", "pitch"]].tolist() == [(0.0, 0.5, 60), (0.5, 1.0, 64)]


def test_running_status_follows_a_change_of_status():
    score = read_score(
        smf(track((0, on(60)), (0, control(7, 90)), (480, b"\x07\x50"), (480, off(60)), (0, b"\x3e\x40")))
    )
    assert score.tracks[0].controls["volume"].at([0.0, 0.5]).tolist() == [90 / 127, 80 / 127]
    assert score.n_notes == 1


def test_a_type_0_file_gives_one_track_per_channel():
    events = [(0, on(60)), (0, on(70, channel=3)), (960, off(60)), (0, off(70, channel=3))]
    score = read_score(smf(track(*events), kind=0))
    assert [(t.channel, t.notes["pitch"].tolist()) for t in score.tracks] == [(0, [60]), (3, [70])]


def test_the_tempo_map_of_one_track_holds_for_all_and_counts_within_a_note():
    tempi = track((0, tempo(1_000_000)), (480, tempo(250_000)))
    score = read_score(smf(tempi, track((0, on(60)), (960, off(60)))))
    assert score.tracks[0].notes["end"].tolist() == [1.25]
    assert score.tempi.at([0.0, 1.1]).tolist() == [60.0, 240.0]


def test_time_signatures_are_read_wherever_they_stand_and_move_with_the_score():
    signature = b"\xff\x58\x04"
    head = track(
        (0, signature + bytes([3, 2, 24, 8])), (1440, signature + bytes([6, 3, 36, 8])), (480, tempo(1_000_000))
    )
    score = read_score(smf(head, track((0, on(60)), (2400, off(60)))))
    assert [(m.time, m.numerator, m.denominator) for m in score.meters] == [(0.0, 3, 4), (1.5, 6, 8)]
    assert [m.time for m in score.shifted(2).meters] == [2.0, 3.5]
    assert [m.time for m in score.between(0, 9).meters] == [0.0, 1.5]


def test_a_time_signature_of_no_beats_is_none():
    head = track((0, b"\xff\x58\x04" + bytes([0, 2, 24, 8])), (0, b"\xff\x58\x04" + bytes([4, 9, 24, 8])))
    assert read_score(smf(head, track((0, on(60)), (480, off(60))))).meters == ()


def test_each_of_three_tempi_counts_from_its_tick_on_and_to_the_end():
    tempi = track((0, tempo(1_000_000)), (480, tempo(250_000)), (960, tempo(2_000_000)), (480, tempo(750_000)))
    pitches = track(*((0 if n == 0 else 240, on(60 + n)) for n in range(12)), (240, off(60)))
    score = read_score(smf(tempi, pitches))
    # a tick is 1/480, then 1/1920, 1/240 and 1/640 of a second; the tempi change at ticks 480, 1440 and 1920
    expected = [0, 0.5, 1, 1.125, 1.25, 1.375, 1.5, 2.5, 3.5, 3.875, 4.25, 4.625]
    assert score.tracks[0].notes["start"].tolist() == expected
    assert score.tempi.at([0.5, 1.2, 2.0, 3.6, 9.0]).tolist() == [60, 240, 30, 80, 80]


@pytest.mark.parametrize(("frames", "rate"), [(24, 24), (25, 25), (29, 30000 / 1001), (30, 30)])
def test_smpte_division_counts_frames_and_knows_no_tempo(frames, rate):
    (note,) = notes_of((0, tempo(1)), (0, on(60)), (400, off(60)), division=(256 - frames) << 8 | 40)
    assert note["end"] == pytest.approx(10 / rate, abs=1e-12)


def test_the_sequences_of_a_type_2_file_follow_each_other_each_with_its_own_tempo_and_programs():
    first = track((0, tempo(1_000_000)), (0, program(40)), *NOTE_OF_A_SECOND, end=480)
    score = read_score(smf(first, track(*NOTE_OF_A_SECOND), kind=2))
    assert [t.notes[["start", "end", "program"]].tolist() for t in score.tracks] == [[(0, 2, 40)], [(3, 4, 0)]]
    assert score.duration == 4


def test_a_riff_around_the_file_and_a_sound_bank_behind_it_change_nothing():
    plain = smf(track(*NOTE_OF_A_SECOND))
    behind = track(*NOTE_OF_A_SECOND)
    body = b"RMIDdata" + struct.pack("<I", len(plain)) + plain + behind
    score = read_score(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert (score.n_notes, score.duration, score.warnings) == (1, 1.0, ())


def test_chunks_of_other_kinds_are_passed_over():
    score = read_score(smf(track(*NOTE_OF_A_SECOND), b"XFIH" + struct.pack(">I", 8) + b"MTrkMTrk"))
    assert score.n_notes == 1


def test_names_are_read_as_utf_8_or_else_latin_1_and_an_instrument_name_stands_in():
    names = [text(3, "Flöte".encode()), text(3, b"Fl\xf6te\n"), text(4, b"Flute")]
    score = read_score(smf(*(track((0, name), *NOTE_OF_A_SECOND) for name in names)))
    assert [t.name for t in score.tracks] == ["Flöte", "Flöte", "Flute"]


def test_the_ports_of_a_file_have_channels_of_their_own():
    ports = [[(0, b"\xff\x21\x01" + bytes([port])), (240 * port, program(port))] for port in (0, 1)]
    score = read_score(smf(*(track(*port, *NOTE_OF_A_SECOND) for port in ports)))
    assert [t.channel for t in score.tracks] == [0, 0]
    assert [t.notes[["start", "damp", "program"]].tolist() for t in score.tracks] == [[(0, 1, 0)], [(0.25, 1.25, 1)]]


def test_a_path_bytes_and_an_open_file_give_the_same(tmp_path):
    data = smf(track(*NOTE_OF_A_SECOND))
    path = tmp_path / "测试 文件.mid"
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        assert read_score(source).tracks[0].notes.tolist() == notes_of(*NOTE_OF_A_SECOND).tolist()


# notes


def test_a_note_on_with_velocity_0_ends_the_note():
    assert notes_of((0, on(60)), (480, on(60, velocity=0)))["end"].tolist() == [0.5]


def test_a_zero_length_note_is_kept():
    assert notes_of((480, on(60)), (0, off(60)))[["start", "end", "damp"]].tolist() == [(0.5, 0.5, 0.5)]


def test_a_note_off_ends_the_oldest_note_of_its_pitch_and_a_later_start_damps_nothing():
    notes = notes_of((0, on(60)), (480, on(60)), (480, off(60)), (480, off(60)))
    assert notes[["start", "end", "damp"]].tolist() == [(0, 1.0, 1.0), (0.5, 1.5, 1.5)]


def test_two_notes_of_one_pitch_that_start_together_both_sound():
    notes = notes_of((0, on(60)), (0, on(60)), (480, off(60)), (480, off(60)), (0, on(60)), (480, off(60)))
    assert notes["damp"].tolist() == [0.5, 1.0, 1.5]


def test_other_pitches_and_channels_do_not_damp_a_note():
    score = read_score(smf(track((0, on(60)), (480, on(61)), (0, on(60, channel=1)), (480, off(60)))))
    assert score.tracks[0].notes["damp"][0] == 1.0


def test_tracks_that_share_a_channel_end_their_own_notes_first():
    long, short = track((0, on(60)), (1920, off(60))), track((480, on(60)), (480, off(60)))
    score = read_score(smf(long, short))
    assert [t.notes[["end", "damp"]].tolist() for t in score.tracks] == [[(2.0, 2.0)], [(1.0, 1.0)]]
    lone_off = track((960, off(60)))
    assert read_score(smf(track((0, on(60))), lone_off)).tracks[0].notes["end"].tolist() == [1.0]


def test_notes_that_are_never_ended_end_where_struck_again_or_with_their_track():
    score = read_score(smf(track((0, on(60)), (480, on(60)), (480, off(60)), (0, on(72)), end=960)))
    assert score.tracks[0].notes[["pitch", "end"]].tolist() == [(60, 0.5), (60, 1.0), (72, 2.0)]
    assert score.warnings == (
        "2 notes were never ended; they end where their key is struck again, or with their music",
    )


def test_a_note_off_without_a_note_is_passed_over():
    assert notes_of((0, off(60)), *NOTE_OF_A_SECOND, (0, off(60)))["end"].tolist() == [1.0]


def test_notes_are_sorted_by_start_and_pitch():
    notes = notes_of((0, on(70)), (0, on(50)), (480, on(40)), (480, off(70)), (0, off(50)), (0, off(40)))
    assert notes["pitch"].tolist() == [50, 70, 40]


# pedals and mode messages


def test_sustain_holds_what_is_released_while_it_is_down():
    events = [(0, on(60)), (0, control(64, 64)), (480, off(60)), (480, control(64, 63)), (0, on(62)), (480, off(62))]
    assert notes_of(*events)[["end", "damp"]].tolist() == [(0.5, 1.0), (1.5, 1.5)]


def test_a_pedal_that_never_comes_up_holds_to_the_end_of_the_piece():
    events = [(0, control(64, 127)), (0, on(60)), (480, off(60)), (960, on(62)), (480, off(62))]
    assert notes_of(*events)["damp"].tolist() == [2.0, 2.0]


def test_a_held_note_rings_on_when_its_key_is_struck_again():
    events = [(0, control(64, 127)), (0, on(60)), (480, off(60)), (480, on(60)), (480, off(60)), (480, control(64, 0))]
    assert notes_of(*events)["damp"].tolist() == [2.0, 2.0]


def test_sostenuto_holds_only_the_keys_that_are_down_when_it_goes_down():
    events = [(0, on(60)), (480, control(66, 127)), (0, on(62)), (480, off(60)), (0, off(62)), (480, control(66, 0))]
    assert notes_of(*events)[["pitch", "damp"]].tolist() == [(60, 1.5), (62, 1.0)]


def test_sostenuto_that_comes_up_before_the_key_changes_nothing():
    assert notes_of((0, on(60)), (240, control(66, 127)), (240, control(66, 0)), (480, off(60)))["damp"].tolist() == [
        1.0
    ]


def test_sustain_takes_over_from_sostenuto():
    events = [(0, on(60)), (0, control(66, 127)), (480, off(60)), (0, control(64, 127)), (480, control(66, 0))]
    assert notes_of(*events, (480, control(64, 0)))["damp"].tolist() == [1.5]


def test_pedals_work_across_the_tracks_of_a_channel():
    score = read_score(smf(track((0, control(64, 127)), (1920, control(64, 0))), track(*NOTE_OF_A_SECOND)))
    assert score.tracks[0].notes["damp"].tolist() == [2.0]


@pytest.mark.parametrize(("number", "damp"), [(123, 1.5), (124, 1.5), (120, 0.5)])
def test_all_notes_off_leaves_the_pedal_in_force_and_all_sound_off_does_not(number, damp):
    events = [(0, control(64, 127)), (0, on(60)), (480, control(number, 0)), (480, off(60)), (480, control(64, 0))]
    assert notes_of(*events)[["end", "damp"]].tolist() == [(0.5, damp)]


def test_reset_controllers_lifts_the_pedal_and_keeps_the_volume():
    setup = [(0, control(c, 100)) for c in (7, 11, 1, 64)] + [(0, wheel(4096))]
    score = read_score(smf(track(*setup, (0, on(60)), (480, off(60)), (480, control(121, 0)))))
    (only,) = score.tracks
    assert only.notes["damp"].tolist() == [1.0]
    after = {name: float(curve.at(2.0)) for name, curve in only.controls.items()}
    assert after["volume"] == 100 / 127
    assert (after["expression"], after["modulation"], after["sustain"], after["bend"]) == (1, 0, 0, 0)


def test_reset_controllers_takes_back_all_that_is_played_and_nothing_that_is_set():
    played = {1: "modulation", 11: "expression", 64: "sustain", 66: "sostenuto", 67: "soft"}
    kept = {7: "volume", 10: "pan", 91: "reverb", 93: "chorus"}
    events = [(0, control(number, 90)) for number in (*played, *kept)] + [(0, b"\xd0\x5a"), (0, wheel(4096))]
    events += [(0, control(101, 0)), (0, control(100, 1)), (0, control(6, 96)), (0, program(5))]  # 0.5 semitones up
    (only,) = read_score(smf(track(*events, (480, control(121, 0)), *NOTE_OF_A_SECOND))).tracks
    before, after = ({name: float(curve.at(t)) for name, curve in only.controls.items()} for t in (0.25, 0.75))
    assert [before[name] for name in played.values()] == [90 / 127] * 5 and before["pressure"] == 90 / 127
    assert {name: after[name] for name in (*played.values(), "pressure")} == {
        "modulation": 0, "expression": 1, "sustain": 0, "sostenuto": 0, "soft": 0, "pressure": 0,
    }  # fmt: skip
    assert all(after[name] == before[name] for name in kept.values())
    assert (before["bend"], after["bend"]) == (1.5, 0.5) and only.notes["program"].tolist() == [5]


# controllers


def test_controllers_are_step_functions_with_the_defaults_of_general_midi():
    numbers = {7: "volume", 11: "expression", 1: "modulation", 67: "soft", 91: "reverb", 93: "chorus", 64: "sustain"}
    (plain,) = read_score(smf(track(*NOTE_OF_A_SECOND))).tracks
    assert plain.controls["volume"].initial == 100 / 127
    assert plain.controls["reverb"].initial == 40 / 127
    for number, name in numbers.items():
        (played,) = read_score(smf(track((480, control(number, 32)), *NOTE_OF_A_SECOND))).tracks
        expected = [plain.controls[name].initial, 32 / 127]
        assert played.controls[name].at([0.49, 0.5]).tolist() == expected, name


def test_pan_runs_from_hard_left_to_hard_right_and_64_is_the_middle():
    events = [(0, control(10, 0)), (480, control(10, 1)), (480, control(10, 64)), (480, control(10, 127))]
    (only,) = read_score(smf(track(*events, *NOTE_OF_A_SECOND))).tracks
    assert only.controls["pan"].at([0.0, 0.5, 1.0, 1.5]).tolist() == [-1, -1, 0, 1]


def test_of_several_values_at_one_time_the_last_counts_and_repeats_are_dropped():
    events = [(480, control(7, 1)), (0, control(7, 50)), (480, control(7, 50))]
    (only,) = read_score(smf(track(*events, *NOTE_OF_A_SECOND))).tracks
    assert only.controls["volume"].times.tolist() == [0.5]
    assert only.controls["volume"].values.tolist() == [50 / 127]


def bend_at_the_start(*events):
    (only,) = read_score(smf(track(*((0, e) for e in events), *NOTE_OF_A_SECOND))).tracks
    return float(only.controls["bend"].at(0.0))


def test_the_wheel_bends_by_its_range_in_semitones_and_cents():
    assert bend_at_the_start(wheel(-8192)) == -2
    assert bend_at_the_start(wheel(4096)) == 1
    assert bend_at_the_start(*registered(0, 12, 50), wheel(4096)) == 6.25
    assert bend_at_the_start(wheel(4096), *registered(0, 12)) == 6


def test_tuning_adds_to_the_bend():
    assert bend_at_the_start(*registered(1, 96, 0)) == 0.5
    assert bend_at_the_start(*registered(2, 62), wheel(8191)) == pytest.approx(-2 + 2 * 8191 / 8192)


def test_data_entry_after_the_null_or_a_non_registered_parameter_does_not_touch_the_bend():
    assert (
        bend_at_the_start(*registered(0, 12), control(101, 127), control(100, 127), control(6, 24), wheel(-8192)) == -12
    )
    assert bend_at_the_start(*registered(0, 12), control(99, 0), control(98, 0), control(6, 24), wheel(-8192)) == -12


def test_aftertouch_is_kept():
    pressures = [(0, b"\xd0\x7f"), (0, on(60)), (480, b"\xa0\x3c\x7f"), (480, off(60))]
    score = read_score(smf(track(*pressures)))
    (only,) = score.tracks
    assert only.controls["pressure"].at(0.0) == 1
    assert only.key_pressure.tolist() == [(0.5, 60, 1.0, False)]
    assert score.ignored == ()


# programs, drums and system-exclusive messages


def test_a_program_change_counts_from_its_place_on_and_takes_the_bank_with_it():
    events = [(0, control(0, 8)), (0, control(32, 3)), *NOTE_OF_A_SECOND, (0, program(5)), *NOTE_OF_A_SECOND]
    assert notes_of(*events)[["program", "bank"]].tolist() == [(0, 0), (5, 8 * 128 + 3)]


def drums_of(*events, channel=0):
    return notes_of(*((0, e) for e in events), (0, on(60, channel=channel)), (9, off(60, channel)))["is_drum"].tolist()


def test_channel_10_is_drums():
    assert drums_of(channel=9) == [True]
    assert drums_of(channel=8) == [False]


def test_bank_127_makes_a_channel_drums_in_xg_but_not_in_gs():
    assert drums_of(sysex(XG_ON), control(0, 127), program(0)) == [True]
    assert drums_of(control(0, 127), program(0)) == [False]
    assert drums_of(sysex(XG_ON), control(0, 127)) == [False]
    assert drums_of(sysex(GS_ON), control(0, 127), program(0)) == [False]


@pytest.mark.parametrize(("block", "channel"), [(0, 9), (1, 0), (9, 8), (10, 10), (15, 15)])
def test_gs_and_xg_part_messages_make_a_channel_drums_or_not(block, channel):
    for value in (0, 1):
        body = (0x40, 0x10 | block, 0x15, value)
        rhythm_part = bytes([0x41, 0x10, 0x42, 0x12, *body, -sum(body) & 127])
        assert drums_of(sysex(rhythm_part), channel=channel) == [bool(value)]
        assert drums_of(sysex(bytes([0x43, 0x10, 0x4C, 8, channel, 7, value])), channel=channel) == [bool(value)]


@pytest.mark.parametrize("reset", [GM_ON, GS_ON, XG_ON])
def test_a_reset_puts_everything_back_and_ends_all_sound(reset):
    setup = [program(40), control(7, 1), control(64, 127), wheel(100)]
    events = [(0, on(60)), (480, sysex(reset)), (480, on(62)), (480, off(62))]
    (only,) = read_score(smf(track(*((0, e) for e in setup), *events))).tracks
    assert only.notes[["end", "program"]].tolist() == [(0.5, 40), (1.5, 0)]
    assert only.notes["damp"].tolist() == [0.5, 1.5]
    assert all(float(curve.at(1.0)) == curve.initial for curve in only.controls.values())


def test_a_system_exclusive_message_may_come_in_two_events():
    split = [(0, b"\xf0\x02" + GM_ON[:2]), (10, b"\xf7\x03" + GM_ON[2:] + b"\xf7")]
    assert notes_of((0, program(7)), *split, *NOTE_OF_A_SECOND)["program"].tolist() == [0]


def test_master_volume_and_tuning_reach_every_channel_and_transposition_only_pitched_ones():
    masters = [(1, 0x7F, 0x3F), (3, 0, 0x60), (4, 0, 52)]
    messages = [(0, sysex(bytes([0x7F, 0x7F, 4, *master]))) for master in masters]
    notes = [(0, on(60)), (0, on(40, channel=9)), (960, off(60)), (0, off(40, channel=9))]
    pitched, drums = read_score(smf(track(*messages, *notes))).tracks
    for played in (pitched, drums):
        assert played.controls["volume"].at(0.0) == pytest.approx(100 / 127 * 0x1FFF / 0x3FFF)
    assert (pitched.controls["bend"].at(0.0), drums.controls["bend"].at(0.0)) == (-11.5, 0.5)


# damage


def test_a_missing_file_a_folder_and_files_without_music_are_one_line_each(tmp_path):
    with pytest.raises(ScoreError, match=r"nothing\.mid: there is no such file"):
        read_score(tmp_path / "nothing.mid")
    with pytest.raises(ScoreError, match="this is a folder"):
        read_score(tmp_path)
    for data, what in [
        (b"", "the file is empty"),
        (b"just some text, long enough", "not a MIDI file"),
        (smf(track())[:10], "not a MIDI file"),
        (smf(), "no track"),
        (smf(track((0, tempo(500_000)))), "holds no notes"),
        (smf(track(*NOTE_OF_A_SECOND), division=0), "0 ticks per beat"),
    ]:
        with pytest.raises(ScoreError, match=what) as caught:
            read_score(data)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_keeps_what_came_before_and_says_so(caplog):
    whole = smf(track((0, text(3, b"A")), *NOTE_OF_A_SECOND), track(*NOTE_OF_A_SECOND, (0, on(64)), (960, off(64))))
    with caplog.at_level(logging.WARNING, logger="miao.midi.score"):
        score = read_score(whole[:-6])
    assert [t.notes["end"].tolist() for t in score.tracks] == [[1.0], [1.0, 1.0]]
    assert score.warnings[0] == "track 2: damaged at byte 13 (cut off); 3 bytes behind it were left out"
    assert score.warnings[1] == "1 note was never ended; it ends where its key is struck again, or with its music"
    assert len(caplog.records) == 2


def test_a_cut_between_two_events_is_noticed_too():
    score = read_score(smf(track(*NOTE_OF_A_SECOND))[:-4])
    assert score.n_notes == 1
    assert "cut off" in score.warnings[0]


def test_damage_in_one_track_leaves_the_others_whole():
    damaged = track(*NOTE_OF_A_SECOND, (0, SYSEX_OF_ANOTHER_LENGTH), (0, on(61)))
    score = read_score(smf(damaged, track(*NOTE_OF_A_SECOND)))
    assert [t.notes["pitch"].tolist() for t in score.tracks] == [[60], [60]]
    assert "left out" in score.warnings[0]


def test_an_undefined_status_byte_costs_itself_alone():
    """MIDI 1.0: F4, F5, F9 and FD are reserved; a receiver ignores them."""
    for byte in (b"\xf4", b"\xf5", b"\xf9", b"\xfd"):
        score = read_score(smf(track(*NOTE_OF_A_SECOND, (0, byte), (0, on(61)), (480, off(61)))))
        assert score.tracks[0].notes["pitch"].tolist() == [60, 61]
        assert score.warnings == ("track 1: 1 event with an undefined status byte was left out",)


def test_an_event_with_an_impossible_data_byte_is_left_out_alone():
    score = read_score(smf(track((0, bytes([0xB0, 7, 168])), *NOTE_OF_A_SECOND)))
    assert score.n_notes == 1
    assert score.warnings == ("track 1: 1 event with a data byte above 127 was left out",)


@pytest.mark.parametrize("size", [0, 5, 500, 0xFFFFFFFF])
def test_a_wrong_chunk_length_costs_nothing(size):
    wrong = b"MTrk" + struct.pack(">I", size) + track(*NOTE_OF_A_SECOND)[8:]
    assert read_score(smf(wrong, track(*NOTE_OF_A_SECOND))).n_notes == 2


def test_what_comes_behind_a_pause_of_more_than_an_hour_is_taken_for_damage():
    lost = track(*NOTE_OF_A_SECOND, (0x0FFFFFFF, on(61)), (9, off(61)))
    score = read_score(smf(lost, track(*NOTE_OF_A_SECOND)))
    assert (score.n_notes, score.duration) == (2, 1.0)
    assert score.warnings == ("2 events behind a pause of more than an hour were left out",)


def test_one_event_behind_such_a_pause_is_told_as_one():
    lost = track(*NOTE_OF_A_SECOND, (0x0FFFFFFF, on(61)))
    assert "1 event behind a pause of more than an hour was left out" in read_score(smf(lost)).warnings


def test_of_what_never_ends_no_more_is_read_than_a_midi_file_may_have(monkeypatch, tmp_path):
    data = smf(track(*NOTE_OF_A_SECOND))
    (tmp_path / "song.mid").write_bytes(data)
    monkeypatch.setattr("miao.midi.score.LARGEST_FILE", (1 << 20) - 1)
    assert read_score(tmp_path / "song.mid").n_notes == read_score(io.BytesIO(data)).n_notes == 1
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    with pytest.raises(ScoreError, match=r"disk\.img: larger than 0 MB, so no MIDI file"):
        read_score(tmp_path / "disk.img")
    stream = io.BytesIO(bytes(1 << 22))
    with pytest.raises(ScoreError, match="MIDI data: larger"):
        read_score(stream)
    assert stream.tell() == 1 << 20


def test_a_track_may_rest_for_hours_while_another_plays():
    half_hours = [(960 * 1800, event) for _ in range(3) for event in (on(60), off(60))]
    late = track((960 * 9000, on(70)), (960, off(70)))
    score = read_score(smf(track(*half_hours), late))
    assert (score.n_notes, score.warnings) == (4, ())


def test_missing_tracks_are_counted():
    data = bytearray(smf(track(*NOTE_OF_A_SECOND)))
    data[11] = 3
    assert read_score(bytes(data)).warnings == ("2 of 3 tracks are missing",)


def test_any_damage_gives_a_sound_score_or_one_clear_error():
    random = np.random.default_rng(0)
    events = [(30, e) for p in range(40, 80) for e in (on(p), control(64, p), wheel(p), sysex(GM_ON), off(p))]
    whole = smf(track((0, tempo(400_000)), *events), track(*events))
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        data[random.integers(0, len(data), random.integers(1, 30))] = random.integers(0, 256)
        try:
            score = read_score(data[: random.integers(1, len(data) + 1)].tobytes())
        except ScoreError as error:
            assert "\n" not in str(error)
            continue
        for played in score.tracks:
            notes = played.notes
            assert np.isfinite(notes["start"]).all() and np.isfinite(notes["damp"]).all()
            assert (notes["end"] >= notes["start"]).all() and (notes["damp"] >= notes["start"]).all()
            assert ((notes["velocity"] > 0) & (notes["velocity"] < 128)).all()
            assert all((np.diff(curve.times) > 0).all() for curve in played.controls.values())


# scores


@pytest.fixture
def song():
    """Two pitched channels and drums, with pedal, bend, volume, pan and a program change."""
    melody = [(0, text(3, "Flöte".encode())), (0, program(73)), (0, control(10, 20)), (0, control(7, 90)), (0, on(72))]
    melody += [(240, wheel(3000)), (240, off(72)), (0, program(74)), (0, on(74, 50)), (480, off(74)), (0, wheel(0))]
    piano = [(0, control(64, 127, 1)), (0, on(48, 80, 1)), (480, off(48, 1)), (480, control(64, 0, 1))]
    drums = [(0, program(8, 9)), (0, on(36, 110, 9)), (0, off(36, 9)), (960, on(42, 70, 9)), (120, off(42, 9))]
    return read_score(smf(track((0, tempo(600_000))), track(*melody), track(*piano), track(*drums)))


def test_writing_and_reading_again_gives_the_same_notes_and_controllers(song, tmp_path):
    write_score(song, tmp_path / "again.mid")
    again = read_score(tmp_path / "again.mid")
    assert [(t.name, t.channel) for t in again.tracks] == [(t.name, t.channel) for t in song.tracks]
    for ours, theirs in zip(song.tracks, again.tracks, strict=True):
        for name in ("pitch", "velocity", "program", "bank", "is_drum"):
            assert theirs.notes[name].tolist() == ours.notes[name].tolist(), name
        for name in ("start", "end", "damp"):
            np.testing.assert_allclose(theirs.notes[name], ours.notes[name], atol=1e-4)
        times = np.linspace(0.0123, 3, 50)
        for name, curve in ours.controls.items():
            np.testing.assert_allclose(theirs.controls[name].at(times), curve.at(times), atol=2e-3, err_msg=name)


@pytest.mark.parametrize("reset", [XG_ON, GS_ON])
def test_drums_off_channel_10_and_banks_survive_writing(reset, tmp_path):
    bank_127 = [(0, sysex(reset)), (0, control(0, 127)), (0, control(32, 1)), (0, program(25)), *NOTE_OF_A_SECOND]
    (only,) = read_score(smf(track(*bank_127))).tracks
    assert only.notes["is_drum"].tolist() == [reset == XG_ON]
    write_score(read_score(smf(track(*bank_127))), tmp_path / "drums.mid")
    (again,) = read_score(tmp_path / "drums.mid").tracks
    assert again.notes.tolist() == only.notes.tolist()


def test_a_score_that_cannot_be_written_is_one_line(song, tmp_path):
    with pytest.raises(ScoreError, match="there is no folder"):
        write_score(song, tmp_path / "no such folder" / "song.mid")


def test_transposing_moves_the_pitched_notes_and_not_the_drums(song):
    up = song.transposed(3)
    moved = [
        (b.notes["pitch"].astype(int) - a.notes["pitch"]).tolist() for a, b in zip(song.tracks, up.tracks, strict=True)
    ]
    assert moved == [[3, 3], [3], [0, 0]]
    with pytest.raises(ScoreError, match="pitch 72 would become 132"):
        song.transposed(60)


def test_pressure_of_keys_goes_along_and_stays_on_the_keyboard(song):
    pressed = np.array([(0.1, 72, 0.5, False), (0.2, 126, 0.5, False), (0.3, 1, 0.5, True)], KEY_PRESSURE_EVENT)
    first = replace(song.tracks[0], key_pressure=pressed)
    song = replace(song, tracks=(first, *song.tracks[1:]))
    assert song.transposed(3).tracks[0].key_pressure["pitch"].tolist() == [75, 127, 4]
    assert song.transposed(-3).tracks[0].key_pressure["pitch"].tolist() == [69, 123, 0]


def test_rows_become_notes_by_the_order_of_their_fields():
    notes = notes_array([(0.5, 1.0, 1.25, 60, 100, 5, 128, False), (0.75, 1.5, 1.5, 38, 90, 0, 0, True)])
    assert notes[["start", "end", "damp", "pitch", "velocity", "program", "bank", "is_drum"]].tolist() == [
        (0.5, 1.0, 1.25, 60, 100, 5, 128, False), (0.75, 1.5, 1.5, 38, 90, 0, 0, True),
    ]  # fmt: skip
    unsaid = notes[["cut", "glide", "glide_seconds", "tuning", "gain", "pan", "send"]]
    assert unsaid.tolist() == [(np.inf, 0, 0, 0, 1, 0, 1)] * 2
    assert notes_array([]).tolist() == notes_array(0).tolist() == [] and not notes_array(3)["start"].any()


def test_shifting_moves_notes_and_controllers_alike(song):
    later = song.shifted(2.0)
    assert later.duration == song.duration + 2
    assert later.end == song.end + 2 and replace(song, end=0.0).shifted(2.0).end == 0
    for a, b in zip(song.tracks, later.tracks, strict=True):
        assert b.notes["damp"].tolist() == (a.notes["damp"] + 2).tolist()
        np.testing.assert_array_equal(b.controls["bend"].at([2.1, 2.7]), a.controls["bend"].at([0.1, 0.7]))
    with pytest.raises(ScoreError, match="cannot shift"):
        song.shifted(-0.1)


def test_a_part_holds_the_notes_that_start_in_it_and_the_controllers_as_they_stand(song):
    part = song.between(0.5, 1.2)
    assert [t.notes["pitch"].tolist() for t in part.tracks] == [[74]]
    assert part.tracks[0].notes["start"][0] == pytest.approx(0.1)
    assert part.tracks[0].controls["pan"].initial == song.tracks[0].controls["pan"].at(0.5)
    assert part.tracks[0].controls["bend"].initial == pytest.approx(2 * 3000 / 8192)
    assert song.between(50, 60).duration == 0


def test_tracks_are_selected_by_index(song):
    assert [t.channel for t in song.select([2, 0]).tracks] == [9, 0]
    with pytest.raises(ScoreError, match="tracks 0 to 2"):
        song.select([3])


def test_a_listing_names_programs_ranges_and_polyphony(song):
    melody, _, drums = song.describe()
    assert (melody.name, melody.programs, melody.n_notes) == ("Flöte", ("Flute", "Recorder"), 2)
    assert (melody.lowest, melody.highest, melody.polyphony) == (72, 74, 1)
    assert (drums.programs, drums.is_drum) == (("Room Kit",), True)
    chord = read_score(smf(track((0, on(60)), (0, on(64)), (9, on(67)), (9, off(60)), (0, on(72)))))
    assert chord.describe()[0].polyphony == 3


def test_general_midi_has_128_programs_and_the_drums_stand_on_their_keys():
    assert len(set(GM_PROGRAMS)) == 128
    assert (GM_PROGRAMS[0], GM_PROGRAMS[56], GM_PROGRAMS[127]) == ("Acoustic Grand Piano", "Trumpet", "Gunshot")
    assert (GM_DRUMS[36], GM_DRUMS[42], GM_DRUMS[49], GM_DRUMS[81]) == (
        "Bass Drum 1", "Closed Hi-hat", "Crash Cymbal 1", "Open Triangle",
    )  # fmt: skip


# real files


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared MIDI files are not here")
def test_notes_agree_with_another_reader_on_real_files():
    symusic = pytest.importorskip("symusic")
    folders = {"freedoom": 24, "pop909": 6, "piano-midi-de": 4, "js-fakes": 5}
    paths = [p for folder, n in folders.items() for p in sorted((DATA / folder).rglob("*.mid"))[:n]]
    assert len(paths) > 30
    for path in paths:
        ours = np.concatenate([t.notes for t in read_score(path).tracks])
        theirs = [t.notes.numpy() for t in symusic.Score(path).to("second").tracks if len(t.notes)]
        columns = {name: np.concatenate([n[name] for n in theirs]).astype(float) for name in theirs[0]}
        other = np.stack(
            [columns["time"], columns["pitch"], columns["velocity"], columns["time"] + columns["duration"]], 1
        )
        mine = np.stack([ours[name].astype(float) for name in ("start", "pitch", "velocity", "end")], 1)
        assert len(mine) == len(other), path
        other = other[np.lexsort(other.T)]
        for note in mine:  # each of ours has its partner, to the other reader's float32
            near = other[np.searchsorted(other[:, 3], note[3] - 2e-3) : np.searchsorted(other[:, 3], note[3] + 2e-3)]
            assert (np.abs(near - note).max(axis=1) < 2e-3).any(), (path, note)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared MIDI files are not here")
def test_every_odd_file_gives_a_score_or_one_clear_error():
    paths = sorted((DATA / "odd").iterdir())
    assert len(paths) > 10
    silent = []
    for path in paths:
        try:
            assert read_score(path).n_notes > 0
        except ScoreError as error:
            silent.append(path.name)
            assert "holds no notes" in str(error)
    assert silent == ["empty.mid"]
