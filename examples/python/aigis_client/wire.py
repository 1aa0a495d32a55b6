"""What travels: values, errors and frames, as `docs/protocol.md` has them."""

import struct

import msgpack

PROTOCOL = (1, 0)
MAX_BODY = 1 << 30
SHORT = 64 << 10

HEADER = struct.Struct("<IBQI")
KINDS = [*"hello welcome import served call reply error cancel goodbye offer ring look".split(), None, *"open item more end".split()]
(HELLO, WELCOME, IMPORT, SERVED, CALL, REPLY, ERROR, CANCEL, GOODBYE, OFFER) = range(1, 11)
(OPEN, ITEM, MORE, END) = range(14, 18)

# Values


class Some:
    """An optional value that is there although it is None, or a `Some` itself."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Some) and self.value == other.value

    def __hash__(self):
        return hash(("Some", self.value))

    def __repr__(self):
        return f"Some({self.value!r})"


class Key(dict):
    """A map that is a key of another one, and must not be changed therefore."""

    def __hash__(self):
        return hash(frozenset(self.items()))


def encode(value):
    """Returns the bytes of a value: None, bool, int, float, str, bytes, lists, dicts, `Some`, `msgpack.ExtType`."""
    return msgpack.packb(value, default=_extension)


def _extension(value):
    if isinstance(value, Some):
        present = value.value
        return msgpack.ExtType(1, encode(present)) if present is None or isinstance(present, Some) else present
    if isinstance(value, int) and -(1 << 127) <= value < 1 << 128:
        return msgpack.ExtType(2 if value < 0 else 3, value.to_bytes(16, "little", signed=value < 0))
    raise TypeError(f"a {type(value).__name__} cannot be encoded")


def decode(data):
    """Returns the value of bytes; raises ValueError unless they are exactly one."""
    try:
        value = msgpack.unpackb(data, strict_map_key=False, object_pairs_hook=as_map, ext_hook=_extended)
        _check_depth(value, 128)
    except (RecursionError, struct.error) as error:
        raise ValueError(str(error)) from error
    return value


def as_map(pairs):
    """Returns the dict of a map's entries, whose keys may be anything."""
    return {_hashable(key): value for key, value in pairs}


def _hashable(key):
    if isinstance(key, list):
        return tuple(map(_hashable, key))
    return Key({name: _hashable(value) for name, value in key.items()}) if isinstance(key, dict) else key


def _extended(kind, data):
    if kind == 1:
        return Some(decode(data))
    if kind in (2, 3):
        if len(data) != 16:
            raise ValueError(f"a 128-bit integer of {len(data)} bytes")
        return int.from_bytes(data, "little", signed=kind == 2)
    if kind == 4:
        if not data or not 1 <= data[0] <= 8:
            raise ValueError("an array of no known numbers")
        return [number for (number,) in struct.iter_unpack("<" + "hHiIqQfd"[data[0] - 1], data[1:])]
    return msgpack.ExtType(kind, data)


def _check_depth(value, left):
    if isinstance(value, dict):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
        inside = value
    elif isinstance(value, Some):
        inside = (value.value,)
    else:
        return
    if left == 0:
        raise ValueError("more than 128 lists, maps and optional values are inside one another")
    for item in inside:
        _check_depth(item, left - 1)


# Errors


class Failure(Exception):
    """Why a call has no result; each kind of the protocol is a class of its own."""

    kind = "internal"

    def __init__(self, message, **more):
        super().__init__(message)
        self.message = message
        self.skill = more.get("skill") or ""
        self.type_name = more.get("type_name")
        self.payload = more.get("payload")
        """The author's error, decoded, if it was sent along."""
        self.chain = more.get("chain") or []
        self.details = more.get("details") or []
        self.location = more.get("location")

    def body(self):
        """Returns the error as it travels."""
        payload = None if self.payload is None else encode(self.payload)
        return {
            "kind": self.kind, "skill": self.skill, "message": self.message, "type_name": self.type_name,
            "payload": payload, "chain": self.chain, "details": self.details, "location": self.location,
        }  # fmt: skip


class SkillError(Failure):
    """The skill returned its author's error."""

    kind = "skill"


class Panicked(Failure):
    """The skill panicked; `location` says where."""

    kind = "panicked"


class NotFound(Failure):
    """Nobody offers a skill of this name; `details` are the nearest names."""

    kind = "not_found"


class Mismatch(Failure):
    """The skill has another signature than was expected; `details` say how they differ."""

    kind = "mismatch"


class Arguments(Failure):
    """The arguments do not fit the parameters."""

    kind = "arguments"


class Unserializable(Failure):
    """A value cannot be encoded."""

    kind = "unserializable"


class TimedOut(Failure):
    """The time was over; the skill may still be running."""

    kind = "timed_out"


class Cancelled(Failure):
    """The caller gave up."""

    kind = "cancelled"


class WouldBlock(Failure):
    """The thread that reads answers cannot wait for one."""

    kind = "would_block"


class NotConnected(Failure):
    """There is no core."""

    kind = "not_connected"


class CoreGone(Failure):
    """The connection ended; whether the skill ran is unknown."""

    kind = "core_gone"


class Disconnected(Failure):
    """The process that serves the skill ended during the call; whether the skill ran is unknown."""

    kind = "disconnected"


class Unavailable(Failure):
    """The process that serves the skill is not running; the skill was not called."""

    kind = "unavailable"


class Overloaded(Failure):
    """Too many calls wait already."""

    kind = "overloaded"


class TooLarge(Failure):
    """A value is larger than the limit."""

    kind = "too_large"


class Refused(Failure):
    """The core refuses, and says why."""

    kind = "refused"


class Superseded(Failure):
    """The version that made the stream was replaced, and its time after that is over."""

    kind = "superseded"


class Internal(Failure):
    """A part of the core failed."""

    kind = "internal"


FAILURES = {failure.kind: failure for failure in Failure.__subclasses__()}


def failure_of(body):
    """Returns the exception for the body of an error; a kind that came later is an internal failure."""
    more = {key: body[key] for key in ("skill", "type_name", "chain", "details", "location") if key in body}
    if body.get("payload"):
        try:
            more["payload"] = decode(body["payload"])
        except ValueError:
            pass  # The message says the same, for people.
    return FAILURES.get(body["kind"], Internal)(body["message"], **more)


# Frames

ABSENT = object()
NUMBER, TEXT, TEXTS = "a number", "a text", "a list of texts"
SHAPES = {
    WELCOME: {"protocol": "two numbers", "session": NUMBER, "core_pid": NUMBER, "features": (TEXTS, [])},
    SERVED: {"plugin": (TEXT, None), "generation": (NUMBER, 0), "idempotent": ("a bool", False),
             "differences": (TEXTS, [])},
    ERROR: {"kind": TEXT, "message": TEXT, "skill": (TEXT, ""), "details": (TEXTS, []), "chain": (TEXTS, []),
            "type_name": (TEXT, None), "location": (TEXT, None), "payload": ("bytes", None)},
}  # fmt: skip


def _is(value, what):
    if what == NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64
    if what == "two numbers":
        return isinstance(value, list) and len(value) == 2 and all(_is(item, NUMBER) for item in value)
    if what == TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    # Without a type, no bytes and an empty list look the same.
    return isinstance(value, {TEXT: str, "a bool": bool, "bytes": bytes}[what]) or (what == "bytes" and value == [])


def read_header(data):
    """Returns length, kind and number of a header, and the caller's time in milliseconds."""
    length, kind, number, timeout_ms = HEADER.unpack(data)
    if not 1 <= kind <= len(KINDS) or KINDS[kind - 1] is None:
        raise ValueError(f"malformed frame: expected a kind from 1 to {len(KINDS)} but 13, found {kind}")
    most = MAX_BODY if kind in (CALL, REPLY, ERROR) else SHORT
    if length > (most if kind in (WELCOME, SERVED, CANCEL, GOODBYE) else MAX_BODY):
        raise ValueError(f"malformed frame: its body has {length} bytes, at most {most} are allowed")
    return length, kind, number, timeout_ms


def read_body(kind, data):
    """Returns the body of a frame; of the kinds that come to a client, with every field, and known to be right."""
    if kind in (CANCEL, GOODBYE):
        return None
    body = decode(data)
    if kind == OPEN:
        if not isinstance(body, list) or len(body) != 3 or not _is(body[0], NUMBER):
            raise ValueError("malformed frame: a call that is opened has a number of streams, a target and arguments")
    if kind == MORE and not _is(body, "two numbers"):
        raise ValueError("malformed frame: what is asked for is a number of items and one of bytes")
    if kind == CALL:
        if not isinstance(body, list) or len(body) != 2:
            raise ValueError("malformed frame: a call is an array of a target and the arguments")
        if not isinstance(body[0], str) and not (_is(body[0], NUMBER) and body[0] < 1 << 32):
            raise ValueError("malformed frame: the target of a call is the number of an import or the name of a skill")
    if kind == END:
        kind = ERROR
    if kind not in SHAPES:
        return body
    if not isinstance(body, dict):
        raise ValueError(f"malformed frame: the body of a {KINDS[kind - 1]} is a map")
    known = {}
    for key, what in SHAPES[kind].items():
        what, default = what if isinstance(what, tuple) else (what, ABSENT)
        value = known[key] = body.get(key, default)
        if value is not default and not _is(value, what) and not (value is None and default is None):
            raise ValueError(f"malformed frame: `{key}` of a {KINDS[kind - 1]} is {value!r}, expected {what}")
        if value is ABSENT:
            raise ValueError(f"malformed frame: a {KINDS[kind - 1]} has no `{key}`")
    if kind == ERROR and known["kind"] not in FAILURES:
        known["kind"] = Internal.kind
    return known


def frame(kind, number, body=b"", timeout_ms=0):
    """Returns the bytes of a frame with an encoded body."""
    if len(body) > MAX_BODY:
        raise TooLarge(f"a value of {len(body)} bytes cannot be sent, at most {MAX_BODY} can")
    return HEADER.pack(len(body), kind, number, timeout_ms) + body
