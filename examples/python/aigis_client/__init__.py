"""A client of AIGIS in Python: calls skills of a core, and serves skills of this process to everybody there.

A folder to be copied into a program; it needs Python 3.8 and the package `msgpack`. It speaks `docs/protocol.md`,
with streams and without the other optional features. `python3 -m aigis_client --check docs/protocol-vectors.json` holds it against the
frozen bytes.

    with aigis_client.connect() as core:
        core.call("greeter.greet", "zaltu")
"""

import concurrent.futures
import inspect
import json
import os
import socket
import sys
import threading
import time
import traceback

from .streams import Items, Pump, Stream
from .wire import (
    CALL,
    CANCEL,
    END,
    ERROR,
    GOODBYE,
    HEADER,
    HELLO,
    IMPORT,
    ITEM,
    KINDS,
    MORE,
    OFFER,
    OPEN,
    PROTOCOL,
    REPLY,
    SERVED,
    WELCOME,
    Arguments,
    Cancelled,
    CoreGone,
    Disconnected,
    Failure,
    Internal,
    Mismatch,
    NotConnected,
    NotFound,
    Overloaded,
    Panicked,
    Refused,
    SkillError,
    Some,
    Superseded,
    TimedOut,
    TooLarge,
    Unavailable,
    Unserializable,
    WouldBlock,
    encode,
    failure_of,
    frame,
    read_body,
    read_header,
)

__all__ = [
    "Arguments",
    "Call",
    "Cancelled",
    "CoreGone",
    "Disconnected",
    "Failure",
    "Import",
    "Internal",
    "Items",
    "Mismatch",
    "NotConnected",
    "NotFound",
    "Overloaded",
    "Panicked",
    "Refused",
    "Running",
    "Session",
    "SkillError",
    "Some",
    "Stream",
    "Superseded",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "Unserializable",
    "WouldBlock",
    "connect",
    "running",
    "signature",
]

DEFAULT_TIMEOUT = 60.0
MAX_RUNNING = 64
"""Calls of this process's skills that run at a time; further ones are answered with `overloaded`."""


def connect(home=None, client=None):
    """Connects to the core of a home.

    Without one, to the core that launched this process; if none has, to that of AIGIS_HOME or of the current folder.
    """
    client = client or os.environ.get("AIGIS_PLUGIN") or os.path.basename(sys.argv[0] or "python")
    descriptor = os.environ.pop("AIGIS_SESSION_FD", None) if home is None else None
    if descriptor is not None:
        # Opened to its end and closed: nothing that this process starts learns the token.
        with os.fdopen(int(descriptor), encoding="utf-8") as file:
            grant = json.load(file)
        return Session(grant["endpoint"], grant["token"], client, grant["plugin"])
    home = home or os.environ.get("AIGIS_HOME") or "."
    return Session(os.path.join(home, "run", "core.sock"), None, client)


class Call(concurrent.futures.Future):
    """A call that was started. `add_done_callback` runs on the thread that reads answers, and must not wait there."""

    def __init__(self, session, number, skill, timeout):
        super().__init__()
        self._session, self._number, self.skill, self._timeout = session, number, skill, timeout
        self._ends = None if timeout is None else time.monotonic() + timeout

    def result(self, timeout=None):
        """Waits for the result until the call's own time is over; then it is cancelled.

        With `timeout` it waits for so many seconds, as with other futures, and cancels nothing.
        """
        if not self.done():
            self._session.may_wait()
        if timeout is not None or self._ends is None:
            return super().result(timeout)
        try:
            return super().result(max(0.0, self._ends - time.monotonic()))
        except concurrent.futures.TimeoutError:
            if self._session.give_up(self._number) is not None:
                after = round(self._timeout * 1000)
                message = f"{self.skill} has not answered within {after}ms"
                self.set_exception(TimedOut(message, skill=self.skill, details=[str(after)]))
            # If it was over, the thread that reads is about to say how.
            return super().result()

    def cancel(self):
        """Gives the call up; returns whether it was still waiting."""
        if self._session.give_up(self._number) is None:
            return False
        self.set_exception(Cancelled(f"the call of {self.skill} was cancelled", skill=self.skill))
        return True


class Import:
    """A skill that this process expects; called like a function.

    `served` is what serves it (plugin, generation, idempotent, differences), None before the core has said so.
    """

    def __init__(self, session, number, name, on_change):
        self._session, self._number, self.name, self.on_change = session, number, name, on_change
        self.served = None

    def change(self, served):
        """Hears of what serves the skill now."""
        self.served = served
        try:
            if self.on_change:
                self.on_change(self)
        except Exception:
            # The session goes on.
            traceback.print_exc()

    def start(self, /, *positional, timeout=DEFAULT_TIMEOUT, **named):
        """Starts a call."""
        return self._session.start_at(self._number, self.name, positional, named, timeout)

    def __call__(self, /, *positional, timeout=DEFAULT_TIMEOUT, **named):
        return self.start(*positional, timeout=timeout, **named).result()


class Running:
    """A call of this process's skill: whether its caller has given it up, and when its time is over."""

    def __init__(self, timeout_ms):
        self.cancelled = threading.Event()
        self.ends = time.monotonic() + timeout_ms / 1000 if timeout_ms else None


_running = threading.local()


def running():
    """Returns the `Running` of the call that this thread serves."""
    return _running.call


def signature(result="Unit", error=None, **parameters):
    """Makes a signature: `signature("U64", text="Text")` is `fn(text: &str) -> u64`."""
    shapes = [{"name": name, "shape": shape} for name, shape in parameters.items()]
    return {"parameters": shapes, "result": result, "error": error, "constant": False}


class Session:
    """A connection to a core. Any number of threads may use it; it ends with `close`, or with the core."""

    def __init__(self, path, token=None, client="python", plugin=None):
        self.plugin = plugin
        """What the core has told a launched process: its name, generation, home, data folder, settings."""
        self.ended = threading.Event()
        self._lock = threading.Lock()  # of the tables
        self._writing = threading.Lock()  # of the stream, and of the list of imports
        self._calls, self._imports, self._serving, self._offered = {}, [], {}, {}
        self._open = {}  # what this side has opened: its results, and what sends its arguments
        self._opened = {}  # what the core has opened: what sends the results, and the arguments
        self._offering = threading.Lock()
        self._next = 0
        self._why = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        hello = {"magic": "AIGIS", "protocol": PROTOCOL, "features": ["streams"], "token": token, "client": client,
                 "pid": os.getpid(), "imports": []}  # fmt: skip
        try:
            self._connect(path)
            self._socket.sendall(frame(HELLO, 0, encode(hello)))
            kind, _, _, body = self._read()
        except (OSError, EOFError, ValueError) as error:
            self._socket.close()
            raise NotConnected(
                f"no core can be reached at `{path}`: {error}; is `aigis build-and-run` running?"
            ) from None
        if kind != WELCOME:
            self._socket.close()
            raise failure_of(body) if kind == ERROR else NotConnected(f"the core answered with a {KINDS[kind - 1]}")
        self.core_pid, self.number = body["core_pid"], body["session"]
        self._reader = threading.Thread(target=self._serve, name="aigis-session", daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Says goodbye. Calls that still wait fail."""
        why = "this side has closed the session"
        with self._lock:
            # Before the core answers by closing the connection.
            self._why = self._why or why
        self.send(frame(GOODBYE, 0))
        self._end(why)

    def call(self, name, /, *positional, timeout=DEFAULT_TIMEOUT, **named):
        """Calls a skill by its full name and waits for the result, at most `timeout` seconds (None: for ever).

        A parameter of the skill that is called `timeout` can be given by position only.
        """
        return self.start(name, *positional, timeout=timeout, **named).result()

    def start(self, name, /, *positional, timeout=DEFAULT_TIMEOUT, **named):
        """Starts a call by name; answers come in any order."""
        return self.start_at(name, name, positional, named, timeout)

    def start_at(self, target, name, positional, named, timeout):
        """Starts a call of a target: a name, or the number of an import."""
        if positional and named:
            raise Arguments("arguments are given by position or by name, not both", skill=name)
        try:
            body = encode([target, named or positional])
        except (TypeError, ValueError, OverflowError) as error:
            raise Unserializable(f"the arguments of {name} cannot be encoded: {error}", skill=name) from error
        return self._start(CALL, name, body, timeout)

    def _start(self, kind, name, body, timeout):
        timeout_ms = 0 if timeout is None or kind == OFFER else min(max(1, round(timeout * 1000)), 0xFFFFFFFF)
        with self._lock:
            self._next += 1
            number, why = self._next, self._why
            data = frame(kind, number, body, timeout_ms)
            call = Call(self, number, name, timeout)
            if why is None:
                self._calls[number] = call
        if why is None:
            self.send(data)
        else:
            call.set_exception(CoreGone(f"the session has ended: {why}", skill=name))
        return call

    def open(self, name, /, *positional, timeout=DEFAULT_TIMEOUT, **named):
        """Calls a skill whose result, or some of whose arguments (`Items`), are streams; returns the `Stream` of its
        items when it has begun. A skill whose result is no stream brings that as its one item.

        `timeout` is for the beginning and for each item that is asked for (None: for ever).
        """
        given = [*positional, *named.values()]
        streams = [value for value in given if isinstance(value, Items)]
        plain = {key: None if isinstance(value, Items) else value for key, value in named.items()}
        plain = plain or [None if isinstance(value, Items) else value for value in positional]
        body = encode([len(streams), name, plain])
        with self._lock:
            self._next += 1
            number, why = self._next, self._why
            stream = Stream(self, number, 0, name, timeout)
            pumps = [Pump(self, number, place, items.items) for place, items in enumerate(streams, 1)]
            if why is None:
                self._open[number] = stream, pumps
        if why is not None:
            raise CoreGone(f"the session has ended: {why}", skill=name)
        self.send(frame(OPEN, number, body))
        for pump in pumps:
            pump.start()
        return stream.begin()

    def leave_stream(self, number, stream):
        """Wants no more of a stream."""
        if stream == 0:
            with self._lock:
                _, pumps = self._open.pop(number, (None, ()))
            for pump in pumps:
                pump.stop()
        self.send(frame(CANCEL, number, timeout_ms=stream))

    def forget_opened(self, number):
        """Forgets a call that the core has opened; returns whether it was still open."""
        with self._lock:
            pump, arguments = self._opened.pop(number, (None, ()))
        for stream in arguments:
            stream.end(Cancelled("the call that the stream belongs to is over"))
        if pump is not None:
            pump.stop()
        return pump is not None

    def give_up(self, number):
        """Stops waiting for a call and tells the core; returns it, or None if it was over."""
        call = self._take(number)
        if call is not None:
            self.send(frame(CANCEL, number))
        return call

    def may_wait(self):
        """Raises `WouldBlock` on the thread that reads answers."""
        if threading.current_thread() is self._reader:
            raise WouldBlock("this thread reads the answers of the session, and cannot wait for one")

    def expect(self, name, signature, on_change=None):
        """Imports a skill. `on_change(import)` is called whenever what serves it changes, and must not wait."""
        body = encode({"name": name, "signature": signature})
        # The numbers of imports are in the order in which they are sent.
        with self._writing:
            imported = Import(self, len(self._imports), name, on_change)
            self._imports.append(imported)
            self._write(frame(IMPORT, imported._number, body))
        return imported

    def serve(self, name, function, signature, doc=None, idempotent=False):
        """Offers a function as a skill, and returns when the core has taken it.

        Each call runs on a thread of its own. What the function raises is the author's error, or a `Failure` as it is.
        """
        doc = inspect.getdoc(function) or "" if doc is None else doc
        skill = {"name": name, "doc": doc, "signature": signature, "idempotent": idempotent}
        self._offer(lambda offered: {**offered, name: (function, skill)})

    def withdraw(self, name):
        """Takes a skill back."""
        self._offer(lambda offered: {other: skill for other, skill in offered.items() if other != name})

    def _offer(self, change):
        # The newest offer counts, so that one is under way at a time.
        with self._offering:
            before = self._offered
            # Calls can come before the answer does.
            self._offered = change(before)
            skills = [skill for _, skill in self._offered.values()]
            try:
                self._start(OFFER, "the offer", encode({"skills": skills}), DEFAULT_TIMEOUT).result()
            except Failure:
                self._offered = before
                raise

    def _connect(self, path):
        # An address holds about 100 bytes, and homes may be deeper than that.
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)

    def send(self, data):
        """Sends a frame."""
        with self._writing:
            self._write(data)

    def _write(self, data):
        try:
            self._socket.sendall(data)
        except OSError:
            pass  # The reader notices as well, and says what has become of the calls.

    def _exactly(self, length):
        data = bytearray()
        while len(data) < length:
            more = self._socket.recv(min(length - len(data), 1 << 20))
            if not more:
                raise EOFError("it closed the connection")
            data += more
        return bytes(data)

    def _read(self):
        length, kind, number, timeout_ms = read_header(self._exactly(HEADER.size))
        data = self._exactly(length)
        if kind == ITEM or (kind == END and not data):
            # An item is decoded by whoever takes it.
            return kind, number, timeout_ms, data
        return kind, number, timeout_ms, read_body(kind, data)

    def _serve(self):
        try:
            while True:
                kind, number, timeout_ms, body = self._read()
                if kind in (REPLY, ERROR) and self._end_open(number, failure_of(body) if kind == ERROR else None):
                    pass
                elif kind == REPLY or (kind == ERROR and number):
                    call = self._take(number)
                    # One that was given up is not waited for any more.
                    if call is not None:
                        call.set_result(body) if kind == REPLY else call.set_exception(failure_of(body))
                elif kind == SERVED and number < len(self._imports):
                    self._imports[number].change(body)
                elif kind == CALL:
                    self._serving[number] = Running(timeout_ms)
                    # Also for one that is too many: this thread never writes, so it cannot be held up.
                    threading.Thread(target=self._answer, args=(number, *body), daemon=True).start()
                elif kind in (OPEN, ITEM, MORE, END):
                    self._stream(kind, number, timeout_ms, body)
                elif kind == CANCEL and (timeout_ms or self.forget_opened(number)):
                    # The time says which argument is not wanted any more.
                    _, pumps = self._open.get(number, (None, ()))
                    for pump in pumps[timeout_ms - 1 : timeout_ms]:
                        pump.stop()
                elif kind == CANCEL:
                    given_up = self._serving.pop(number, None)
                    if given_up is not None:
                        given_up.cancelled.set()
                elif kind in (ERROR, GOODBYE):
                    raise EOFError(body["message"] if body else "it said goodbye")
                else:
                    raise ValueError(f"it sent a {KINDS[kind - 1]} of number {number}")
        except (OSError, EOFError, ValueError, RuntimeError) as error:
            self._end(str(error))
        finally:
            self._socket.close()

    def _end_open(self, number, failure):
        """Ends a call that was opened; returns whether it was one."""
        with self._lock:
            stream, pumps = self._open.pop(number, (None, ()))
        for pump in pumps:
            pump.stop()
        if stream is not None:
            stream.end(failure)
        return stream is not None

    def _stream(self, kind, number, stream, body):
        """Takes a frame about a stream, `stream` of the call `number`."""
        if kind == OPEN:
            count, name, arguments = body
            feeds = [Stream(self, number, place, name) for place in range(1, count + 1)]
            pump = Pump(self, number, 0, self._opened_items(name, arguments, feeds))
            with self._lock:
                self._opened[number] = pump, feeds
            # The beginning needs no credit: the function is called before the first item is asked for.
            threading.Thread(target=self._begin, args=(number, pump), daemon=True).start()
            return
        with self._lock:
            results, pumps = self._open.get(number, (None, ()))
            pump, feeds = self._opened.get(number, (None, ()))
        if kind == MORE:
            wanted = [pump] if stream == 0 and pump else pumps[stream - 1 : stream] if stream else []
            for pump in wanted:
                pump.grant(*body)
            return
        found = [results] if stream == 0 and results else feeds[stream - 1 : stream] if stream else []
        for feed in found:
            feed.take(body) if kind == ITEM else feed.end(failure_of(body) if body else None)

    def _begin(self, number, pump):
        items = pump._items
        try:
            pump._items = next(items)
        except Failure as failure:
            if self.forget_opened(number):
                self.send(frame(ERROR, number, encode(failure.body())))
            return
        self.send(frame(ITEM, number))
        pump.run()

    def _opened_items(self, name, arguments, feeds):
        """Yields what a skill that is opened has returned, to be iterated."""
        skill = self._offered.get(name)
        if skill is not None:
            # A nil stands in the place of each parameter that is a stream.
            parameters = skill[1]["signature"]["parameters"]
            streams = iter(feeds)
            for place, parameter in enumerate(parameters):
                if isinstance(parameter["shape"], dict) and "Stream" in parameter["shape"]:
                    key = parameter["name"] if isinstance(arguments, dict) else place
                    arguments[key] = next(streams, None)
        result = self._run(name, arguments)
        is_stream = isinstance(skill[1]["signature"]["result"], dict) and "Stream" in skill[1]["signature"]["result"]
        yield result if is_stream else [result]

    def _answer(self, number, name, arguments):
        call = _running.call = self._serving.get(number)
        try:
            answer = frame(REPLY, number, encode(self._run(name, arguments)))
        except Failure as failure:
            failure.skill = failure.skill or str(name)
            answer = frame(ERROR, number, encode(failure.body()))
        except (TypeError, OverflowError) as error:
            answer = frame(
                ERROR, number, encode(Unserializable(f"the result cannot be encoded: {error}", skill=name).body())
            )
        # A cancelled call is not answered.
        if call is not None and self._serving.pop(number, None) is call:
            self.send(answer)

    def _run(self, name, arguments):
        if len(self._serving) > MAX_RUNNING:
            raise Overloaded(f"{MAX_RUNNING} calls run here already")
        if name not in self._offered:
            raise NotFound(f"this process offers no `{name}`")
        function = self._offered[name][0]
        by_name = isinstance(arguments, dict)
        try:
            bound = inspect.signature(function).bind(*([] if by_name else arguments), **(arguments if by_name else {}))
        except TypeError as error:
            raise Arguments(f"{name}: {error}") from error
        try:
            return function(*bound.args, **bound.kwargs)
        except Failure:
            raise
        except Exception as error:
            raise self.author_error(error) from error

    def author_error(self, error):
        """Makes the failure of an exception that a skill has raised."""
        chain, cause = [], error.__cause__
        while cause is not None:
            chain, cause = [*chain, str(cause)], cause.__cause__
        kind = type(error)
        payload = getattr(error, "payload", None)
        return SkillError(
            str(error), type_name=f"{kind.__module__}.{kind.__qualname__}", chain=chain, payload=payload
        )

    def _take(self, number):
        with self._lock:
            return self._calls.pop(number, None)

    def _end(self, why):
        with self._lock:
            self._why = self._why or why
            waiting, self._calls = self._calls, {}
            open_, self._open = self._open, {}
            opened, self._opened = self._opened, {}
        for given_up in list(self._serving.values()):
            given_up.cancelled.set()
        for stream, pumps in open_.values():
            message = f"the session has ended ({self._why}); whether {stream.skill} ran is unknown"
            stream.end(CoreGone(message, skill=stream.skill))
            for pump in pumps:
                pump.stop()
        for pump, feeds in opened.values():
            pump.stop()
            for feed in feeds:
                feed.end(Cancelled("the caller is gone"))
        for call in waiting.values():
            message = f"the session has ended ({self._why}); whether {call.skill} ran is unknown"
            call.set_exception(CoreGone(message, skill=call.skill))
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It has ended already.
        self.ended.set()
