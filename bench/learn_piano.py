"""How near a piano learnt from recordings of music comes to pieces that it was not learnt from.

    python bench/learn_piano.py FOLDER --sound-banks MuseScore.sf3 TimGM6mb.sf2 -o results/learnt-piano

FOLDER holds MAPS ENSTDkAm as recordings (FLAC beside TSV). A shuffle with seed 1 puts 15 pieces to learn from and the
rest to hold out; each is taken from its beginning for --seconds. Told are the fit's own figures, by what was fitted;
with --little the same from little sound; how soon notes end once let go; and with --render the held-out pieces as they
are rendered, by the program, the sound banks and the learnt voice in its room, each at the gain that suits it best.
Writes voice, room and learnt-piano.json.
"""

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.evaluation.recordings import read_piano
from miao.evaluation.sampler import Sampler
from miao.measuring.power import FRAME_SECONDS, bands_below, note_courses
from miao.measuring.rooms import room_of
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.audio import Audio
from miao.sound.decay import measure_octaves, octave_band
from miao.sound.room import BAND_HZ, DrawnRoom
from miao.sound.rooms import save_room
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel
from miao.synth.synthesizer import Synthesizer
from miao.training.learn_music import Fitted
from miao.training.listening import best_gain
from miao.training.music_model import MusicConfig, Piece
from miao.training.new_voice import program_copy

N_TRAIN, SEED = 15, 1
LEAST_REST = 0.35  # seconds
N_DRAWINGS = 4  # of a room, over which its power is a mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sound-banks", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--train", type=int, default=N_TRAIN, help="how many of the 15 to learn from")
    parser.add_argument("--steps", type=int, help="of learning the levels; default: as `miao learn`")
    parser.add_argument("--render", type=float, default=0.0, help="seconds of each held-out piece to render; 0: none")
    parser.add_argument("--rests", action="store_true", help="how rests of whole pieces die away, as rendered")
    parser.add_argument("--little", action="store_true", help="also from 30 s of a piece and a minute of five, thrice")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.glob("*.flac") if p.with_suffix(".tsv").is_file())
    random.Random(SEED).shuffle(paths)
    bank, pieces, materials = Bank.load("gm", 1), [], []
    train, test = paths[: min(options.train, N_TRAIN)], paths[N_TRAIN:]
    for path in [*train, *test]:
        material = read_piano(path, options.seconds)
        bandwidth = material.bandwidth_hz
        heard = log_mel(material.audio.samples[:1], hop_samples=2 * HOP_SAMPLES)[:, : bands_below(bandwidth)]
        notes = np.concatenate([track.notes for track in material.score.tracks])
        pieces.append(Piece((note_courses(bank, 0, notes, len(heard)),), np.ascontiguousarray(heard)))
        materials.append(material)
    began = time.process_time()
    fitted = Fitted(bank, [0], pieces[: len(train)], MusicConfig(steps=options.steps))
    learnt_from = fitted.learn()
    held_out = pieces[len(train) :]
    row = {
        "pieces": [len(train), len(test)], "seconds": options.seconds, "cpu_seconds": time.process_time() - began,
        "learnt_from": learnt_from, "gain": fitted.one_gain_error(held_out),
        "room": fitted.room_error(held_out), "all": fitted.error(held_out),
    }  # fmt: skip
    print(f"held out, dB: gm with one gain {row['gain']:.2f}, its room, filter and floor {row['room']:.2f}, "
          f"levels too {row['all']:.2f} (learnt from: {learnt_from['all']:.2f}); {row['cpu_seconds']:.0f} s CPU",
          flush=True)  # fmt: skip
    if options.little:
        row["little"] = from_little(bank, pieces[: len(train)], held_out)
        for what, (alone, room, error) in row["little"].items():
            print(f"from {what}: its room {room:.2f}, levels too {error:.2f} (learnt from: {alone:.2f})", flush=True)
    fit = fitted.result(bandwidth)
    room = room_of(fit.t60_seconds, fit.room_db, fit.known & (BAND_HZ >= 200), fit.early_db)
    about = {"name": "piano", "bank": bank.name, "nets": bank.nets_checksum}
    voice = program_copy(bank, 0, 0.0, about)
    voice = type(voice)(voice.table, voice.embeddings, None, about, None, fit.shift)
    options.output.mkdir(parents=True, exist_ok=True)
    voice.save(options.output / "piano.safetensors")
    save_room(options.output / "piano.toml", room, {"name": "piano", "origin": "MAPS ENSTDkAm"}, force=True)
    row["dryness"] = dryness(bank, voice)
    longest = {pitch: round(max(octaves.values()), 2) for pitch, octaves in row["dryness"].items()}
    print("T60 of its notes once let go, the longest of any octave, s:", longest)
    row |= {"t60_seconds": fit.t60_seconds.tolist(), "room_db": fit.room_db.tolist()}
    if options.rests:
        apart = {"held out": test, "learnt from": train}
        falls = {which: falls_in_rests(some, bank, voice, room) for which, some in apart.items()}
        falls["all"] = {hz: tuple(a + b for a, b in zip(falls["held out"][hz], own, strict=True))
                        for hz, own in falls["learnt from"].items()}  # fmt: skip
        row["rests"] = {which: rests_off(own) for which, own in falls.items()}
        for which, octaves in row["rests"].items():
            for hz, (n, mean, most, slower) in octaves.items():
                print(f"once all keys are up, {which}, {hz} Hz: {n} rests, median fall off by {mean:.1f} dB, "
                      f"{most:.1f} at most ({slower:+.1f} in the mean)")  # fmt: skip
    if options.render:
        row["rendered"] = rendered(materials[len(train) :], options.render, bank, voice, room, options.sound_banks)
        for name, error in row["rendered"].items():
            print(f"rendered: {name:24} {error:.2f}")
    (options.output / "learnt-piano.json").write_text(json.dumps(row, indent=1) + "\n")


def from_little(bank: Bank, pieces: list[Piece], held_out: list[Piece]) -> dict[str, list[float]]:
    """Errors on what was learnt from, and on held-out pieces with the room alone and with all, means of three."""
    found = {}
    for what, n_pieces, seconds in (("30 s", 1, 30.0), ("5 min", 5, 60.0)):
        rows = []
        for first in (0, 5, 10):
            some = [p.part(0, int(seconds / FRAME_SECONDS)) for p in pieces[first : first + n_pieces]]
            if len(some) == n_pieces:
                fitted = Fitted(bank, [0], some, MusicConfig())
                fitted.learn()
                rows.append([fitted.errors["all"], fitted.room_error(held_out), fitted.error(held_out)])
        found[what] = np.mean(rows, axis=0).tolist()
    return found


def dryness(bank: Bank, voice: LearntVoice) -> dict[int, dict[int, float]]:
    """T60 of notes of a voice by pitch and octave, seconds, once they are let go, as a room's is measured: how what is
    still to come falls from 5 dB below its top. Octaves that hold less than a hundredth of the sound are left out."""
    found = {}
    for pitch in (36, 48, 60, 72, 84):
        sound = play(bank.with_voices([voice]), one_note_score(0, pitch, 80, 1.0), voice=len(bank.table.kind))
        octaves = measure_octaves(sound[:, SAMPLE_RATE : 2 * SAMPLE_RATE], SAMPLE_RATE)
        loudest = max(octave.energy_db for octave in octaves)
        found[pitch] = {int(o.hz): o.t60_seconds for o in octaves if o.energy_db > loudest - 20}
    return found


Falls = dict[int, tuple[list[np.ndarray], list[np.ndarray]]]  # levels in rests by octave, as recorded and as rendered


def falls_in_rests(paths: list[Path], bank: Bank, voice: LearntVoice, room: DrawnRoom) -> Falls:
    """What rings in rests of whole pieces, from 0.1 s before the last key comes up, in steps of 20 ms.

    A room's numbers say how its power falls; each drawing of it is noise around that, as the room of the recording is.
    So what is rendered is the mean power of both ears over `N_DRAWINGS` of it. (Both ears added up as samples would be
    3 dB less room than the fit found: their tails are unlike, and what comes straight is not.) What follows the last
    note of all is no rest: there most recordings sound on, as the end of a last pedal is not in their notes.
    """
    synthesizer, falls = Synthesizer(bank), {hz: ([], []) for hz in (250, 500, 1000, 2000, 4000)}
    for path in paths:
        material = read_piano(path, 600.0)
        samples, rate = material.audio.samples[:1].astype(np.float64), material.audio.sample_rate
        notes = np.sort(np.concatenate([track.notes for track in material.score.tracks]), order="start")
        silent = np.maximum.accumulate(notes["damp"])
        following = np.append(notes["start"][1:], silent[-1])
        noise = {hz: np.quantile(levels(samples, rate, hz), 0.01) for hz in falls}
        for begin, end in zip(silent, following, strict=True):
            if end - begin < LEAST_REST or begin < 1:
                continue
            first, end = max(begin - 8.0, 0.0), min(end - 0.02, begin + 1.5)
            drawings = [synthesizer.render(material.score.between(first, end), room=replace(room, seed=seed),
                                           voices={1: voice}, gain_db=-12.0, end=end - first).samples
                        for seed in range(N_DRAWINGS)]  # fmt: skip
            sound = np.concatenate(drawings)  # [ears of all drawings, S]
            for hz, (recorded, played) in falls.items():
                for kept, heard, start, own_rate in (
                    (recorded, samples, 0.0, rate),
                    (played, sound, first, SAMPLE_RATE),
                ):
                    part = heard[:, int((begin - start - 0.1) * own_rate) : int((end - start) * own_rate)]
                    kept.append(levels(part, own_rate, hz))
                recorded[-1][recorded[-1] < noise[hz] + 6] = np.nan
    return falls


def rests_off(falls: Falls) -> dict[int, tuple[int, float, float, float]]:
    """How far rests, rendered, are from the recording, by octave: how many rests, and mean, largest and mean signed
    difference (positive: too slow) of the median falls, in dB, over the first 20 dB or as far as half of the rests go
    on and are heard above the recording's noise."""
    found = {}
    for hz, (recorded, played) in falls.items():
        n = [min(len(a), len(b)) for a, b in zip(recorded, played, strict=True)]
        longest = max(n)
        both = np.full((2, len(n), longest), np.nan)
        for i, m in enumerate(n):
            both[0, i, :m], both[1, i, :m] = recorded[i][:m], played[i][:m]
        both[1][np.isnan(both[0])] = np.nan
        both = both[:, np.isfinite(both[0, :, :5]).any(axis=1)]
        both -= np.nanmean(both[:, :, :5], axis=2, keepdims=True)  # the 0.1 s before
        followed = np.isfinite(both[0]).sum(axis=0) >= max(len(n) / 2, 4)
        followed &= np.cumsum(~followed) == 0
        middle = np.nanmedian(both[:, :, followed], axis=1)
        off = (middle[1] - middle[0])[np.cumsum(middle[0] < -20) == 0]
        found[hz] = len(n), float(np.abs(off).mean()), float(np.abs(off).max()), float(off.mean())
    return found


def levels(samples: np.ndarray, rate: int, hz: float) -> np.ndarray:
    """The level of an octave in steps of 20 ms, dB."""
    power, step = np.square(octave_band(samples, rate, hz)).sum(axis=0), rate // 50
    return 10 * np.log10(power[: len(power) // step * step].reshape(-1, step).mean(axis=1) + 1e-14)


def rendered(materials, seconds, bank, voice, room, sound_banks) -> dict[str, float]:
    """Mean errors of held-out pieces as they are rendered."""
    errors: dict[str, list[float]] = {}
    synthesizer = Synthesizer(bank)
    for material in materials:
        score = material.score.between(0, seconds)
        n_bands = bands_below(material.bandwidth_hz)
        reference = log_mel(material.audio.samples[:1, : int(seconds * SAMPLE_RATE)])[:, :n_bands]

        def note(name: str, sound: np.ndarray, reference=reference, n_bands=n_bands) -> None:
            played = log_mel(Audio(sound, SAMPLE_RATE).samples[:, : int(seconds * SAMPLE_RATE)])[:, :n_bands]
            errors.setdefault(name, []).append(best_gain(reference, played)[0])

        plain = {"gain_db": -12.0, "end": seconds}
        note("gm, dry", synthesizer.render(score, room="none", **plain).samples)
        note("gm in the learnt room", synthesizer.render(score, room=room, **plain).samples)
        own = synthesizer.render(score, room=room, voices={1: voice}, **plain)
        note("learnt, in its room", own.samples)
        for path in sound_banks:
            note(path.name, Sampler(path).stems(score, seconds).sum(axis=0))
    return {name: float(np.mean(values)) for name, values in errors.items()}


if __name__ == "__main__":
    main()
