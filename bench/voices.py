"""How close voices learnt from recorded single notes come to notes of pitches that they were not learnt from.

    python bench/voices.py FOLDER -o results/voices

FOLDER holds the recordings, a folder each: alto-sax, double-bass and emily-guitar (Karoryfer Samples), spanish-guitar
and electric-bass (FreePats), gm-sfz (the SFZ GM bank), philharmonia (with a folder for each instrument); what is
missing is left out. --nine takes the nine sets that learnt voices are judged by, each set out from the program that
sounds most like it. Writes the voices, voices.json and voices.md. Resumable: voices that are there are not learnt
again.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from miao import __version__
from miao.bank.bank import Bank
from miao.datasets.voice_sources import recordings_from
from miao.midi.general_midi import program_name
from miao.training.new_voice import bank_errors, closest_program, held_out_pitches, loudness_gain, new_voice


@dataclass(frozen=True)
class Source:
    """Recordings of one instrument."""

    name: str
    place: str
    program: int  # 0..127, what the bank has of its kind
    instrument: str
    origin: str
    licence: str
    only: str | None = None


FREE = "Apache-2.0; the recordings are CC0-1.0"
KARORYFER = "recordings by Karoryfer Samples", FREE
FREEPATS = "recordings of the FreePats project", FREE
SFZ, SFZ_GM = "gm-sfz/Melodic", ("recordings of the SFZ GM bank", FREE)
PHILHARMONIA = "sound samples of the Philharmonia Orchestra, London", "for measuring only"
SOURCES = [
    Source("alto-sax", "alto-sax", 65, "alto saxophone", *KARORYFER),
    Source("spanish-guitar", "spanish-guitar", 24, "Spanish classical guitar, plucked", *FREEPATS),
    Source("double-bass-pizz", "double-bass", 32, "double bass, plucked", *KARORYFER, "pizz*"),
    Source("electric-bass", "electric-bass/FingerBassYR 20190930.sfz", 33, "electric bass, fingered", *FREEPATS),
    Source("double-bass-arco", "double-bass", 43, "double bass, bowed", *KARORYFER, "arco*"),
    Source("cello", "philharmonia/cello", 42, "cello, bowed", *PHILHARMONIA, "*_1_*arco-normal*"),
    Source("clarinet", "philharmonia/clarinet", 71, "clarinet", *PHILHARMONIA, "*_1_*_normal*"),
    Source("bassoon", "philharmonia/bassoon", 70, "bassoon", *PHILHARMONIA, "*_1_*_normal*"),
    Source(
        "electric-guitar", "emily-guitar/emily_clean.sfz", 27, "electric guitar", *KARORYFER[:1], "for measuring only"
    ),
    Source("tremolo-strings", f"{SFZ}/045-Tremolo-Strings.sfz", 44, "tremolo strings", *SFZ_GM),
    Source("steel-guitar", f"{SFZ}/026-Acoustic-Guitar--steel-.sfz", 25, "steel guitar", *SFZ_GM),
    Source("electric-piano", f"{SFZ}/005-Electric-Piano-1.sfz", 4, "electric piano", *SFZ_GM),
    Source("pizzicato", f"{SFZ}/046-Pizzicato-Strings.sfz", 45, "strings, plucked", *SFZ_GM),
    Source("finger-bass", f"{SFZ}/034-Electric-Bass--finger-.sfz", 33, "electric bass, fingered", *SFZ_GM),
    Source("electric-grand", f"{SFZ}/003-Electric-Grand-Piano.sfz", 2, "electric grand piano", *SFZ_GM),
]
NINE = ("electric-guitar", "tremolo-strings", "steel-guitar", "electric-piano", "pizzicato", "finger-bass",
        "electric-grand", "alto-sax", "spanish-guitar")  # fmt: skip


def measure(source: Source, folder: Path, output: Path, bank: Bank, *, is_free: bool) -> dict:
    """Learn one voice, from the program of its kind or, if free, from the one most alike; save it, and give its row."""
    began = time.process_time()
    recordings, left_out = recordings_from(folder / source.place, only=source.only)
    about = {"licence": source.licence, "origin": source.origin, "instrument": source.instrument,
             "source": Path(source.place).name, "miao": __version__}  # fmt: skip
    made = new_voice(bank, recordings, source.name, about, like=None if is_free else source.program)
    assert made.scores is not None
    cpu_minutes = (time.process_time() - began) / 60
    made.voice.save(output / f"{source.name}.safetensors")
    for take, audio in made.listening.items():
        audio.save(output / f"{source.name}-{take}.wav", force=True)
    held_out = held_out_pitches([r.pitch for r in recordings])
    some = [r for r in recordings if r.pitch in held_out]
    closest = closest_program(bank, recordings)
    gain = np.float32(10 ** (loudness_gain(bank, recordings, closest) / 20))
    closest_db = bank_errors(bank, [replace(r, sound=r.sound * gain) for r in some], closest)[1]
    return asdict(made.scores) | {
        "name": source.name, "program": made.start, "kept": made.kept,
        "n_recordings": len(recordings), "left_out": left_out,
        "n_pitches": len({r.pitch for r in recordings}), "closest": closest, "closest_aligned": closest_db,
        "cpu_minutes": cpu_minutes, "bank": bank.checksum,
    }  # fmt: skip


def table(rows: list[dict]) -> list[str]:
    """The rows as Markdown."""
    titles = ("voice", "notes, pitches", "held out", "program", "as it is", "best gain", "closest program", "learnt",
              "a sampler", "ceiling", "CPU min")  # fmt: skip
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for r in rows:
        lines.append(
            f"| {r['name']} | {r['n_recordings']}, {r['n_pitches']} | {r['n_notes']} | "
            f"{program_name(r['program'], False)} | {r['before']:.2f} | "
            f"{r['before_aligned']:.2f} ({r['before_gain_db']:+.1f} dB) | "
            f"{r['closest_aligned']:.2f} ({program_name(r['closest'], False)}) | **{r['after']:.2f}** | "
            f"{r['sampler']:.2f} | {r['encoded']:.2f} | {r['cpu_minutes']:.1f} |"
        )
    return lines


def main() -> None:
    """Measure what is there and not measured yet; write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--nine", action="store_true", help="only the nine sets, each from the program most alike")
    parser.add_argument("--voice", action="append", choices=[s.name for s in SOURCES], help="only these")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    record, bank = arguments.output / "voices.json", Bank.load("gm", 1)
    rows = json.loads(record.read_text()) if record.exists() else []
    for source in SOURCES:
        names = arguments.voice or (NINE if arguments.nine else [source.name])
        is_wanted = (arguments.folder / source.place).exists() and source.name in names
        if is_wanted and source.name not in [row["name"] for row in rows]:
            rows.append(measure(source, arguments.folder, arguments.output, bank, is_free=arguments.nine))
            record.write_text(json.dumps(rows, indent=2) + "\n")
            print(table(rows)[-1], flush=True)
    (arguments.output / "voices.md").write_text("\n".join(table(rows)) + "\n")
    print("\n".join(table(rows)))
    if rows:
        after, sampler, before = (
            np.array([row[key] for row in rows]) for key in ("after", "sampler", "before_aligned")
        )
        ahead, behind = int(np.sum(after < sampler)), int(np.sum(after > before))
        minutes = max(row["cpu_minutes"] for row in rows)
        print(f"{len(rows)} voices: {after.mean():.2f} dB in the mean, ahead of the sampler in {ahead}, "
              f"behind the program in {behind}; {minutes:.1f} CPU minutes at most")  # fmt: skip


if __name__ == "__main__":
    main()
