"""What the server can be asked, as OpenAPI 3.1."""

from typing import Any

from miao.web.exports import FORMATS
from miao.web.limits import Limits

_ERROR = {"description": "What is wrong, in one line", "content": {"application/json": {"schema": {
    "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}}}  # fmt: skip
_NUMBER, _TEXT, _WHOLE = {"type": "number"}, {"type": "string"}, {"type": "integer"}


def openapi(limits: Limits) -> dict[str, Any]:
    """The description, for programs; what the page itself says through its socket is not in it."""
    from miao import __version__

    session = _query("session", _TEXT, "The page that it is for; without one it is forgotten after a while")
    song, job = _path("song"), _path("job")
    midi = {"required": True, "content": {"audio/midi": {"schema": {"type": "string", "format": "binary"}}}}
    wish = {"required": True, "content": {"application/json": {"schema": {
        "type": "object", "properties": {"format": {"enum": list(FORMATS)},
                                         "arrangement": {"$ref": "#/components/schemas/Arrangement"}}}}}}  # fmt: skip
    started = _answer("202", "The work has been put in turn", "Job")
    return {
        "openapi": "3.1.0",
        "info": {"title": "miao", "version": __version__,
                 "description": f"MIDI files become sound. At most {limits.midi_bytes:,} bytes of MIDI."},
        "paths": {
            "/api/render": {"post": _operation(
                "A MIDI file as sound, as `miao render` writes it",
                {"200": {"description": "The file", "content": {"*/*": {}}}},
                [_query("format", {"enum": list(FORMATS)}, "wav if none"),
                 _query("arrangement", _TEXT, "An Arrangement as JSON"),
                 _query("name", _TEXT, "What the song is called")],
                midi)},
            "/api/songs": {"post": _operation(
                "Bring a song", _answer("201", "The song", "Song"),
                [session, _query("name", _TEXT, "Its file's name"),
                 _query("example", _TEXT, "An example instead of a file")],
                midi)},
            "/api/songs/{song}": {"get": _operation("What is in a song", _answer("200", "The song", "Song"), [song]),
                                  "delete": _operation("Forget a song", {"204": {"description": "Forgotten"}}, [song])},
            "/api/songs/{song}/exports": {"post": _operation("Make a file of a song", started, [song], wish)},
            "/api/songs/{song}/survey": {"post": _operation(
                "How loud a song is, and the shape of its sound", started, [song], wish)},
            "/api/songs/{song}/notes": {"get": _operation(
                "Notes of a stretch, to be drawn: start f4, end f4, track u2, pitch u1, velocity u1, little-endian",
                {"200": {"description": "12 bytes a note", "content": {"application/octet-stream": {}}}},
                [song, _query("from", _NUMBER, "Seconds"), _query("to", _NUMBER, "Seconds")])},
            "/api/songs/{song}/picture": {"get": _operation(
                "The whole roll, u1[128, 1200]: 0, or 1 + the track modulo 16",
                {"200": {"description": "153,600 bytes", "content": {"application/octet-stream": {}}}}, [song])},
            "/api/songs/{song}/matches": {"post": _operation(
                "Whether a sound is a recording of a song", started, [song], _wishes("sound"))},
            "/api/sounds": {"post": _operation(
                "Bring a sound", {"201": {"description": "Its key"}},
                [session, _query("name", _TEXT, "Its file's name")],
                {"required": True, "content": {"*/*": {}}})},
            "/api/voices": {"post": _operation(
                "Learn a voice: of single notes by their names, or of a recording of a song", started, None,
                _wishes("session", "name", "sounds", "song"))},
            "/api/jobs/{job}/keep": {"post": _operation(
                "Keep the voice that was learnt", {"200": {"description": "Its name"}}, [job])},
            "/api/jobs/{job}": {"get": _operation("How far some work is", _answer("200", "The work", "Job"), [job]),
                                "delete": _operation("Cancel it", {"204": {"description": "Cancelled"}}, [job])},
            "/api/jobs/{job}/files/{name}": {"get": _operation(
                "A file that it made", {"200": {"description": "The file", "content": {"*/*": {}}}},
                [job, _path("name")])},
            "/api/about": {"get": _operation("What there is to choose from", {"200": {"description": "Lists"}})},
            "/health": {"get": _operation("Whether the server is well", {"200": {"description": "It is"}})},
            "/metrics": {"get": _operation("Counters, as Prometheus reads them", {"200": {"description": "Text"}})},
        },
        "components": {"schemas": {"Arrangement": _ARRANGEMENT, "Song": _SONG, "Job": _JOB}},
    }  # fmt: skip


def _operation(
    summary: str, answers: dict[str, Any], parameters: list[dict[str, Any]] | None = None, body: Any = None
) -> dict[str, Any]:
    made: dict[str, Any] = {"summary": summary, "responses": answers | {"4XX": _ERROR}}
    if parameters:
        made["parameters"] = parameters
    if body:
        made["requestBody"] = body
    return made


def _wishes(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": _TEXT} if name == "sounds" else _TEXT for name in names}
    content = {"application/json": {"schema": {"type": "object", "properties": properties}}}
    return {"required": True, "content": content}


def _answer(status: str, description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {status: {"description": description, "content": content}}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _between(kind: dict[str, Any], low: float, high: float, text: str) -> dict[str, Any]:
    return kind | {"minimum": low, "maximum": high, "description": text}


_ARRANGEMENT = {
    "type": "object", "additionalProperties": False,
    "description": "How a song is changed; the same as the file of `miao render --arrangement`",
    "properties": {
        "tempo": _between(_NUMBER, 0.25, 2, "1 is the song's"),
        "transpose": _between(_WHOLE, -24, 24, "Semitones"),
        "room": _TEXT | {"description": "A room's name, or none"},
        "wet": _between(_NUMBER, 0, 4, "How much of the room"),
        "loudness": _between(_NUMBER, -60, -5, "LUFS"),
        "expression": _between(_NUMBER, 0, 2, "Played as a person would"),
        "mood": _TEXT, "valence": _between(_NUMBER, -1, 1, ""), "arousal": _between(_NUMBER, -1, 1, ""),
        "tracks": {"type": "object", "description": "By number, from 1", "additionalProperties": {
            "type": "object", "additionalProperties": False, "properties": {
                "program": _between(_WHOLE, 0, 128, "General MIDI; 0: as the song has it"),
                "variation": _between(_WHOLE, 0, 127, "of that program, as GS numbers them; 0: the program itself"),
                "kit": _between(_WHOLE, -1, 127, "A drum kit; -1: as the song has it"),
                "voice": _TEXT | {"description": "A learnt voice"},
                "volume_db": _between(_NUMBER, -60, 6, "Beside the song's faders"),
                "pan": _between(_NUMBER, -2, 1, "-1 left to 1 right; -2: as the song has it"),
                "muted": {"type": "boolean"}, "solo": {"type": "boolean"},
            }}},
    },
}  # fmt: skip
_SONG = {
    "type": "object",
    "properties": {"song": _TEXT, "name": _TEXT, "seconds": _NUMBER, "notes": _WHOLE,
                   "tracks": {"type": "array", "items": {"type": "object"}},
                   "warnings": {"type": "array", "items": _TEXT}, "ignored": {"type": "array", "items": _TEXT}},
}  # fmt: skip
_JOB = {
    "type": "object",
    "properties": {"job": _TEXT, "kind": _TEXT,
                   "state": {"enum": ["waiting", "running", "done", "failed", "cancelled"]},
                   "done": _between(_NUMBER, 0, 1, "The share that is done"), "what": _TEXT, "error": _TEXT,
                   "result": {"type": "object"}, "files": {"type": "array", "items": _TEXT}},
}  # fmt: skip
