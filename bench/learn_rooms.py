"""How well rooms are learnt: from music played in made rooms, and from claps.

    python bench/learn_rooms.py --midi a.mid b.mid --sound-banks FluidR3.sf2 TimGM6mb.sf2 --claps clap.wav -o rooms

Each piece is played dry by each sound bank (one that none of our voices was taught by) and by `gm` itself, and put into
each room at --level dB beside it; the room is then learnt from sound and notes, from each piece and from all pooled.
What counts is T60 over T60 at 500, 1000 and 2000 Hz, as `sound.decay` measures the room's own response, and the
level between 500 and 1000 Hz. From a clap the whole room is learnt and its drawing measured again. With --known our own
rooms are learnt back from the first piece as `miao render` plays it in them, whose dry sound is known: as MP3 at 44.1
kHz, and at 16 kHz with white noise 40 dB below the music. Writes rooms.json row by row; rows that are there are not
made again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.evaluation.sampler import Sampler
from miao.measuring.known_sound import room_of_known
from miao.measuring.power import bands_below
from miao.measuring.rooms import room_from_clap
from miao.midi.score import Score, read_score
from miao.sound.audio import Audio, read_audio
from miao.sound.decay import measure_octaves
from miao.sound.room import BAND_HZ, Room
from miao.sound.rooms import AnyRoom, echo, find_room, response_room
from miao.sound.spectrum import SAMPLE_RATE
from miao.synth.synthesizer import Synthesizer
from miao.training.learn_music import Fitted
from miao.training.music_model import MusicConfig, Piece
from miao.training.performances import Performance, Span, as_piece, asked_program, excerpts

OCTAVES = (3, 4, 5)  # of BAND_HZ: 500, 1000, 2000
OWN = "gm"


def true_t60(room: AnyRoom) -> np.ndarray:
    """T60 of a room's response in the octaves that count."""
    heard = measure_octaves(room.response(SAMPLE_RATE).reshape(4, -1), SAMPLE_RATE)
    return np.array([heard[i].t60_seconds for i in OCTAVES])


def recorded(dry: np.ndarray, room: AnyRoom, level_db: float) -> Audio:
    """Dry sound [2, S] in a room, so much softer or louder than it."""
    wet = Room(SAMPLE_RATE, room).process(np.ascontiguousarray(dry, np.float32))
    return Audio(dry + wet * np.float32(10 ** (level_db / 20)), SAMPLE_RATE)


def dry_sound(player: Sampler | Synthesizer, score: Score, seconds: float) -> np.ndarray:
    """A score without any room, [2, S], at a usual level."""
    if isinstance(player, Sampler):
        sound = player.stems(score, seconds).sum(axis=0)
    else:
        sound = player.render(score, end=seconds, room="none", gain_db=-12.0).samples
    return sound * np.float32(0.3 / max(float(np.abs(sound).max()), 1e-6))


def fitted(bank: Bank, program: int, pieces: list[Piece]) -> tuple[np.ndarray, float]:
    """T60 in the octaves that count, and level around 500 and 1000 Hz, of the room of some pieces."""
    whole = [Span(number, 0, piece.n_frames) for number, piece in enumerate(pieces)]
    fit = Fitted(bank, [program], excerpts(pieces, whole), MusicConfig())
    fit.learn()
    found = fit.result(SAMPLE_RATE / 2)
    return found.t60_seconds[list(OCTAVES)], float(np.mean(found.room_db[3:5]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--midi", type=Path, nargs="*", default=[])
    parser.add_argument("--sound-banks", type=Path, nargs="*", default=[])
    parser.add_argument("--rooms", nargs="*", default=["club", "chamber", "hall"])
    parser.add_argument("--claps", type=Path, nargs="*", default=[])
    parser.add_argument("--known", nargs="*", default=[], metavar="ROOM", help="rooms to learn from what is known")
    parser.add_argument("--level", type=float, default=-8.0, help="dB of the room beside the sound")
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    record = options.output / "rooms.json"
    rows: list[dict] = json.loads(record.read_text()) if record.exists() else []

    def keep(row: dict) -> None:
        rows.append(row)
        record.write_text(json.dumps(rows, indent=1) + "\n")
        print(row, flush=True)

    def is_known(**names: str) -> bool:
        return any(all(row.get(key) == value for key, value in names.items()) for row in rows)

    for path in options.claps:
        if not is_known(clap=path.name):
            keep(from_clap(path))
    for name in options.known:
        for kind, rate in (("mp3", 44_100), ("noise", 16_000)):
            if not is_known(known=name, kind=kind):
                keep(from_known(options.midi[0], name, kind, rate, options.seconds, options.output))
    if not (options.sound_banks or options.claps) and options.known:
        summary_of_known(rows)
        return
    bank = Bank.load("gm", 1)
    players = {OWN: Synthesizer(bank)} | {path.name: Sampler(path) for path in options.sound_banks}
    rooms: dict[str, AnyRoom] = {name: find_room(name) for name in options.rooms}
    rooms |= {path.name: response_room(read_audio(path)) for path in options.claps}
    if not options.midi:
        return
    scores = {path.stem: read_score(path).between(0, options.seconds) for path in options.midi}
    for source, player in players.items():
        for name, room in rooms.items():
            if is_known(source=source, room=name):
                continue
            began, truth, pieces, ratios, levels = time.process_time(), true_t60(room), [], [], []
            for score in scores.values():
                audio = recorded(dry_sound(player, score, options.seconds), room, options.level)
                tracks = tuple(i for i, t in enumerate(score.tracks) if not t.notes["is_drum"].all())
                performance = Performance("made", audio, score, tracks)
                program = asked_program([performance])
                bands = bands_below(SAMPLE_RATE / 2)
                pieces.append(as_piece(bank, performance, [program], bands, is_one=True)[0])
                t60, level = fitted(bank, program, pieces[-1:])
                ratios.append((t60 / truth).tolist())
                levels.append(level - options.level)
            pooled = (fitted(bank, program, pieces)[0] / truth).tolist() if len(pieces) > 1 else None
            keep({"source": source, "room": name, "t60": truth.tolist(), "ratios": ratios, "pooled": pooled,
                  "levels_db": levels, "cpu_seconds": time.process_time() - began})  # fmt: skip
    summary(rows)


def from_known(midi: Path, name: str, kind: str, rate: int, seconds: float, folder: Path) -> dict:
    """T60 over T60 by octave, and the gain, of a room that our own rendering, half a second late and half as loud, was
    made in."""
    player, score = Synthesizer.from_pretrained("gm"), read_score(midi).between(0, seconds)
    samples = 0.5 * np.pad(player.render(score, room=name, sample_rate=rate).samples, ((0, 0), (rate // 2, 0)))
    dry, more = (player.render(score, room=room, sample_rate=rate, gain_db=-12.0, end=seconds).samples
                 for room in ("none", echo(rate)))  # fmt: skip
    n = min(dry.shape[1], more.shape[1])
    sent = Audio(more[:, :n] - dry[:, :n], rate)
    if kind == "mp3":
        Audio(samples, rate).save(folder / "known.mp3", force=True)
        heard = read_audio(folder / "known.mp3")
    else:
        noise = np.random.default_rng(0).standard_normal(samples.shape) * 0.01 * samples.std()
        heard = Audio(samples + noise, rate)
    began = time.process_time()
    found = room_of_known(heard, Audio(dry, rate), sent=sent)
    room = find_room(name)
    true = [octave.t60_seconds for octave in measure_octaves(room.response(rate).reshape(4, -1), rate)]
    times = [octave.t60_seconds for octave in found.octaves]
    return {"known": name, "kind": kind, "hz": [float(hz) for hz, t in zip(BAND_HZ, times, strict=True) if t == t],
            "ratios": [t / other for t, other in zip(times, true, strict=True) if t == t],
            "gain_off_db": found.room.gain_db - room.gain_db, "cpu_seconds": time.process_time() - began}  # fmt: skip


def summary_of_known(rows: list[dict]) -> None:
    """Each room's ratios by octave, and the median of how far they are off."""
    for kind in ("mp3", "noise"):
        some = [row for row in rows if row.get("kind") == kind]
        for row in some:
            ratios = ", ".join(f"{hz:g} Hz {ratio:.2f}" for hz, ratio in zip(row["hz"], row["ratios"], strict=True))
            print(f"{kind:6}{row['known']:9} {ratios}; gain {row['gain_off_db']:+.1f} dB")
        if some:
            each = [float(np.median(np.exp(np.abs(np.log(row["ratios"]))))) for row in some]
            print(f"{kind}: T60 off by a factor of {np.median(each):.3f} (median of rooms, of octaves in each)")


def from_clap(path: Path) -> dict:
    """A room learnt from a clap, drawn and measured again: T60 and level by octave, where the clap says them."""
    heard = room_from_clap(read_audio(path), path.name)
    drawn = measure_octaves(heard.room.response(SAMPLE_RATE).reshape(4, -1), SAMPLE_RATE)
    known = [i for i, octave in enumerate(heard.octaves) if octave.range_db]
    # a response that is even over frequency has twice the energy in the next octave
    off = {i: drawn[i].energy_db - 10 * np.log10(BAND_HZ[i]) - heard.levels_db[i] for i in known}
    middle = np.mean([off[i] for i in (3, 4)])
    return {"clap": path.name, "hz": [float(BAND_HZ[i]) for i in known],
            "t60": [heard.octaves[i].t60_seconds for i in known],
            "ratios": [drawn[i].t60_seconds / heard.octaves[i].t60_seconds for i in known],
            "levels_db": [float(off[i] - middle) for i in known]}  # fmt: skip


def summary(rows: list[dict]) -> None:
    """Medians of how far T60 is off, as a factor of 1 or more."""
    off = lambda values: float(np.median(np.exp(np.abs(np.log(values)))))  # noqa: E731
    for what, is_wanted in (("other sound banks", lambda s: s != OWN), ("our own", lambda s: s == OWN)):
        some = [row for row in rows if "source" in row and is_wanted(row["source"])]
        if some:
            each = off(np.concatenate([np.ravel(row["ratios"]) for row in some]))
            pooled = [row["pooled"] for row in some if row["pooled"]]
            print(f"{what}: T60 off by a factor of {each:.2f} from a piece"
                  + (f", {off(np.ravel(pooled)):.2f} from all pooled" if pooled else ""))  # fmt: skip


if __name__ == "__main__":
    main()
