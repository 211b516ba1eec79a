"""How near voices learnt from recordings of music come to music that they were not learnt from.

    python bench/learn_recordings.py FOLDER --group violin --sound-banks MuseScore.sf3 TimGM6mb.sf2 -o results/learnt

FOLDER holds recordings/piano, violin, drums and quartet, as `miao evaluate` reads them. What is learnt from what:

drums    each piece is another kit: its first 60 % are learnt, the rest is held out
violin   each movement of a player is held out once, and learnt from the player's others; where there are none, from its
         own first 60 %
quartet  the mixes, four voices at once: the chorales are held out in three turns, two at a time
stems    the same of each instrument of the quartets by itself
piano    15 pieces of a shuffle with seed 1 are learnt, the other 8 held out

All that is held out is rendered: by the programs dry and in the learnt room, by the learnt voices in it, and by the
sound banks, each piece at the gain and the shift (up to 35 ms) that suit it best; log-mel error with 95 % intervals
over pieces, and how much nearer the learnt voices are than each, paired. With --embedder also RED of each piece and the
Fréchet distance over all, up to the recordings' bandwidth and at their loudness, as `miao evaluate` has them; intervals
of its differences are a jackknife's over pieces. Writes learnt-GROUP.json, and clips with --clips.
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from miao.arrays import Floats
from miao.bank.bank import Bank
from miao.evaluation.distances import frechet_distance, relative_embedding_distance
from miao.evaluation.embedders import Embedder
from miao.evaluation.evaluate import EMBEDDERS
from miao.evaluation.measure import band_limited, level_gain
from miao.evaluation.recordings import plan_recordings
from miao.evaluation.report import mean_of
from miao.evaluation.sampler import Sampler
from miao.measuring.align import align
from miao.measuring.power import bands_below
from miao.midi.score import Score
from miao.sound.audio import Audio, resample
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import Synthesizer
from miao.training.listening import Player, best_gain
from miao.training.music_voice import LearntRecording, learn_music
from miao.training.performances import Performance, Span

GROUPS = ("piano", "violin", "drums", "quartet", "stems")
LEARNT_SHARE = 0.6
N_PIANO, SEED = 15, 1
LEAD_SECONDS, MOST_FRAMES = 2.0, 3
LEARNT = "learnt, in its room"


@dataclass(frozen=True)
class Turn:
    """A training: some performances, and which of them are held out, whole or from a share of their length on."""

    name: str
    performances: tuple[Performance, ...]
    held_out: tuple[int, ...]
    share: float = 0.0
    bandwidth_hz: float = SAMPLE_RATE / 2  # of the recordings

    def divide(self, lengths: Sequence[int]) -> tuple[list[Span], list[Span]]:
        """What is learnt and what is held out, of pieces with so many frames."""
        learnt = [Span(n, 0, length) for n, length in enumerate(lengths) if n not in self.held_out]
        cuts = {n: int(self.share * lengths[n]) for n in self.held_out}
        learnt += [Span(n, 0, cut) for n, cut in cuts.items() if cut]
        return learnt, [Span(n, cut, lengths[n]) for n, cut in cuts.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group", choices=GROUPS, default="violin")
    parser.add_argument("--only", default="", help="only trainings with this in their names")
    parser.add_argument("--sound-banks", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=0.0, help="of each piece; 0: whole")
    parser.add_argument("--embedder", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--clips", action="store_true", help="write what is rendered")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    samplers = {path.stem: partial(played, Sampler(path)) for path in options.sound_banks}
    embedders = dict(opened(text) for text in options.embedder)
    bank, rows, heard = Bank.load("gm", 1), [], []
    for turn in turns(options.folder, options.group, options.seconds):
        if options.only not in turn.name:
            continue
        began = time.process_time()
        made = learn_music(bank, turn.performances, options.group, {"source": options.group}, divide=turn.divide,
                           keep_held_out=True)  # fmt: skip
        rows.append({
            "turn": turn.name, "fit": [made.scores.one_gain, made.scores.room, made.scores.all],
            "learnt_from": made.learnt_from, "t60_seconds": np.round(made.fit.t60_seconds, 3).tolist(),
            "remarks": made.remarks, "cpu_seconds": time.process_time() - began,
        })  # fmt: skip
        new = [listened(bank, made, turn, number, samplers, embedders, options.output if options.clips else None)
               for number in turn.held_out]  # fmt: skip
        heard += new
        print(f"{turn.name}: fit {', '.join(f'{x:.2f}' for x in rows[-1]['fit'])}; rendered "
              + ", ".join(f"{name} {np.mean([one.errors[name] for one in new]):.2f}" for name in new[0].errors),
              flush=True)  # fmt: skip
    report = {"group": options.group, "turns": rows, "n": len(heard), **summary(heard)}
    for line in lines(report):
        print(line)
    (options.output / f"learnt-{options.group}.json").write_text(json.dumps(report, indent=1) + "\n")


def opened(text: str) -> tuple[str, Embedder]:
    """An embedder, named as NAME=FILE, by its name."""
    name, _, path = text.partition("=")
    return name, EMBEDDERS[name](path)


def played(sampler: Sampler, score: Score, seconds: float) -> Floats:
    """A score as a sound bank has it."""
    mix: Floats = sampler.stems(score, seconds).sum(axis=0)
    return mix


# what is learnt from what


def turns(folder: Path, group: str, seconds: float) -> list[Turn]:
    """The trainings of a group."""
    plans = [plan for plan in plan_recordings([folder], seconds)[0]
             if plan.group == ("quartet" if group == "stems" else group)]  # fmt: skip
    all_of = [(plan.name, plan.read()) for plan in plans]
    bandwidth = min(m.bandwidth_hz for _, m in all_of)
    whole = [performance(name, m.audio, m.score) for name, m in all_of]
    if group == "drums":
        return [Turn(piece.name, (piece,), (0,), LEARNT_SHARE, bandwidth) for piece in whole]
    if group == "violin":
        found = []
        for piece in whole:
            same = tuple(p for p in whole if player_of(p) == player_of(piece))
            share = LEARNT_SHARE if len(same) == 1 else 0.0
            found.append(Turn(piece.name, same, (same.index(piece),), share, bandwidth))
        return found
    if group == "piano":
        order = sorted(whole, key=lambda p: p.name)
        random.Random(SEED).shuffle(order)
        return [Turn("piano", tuple(order), tuple(range(N_PIANO, len(order))), 0.0, bandwidth)]
    if group == "quartet":
        return in_thirds("quartet", whole, bandwidth)
    found = []
    for track in dict.fromkeys(track.name for _, m in all_of for track in m.score.tracks):
        alone = []
        for name, material in all_of:
            for place, (own, stem) in enumerate(zip(material.score.tracks, material.stems, strict=True)):
                if own.name == track:
                    score = replace(material.score, tracks=material.score.tracks[place : place + 1])
                    alone.append(performance(f"{name}-{track}", stem, score))
        found += in_thirds(track, alone, bandwidth)
    return found


def performance(name: str, audio: Audio, score: Score) -> Performance:
    """A piece to be learnt from, tuned as `miao learn` finds it."""
    notes = np.concatenate([track.notes for track in score.tracks])
    found = align(audio.samples, audio.sample_rate, notes)
    return Performance(name, audio, score, tuple(range(len(score.tracks))), found.tuning_cents)


def player_of(piece: Performance) -> str:
    """Who plays a movement of the violin data set."""
    return piece.name.partition("_")[0]


def in_thirds(name: str, pieces: Sequence[Performance], bandwidth: float) -> list[Turn]:
    """Three trainings, each of which holds out every third piece."""
    return [Turn(f"{name} {turn + 1}", tuple(pieces), tuple(range(turn, len(pieces), 3)), 0.0, bandwidth)
            for turn in range(3)]  # fmt: skip


# what it is worth


@dataclass(frozen=True)
class Heard:
    """A held-out piece, rendered."""

    name: str
    errors: dict[str, float]  # dB
    embeddings: dict[str, dict[str, Floats]]  # by embedder and system, the recording among them


def listened(
    bank: Bank, made: LearntRecording, turn: Turn, number: int, samplers: dict[str, Player],
    embedders: dict[str, Embedder], clips: Path | None,
) -> Heard:  # fmt: skip
    """A held-out piece as all play it."""
    piece = turn.performances[number]
    start = turn.share * piece.audio.duration
    begin, end = max(start - LEAD_SECONDS, 0.0), piece.audio.duration
    score, lead = piece.score.between(begin, end), round((start - begin) * SAMPLE_RATE)
    voices = {place + 1: made.voices[n] for place, n in made.places.items()}
    synthesizer, plain = Synthesizer(bank), PlaySettings(gain_db=-12.0, end=end - begin, room="none")
    wet = replace(plain, room=made.room or "none")
    systems = {
        "gm, dry": lambda: synthesizer.render(score, plain).samples,
        "gm in the learnt room": lambda: synthesizer.render(score, wet).samples,
        LEARNT: lambda: synthesizer.render(score, wet, voices=voices).samples,
    } | {name: partial(player, score, end - begin) for name, player in samplers.items()}
    bandwidth = min(piece.audio.sample_rate / 2, turn.bandwidth_hz)
    cut = piece.audio.samples[:2, round(start * piece.audio.sample_rate) :]
    recorded = resample(Audio(cut, piece.audio.sample_rate), SAMPLE_RATE).samples
    n_bands, errors, embeddings = bands_below(bandwidth), {}, {name: {} for name in embedders}
    reference = log_mel(recorded)[:, :n_bands]
    for name, render in {"recording": lambda: recorded, **systems}.items():
        sound = render()
        if name != "recording":
            sound = sound[:, lead:]
            errors[name] = best_shifted(reference, log_mel(sound)[:, :n_bands])
        if bandwidth < SAMPLE_RATE / 2 and embedders:
            sound = band_limited(np.broadcast_to(sound, (2, sound.shape[1])), bandwidth)
        sound = sound * np.float32(level_gain(np.broadcast_to(recorded, (2, recorded.shape[1])), sound))
        for embedder in embedders.values():
            embeddings[embedder.name][name] = embedder(sound, SAMPLE_RATE)
        if clips is not None:
            Audio(sound, SAMPLE_RATE).save(clips / f"{piece.name}-{name.replace(' ', '-')}.wav", force=True)
    return Heard(piece.name, errors, embeddings)


def best_shifted(reference: Floats, rendered: Floats) -> float:
    """The log-mel error at the gain and the shift, in frames of 12 ms, that suit best."""
    gain = best_gain(reference, rendered)[1]
    n = min(len(reference), len(rendered)) - 2 * MOST_FRAMES
    inside = reference[MOST_FRAMES : MOST_FRAMES + n]
    shifts = range(2 * MOST_FRAMES + 1)
    first = min(shifts, key=lambda at: log_mel_error(inside, rendered[at : at + n] + gain)) - MOST_FRAMES
    moved = np.roll(rendered, -first, axis=0)
    return best_gain(reference, moved)[0]


def summary(heard: Sequence[Heard], learnt: str = LEARNT) -> dict:
    """Mean errors over pieces and how much nearer the learnt voices are, each with its interval."""
    names = list(heard[0].errors)
    each = {name: np.array([one.errors[name] for one in heard]) for name in names}
    found = {"pieces": {one.name: one.errors for one in heard}, "errors": intervals(each),
             "nearer": nearer(each, learnt)}  # fmt: skip
    for embedder in heard[0].embeddings:
        sets = [one.embeddings[embedder] for one in heard]
        reds = {name: np.array([relative_embedding_distance(own["recording"], own[name]) for own in sets])
                for name in names}  # fmt: skip
        found[f"RED ({embedder})"], found[f"RED ({embedder}), nearer"] = intervals(reds), nearer(reds, learnt)
        fad = {name: distance(sets, name) for name in names}
        found[f"FAD ({embedder})"] = fad
        if len(sets) == 1:
            continue
        without = {name: [distance([*sets[:n], *sets[n + 1 :]], name) for n in range(len(sets))] for name in names}
        found[f"FAD ({embedder}), nearer"] = {
            name: jackknife(fad[name] - fad[learnt], np.array(without[name]) - np.array(without[learnt]))
            for name in names if name != learnt
        }  # fmt: skip
    return found


def distance(sets: Sequence[dict[str, Floats]], name: str) -> float:
    """Fréchet distance of a system from the recordings, over all pieces."""
    return frechet_distance(*(np.concatenate([own[which] for own in sets]) for which in ("recording", name)))


def jackknife(value: float, without: Floats) -> list[float]:
    """A value and its 95 % interval, from what it is without each of the pieces."""
    n = len(without)
    half = 1.96 * float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return [value, value - half, value + half]


def intervals(each: dict[str, Floats]) -> dict[str, list[float]]:
    """Means with their intervals."""
    found = {name: mean_of(values.tolist()) for name, values in each.items()}
    return {name: [mean.mean, mean.low, mean.high] for name, mean in found.items()}


def nearer(each: dict[str, Floats], learnt: str) -> dict[str, list[float]]:
    """How much nearer the learnt voices are than the others, paired."""
    return intervals({name: values - each[learnt] for name, values in each.items() if name != learnt})


def markdown(report: dict) -> str:
    """The report as tables."""
    found = [
        f"{report['n']} held-out pieces as rendered, 95 % intervals over pieces. Beside each figure stands by how "
        "much the learnt voices are nearer.", "", *compared(report),
    ]  # fmt: skip
    found += ["", "By the fit, dB: the programs with one gain; in the room that was learnt, filtered; levels too; and "
              "how long it took.", "", "| training | one gain | room | levels too | learnt from | processor s |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for turn in report["turns"]:
        figures = " | ".join(f"{x:.2f}" for x in (*turn["fit"], turn["learnt_from"]["all"]))
        found.append(f"| {turn['turn']} | {figures} | {turn['cpu_seconds']:.0f} |")
    return "\n".join(found)


def compared(report: dict) -> list[str]:
    """All systems beside the learnt voices, and each piece, as tables."""
    keys = [key for key in report if key[:3] in ("RED", "FAD") and "nearer" not in key]
    found = ["| system | log-mel error dB | " + " | ".join(keys) + " |", "|---|---|" + "---|" * len(keys)]
    for name, error in report["errors"].items():
        cells = [shown(error, report["nearer"].get(name))]
        cells += [shown(report[key][name], report.get(f"{key}, nearer", {}).get(name)) for key in keys]
        found.append(f"| {name} | {' | '.join(cells)} |")
    systems = list(report["errors"])
    found += ["", "| piece, log-mel error dB | " + " | ".join(systems) + " |", "|---|" + "---|" * len(systems)]
    for piece, errors in report["pieces"].items():
        found.append(f"| {piece} | " + " | ".join(f"{errors[name]:.2f}" for name in systems) + " |")
    return found


def shown(value: float | list[float], by: list[float] | None) -> str:
    """A figure, and by how much the learnt voices are nearer, in a cell."""
    words = f"{np.ravel(value)[0]:.2f}"
    return words if by is None else words + " ({:+.2f} [{:.2f}, {:.2f}])".format(*by)


def lines(report: dict) -> list[str]:
    """The report in words."""
    found = [f"{report['n']} held-out pieces as rendered; learnt is nearer by, with 95 % intervals:"]
    for key in [key for key in report if key == "errors" or (key[:3] in ("RED", "FAD") and "nearer" not in key)]:
        what, by = ("log-mel, dB", "nearer") if key == "errors" else (key, f"{key}, nearer")
        for name, value in report[key].items():
            words = "   {:+.2f} [{:.2f}, {:.2f}]".format(*report[by][name]) if name in report.get(by, ()) else ""
            found.append(f"{what:16} {name:28} {np.ravel(value)[0]:6.2f}{words}")
    return found


if __name__ == "__main__":
    main()
