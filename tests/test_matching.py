"""Matching MIDI with sound: what the graphs give is what the nets give; places, silence, commands."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from test_project import ROOT
from typer.testing import CliRunner

from miao.bank.folder import bank_folder
from miao.bank.frames import N_SEGMENTS, WINDOW_SECONDS, encode_frames, window_mel
from miao.bank.matching import Matcher, Seen, best_place, piece_similarity, segment_cosines
from miao.cli.main import app
from miao.errors import BankError, MiaoError
from miao.midi.score import read_score
from miao.midi.writing import write_score
from miao.sound.audio import Audio
from miao.synth.synthesizer import Synthesizer

GYMNOPEDIE = ROOT / "examples" / "gymnopedie.mid"


@pytest.fixture(scope="module")
def matcher():
    return Matcher.from_pretrained("gm")


@pytest.fixture(scope="module")
def excerpt():
    """16 s of piano: score and sound."""
    score = read_score(GYMNOPEDIE).between(0, 16)
    return score, Synthesizer.from_pretrained("gm").render(score)


def test_the_graphs_give_what_the_nets_give(tmp_path):
    pytest.importorskip("onnx")
    from test_training import assert_as_near, in_half, tiny

    from miao.config import load_preset
    from miao.training.export import export_understanding
    from miao.training.objective import Objective, cosines
    from miao.training.scheme import RunConfig, load_model, load_understanding

    trainer = tiny(tmp_path / "run")
    assert isinstance(trainer.objective, Objective) and load_preset(RunConfig, "tiny")
    trainer.save()
    (tmp_path / "bank").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        export_understanding(tmp_path / "run", tmp_path / "bank")
    matcher, net, encoder = Matcher(tmp_path / "bank"), load_understanding(tmp_path / "run"), None
    encoder = load_model(tmp_path / "run").encoder
    score = read_score(GYMNOPEDIE).between(0, 9)
    audio = Audio(np.random.default_rng(0).normal(0, 0.1, (1, 9 * 44_100)).astype(np.float32), 44_100)
    seen, heard = matcher.see_score(score), matcher.see_audio(audio)
    frames = np.stack([encode_frames(score.tracks[0].notes, WINDOW_SECONDS * n) for n in range(len(seen))])
    first = round(WINDOW_SECONDS * audio.sample_rate)
    mel = np.stack([window_mel(audio.samples[:, first * n :]) for n in range(2)]).astype(np.float32)

    @torch.no_grad()
    def by_nets(encoder, net):
        midi, sound = encoder(torch.from_numpy(frames)), net.audio.features(torch.from_numpy(mel))
        vectors = net.embed_midi(midi), net.embed_audio(sound)
        alike = cosines(*vectors).unflatten(1, (N_SEGMENTS, -1)).mean(dim=2)
        return [x.numpy() for x in (*vectors, alike, torch.sigmoid(net.match_logits(sound, midi)))]

    got = seen.vectors, heard.vectors, segment_cosines(seen.vectors, heard.vectors), matcher.probabilities(seen, heard)
    for one, wanted, roughly in zip(got, by_nets(encoder, net), by_nets(in_half(encoder), in_half(net)), strict=True):
        assert_as_near(one, wanted, roughly)


def seen(vectors, is_heard=None):
    vectors = np.asarray(vectors, np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True) * N_SEGMENTS**0.5
    return Seen(vectors, {}, np.ones((len(vectors), N_SEGMENTS), bool) if is_heard is None else is_heard)


def test_a_clip_is_found_at_its_place():
    rng = np.random.default_rng(0)
    places = seen(rng.normal(size=(20, N_SEGMENTS, 16)))  # windows every 0.64 s
    stride = round(WINDOW_SECONDS / 0.64)
    clip = Seen(places.vectors[5::stride][:2], {}, places.is_heard[:2])
    similarity, seconds = best_place(places, clip, 0.64)
    assert similarity == pytest.approx(1, abs=1e-5) and seconds == pytest.approx(5 * 0.64)


def test_silence_on_either_side_does_not_count():
    rng = np.random.default_rng(0)
    a = seen(rng.normal(size=(1, N_SEGMENTS, 16)))
    half = np.arange(N_SEGMENTS)[None] < 4
    b = Seen(np.where(half[..., None], a.vectors, -a.vectors), {}, half)
    assert piece_similarity(a, b) == pytest.approx(1, abs=1e-5)
    assert piece_similarity(a, Seen(a.vectors, {}, ~half & half)) == -1


def test_a_rendering_matches_its_score_and_not_another(matcher, excerpt):
    score, audio = excerpt
    right = matcher.match(score, audio)
    moved = matcher.match(score.transposed(3), audio)
    other = matcher.match(read_score(ROOT / "examples" / "ode_to_joy.mid").between(20, 36), audio)
    assert right.probability > 0.5 > max(moved.probability, other.probability)
    assert np.nanmean(right.similarity) > 0.2 + max(np.nanmean(m.similarity) for m in (moved, other))


def test_silence_cannot_be_matched(matcher, excerpt):
    with pytest.raises(MiaoError, match="nothing to compare"):
        matcher.match(excerpt[0], Audio(np.zeros((1, 44_100 * 6), np.float32), 44_100))


def test_a_bank_without_an_audio_encoder_says_so(tmp_path):
    shutil.copy(bank_folder("gm") / "config.toml", tmp_path)
    with pytest.raises(BankError, match="cannot match MIDI with sound"):
        Matcher.from_pretrained(tmp_path)


def test_the_commands(tmp_path, excerpt):
    score, audio = excerpt
    write_score(score, tmp_path / "song.mid")
    write_score(read_score(ROOT / "examples" / "ode_to_joy.mid").between(0, 20), tmp_path / "joy.mid")
    (tmp_path / "broken.mid").write_bytes(b"no MIDI")
    audio.save(tmp_path / "song.wav")
    run = CliRunner().invoke
    paths = {name: str(tmp_path / name) for name in ("song.mid", "song.wav", "match.png")}
    told = run(app, ["match", paths["song.mid"], paths["song.wav"], "-o", paths["match.png"]])
    assert told.exit_code == 0 and "% a match" in told.stdout
    assert (tmp_path / "match.png").read_bytes()[:4] == b"\x89PNG"
    told = run(app, ["search", "--audio", paths["song.wav"], "--midi", str(tmp_path), "--json"])
    found = json.loads(told.stdout)
    assert [row["file"].rsplit("/", 1)[-1] for row in found["found"]] == ["song.mid", "joy.mid"]
    assert len(found["unread"]) == 1
    told = run(app, ["search", "--audio", paths["song.wav"], "--midi", str(tmp_path / "empty")])
    assert told.exit_code == 2 and "holds no MIDI files" in told.stderr


def test_a_score_without_tracks_is_silent(matcher, excerpt):
    seen = matcher.see_score(excerpt[0].select([]))
    assert len(seen) and not seen.is_heard.any()
