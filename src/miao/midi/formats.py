"""Which kind of file some bytes are, and where the MIDI in them lies."""

import re
import struct
from dataclasses import dataclass

from miao.errors import ScoreError

_BY_WILDMIDI = "`wildmidi -x song.mid FILE` makes a MIDI file of it"
_BY_MUSESCORE = "`musescore FILE -o song.mid` makes a MIDI file of it"
_UNPACK = "unpack it first"
# what foreign files begin with, what they are, and what makes a MIDI file of them
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"SMF2CLIP", "a MIDI 2.0 clip file", "have the program that wrote it export a Standard MIDI File"),
    (b"MUS\x1a", "a MUS file (DOOM)", _BY_WILDMIDI),
    (b"HMI-MIDISONG", "an HMI file", _BY_WILDMIDI),
    (b"HMIMIDI", "an HMP file", _BY_WILDMIDI),
    (b"RCM-PC98V", "a Recomposer file (RCP)", "`rcp2mid` or VGMTrans makes a MIDI file of it"),
    (b"COME ON MUSIC", "a Recomposer file (R36, G36)", "`rcp2mid` makes a MIDI file of it"),
    (b"melo", "a ringtone (MLD)", "VGMTrans makes a MIDI file of it"),
    (b"MMMD", "a ringtone (SMAF)", "VGMTrans makes a MIDI file of it"),
    (b"\x1f\x8b", "packed by gzip", "unpack it with `gunzip` first"),
    (b"BZh", "packed by bzip2", "unpack it with `bunzip2` first"),
    (b"\xfd7zXZ", "packed by xz", "unpack it with `unxz` first"),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x18FICHIER GUITAR PRO", "a Guitar Pro file", "TuxGuitar or MuseScore makes a MIDI file of it"),
    (b"IMPM", "an Impulse Tracker module", "OpenMPT exports it as MIDI"),
    (b"Extended Module", "a FastTracker module", "OpenMPT exports it as MIDI"),
    (b"fLaC", "a sound file (FLAC)", "notes have to be transcribed from it"),
    (b"OggS", "a sound file (Ogg)", "notes have to be transcribed from it"),
    (b"ID3", "a sound file (MP3)", "notes have to be transcribed from it"),
    (b"%PDF", "a PDF", "give the MIDI file that its music was printed from"),
    (b"X:", "ABC notation", "`abc2midi FILE -o song.mid` makes a MIDI file of it"),
    (b"\\version", "a LilyPond file", "`lilypond FILE` writes its \\midi block as a MIDI file"),
)

_DLS = re.compile(rb"RIFF....DLS |DLS ....colh", re.DOTALL)
_SOUND_FONT = re.compile(rb"RIFF....sfbk", re.DOTALL)


@dataclass(frozen=True)
class Container:
    """A Standard MIDI File, taken out of what lay around it."""

    data: bytes  # from MThd on
    sound_bank: str = ""  # "DLS" or "SoundFont" if one came with it


def find_midi(data: bytes, name: str) -> Container:
    """The Standard MIDI File in some bytes: bare (.mid, .kar), in a RIFF (.rmi), or with other bytes in front.

    Raises: ScoreError, in one line, that names what the bytes are instead and what makes a MIDI file of them.
    """
    if not data:
        raise ScoreError(f"{name}: the file is empty")
    start, size = _music(data)
    if start < 0 or len(data) < start + 14:
        foreign = _foreign(data)
        if foreign:
            raise ScoreError("{}: this is {}, not a Standard MIDI File; {}".format(name, *foreign))
        raise ScoreError(f"{name}: not a MIDI file (no complete MThd header in {len(data)} bytes)")
    if data[:4] != b"RIFF":
        return Container(data[start:])
    outside = data[12:start] + (data[start + size :] if size else data[start:])
    bank = "DLS" if _DLS.search(outside) else "SoundFont" if _SOUND_FONT.search(outside) else ""
    return Container(data[start : start + size] if size else data[start:], bank)


def _music(data: bytes) -> tuple[int, int]:
    """Where the header of a Standard MIDI File stands, and how long a RIFF says that the file is; -1 for no header, 0
    for no length that can be."""
    start = data.find(b"MThd")
    if data[:4] != b"RIFF" or start < 0:
        return start, 0
    inside = data.find(b"data", 12)
    while inside >= 0:  # a title may have those letters, too: the music stands behind its chunk's tag and size
        if data[inside + 8 : inside + 12] == b"MThd":
            size = struct.unpack("<I", data[inside + 4 : inside + 8])[0]
            return inside + 8, size if 14 < size <= len(data) - inside - 8 else 0
        inside = data.find(b"data", inside + 4)
    return start, 0


def _foreign(data: bytes) -> tuple[str, str] | None:
    """What some bytes are, and what to do with them; None if nobody knows."""
    for magic, what, cure in _FOREIGN:
        if data.startswith(magic):
            return what, cure
    head = data[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if (data[:4] == b"FORM" and data[8:12] == b"XDIR") or b"XMID" in data[:64]:
        return "an XMI file (Miles Sound System)", _BY_WILDMIDI
    if (data[:4], data[8:12]) == (b"RIFF", b"WAVE") or (data[:4], data[8:11]) == (b"FORM", b"AIF"):
        return "a sound file", "notes have to be transcribed from it"
    if data[:4] == b"PK\x03\x04":
        return "an archive (ZIP; also .mxl and .mscz are such)", f"unpack it first, or, of a score, {_BY_MUSESCORE}"
    if head.startswith(b"<"):
        if b"score-partwise" in head or b"score-timewise" in head:
            return "a MusicXML file", _BY_MUSESCORE
        if b"museScore" in head:
            return "a MuseScore file", _BY_MUSESCORE
        return "a page or data in XML", "give the MIDI file itself"
    return None
