"""Results and arguments that come item by item, as `docs/protocol.md` has them."""

import collections
import threading

from .wire import (
    END,
    ERROR,
    ITEM,
    MORE,
    REPLY,
    Cancelled,
    Failure,
    TimedOut,
    Unserializable,
    decode,
    encode,
    frame,
)

WINDOW = 64
"""Items that are asked for ahead."""
WINDOW_BYTES = 256 << 10
"""Bytes that are asked for ahead; one more item may exceed them."""


class Items:
    """An argument that is a stream, made of anything that can be iterated."""

    def __init__(self, items):
        self.items = items


class Stream:
    """Items that come when they are asked for; an iterator. `close`, or the end of a `with`, gives up the rest."""

    def __init__(self, session, number, stream, skill, timeout=None):
        self.skill = skill
        self._session, self._number, self._stream, self._timeout = session, number, stream, timeout
        self._items = collections.deque()
        self._bytes = 0
        self._credit = [0, 0]
        self._begins = stream == 0
        self._end = None  # an exception once there are no more; StopIteration at a good end
        self._told = False
        self._changed = threading.Condition()

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def begin(self):
        """Waits until the call has begun; raises what it failed with."""
        self._session.may_wait()
        with self._changed:
            self._wait(lambda: not self._begins or self._end is not None)
            if self._begins and not isinstance(self._end, StopIteration):
                self._told = True
                raise self._end
        return self

    def __next__(self):
        self._session.may_wait()
        with self._changed:
            if self._told:
                raise StopIteration
            grant = self._grant()
        if grant:
            self._session.send(frame(MORE, self._number, encode(grant), self._stream))
        with self._changed:
            self._wait(lambda: self._items or self._end is not None)
            if self._items:
                data = self._items.popleft()
                self._bytes -= len(data)
                return decode(data)
            self._told = True
            raise self._end

    def close(self):
        """Gives up the rest."""
        with self._changed:
            over, self._end = self._end is not None, self._end or Cancelled("the stream was given up")
            self._told = True
            self._items.clear()
        if not over:
            self._session.leave_stream(self._number, self._stream)

    def _wait(self, ready):
        if not self._changed.wait_for(ready, self._timeout):
            after = round(self._timeout * 1000)
            message = f"{self.skill} has not answered within {after}ms"
            self._end = TimedOut(message, skill=self.skill, details=[str(after)])
            self._items.clear()
            self._session.leave_stream(self._number, self._stream)

    def _grant(self):
        if self._end is not None:
            return None
        items = WINDOW - len(self._items) - self._credit[0]
        size = max(0, WINDOW_BYTES - self._bytes - self._credit[1])
        if 2 * items < WINDOW and 2 * size < WINDOW_BYTES:
            return None
        self._credit = [self._credit[0] + items, self._credit[1] + size]
        return [items, size]

    def take(self, data):
        """Takes the body of an item; raises ValueError if it was not asked for."""
        with self._changed:
            if not data:
                if not self._begins:
                    raise ValueError("malformed frame: an item is empty")
                self._begins = False
            else:
                if self._begins or 0 in self._credit:
                    raise ValueError("malformed frame: an item came that was not asked for")
                self._credit = [self._credit[0] - 1, max(0, self._credit[1] - len(data))]
                if self._end is None:
                    self._items.append(data)
                    self._bytes += len(data)
            self._changed.notify_all()

    def end(self, failure=None):
        """Takes the end; what has come before is still handed out."""
        with self._changed:
            if self._end is None:
                self._end = failure or StopIteration()
            self._changed.notify_all()


class Pump:
    """Sends the items of one stream, each when it was asked for."""

    def __init__(self, session, number, stream, items):
        self._session, self._number, self._stream, self._items = session, number, stream, items
        self._credit = [0, 0]
        self._stopped = False
        self._changed = threading.Condition()

    def start(self):
        threading.Thread(target=self.run, name="aigis-stream", daemon=True).start()

    def grant(self, items, size):
        with self._changed:
            self._credit = [self._credit[0] + items, self._credit[1] + size]
            self._changed.notify_all()

    def stop(self):
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self):
        """Sends items until there are no more, or nobody wants them."""
        items = None
        try:
            items = iter(self._items)
            while self._may_send():
                try:
                    data = encode(next(items))
                except StopIteration:
                    return self._finish()
                with self._changed:
                    self._credit = [self._credit[0] - 1, max(0, self._credit[1] - len(data))]
                self._session.send(frame(ITEM, self._number, data, self._stream))
        except Failure as failure:
            self._finish(failure)
        except (TypeError, OverflowError) as error:
            self._finish(Unserializable(f"an item cannot be encoded: {error}"))
        except Exception as error:
            self._finish(self._session.author_error(error))
        finally:
            # What a generator holds goes now.
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _may_send(self):
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or 0 not in self._credit)
            return not self._stopped

    def _finish(self, failure=None):
        body = encode(failure.body()) if failure else b""
        if self._stream:
            self._session.send(frame(END, self._number, body, self._stream))
        elif self._session.forget_opened(self._number):
            self._session.send(frame(ERROR, self._number, body) if failure else frame(REPLY, self._number, encode(None)))
