"""What a file that is damaged, oddly named or no MIDI file at all gives, and what is told of what it asks for."""

import struct

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
)  # fmt: skip
from midi_scores import setup, told

from miao.errors import ScoreError
from miao.midi.score import read_score
from miao.midi.writing import write_score

# damage


def test_a_message_without_its_end_goes_up_to_the_next_status_byte():
    body = bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x11, 0x15, 0x01, 0x19])
    without_f7 = b"\xf0" + bytes([len(body)]) + body
    status_inside = b"\xf0" + bytes([len(body) + 2]) + body + b"\x90\x3c"
    for message in (without_f7, status_inside):
        notes = read_score(smf(track((0, message), *NOTE_OF_A_SECOND))).tracks[0].notes
        assert notes["is_drum"].tolist() == [True]


def test_notes_behind_an_end_in_the_middle_of_a_track_are_played_and_told():
    early = track((0, on(69)), (480, off(69)), (0, b"\xff\x2f\x00"), (0, on(76)), (480, off(76)))
    score = read_score(smf(early, kind=0))
    assert score.tracks[0].notes[["start", "pitch"]].tolist() == [(0, 69), (0.5, 76)]
    assert score.warnings == ("track 1: 1 note stands behind an end of track in its middle, and is played",)


@pytest.mark.parametrize(("bad", "what"), [(b"\xf4", "undefined status byte"), (b"\x90\x3c\x90", "above 127")])
def test_what_is_left_out_behind_an_early_end_is_counted_with_the_rest(bad, what):
    """Damage costs one event, wherever it stands."""
    first, later = [(0, bad), (0, on(69)), (480, off(69))], [(0, bad), (0, on(76)), (480, off(76))]
    (plain,) = read_score(smf(track(*first), kind=0)).warnings
    both = read_score(smf(track(*first, (0, b"\xff\x2f\x00"), *later), kind=0)).warnings
    assert "1 event" in plain
    assert any(line.startswith("track 1: 2 events") and what.split()[0] in line for line in both), both


@pytest.mark.parametrize("junk", [b"\x00" * 20, b"\x40" * 9, b"junk behind the end", b"\x00\x90\x3c\xff"])
def test_junk_behind_the_end_of_a_track_is_left_alone(junk):
    body = track(*NOTE_OF_A_SECOND)[8:] + junk
    score = read_score(smf(b"MTrk" + struct.pack(">I", len(body)) + body))
    assert (score.n_notes, score.warnings) == (1, ())


def test_a_pause_that_damage_made_is_no_hour_of_drone():
    melody = [event for pitch in range(60, 68) for event in ((0, on(pitch)), (240, off(pitch)))]
    chord = [(0, on(pitch)) for pitch in (60, 64, 67)]
    for behind in ((2_880_000, b"\xf4"), (2_880_000, b"\x41"), (2_880_000, control(11, 64))):
        score = read_score(smf(track(*melody, *chord, behind), kind=0))
        assert score.duration < 60, behind
        assert score.end < 60
    sane = read_score(smf(track(*melody, *chord, end=960)))
    assert sane.duration == 3.0  # with its track, as nothing is wrong with that


def test_what_a_damaged_track_alone_holds_behind_minutes_of_pause_is_left_out_and_told():
    music = track(*((480, on(60)), (480, off(60))) * 3)
    broken = track((0, on(50)), (480, off(50)), (0, b"\x90\x3c\xff"), (960 * 200, on(51)), (480, off(51)))
    score = read_score(smf(music, broken))
    assert score.duration == 3 and score.n_notes == 4
    assert "2 events behind a pause of more than two minutes" in score.warnings[-1]
    whole = track((0, on(50)), (480, off(50)), (960 * 200, on(51)), (480, off(51)))
    assert read_score(smf(music, whole)).n_notes == 5
    longer = track(*((480, on(60)), (480, off(60))) * 3, (960 * 250, on(60)), (480, off(60)))
    assert read_score(smf(longer, broken)).n_notes == 6


def test_a_note_that_is_never_ended_sounds_on_while_others_play():
    others = track(*[event for _ in range(20) for event in ((0, on(72)), (4800, off(72)))])
    score = read_score(smf(track((0, on(48)), end=96_000), others))
    assert score.tracks[0].notes["damp"].tolist() == [100.0]


def test_a_rest_before_the_end_is_part_of_the_piece_and_an_end_hours_later_is_not():
    assert read_score(smf(track(*NOTE_OF_A_SECOND, end=4800))).end == 6.0
    assert read_score(smf(track(*NOTE_OF_A_SECOND), track(end=4800))).end == 5.0
    assert read_score(smf(track(*NOTE_OF_A_SECOND, end=960 * 4800))).end == 1.0


def test_the_rest_survives_writing(tmp_path):
    write_score(read_score(smf(track(*NOTE_OF_A_SECOND, end=4800))), tmp_path / "rest.mid")
    assert read_score(tmp_path / "rest.mid").end == 6.0


# text


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp932", ["ピアノ右手", "ドラム"]), ("cp932", ["ベース"]), ("cp932", ["ﾋﾟｱﾉ", "ﾄﾞﾗﾑ"]), ("cp932", ["Piano 右"]),
        ("cp932", ["曲名：夏祭り"]), ("cp1251", ["Фортепиано", "Гитара"]), ("cp1251", ["бас"]), ("cp1251", ["ГИТАРА"]),
        ("cp1251", ["Соло-гитара №1"]), ("cp1252", ["Flöte"]), ("cp1252", ["Canción", "Señor"]), ("cp1252", ["Größe"]),
        ("cp1252", ["Batterie à côté", "Été"]), ("cp1252", ["“Intro” – © 1998 Müller"]), ("utf-8", ["Flöte", "ピアノ"]),
        ("gb18030", ["钢琴", "小提琴"]), ("big5", ["鋼琴", "小提琴"]), ("euc_kr", ["피아노"]),
        ("euc_kr", ["드럼", "기타 솔로"]),
        ("cp1250", ["Skrzypce główne", "Žluťoučký kůň"]), ("cp1253", ["Κιθάρα"]), ("koi8_r", ["Гитара", "Фортепиано"]),
        ("euc_jp", ["ピアノ右手"]), ("ascii", ["Piano"]),
        # one short name has to do
        ("gb18030", ["鼓"]), ("gb18030", ["弦乐"]), ("gb18030", ["长笛"]), ("gb18030", ["电吉他"]), ("big5", ["貝斯"]),
        ("big5", ["第一樂章"]), ("euc_kr", ["베이스"]), ("euc_kr", ["오른손"]), ("euc_kr", ["트랙 1"]),
        ("cp1251", ["труба"]),
        ("cp1251", ["ВОКАЛ"]), ("koi8_r", ["Виолончель"]), ("cp1253", ["ΠΙΑΝΟ"]), ("cp932", ["ｽﾄﾘﾝｸﾞｽ"]),
        ("cp932", ["ｿﾛ"]),
        ("cp1250", ["Kytara č. 1"]), ("cp1250", ["Bőgő"]), ("cp1250", ["Śpiew"]), ("cp1252", ["Œuvre n° 3"]),
        ("cp1252", ["Fagott ½"]), ("cp1252", ["Canções"]), ("cp1254", ["Davul şarkı"]), ("latin-1", ["Mélodie à côté"]),
    ],
)  # fmt: skip
def test_names_are_read_in_the_encoding_in_which_they_make_sense(encoding, names):
    score = read_score(smf(*(track((0, text(3, name.encode(encoding))), *NOTE_OF_A_SECOND) for name in names)))
    assert [t.name for t in score.tracks] == names
    assert score.ignored == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_names_in_utf_16_are_read(encoding):
    tracks = [track((0, text(3, name.encode(encoding))), *NOTE_OF_A_SECOND) for name in ("Piano 1", "Flûte")]
    score = read_score(smf(*tracks, track((0, text(3, "Bläser".encode("cp1252"))), *NOTE_OF_A_SECOND)))
    assert [t.name for t in score.tracks] == ["Piano 1", "Flûte", "Bläser"]


def test_all_texts_of_a_file_help_to_tell_its_encoding():
    """One short name could be anything; a lyric beside it shows the language."""
    lyric = text(5, "夜空に咲いた花火のように".encode("cp932"))
    score = read_score(smf(track((0, text(3, "笛".encode("cp932"))), (0, lyric), *NOTE_OF_A_SECOND)))
    assert score.tracks[0].name == "笛"


def test_a_text_in_no_known_encoding_is_told():
    name = bytes(range(0x81, 0xA0)) + bytes([0xFF, 0x80, 0xC0, 0x81])
    assert "names in an unknown text encoding: shown as Latin-1" in told((0, text(3, name)), *NOTE_OF_A_SECOND)


# formats


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"SMF2CLIP" + bytes(64), "MIDI 2.0 clip"), (b"FORM\0\0\0\x0eXDIRINFO" + bytes(60), "XMI.*wildmidi"),
        (b"MUS\x1a" + bytes(60), "MUS.*wildmidi"), (b"HMI-MIDISONG061595" + bytes(60), "HMI.*wildmidi"),
        (b"HMIMIDIP" + bytes(60), "HMP.*wildmidi"), (b"RCM-PC98V2.0" + bytes(60), "Recomposer.*rcp2mid"),
        (b"\x1f\x8b\x08" + bytes(60), "gzip.*gunzip"), (b"PK\x03\x04" + bytes(60), "ZIP.*musescore"),
        (b'<?xml version="1.0"?>\n<score-partwise version="4.0">', "MusicXML.*musescore"),
        (b"\xef\xbb\xbf <score-timewise>", "MusicXML.*musescore"), (b"<museScore version='4'>", "MuseScore.*musescore"),
        (b"<!DOCTYPE html><html>", "page.*give the MIDI file itself"), (bytes(60) + b"XMID", "XMI.*wildmidi"),
        (b"fLaC" + bytes(60), "sound file"), (b"RIFF\0\0\0\0WAVEfmt " + bytes(60), "sound file"),
        (b"X:1\nT:Tune\nK:C\nCDEF|", "ABC.*abc2midi"), (b"\x18FICHIER GUITAR PRO v5.00" + bytes(60), "Guitar Pro"),
    ],
)  # fmt: skip
def test_foreign_formats_are_named_in_one_line_with_what_converts_them(data, what):
    with pytest.raises(ScoreError, match=what) as caught:
        read_score(data)
    assert "\n" not in str(caught.value)


def test_a_sound_bank_inside_a_riff_is_told():
    plain = smf(track(*NOTE_OF_A_SECOND))
    for chunk, name in ((b"RIFF\x04\0\0\0DLS ", "DLS"), (b"RIFF\x04\0\0\0sfbk", "SoundFont")):
        body = b"RMIDdata" + struct.pack("<I", len(plain)) + plain + chunk
        score = read_score(b"RIFF" + struct.pack("<I", len(body)) + body)
        assert score.n_notes == 1
        assert score.ignored == (
            f"the {name} sound bank inside the file: the voices of miao's bank play instead of its sounds",
        )


# told


def test_controllers_are_told_by_their_names_if_they_move_something():
    breath = [(48, control(2, 20 + n)) for n in range(80)]
    assert told(*breath, *NOTE_OF_A_SECOND) == (
        "breath controller (CC 2), 80 events: the dynamics of held notes that it draws are lost",
    )
    lines = told(
        *setup(control(71, 90), control(92, 10), control(68, 127), control(4, 1), control(4, 9)), *NOTE_OF_A_SECOND
    )
    assert [line.split(" (")[0] for line in lines] == ["foot controller", "legato pedal", "resonance", "tremolo depth"]


def test_what_changes_nothing_is_not_told():
    resting = [control(n, 64) for n in (8, 70, 71, 72, 73, 75, 76, 77, 78)] + [
        control(n, 0) for n in (12, 13, 68, 69, 92, 94, 95)
    ]
    unnamed = [control(n, 99) for n in (3, 9, 14, 20, 32 + 1, 32 + 7, 85, 102, 119)]
    played = [
        control(65, 0),
        control(5, 20),
        control(84, 60),
        control(93, 40),
        control(74, 90),
        control(126, 1),
        control(2, 90),
    ]
    harmless = [sysex(bytes([0x7E, 0x7F, 6, 1])), sysex(bytes([0x41, 0x10, 0x45, 0x12, 0x10, 0, 0, 65, 0x2F]))]
    harmless += [b"\xa0\x3c\x40", b"\xd0\x40", *nonregistered(1, 8, 64), *registered(6, 3)]
    harmless += [control(101, 127), control(100, 127), control(6, 1)]
    assert told(*setup(*resting, *unnamed, *played, *harmless), *NOTE_OF_A_SECOND) == ()


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (nonregistered(1, 8, 70), "vibrato rate"), (nonregistered(1, 9, 20), "vibrato depth"),
        (nonregistered(20, 38, 70, 9), "filter of drum key 38"), (nonregistered(5, 3, 1), "one maker"),
        ([gs(0x40, 0x13, 0x30, 70)], "GS: part 3, vibrato rate"),
        ([gs(0x40, 0x11, 2, 5)], "GS: part 1 on another channel"),
        ([gs(0x40, 3, 0, 1, 0)], "insertion effect"), ([gs(0x41, 1, 38, 70)], "drum key 38 at another pitch"),
        ([sysex(bytes([0x43, 0x10, 0x4C, 8, 2, 0x15, 70]))], "XG: part 3, vibrato rate"),
        ([sysex(bytes([0x42, 0x30, 0x42, 1]))], "Korg"), ([sysex(bytes([0x41, 0x10, 0x16, 0x12, 1, 2, 3]))], "MT-32"),
        ([sysex(bytes([0x7F, 0x7F, 9, 1, 0, 3, 11, 0, 0x46]))], "aftertouch for pitch"),
        ([sysex(bytes([0x7F, 0x7F, 9, 2, 0, 3, 127]))], "polyphonic aftertouch for another depth of vibrato"),
        ([sysex(bytes([0x7F, 0x7F, 9, 3, 0, 16, 5, 9]))], "a controller for tremolo depth"),
    ],
)  # fmt: skip
def test_parameters_and_messages_are_told_by_what_they_would_do(events, words):
    (line,) = told(*setup(*events), *NOTE_OF_A_SECOND)
    assert words in line and "event" in line


def test_kits_keys_and_banks_that_are_not_there_are_told_with_what_plays_instead():
    drums = [
        (0, program(48, 9)),
        *((0, on(k, channel=9)) for k in (38, 88, 22)),
        *((0, off(k, 9)) for k in (38, 88, 22)),
    ]
    assert told(*drums) == (
        "Orchestra Kit (program 49): not in this bank, Standard Kit plays instead, 3 notes",
        "drum key 22: not in Standard Kit, silent, 1 note",
        "drum key 88: not in Standard Kit, silent, 1 note",
    )

    def melody(msb, lsb, *first):
        return told(*setup(*first, control(0, msb), control(32, lsb), program(4)), *NOTE_OF_A_SECOND)

    assert melody(8, 0) == ("variation 8 of program 5: not in this bank, Electric Piano 1 plays instead, 1 note",)
    (line,) = melody(64, 0, sysex(XG_ON))
    assert line.startswith("XG's effects bank (64/0) of program 5") and "Electric Piano 1 plays instead" in line
    (line,) = melody(127, 0)
    assert "MT-32" in line
    assert melody(121, 3)[0].startswith("GM2 variation 3 of program 5")


@pytest.mark.parametrize("events", [
    [], [sysex(GM_ON)], [sysex(GS_ON), control(0, 0), control(32, 2)], [control(0, 121), control(32, 0)],
    [sysex(XG_ON), control(0, 0), control(32, 0)],
])  # fmt: skip
def test_general_midis_own_sounds_are_not_told(events):
    assert told(*setup(*events, program(4)), *NOTE_OF_A_SECOND, (0, on(38, channel=9)), (9, off(38, 9))) == ()


# bad input


def test_events_by_the_thousand_at_one_time_and_on_64_ports_are_read():
    on_ports = [
        track(
            (0, b"\xff\x21\x01" + bytes([port])), *((0, on(n, channel=n % 16)) for n in range(128)), (0, sysex(GM_ON))
        )
        for port in range(64)
    ]
    score = read_score(smf(*on_ports))
    assert score.n_notes == 64 * 128
    assert all(np.isfinite(t.notes["damp"]).all() for t in score.tracks)


def test_a_tuning_message_of_three_bytes_is_nothing():
    """Hypothesis found it: it stopped the reading of the whole file."""
    assert told((0, sysex(bytes([0x7E, 0x7F, 8]))), *NOTE_OF_A_SECOND) == ()


def test_lost_note_offs_by_the_ten_thousand_are_mended_in_no_more_than_seconds():
    score = read_score(smf(track(*[(1, on(60 + n % 3)) for n in range(30_000)])))
    assert score.n_notes == 30_000
    assert np.isfinite(score.tracks[0].notes["damp"]).all()
