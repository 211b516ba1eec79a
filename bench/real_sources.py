"""The recordings of single notes that default voices are learnt from (`real_notes.py`): where, and what they are."""

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from miao.datasets.samples import Recording
from miao.datasets.voice_sources import recordings_from

# voices that the ears of two nets (musicnn, YAMNet) hear nearer to other recorded notes once they waver, both of them
WAVERING = ("flute", "cello", "oboe", "french-horn", "alto-sax")
FREE = "Apache-2.0; the recordings are CC0-1.0"
PIANO = "Apache-2.0; learnt from recordings under CC-BY-3.0"
PHILHARMONIA = "Apache-2.0; the recordings are free to use, not to be passed on as samples"


@dataclass(frozen=True)
class Source:
    """Recordings of one instrument."""

    name: str
    place: str
    program: int  # 0..127, in whose place the voice plays
    origin: str
    licence: str
    only: str | None = None
    lasts: bool = True  # while a key is held
    layers: dict[int, int] | None = None  # those of its numbered layers that it is learnt from, and their velocities
    release_seconds: float | None = None  # in which a note that is let go falls by 60 dB, where that is known
    keeps_tuning: bool = False  # as its tuner stretched it
    own_sides: bool = True  # whether it is as wide as it was recorded, or as its program


def _philharmonia(name: str, program: int, only: str = "*_1*_normal*", lasts: bool = True) -> Source:
    origin = "sound samples of the Philharmonia Orchestra, London"
    return Source(name, f"philharmonia/{name}", program, origin, PHILHARMONIA, only, lasts)


def _sfz(name: str, file: str, program: int, lasts: bool = True) -> Source:
    return Source(name, f"gm-sfz/Melodic/{file}.sfz", program, SFZ_BANK, FREE, lasts=lasts)


# nine of its sixteen layers, each at the middle of the velocities that its own .sfz plays it at: v1 up to 26, v2 up to
# 34, v4 from 37, v6 from 47, v8 from 57; damped notes have ampeg_release=1 there, which players take for e^-9 a second
SALAMANDER = {1: 14, 2: 30, 4: 40, 6: 48, 8: 60, 10: 76, 12: 92, 14: 108, 16: 124}
SALAMANDER_SECONDS = 0.77
SFZ_BANK, FREEPATS = "recordings of the SFZ General MIDI bank", "recordings of the FreePats project"
KARORYFER = "recordings by Karoryfer Samples"
SOURCES = [
    _philharmonia("clarinet", 71),
    _philharmonia("flute", 73),
    _philharmonia("cello", 42, "*_1*_arco-normal*"),
    _philharmonia("oboe", 68),
    _philharmonia("bassoon", 70),
    _philharmonia("french-horn", 60),
    _philharmonia("trombone", 57),
    _philharmonia("banjo", 105, "*_normal*", lasts=False),
    Source("alto-sax", "alto-sax", 65, KARORYFER, FREE),
    Source("tuba", "war-tuba", 58, KARORYFER + ", J. Lewicki", FREE, "*_s_vl*"),
    Source("double-bass", "double-bass", 43, KARORYFER, FREE, "arco*"),
    Source("clean-guitar", "emily-guitar", 27, KARORYFER + ", D. Smolken", FREE, "[a-g]*[0-9]_[pmf]*_rr1*", False),
    Source("nylon-guitar", "spanish-guitar", 24, FREEPATS, FREE, lasts=False),
    _sfz("steel-guitar", "026-Acoustic-Guitar--steel-", 25, lasts=False),
    _sfz("electric-grand", "003-Electric-Grand-Piano", 2, lasts=False),
    _sfz("electric-piano", "005-Electric-Piano-1", 4, lasts=False),
    _sfz("finger-bass", "034-Electric-Bass--finger-", 33, lasts=False),
    Source(
        "grand-piano",
        "salamander",
        0,
        "Salamander Grand Piano V3 by Alexander Holm",
        PIANO,
        lasts=False,
        layers=SALAMANDER,
        release_seconds=SALAMANDER_SECONDS,
        keeps_tuning=True,
        own_sides=False,  # with its own, music is nearer to one ear and further from another (docs/log.md)
    ),
    _sfz("sitar", "105-Sitar", 104, lasts=False),
    _sfz("shanai", "112-Shanai", 111),
    _sfz("tremolo-strings", "045-Tremolo-Strings", 44),
    _sfz("pizzicato", "046-Pizzicato-Strings", 45, lasts=False),
    Source("bagpipe", "gm-sfz/Melodic/110-Bagpipe", 109, SFZ_BANK, FREE, "*_ord_*"),
    Source("acoustic-bass", "double-bass", 32, KARORYFER, FREE, "pizz*", False),
    Source("picked-bass", "electric-bass/PickedBassYR 20190930.sfz", 34, FREEPATS, FREE, lasts=False),
]


def read(source: Source, folder: Path) -> list[Recording]:
    """The recordings of an instrument; an .sfz among them names noises, too, which are not those asked for."""
    if source.layers is not None:
        place = folder / source.place
        found = {v: recordings_from(place, only=f"*v{layer}.*")[0] for layer, v in source.layers.items()}
        return [replace(r, velocity=v) for v, layer in found.items() for r in layer]
    recordings, _ = recordings_from(folder / source.place, only=source.only)
    return [r for r in recordings if source.only is None or fnmatch(r.name.lower(), source.only.lower())]
