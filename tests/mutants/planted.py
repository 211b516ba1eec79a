"""Faults planted one by one in a copy of the code: each must be noticed by the tests named beside it.

    make planted            all of them (`ONLY=word` those whose name holds the word)

A fault is a text that stands exactly once in a file, and what it becomes. `notices` are tests that pass with the code
as it is and must fail with the fault. It exits with 1 if a fault is missed, if a text is no longer there, or if a test
fails anyhow.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from run import Mutant, copied, judge


@dataclass(frozen=True)
class Fault:
    name: str
    file: str  # below src/miao
    text: str
    becomes: str
    notices: str  # file::test, or file -k words


TRAINING = "test_training_handovers.py"
SYNTH = "test_synth_handovers.py"
STEALING = "test_stealing.py"
ENVELOPE = "synth/envelope.py"
OBJECTIVE, BATCHES, TRAINER = "training/objective.py", "training/batches.py", "training/trainer.py"

FAULTS = (
    # training: contexts
    Fault("training ignores the encoder's context", OBJECTIVE, "context=contexts[batch.place]",
          "context=0 * contexts[batch.place]", f"{TRAINING} -k encoders_word"),
    Fault("training takes the context one token late", OBJECTIVE, "context=contexts[batch.place]",
          "context=contexts[(batch.place - 1).clamp(min=0)]", f"{TRAINING} -k encoders_word"),
    Fault("a chunk's place is one token late", BATCHES, "np.array([last_token(m) for m in moments])",
          "np.array([last_token(m) - 1 for m in moments])", f"{TRAINING} -k place_of_a_chunk"),
    # training: losses
    Fault("label smoothing 0", OBJECTIVE, "self.config.label_smoothing, self.config", "0.0, self.config",
          f"{TRAINING} -k smoothed_as_set"),
    Fault("soft targets off", OBJECTIVE, "soft_share=soft_share) for", "soft_share=0.0) for",
          f"{TRAINING} -k targets_soften"),
    Fault("soft targets by the nets themselves", OBJECTIVE, "soft_similarity=earlier @ others.T",
          "soft_similarity=mine.detach() @ others.T", f"{TRAINING} -k targets_soften"),
    Fault("hard negatives drawn by chance", OBJECTIVE, "wrong = [mined(s, partner, MINING_TEMPERATURE, lot[own])",
          "wrong = [mined(0 * s, partner, MINING_TEMPERATURE, lot[own])", f"{TRAINING} -k hard_negatives"),
    Fault("hard negatives swapped", OBJECTIVE, "zip(similarity, batch.lots, strict=True)",
          "zip(similarity[::-1], batch.lots, strict=True)", f"{TRAINING} -k hard_negatives"),
    Fault("lots unused", OBJECTIVE, "MINING_TEMPERATURE, lot[own])", "MINING_TEMPERATURE, 0 * lot[own])",
          f"{TRAINING} -k lots_decide"),
    Fault("queue never filled", OBJECTIVE, "(x[: config.queue].contiguous() for x in candidates)",
          "(x[:0].contiguous() for x in candidates)", f"{TRAINING} -k queue_holds"),
    Fault("queue of the nets themselves", OBJECTIVE, "news = [gathered_from_processes(x) for x in old]",
          "news = [gathered_from_processes(x.detach()) for x in both]", f"{TRAINING} -k queue_holds"),
    Fault("momentum encoders stand still", OBJECTIVE, "slow.lerp_(fast, 1 - self.config.momentum)",
          "slow.lerp_(fast, 0.0)", f"{TRAINING} -k momentum_encoders"),
    Fault("heard_in_either unused", OBJECTIVE, "weight = heard_in_either(batch, out.mean.detach())",
          "weight = batch.weight", f"{TRAINING} -k heard_in_either"),
    # training: steps
    Fault("no clipping", TRAINER, "max_norm=config.max_grad_norm", "max_norm=1e9", f"{TRAINING} -k clipped"),
    Fault("no weight average", TRAINER, "self.average[name].lerp_(value, 1 - decay)",
          "self.average[name].copy_(value)", f"{TRAINING} -k moving_average"),
    Fault("the weights are saved, not their average", TRAINER, 'under(f"{part}.", self.average)',
          'under(f"{part}.", self._released())', f"{TRAINING} -k moving_average"),
    Fault("tables are drawn to zero", TRAINER, "if p.ndim > 1 and not n.startswith(_TABLES)]", "if p.ndim > 1]",
          f"{TRAINING} -k drawn_to_zero"),
    # synthesis
    Fault("the encoder's context is ignored", "synth/ear.py", "context[row] = self._encoded[part, window][0][token]",
          "pass", f"{SYNTH} -k not_a_token_less"),
    Fault("the encoder's context is one token late", "synth/ear.py", "self._encoded[part, window][0][token]",
          "self._encoded[part, window][0][max(token - 1, 0)]", f"{SYNTH} -k not_a_token_less"),
    Fault("stereo balance swapped", "bank/voices.py", "np.stack([left, 1 - left], axis=1)",
          "np.stack([1 - left, left], axis=1)", "test_voices.py -k left"),
    Fault("stereo balance flat", "synth/note.py", "partials.spread.T @ gains[: tk.N_PARTIALS]",
          "partials.spread.T @ np.ones_like(gains[: tk.N_PARTIALS])", f"{SYNTH} -k table_says"),
    Fault("stereo balance of the noise flat", "synth/note.py",
          "np.ascontiguousarray(gains[tk.N_PARTIALS :], np.float32)",
          "np.ones_like(gains[tk.N_PARTIALS :])", f"{SYNTH} -k table_says"),
    Fault("noise mono", "synth/note.py", "balance, is_wide, hz)", "balance, False, hz)",
          f"{SYNTH} -k two_noises"),
    Fault("the soft pedal is ignored", "synth/player.py", "if part.soft >= 0.5:", "if False:",
          f"{SYNTH} -k soft_pedal"),
    Fault("vibrato is ignored", "synth/parts.py", "VIBRATO_CENTS * depth * vibrato", "0 * depth * vibrato",
          f"{SYNTH} -k vibrato"),
    Fault("the modulation wheel is ignored", "synth/parts.py", "np.maximum(modulation.mean(times, start), pressure",
          "np.maximum(0 * times, pressure", f"{SYNTH} -k vibrato"),
    Fault("pressure is ignored", "synth/parts.py", "start), pressure.mean(times, start))", "start), 0 * times)",
          f"{SYNTH} -k vibrato"),
    Fault("the newest note goes at the polyphony limit", "synth/note.py",
          "int(level / _WORTH_LEVELS), self.strike.time",
          "int(level / _WORTH_LEVELS), -self.strike.time", "test_player.py -k oldest_of_equals"),
    Fault("the loudest note goes at the polyphony limit", "synth/note.py",
          "int(level / _WORTH_LEVELS), self.strike.time",
          "-int(level / _WORTH_LEVELS), self.strike.time", "test_player.py -k quiet_go"),
    Fault("drums go first at the polyphony limit", "synth/note.py", "return self.strike.rings, self.let_go",
          "return not self.strike.rings, self.let_go", "test_player.py -k drums_go_last"),
    Fault("a key that comes up is no reason to make room", "synth/player.py",
          "                    self._ranking.told(target)", "                    pass", f"{STEALING} -k asking_all"),
    Fault("what a note is worth is not asked again", "synth/note.py", "float(times[first + others[0] - 1])",
          "until", f"{STEALING} -k as_it_says"),
    Fault("all strokes of a note start at the same phases", "synth/lots.py",
          "(round(strike.time * 1e6) * 128 + strike.pitch) * 16 + channel", "strike.pitch * 16 + channel",
          "test_engine.py -k takes_of_their_own"),
    # partials that are ahead on one side
    Fault("partials are behind instead", "synth/note.py", "right * np.sin(2 * np.pi * turns)",
          "-right * np.sin(2 * np.pi * turns)", "test_sides.py -k as_far_as_the_bank_says"),
    Fault("what is ahead is not panned with the rest", "synth/player.py", "own[[0, 1, 1]]", "own[[0, 1, 0]]",
          "test_sides.py -k as_far_as_the_bank_says"),
    Fault("live nothing is ahead", "live/stage.py", "np.ascontiguousarray(sound.gains, np.float32)",
          "np.ascontiguousarray(sound.gains * [1, 1, 0], np.float32)", "test_sides.py -k live"),
    Fault("a learnt voice forgets its program's sides", "bank/bank.py", "np.array([*range(n_voices), *turned])",
          "np.arange(n_voices)", "test_sides.py -k learnt_voice"),
    # data
    Fault("pairs split by path", "datasets/bank_pairs.py", "path.name.encode()", "str(path).encode()",
          "test_splits.py -k songs_of_pairs"),
    Fault("your own pieces split by path", "datasets/folder.py", "split_of(name), partial",
          "split_of(str(score)), partial",
          "test_splits.py -k your_own_pieces"),
    Fault("an URMP test piece is trained on", "datasets/urmp.py", "TEST = (1, 2, 12, 13, 24,", "TEST = (1, 2, 12, 24,",
          "test_splits.py -k urmp"),
    # MIDI
    Fault("the tempo after the second change", "midi/file.py", "np.cumsum(np.diff(at) * per_tick[:-1])",
          "np.diff(at) * per_tick[:-1]", "test_score.py -k three_tempi"),
    Fault("CC 121 leaves pressure", "midi/module.py", '"soft", "pressure")', '"soft")', "test_score.py -k takes_back"),
    # envelopes, and expression
    Fault("a soft attack comes up along another curve", ENVELOPE, "1)) ** 2", "1))",
          "test_envelope.py -k raised_cosine"),
    Fault("a sharp attack goes on behind the loudest row", ENVELOPE, "np.where(before,", "np.where(True,",
          "test_envelope.py -k no_louder"),
    Fault("a release jumps to the voice's own level", ENVELOPE, "np.interp(moment, self.times, self.shifts)", "0.0",
          "test_envelope.py -k does_not_jump"),
    Fault("brightness changes the line before its step", "synth/brightness.py", "times[:1], times[:-1]", "times",
          "test_brightness.py -k changes_nothing_before"),
    Fault("a bright note is louder", "synth/brightness.py", "self.lifts, self.weights))",
          "self.lifts, 0 * self.weights))", "test_brightness.py -k as_loud"),
    Fault("a slow release asks the nets for another age", "synth/note.py", "self.lag + late", "self.lag",
          "test_envelope.py -k own_length"),
    Fault("what a long release leaves is forgotten when seeking", "synth/stems.py", "1.0) for value in kinds",
          "0.0) * 0 + 0.2 for value in kinds", "test_envelope.py -k from_its_middle"),
    Fault("the file's pedal holds what is detached", "expression/tracks.py", "if articulation < 0:", "if False:",
          "test_expression.py -k detached"),
    Fault("a pedal without its catch", "expression/sustained.py", "<= catch", "< 0",
          "test_expression_properties.py -k no_promise"),
    Fault("all strokes of a key ring on under a pedal of ours", "expression/tracks.py", "        _thin_out(played)",
          "        pass", "test_expression_properties.py -k no_promise"),
    Fault("notes may part by more", "expression/play.py", "WIDEST_CHORD = 0.03", "WIDEST_CHORD = 0.05",
          "test_expression_properties.py -k no_promise"),
    Fault("notes may be shorter", "expression/play.py", "SHORTEST_SECONDS = 0.02", "SHORTEST_SECONDS = 0.01",
          "test_expression_properties.py -k no_promise"),
    Fault("late notes wait for no one", "expression/play.py", "np.minimum(WIDEST_CHORD, 0.9 * room)", "WIDEST_CHORD",
          "test_expression_properties.py -k no_promise"),
    Fault("a mood moves no held note", "live/feeling.py", "for lane in self._sounds:", "for lane in ():",
          "test_feeling.py -k held"),
    Fault("a hand's controller forgets the mood", "live/feeling.py", "value = float(moved(value, shift))", "pass",
          "test_feeling.py -k struck"),
    # variations
    Fault("GS's bank numbers choose nothing", "bank/kits.py", "return msb or _XG_OWN", "return 0 or _XG_OWN",
          "test_kits.py -k gs_and_gm2_number"),
    Fault("GM2's wide piano is a dark one", "bank/kits.py", "_GM2_OWN.get(program, _GM2_VARIATIONS)", "_GM2_VARIATIONS",
          "test_kits.py -k gm2_and_xg"),
    Fault("the nets play where a variation lacks", "bank/kits.py", "return self.programs.get((0, program), program) if",
          "return program if", "test_kits.py -k not_there"),
    Fault("a variation that lacks is not told", "bank/kits.py", "return number > 0 and (number, program) in",
          "return (0 == 0) or number in", "test_variations.py -k lacking_is_told"),
    Fault("variations are numbered one too high", "bank/variations.py", "first + n for n, place",
          "first + n + 1 for n, place", "test_variations.py -k its_own_voice"),
    Fault("variations lose their key levels", "bank/bank.py", "Additions(None, more.keys, more.openings",
          "Additions(None, None, more.openings", "test_variations.py -k key_levels"),
    Fault("variations lose their courses", "bank/variations.py", "part(Courses, \"courses\")",
          "(part(Courses, \"courses\"), Courses.none())[1]", "test_variations.py -k saved_is_what"),
    Fault("a live channel forgets the variation", "live/instrument.py", "channel, _BANK, variation)",
          "channel, _BANK, 0)", "test_live.py -k plays_a_variation"),
    # sound
    Fault("WAV byte rate halved", "sound/writer.py", "self.sample_rate * step, step, self.bits",
          "self.sample_rate * step // 2, step, self.bits", "test_audio.py -k wav_header"),
)  # fmt: skip


def main() -> int:
    """Plant each fault in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name holds this")
    only = parser.parse_args().only
    chosen = [fault for fault in FAULTS if only in fault.name]
    n_missed = 0
    with copied() as place:
        for fault in chosen:
            said = verdict(place, fault)
            n_missed += said != "noticed"
            print(f"{said:13} {fault.name} ({fault.notices.split()[0]})", flush=True)
    print(f"{len(chosen)} faults planted, {n_missed} not noticed")
    return 1 if n_missed else 0


def verdict(place: Path, fault: Fault) -> str:
    whole = (place / "src" / "miao" / fault.file).read_text()
    if whole.count(fault.text) != 1:
        return "GONE"
    file, *rest = fault.notices.split(" ", 2)
    tests = [f"tests/{file}", *rest]
    if judge(Mutant(fault.file, 0, "", "", whole), place, tests) != "survived":
        return "FAILS ANYHOW"
    said = judge(Mutant(fault.file, 0, "", "", whole.replace(fault.text, fault.becomes)), place, tests)
    return "MISSED" if said == "survived" else "noticed"


if __name__ == "__main__":
    sys.exit(main())
