"""Systems side by side, on benchmarks made on the spot: recordings of harmonic tones, scores for a toy SoundFont."""

import json
import warnings
from dataclasses import dataclass, replace
from zipfile import ZipFile

import numpy as np
import pytest
from conftest import rounding
from test_soundfont import needs_fluidsynth, write_soundfont
from typer.testing import CliRunner

from miao.cli.main import app
from miao.errors import ConfigError, DataError
from miao.evaluation import evaluate as evaluate_module
from miao.evaluation import systems as systems_module
from miao.evaluation.benchmarks import build, load_benchmark, load_sound, plan
from miao.evaluation.dissonant import KINDS, generate
from miao.evaluation.encoded import notes_to_measure
from miao.evaluation.evaluate import Listeners, new_run, perform
from miao.evaluation.measure import (
    HIGHER,
    LOWER,
    METRICS,
    Measured,
    Tools,
    band_limited,
    level_gain,
    limited,
    listen_to_reference,
    measure,
)
from miao.evaluation.report import (
    differences,
    distance_facts,
    embedding_distances,
    mean_of,
    rank_correlation,
    summary,
    verdict,
)
from miao.evaluation.sampler import Sampler
from miao.evaluation.systems import NoiseSystem, Piece, SilenceSystem, SineSystem, Sound, played_stems, system
from miao.evaluation.tables import markdown, write_report
from miao.evaluation.transcription import as_heard
from miao.measuring.partials import spectral_peaks
from miao.midi.score import Curve, read_score
from miao.sound.audio import Audio, read_audio
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error

DEAF = Listeners()
FLOORS = [SilenceSystem(), NoiseSystem(), SineSystem()]


def tones(notes, seconds, rate=16_000):
    """A recording: for each (start, end, pitch, velocity) five harmonics that decay."""
    sound = np.zeros(int(seconds * rate))
    for start, end, pitch, velocity in notes:
        t = np.arange(int((end - start) * rate)) / rate
        hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 6)) * np.exp(-2 * t)
        sound[int(start * rate) :][: len(t)] += 0.1 * velocity / 127 * tone
    return sound


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of recordings as they lie on disk: three piano pieces, and a table whose sound is missing."""
    folder = tmp_path_factory.mktemp("root")
    piano = folder / "recordings" / "piano"
    piano.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        notes = [(t, t + 0.4, int(random.integers(50, 80)), int(random.integers(40, 120)))
                 for t in np.arange(0, 1, 0.5)]  # fmt: skip
        np.savetxt(piano / f"MAPS_MUS-{name}_ENSTDkAm.tsv", notes, header="onset,offset,note,velocity")
        Audio(tones(notes, 1.5)[None], 16_000).save(piano / f"MAPS_MUS-{name}_ENSTDkAm.flac")
    (piano / "MAPS_MUS-lost_ENSTDkAm.tsv").write_text("0 1 60 80\n")
    return folder


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """The benchmark made of them."""
    folder = tmp_path_factory.mktemp("built")
    list(build("recordings", folder, [root], None, seconds=1.0))
    return folder


def test_what_the_banks_violin_was_learnt_from_is_no_piece_of_the_benchmark(tmp_path):
    for name in ("minji-kim/minji-kim_bwv1003_mov4", "other/other_bwv1003_mov4"):
        for file in (f"audio/{name}.wav", f"notes/{name}.csv", f"alignments/{name}.csv"):
            (tmp_path / "violin" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "violin" / file).touch()
    info = "filename,start\nminji-kim_bwv1003_mov4,0:01\nother_bwv1003_mov4,0:01\n"
    (tmp_path / "violin" / "info.csv").write_text(info)
    plans, _, skipped = plan("recordings", [tmp_path], 1.0)
    assert [p.name for p in plans] == ["violin-other_bwv1003_mov4"]
    assert any("learnt from" in s["reason"] for s in skipped)


@dataclass(frozen=True)
class NearSystem:
    """The reference with a little noise: any metric of quality puts it between reference and floors."""

    name: str = "near"
    is_floor: bool = False
    checksum: str = "1"

    def play(self, piece):
        PLAYED.append(self.name)
        noise = 1e-3 * np.random.default_rng(0).standard_normal(piece.reference.mix.shape)
        sound = lambda x: None if x is None else (0.5 * x + noise).astype(np.float32)  # noqa: E731
        return Sound(sound(piece.reference.mix), sound(piece.reference.stems))


@dataclass(frozen=True)
class UnableSystem:
    """Cannot play anything."""

    name: str = "unable"
    is_floor: bool = False
    checksum: str = "1"

    def play(self, piece):
        raise DataError("unable has lost its instrument")


PLAYED: list[str] = []


def evaluated(folder, output, chosen):
    run = new_run(chosen, load_benchmark(folder), DEAF, output)
    PLAYED.clear()
    troubles = [trouble for _, _, some in perform(run) for trouble in some]
    return run, troubles


# benchmarks


def test_differences_are_told_of_all_pieces_and_of_each_group():
    def rows(values):
        return [{"piece": p, "group": p[0], "values": {"error": v}} for p, v in values.items()]

    played = {
        "miao:x": rows({"a1": 1.0, "a2": 2.0, "b1": 5.0, "b2": 6.0, "c1": 1.0}),
        "fluidsynth:y": rows({"a1": 2.0, "a2": 3.0, "b1": 4.0, "b2": 5.0}),
    }
    metric = {"key": "error", "better": "lower"}
    found = {d["group"]: (d["worse_by"]["mean"], d["worse_by"]["n"]) for d in differences(played, [metric])}
    assert found == {"": (0.0, 4), "a": (-1.0, 2), "b": (1.0, 2)}  # nobody else plays c
    upwards = {d["group"]: d["worse_by"]["mean"] for d in differences(played, [metric | {"better": "higher"}])}
    assert upwards == {"": 0.0, "a": 1.0, "b": -1.0}


def test_a_benchmark_says_what_it_is_made_of_and_what_is_left_out(built):
    made = load_benchmark(built)
    assert [(p.group, p.seconds, p.n_notes, p.bandwidth_hz) for p in made.pieces] == 3 * [("piano", 1.0, 2, 8000.0)]
    assert made.manifest["minutes"] == {"piano": 0.05}
    left_out = {s["name"]: s["reason"] for s in made.manifest["skipped"]}
    assert "comes without its sound" in left_out["MAPS_MUS-lost_ENSTDkAm"]
    assert set(left_out) == {"MAPS_MUS-lost_ENSTDkAm", "violin", "drums", "quartet"}
    assert made.manifest["made_of"][0]["licence"] == "CC BY-NC-SA"


def test_the_notes_of_a_piece_lie_where_its_sound_is(built):
    piece = load_benchmark(built).pieces[0]
    score, mix, stems = load_sound(built, piece)
    assert len(stems) == 1
    np.testing.assert_array_equal(stems[0], mix)
    for note in score.tracks[0].notes:
        first = round(note["start"] * SAMPLE_RATE)
        assert np.abs(mix[:, first : first + 400]).max() > np.abs(mix[:, max(first - 20, 0) : first]).max(initial=0.0)
        hz, _, _ = spectral_peaks(mix[:, first:], SAMPLE_RATE, 0.25)
        assert np.abs(1200 * np.log2(hz / (440 * 2 ** ((note["pitch"] - 69) / 12)))).min() < 20


def test_a_build_that_was_stopped_makes_only_what_is_missing(root, tmp_path):
    folder = tmp_path / "benchmark"
    list(build("recordings", folder, [root], None, seconds=1.0))
    manifest = json.loads((folder / "manifest.json").read_text())
    kept, lost, _ = (folder / "test" / p["name"] for p in manifest["pieces"])
    before = (kept / "mix.flac").stat().st_mtime_ns
    (folder / "manifest.json").unlink()
    (lost / "piece.json").unlink()
    (folder / "test" / ".miao-0123456789ab.part").mkdir()  # what a killed build leaves
    list(build("recordings", folder, [root], None, seconds=1.0))
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert (kept / "mix.flac").stat().st_mtime_ns == before
    assert not list(folder.rglob("*.part"))


def test_other_settings_do_not_mix_with_what_is_there(root, built):
    with pytest.raises(DataError, match=r"holds a benchmark with seconds 1.0, not 2.0; use another folder"):
        list(build("recordings", built, [root], None, seconds=2.0))


def test_a_benchmark_of_nothing_names_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nothing to make it of .* piano is not there"):
        list(build("recordings", tmp_path / "out", [tmp_path], None))
    with pytest.raises(ConfigError, match=r"no benchmark vinyl; there are gm-heldout, gm-othersource.*slakh"):
        list(build("vinyl", tmp_path / "out", [], None))
    with pytest.raises(ConfigError, match="which by --soundfont"):
        list(build("gm-heldout", tmp_path / "out", [], None))
    assert not (tmp_path / "out").exists()


def test_a_missing_or_changed_file_is_named(root, tmp_path):
    list(build("recordings", tmp_path, [root], None, seconds=1.0))
    piece = load_benchmark(tmp_path).pieces[1]
    with pytest.raises(ConfigError, match="has no split train; there is test"):
        load_benchmark(tmp_path, "train")
    (tmp_path / piece.score).write_bytes(b"MThd")
    with pytest.raises(DataError, match=f"the files of {piece.name} have changed"):
        load_benchmark(tmp_path)
    (tmp_path / piece.score).unlink()
    with pytest.raises(DataError, match=f"{piece.score} is missing"):
        load_benchmark(tmp_path)
    with pytest.raises(DataError, match="miao data benchmark"):
        load_benchmark(tmp_path / "test")


def test_songs_are_found_in_archives_and_none_is_lost_to_another_of_its_name(tmp_path, midi):
    songs, books = tmp_path / "freedoom" / "test", tmp_path / "pianobooster"
    for folder in (songs / "one", songs / "two", books, tmp_path / "openmsx"):
        folder.mkdir(parents=True)
    tunes = [midi({"notes": [(0.0, 1.0, pitch, 80)]}) for pitch in (60, 62, 64)]
    (songs / "one" / "a.mid").write_bytes(tunes[0])
    (songs / "two" / "a.mid").write_bytes(tunes[1])
    (songs / "two" / "b.mid").write_bytes(tunes[0])
    with ZipFile(books / "books.zip", "w") as archive:
        archive.writestr("Book 1/c.mid", tunes[2])
        archive.writestr("Book 1/c.pdf", b"")
    plans, made_of, skipped = plan("gm-heldout", [tmp_path], 10.0)
    assert [p.name for p in plans] == ["freedoom-a", "freedoom-a-2", "pianobooster-c"]
    assert [int(p.read().score.tracks[0].notes["pitch"][0]) for p in plans] == [60, 62, 64]
    assert [(m["name"], m["n_files"]) for m in made_of] == [("freedoom", 3), ("pianobooster", 1)]
    reasons = {s["name"]: s["reason"] for s in skipped}
    assert set(reasons) == {"freedoom-b", "openmsx"}
    assert "same bytes as freedoom-a" in reasons["freedoom-b"] and "no MIDI file in openmsx" in reasons["openmsx"]
    (books / "books.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"books.zip: a damaged archive"):
        plan("gm-heldout", [tmp_path], 10.0)


def test_dissonant_music_is_the_same_each_time_and_only_its_harmony_differs():
    scores = {kind: generate(kind, "piano").score for kind in KINDS}
    again = generate("atonal", "piano").score
    assert all((a.notes == b.notes).all() for a, b in zip(again.tracks, scores["atonal"].tracks, strict=True))
    assert {round(score.duration) for score in scores.values()} == {20}
    nearest = {kind: np.mean([np.diff(np.sort(n["pitch"][n["start"] == t])).min() for t in np.unique(n["start"])])
               for kind, n in ((kind, score.tracks[0].notes) for kind, score in scores.items())
               if kind != "quarter-tones"}  # fmt: skip
    assert nearest["clusters"] == 1 <= nearest["seconds"] < nearest["triads"]
    part = generate("triads", "piano", 5.0)
    assert part.seconds == 6.5 and part.score.duration <= 5 and part.score.n_notes < scores["triads"].n_notes / 3
    bent = scores["quarter-tones"].tracks[1]
    assert bent.controls["bend"].at(0.0) == 0.5


# systems


def test_names_that_are_no_system_say_which_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"flute: no such system; there are miao\[:BANK\], fluidsynth:FILE.sf2"):
        system("flute")
    with pytest.raises(ConfigError, match="which SoundFont"):
        system("fluidsynth")
    with pytest.raises(ConfigError, match="only miao and fluidsynth have effects"):
        system("sine+effects")
    with pytest.raises(ConfigError, match="no such system"):
        system("silence:1")
    with pytest.raises(DataError, match=r"nothing.sf2: no such SoundFont"):
        system(f"fluidsynth:{tmp_path}/nothing.sf2")
    with pytest.raises(DataError, match=r"nothing.sf2: no such SoundFont"):
        system(f"encoded:{tmp_path}/nothing.sf2")


def test_every_system_gives_as_much_sound_as_the_reference_has(built, toy_bank, monkeypatch):
    monkeypatch.setattr(systems_module, "_bank", lambda name: toy_bank)
    piece = load_benchmark(built).pieces[0]
    score, mix, stems = load_sound(built, piece)
    material = Piece(score, piece.seconds, Sound(mix, stems), None)
    for name in ("miao", "miao:toy+effects", "encoded", "reference", "silence", "noise", "sine"):
        sound = system(name).play(material)
        assert sound.mix.shape == mix.shape and sound.stems.shape == stems.shape, name
        if not name.endswith("+effects"):
            np.testing.assert_allclose(sound.stems.sum(axis=0), sound.mix, atol=rounding())
    assert system("miao:a/toy+effects").name == "miao:toy+effects"
    two = replace(score, tracks=(*score.tracks, *score.tracks))
    with pytest.raises(DataError, match="encoded is not available for recordings of several tracks without stems"):
        system("encoded").play(Piece(two, piece.seconds, Sound(mix, None), None))


def test_noise_is_as_loud_as_the_reference_from_moment_to_moment(built):
    piece = load_benchmark(built).pieces[0]
    score, mix, stems = load_sound(built, piece)
    noise = NoiseSystem().play(Piece(score, piece.seconds, Sound(mix, stems), None)).mix
    powers = [np.square(x).sum(axis=0)[:44_000].reshape(-1, 4400).mean(axis=1) for x in (mix, noise)]
    theirs, ours = 10 * np.log10(powers)
    assert np.abs(theirs - ours)[theirs > theirs.max() - 20].max() < 1.5


def test_a_sine_bends_as_its_track_does(midi):
    score = read_score(midi({"notes": [(0.0, 1.0, 69, 100)]}))
    track = score.tracks[0]
    bent = replace(track, controls={**track.controls, "bend": Curve(np.zeros(1), np.full(1, 0.5), 0.5)})
    for played, wanted in ((track, 440.0), (bent, 440 * 2 ** (0.5 / 12))):
        sound = SineSystem().play(Piece(replace(score, tracks=(played,)), 1.0, Sound(np.zeros((2, 4)), None), None)).mix
        hz, power, _ = spectral_peaks(sound, SAMPLE_RATE, 0.8)
        assert hz[np.argmax(power)] == pytest.approx(wanted, rel=5e-4)


# measuring


def test_the_level_of_a_system_does_not_count_but_its_balance_does(toy_bank, song):
    score = read_score(song).between(0, 3)
    stems = played_stems(toy_bank, score, 3.0)
    piece = Piece(score, 3.0, Sound(stems.sum(axis=0), stems), None)
    tools = DEAF.open()
    heard = listen_to_reference(piece, tools)
    quiet = measure(piece, Sound(0.1 * piece.reference.mix, 0.1 * stems), tools, heard)
    assert quiet.gain_db == pytest.approx(20, abs=0.01)
    assert quiet.values["log_mel_db"] == pytest.approx(0, abs=1e-3)
    assert quiet.values["stem_log_mel_db"] == pytest.approx(0, abs=1e-3)
    unbalanced = stems * np.array([1, 0.2, 1], np.float32)[:, None, None]
    assert measure(piece, Sound(unbalanced.sum(axis=0), unbalanced), tools, heard).values["stem_log_mel_db"] > 1
    assert level_gain(piece.reference.mix, 0 * piece.reference.mix) == 1


def test_what_has_been_heard_is_not_heard_again(built):
    """The reference, and the stem that is all of a mix; numbers stay those of hearing everything."""
    piece = load_benchmark(built).pieces[0]
    score, mix, stems = load_sound(built, piece)
    material = Piece(score, piece.seconds, Sound(mix, stems), None)
    lengths = []

    def transcribe(samples, rate):
        lengths.append(samples.shape[1])
        return as_heard(score.tracks[0].notes)

    tools = Tools(transcribe)
    many = replace(score, tracks=(replace(score.tracks[0], notes=np.repeat(score.tracks[0].notes, 4)),))
    material = replace(material, score=many)
    heard = listen_to_reference(material, tools)
    assert len(lengths) == 1
    itself = measure(material, material.reference, tools, heard)
    assert len(lengths) == 1
    again = measure(material, Sound(mix.copy(), stems.copy()), tools, heard)
    assert len(lengths) == 2
    assert again.values == itself.values and again.stems == itself.stems
    louder = Sound(mix, stems * np.float32(0.5))
    measure(material, louder, tools, heard)
    assert len(lengths) == 4, "a stem that is not the mix is heard by itself"


def test_what_a_recording_cannot_hold_is_not_asked_for(built):
    """The recordings are at 16 kHz: sound above 8 kHz is neither missed nor punished."""
    piece = load_benchmark(built).pieces[0]
    score, mix, stems = load_sound(built, piece)
    material = Piece(score, piece.seconds, Sound(mix, stems), None)
    hiss = 0.05 * np.sin(2 * np.pi * 12_000 * np.arange(mix.shape[1]) / SAMPLE_RATE).astype(np.float32)
    heard = listen_to_reference(material, DEAF.open())
    errors = [measure(material, limited(Sound(mix + hiss, None), hz), DEAF.open(), heard).values["log_mel_db"]
              for hz in (8_000, 22_050)]  # fmt: skip
    assert errors[0] < 0.7 and errors[1] > errors[0] + 1


# runs and reports


def test_floors_come_last_and_the_reference_first(built, tmp_path):
    run, troubles = evaluated(built, tmp_path, [NearSystem(), *FLOORS])
    report = summary(run, [])
    assert not troubles
    found = {m["key"]: m for m in report["metrics"] if m["better"]}
    assert {"log_mel_db", "stem_log_mel_db"} <= set(found)
    for key in ("log_mel_db", "stem_log_mel_db"):
        assert not found[key]["fault"], found[key]["fault"]
        means = {name: cell["mean"] for name, cell in found[key]["systems"].items()}
        assert means["reference"] == 0 < means["near"] < min(means[f.name] for f in FLOORS)


@pytest.fixture
def measured_at_once(monkeypatch):
    """For tests of the running: one number, and no listening."""
    monkeypatch.setattr(evaluate_module, "listen_to_reference", lambda piece, tools: None)
    only = Measured({"log_mel_db": 1.0}, [], 0.0, {})
    monkeypatch.setattr(evaluate_module, "measure", lambda piece, sound, tools, heard: only)


def test_a_run_that_was_stopped_redoes_nothing_that_is_done(built, tmp_path, measured_at_once):
    run, _ = evaluated(built, tmp_path, [NearSystem()])
    assert len(PLAYED) == 3
    evaluated(built, tmp_path, [NearSystem()])
    assert not PLAYED
    paths = [run.record_path(run.systems[1], piece) for piece in run.benchmark.pieces]
    paths[0].unlink()
    paths[1].write_text(paths[1].read_text()[:40])  # as if cut off
    evaluated(built, tmp_path, [NearSystem(), SineSystem()])
    assert len(PLAYED) == 2
    evaluated(built, tmp_path, [NearSystem(checksum="2")])
    assert len(PLAYED) == 3, "another version of a system is another system"
    assert not list(tmp_path.rglob("*.part*"))


def test_what_a_system_cannot_play_is_said_and_tried_again(built, tmp_path, measured_at_once):
    run, troubles = evaluated(built, tmp_path, [NearSystem(), UnableSystem()])
    assert len(troubles) == 3 and all("unable has lost its instrument" in t for t in troubles)
    text = markdown(summary(run, ["no ears"]))
    assert "- unable: piano-one, piano-three, piano-two: unable has lost its instrument" in text
    assert "- no ears" in text and "MAPS_MUS-lost_ENSTDkAm" in text
    _, troubles = evaluated(built, tmp_path, [NearSystem(), UnableSystem()])
    assert len(troubles) == 3 and not PLAYED


def test_numbers_of_a_report_are_those_of_the_files(built, tmp_path):
    run, _ = evaluated(built, tmp_path, [SineSystem()])
    text = write_report(run, [])
    report = json.loads((tmp_path / "report.json").read_text())
    errors = []
    for piece in run.benchmark.pieces:
        score, mix, stems = load_sound(built, piece)
        ours = SineSystem().play(Piece(score, piece.seconds, Sound(mix, stems), None)).mix
        ours = Audio(ours * level_gain(mix, ours), SAMPLE_RATE)
        errors.append(log_mel_error(log_mel(mix), log_mel(band_limited(ours.samples, piece.bandwidth_hz))))
    cell = next(m for m in report["metrics"] if m["key"] == "log_mel_db")["systems"]["sine"]
    assert cell["n"] == 3
    assert cell["mean"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert min(errors) - 1e-3 <= cell["low"] <= cell["mean"] <= cell["high"] <= max(errors) + 1e-3
    row = next(line for line in text.splitlines() if line.startswith("| log-mel error, mix"))
    assert f"{cell['mean']:.2f} [" in row or f"{cell['mean']:.3f} [" in row
    assert report["groups"]["piano"]["log_mel_db"]["sine"] == [pytest.approx(cell["mean"]), 3]
    for name in ("bars.png", "spectrograms.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and name in text


def test_distances_of_embeddings_are_given_for_all_and_by_group(built, tmp_path):
    run, _ = evaluated(built, tmp_path, [NearSystem()])
    groups = dict(zip([p.name for p in run.benchmark.pieces], ("harp", "piano", "piano"), strict=True))
    pieces = tuple(replace(p, group=groups[p.name]) for p in run.benchmark.pieces)
    run = replace(run, benchmark=replace(run.benchmark, pieces=pieces), listeners=Listeners(None, (("ear", None),)))
    random = np.random.default_rng(0)
    played = {}
    for s in run.systems:
        played[s.name] = [{"piece": p.name} for p in pieces]
        for p in pieces:
            shift = 3.0 * (s.name == "near") * (p.group == "piano")
            frames = shift + random.standard_normal((20, 2))
            np.savez(run.record_path(s, p).with_suffix(".npz"), **{"embedding/ear": frames})
    found = embedding_distances(run, played, set())
    fad = next(m for m in found.metrics if m["key"] == "fad/ear")
    assert fad["systems"]["reference"]["mean"] == pytest.approx(0) and fad["systems"]["near"]["n"] == 60
    distance, n = found.groups["piano"]["fad/ear"]["near"]
    assert n == 40 and distance == pytest.approx(18, abs=4), "two axes, 3 each"
    assert found.groups["piano"]["fad/ear"]["reference"][0] == pytest.approx(0)
    assert found.missing == ["no distances of ear for harp: fewer than 32 frames"]
    many = tuple(replace(p, name=f"{p.name}-{n}", facts={"roughness": float(n)}) for n in range(3) for p in pieces)
    sets = {}
    for name, shift in (("reference", 0.0), ("near", 3.0)):
        sets[name] = {p.name: random.standard_normal((20, 2)) + shift * p.facts["roughness"] for p in many}
    sets["reference"] = {p: x - x.mean() for p, x in sets["reference"].items()}
    facts = distance_facts(replace(run, benchmark=replace(run.benchmark, pieces=many)), sets, "ear")
    fads = {f["system"]: f["thirds"] for f in facts if f["key"] == "fad/ear"}
    assert [x for x, _ in fads["near"]] == [0, 1, 2] and [y for _, y in fads["reference"]] == pytest.approx([0] * 3)
    assert [y for _, y in fads["near"]] == pytest.approx([0, 18, 72], abs=6)


def test_two_systems_of_one_name_are_refused(built, tmp_path):
    with pytest.raises(ConfigError, match="near is there twice"):
        new_run([NearSystem(), NearSystem()], load_benchmark(built), DEAF, tmp_path)


@pytest.mark.parametrize(
    "better, means, fault",
    [
        (LOWER, {"reference": 0.0, "miao": 2.0, "noise": 9.0}, ""),
        (LOWER, {"reference": 0.0, "miao": 9.5, "noise": 9.0}, "puts noise before miao"),
        (HIGHER, {"reference": 0.7, "miao": 0.8, "noise": 0.1}, "puts miao before the reference"),
        (HIGHER, {"reference": 0.7, "miao": 0.6, "noise": 0.6}, "puts noise before miao"),
        ("", {"reference": 0.7, "miao": 0.8, "noise": 0.9}, ""),
        (LOWER, {"reference": 0.0, "sampler": -1e-4, "noise": 0.9}, ""),
        (LOWER, {"reference": 0.0, "sampler": -2e-3, "noise": 0.9}, "puts sampler before the reference"),
        (HIGHER, {"reference": 0.3, "miao": 0.2, "noise": 0.4}, "puts noise before reference, miao"),
    ],
)
def test_a_metric_that_orders_systems_wrongly_is_named(better, means, fault):
    assert verdict(better, means, {"noise"}) == fault


def test_the_interval_of_a_mean_holds_the_mean_and_knows_its_n():
    random = np.random.default_rng(0)
    hits = [m.low <= 0 <= m.high for m in (mean_of(random.standard_normal(30)) for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 0.99
    assert mean_of([1.0, np.nan, 3.0]).n == 2
    assert mean_of([5.0]) == replace(mean_of([5.0]), mean=5.0, low=5.0, high=5.0, n=1)
    assert mean_of([]).n == 0


def test_rank_correlation_is_spearmans():
    x = np.array([1.0, 2.0, 2.0, 5.0, 9.0])
    assert rank_correlation(x, x**3) == pytest.approx(1)
    assert rank_correlation(x, -x) == pytest.approx(-1)
    assert rank_correlation(x, np.ones(5)) == 0


def test_metrics_are_told_apart_by_key_and_title():
    assert len({m.key for m in METRICS}) == len({m.title for m in METRICS}) == len(METRICS)


# with FluidSynth


@pytest.fixture(scope="module")
def font_path(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_soundfont(tmp_path_factory.mktemp("font") / "tone.sf2")


@needs_fluidsynth
def test_a_sampler_plays_each_track_behind_its_fader(font_path, midi):
    score = read_score(midi({"notes": [(0.5, 1.0, 57, 100)]},
                            {"notes": [(0.0, 0.5, 69, 100)], "channel": 1, "controls": [(0, 10, 0)]},
                            {"notes": [(0.0, 0.5, 69, 100)], "channel": 2, "controls": [(0, 7, 0)]}))  # fmt: skip
    left, right, muted = Sampler(font_path).stems(score, 1.2)
    assert left.shape == (2, round(1.2 * SAMPLE_RATE))
    assert not np.abs(left[:, : round(0.49 * SAMPLE_RATE)]).max() > 1e-4 < np.abs(left).max()
    hz, power, _ = spectral_peaks(left, SAMPLE_RATE, 0.4)
    assert hz[np.argmax(power)] == pytest.approx(220, rel=0.005)
    assert np.square(right[0]).sum() > 100 * np.square(right[1]).sum()
    assert np.abs(muted).max() < 1e-4
    np.testing.assert_array_equal(left, Sampler(font_path).stems(score, 1.2)[0])


@needs_fluidsynth
def test_what_a_sampler_rings_on_with_is_not_heard_in_the_next_track(font_path, midi):
    rings = {"notes": [(0.0, 3.0, 57, 100)]}  # cut off while it sounds
    waits = {"notes": [(0.4, 0.5, 69, 100)], "channel": 1}
    stem = Sampler(font_path).stems(read_score(midi(rings, waits)), 0.5)[1]
    assert not stem[:, : round(0.39 * SAMPLE_RATE)].any()
    assert np.abs(stem).max() > 1e-3


@needs_fluidsynth
def test_encoded_notes_come_nearer_to_the_reference_than_sines(font_path, midi, tmp_path):
    songs = tmp_path / "root" / "freedoom" / "test"
    songs.mkdir(parents=True)
    notes = [(t, t + 0.3 + 0.1 * (n % 2), 57 + 2 * (n % 3), 80) for n, t in enumerate(np.arange(0, 3, 0.5))]
    (songs / "a.mid").write_bytes(midi({"notes": notes}))
    (songs / "twin.mid").write_bytes((songs / "a.mid").read_bytes())
    (songs / "empty.mid").write_bytes(midi({"notes": []}))
    list(build("gm-heldout", tmp_path / "made", [tmp_path / "root"], font_path, seconds=3.0))
    made = load_benchmark(tmp_path / "made")
    reasons = {s["name"]: s["reason"] for s in made.manifest["skipped"]}
    assert "holds the same bytes as freedoom-a" in reasons["freedoom-twin"]
    assert "holds no notes" in reasons["freedoom-empty"] and "openmsx" in reasons
    score, mix, stems = load_sound(made.folder, made.pieces[0])
    assert len(notes_to_measure(score.tracks[0])) == 6  # three pitches, two lengths
    piece = Piece(score, made.pieces[0].seconds, Sound(mix, stems), made.source)
    errors = []
    for name in ("encoded", "sine"):
        ours = system(name).play(piece).mix
        errors.append(log_mel_error(log_mel(mix), log_mel(ours * level_gain(mix, ours))))
    assert errors[0] < 3 < errors[1]


# the commands


def test_mistakes_on_the_command_line_take_one_line_and_exit_code_2(built, tmp_path, monkeypatch, toy_bank):
    monkeypatch.setattr(systems_module, "_bank", lambda name: toy_bank)
    lines = [
        ("evaluate", "flute", "--data", built, "-o", tmp_path / "out"),
        ("evaluate", "sine", "--data", tmp_path, "-o", tmp_path / "out"),
        ("evaluate", "sine", "--data", built, "--split", "train", "-o", tmp_path / "out"),
        ("evaluate", "sine", "--data", built, "--embedder", f"yamnet={tmp_path}/no.tflite", "-o", tmp_path / "out"),
        ("evaluate", "sine", "--data", built, "--embedder", "clap=x", "-o", tmp_path / "out"),
        ("data", "benchmark", "slakh", "-o", tmp_path / "out"),
        ("data", "benchmark", "gm-heldout", "-o", tmp_path / "out", "--soundfont", tmp_path / "no.sf2"),
        ("measure", tmp_path / "no.wav", tmp_path / "no.wav"),
    ]  # fmt: skip
    for words in lines:
        ran = CliRunner().invoke(app, [str(word) for word in words], prog_name="miao")
        assert ran.exit_code == 2, words
        assert ran.stdout == "" and len(ran.stderr.splitlines()) == 1 and ran.stderr.startswith("miao: "), ran.stderr
    assert not (tmp_path / "out").exists()


def test_score_measures_a_pair(built, tmp_path):
    piece = load_benchmark(built).pieces[0]
    mix = built / piece.mix
    Audio(0.1 * read_audio(mix).samples, SAMPLE_RATE).save(tmp_path / "quiet.wav", subtype="float")
    ran = CliRunner().invoke(app, ["measure", str(mix), str(tmp_path / "quiet.wav"), "--json"], prog_name="miao")
    assert ran.exit_code == 0, ran.stderr
    values = {row["key"]: row["value"] for row in json.loads(ran.stdout)["metrics"]}
    assert values["log_mel_db"] == pytest.approx(0, abs=0.01)
