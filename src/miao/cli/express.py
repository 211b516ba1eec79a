"""How a score is played: `miao express`, and the options of expression and mood that `miao render` shares with it."""

import sys
from typing import Annotated, Any

import typer

from miao.cli.terminal import clock, count, say
from miao.errors import MiaoError, ScoreError

Amount = Annotated[
    float, typer.Option("--expression", metavar="X", help="Play as a person would: 0 (as written) to 1, 2 is too much.")
]
Mood = Annotated[
    str | None,
    typer.Option(metavar="NAME[:X]", help="happy, angry, sad, tender, calm, fearful, solemn, playful; or a:0.5,b:0.3."),
]
Valence = Annotated[float, typer.Option(metavar="X", help="A mood on the plane: -1 unpleasant to 1 pleasant.")]
Arousal = Annotated[float, typer.Option(metavar="X", help="And -1 drowsy to 1 excited.")]
Rewrite = Annotated[bool, typer.Option("--rewrite", help="Let the mood turn major into minor, and back.")]

Rules = Annotated[bool, typer.Option("--rules", help="By rules alone, without what was learnt from pianists.")]


def wishes(
    amount: float, mood: str | None, valence: float, arousal: float, *, rewrite: bool, rules: bool, seed: int
) -> dict[str, Any]:
    """The options as arguments of `Score.expressed`; none if they ask for nothing."""
    if not (amount or mood is not None or valence or arousal):
        return {}
    return {
        "amount": amount, "mood": mood, "valence": valence, "arousal": arousal, "rewrite": rewrite, "seed": seed,
        "style": "rules" if rules else "pianists",
    }  # fmt: skip


def express(
    song: Annotated[str, typer.Argument(metavar="SONG", help="A MIDI file; - is stdin.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="The MIDI file to write; - is stdout.")],
    expression: Amount = 1.0,
    mood: Mood = None,
    valence: Valence = 0.0,
    arousal: Arousal = 0.0,
    rewrite: Rewrite = False,
    rules: Rules = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed, another take.")] = 0,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file.")] = False,
) -> None:
    """Play a MIDI file as a person would, into another MIDI file.

    \b
    miao express song.mid played.mid
    miao express song.mid played.mid --expression 0.7 --mood tender:0.6
    """
    from miao.expression import expressed
    from miao.expression.written import performance_bytes
    from miao.files import write_bytes
    from miao.midi.score import bytes_of, score_of

    if output == "-" and sys.stdout.isatty():
        raise MiaoError("stdout is a terminal; name a file, or pipe the output into a program")
    data, name = bytes_of(sys.stdin.buffer if song == "-" else song)
    score = score_of(data, name)
    done = expressed(score, **wishes(expression, mood, valence, arousal, rewrite=rewrite, rules=rules, seed=seed))
    data = data if done is score else performance_bytes(done)
    if output == "-":
        sys.stdout.buffer.write(data)
    else:
        write_bytes(output, data, ScoreError, force=force)
    say(f"{output}: {count(done.n_notes, 'note')}, {clock(done.duration)} (written: {clock(score.duration)})")
