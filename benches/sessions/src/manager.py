"""A manager of Python's that echoes bytes, and a caller of its proxy: `manager.py serve`, `manager.py call PORT KEY`.

Orders and answers are those of the benchmark's other processes. With the package multiprocess, whose pickler is dill,
it is that; else multiprocessing of the standard library, of which multiprocess is a copy.
"""

import os
import struct
import sys
import threading
import time

try:
    import multiprocess as processes
    from multiprocess.managers import BaseManager
except ImportError:
    import multiprocessing as processes
    from multiprocessing.managers import BaseManager


class Skills:
    """What the manager offers."""

    def echo(self, data):
        """Gives the bytes back."""
        return data


class Manager(BaseManager):
    """The manager and, in the other process, its client."""


def say(*words):
    print("done", *words, flush=True)


def serve():
    key = os.urandom(16).hex()
    Manager.register("skills", callable=Skills)
    server = Manager(address=("127.0.0.1", 0), authkey=key.encode()).get_server()

    def leave():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=leave, daemon=True).start()
    say(server.address[1], key)
    server.serve_forever()


def call(port, key):
    # Whoever is called back for a proxy authenticates itself with the process's own key.
    processes.current_process().authkey = key.encode()
    Manager.register("skills")
    manager = Manager(address=("127.0.0.1", int(port)), authkey=key.encode())
    manager.connect()
    skills = manager.skills()
    say(processes.__name__)
    for line in sys.stdin:
        size, callers, slice_us, rest_us = map(int, line.split())
        if callers != 1 or rest_us != 0:
            print("the manager is called by one caller, without rest", flush=True)
            continue
        say(*measure(skills, size, slice_us / 1e6))


def measure(skills, size, seconds):
    body = bytearray((place * 31) & 255 for place in range(size))
    number, took = 0, []
    warm = time.perf_counter() + seconds / 4
    end = warm + seconds
    while time.perf_counter() < end:
        number += 1
        body[:8] = struct.pack("<Q", number)
        data = bytes(body)
        begun = time.perf_counter_ns()
        answer = skills.echo(data)
        ended = time.perf_counter_ns()
        if answer != data:
            raise ValueError("other bytes came back than were sent")
        if begun / 1e9 >= warm:
            took.append(ended - begun)
    took.sort()
    last = len(took) - 1
    mean = sum(took) / len(took)
    return took[last // 2], took[last * 99 // 100], mean, len(took) / seconds


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        call(*sys.argv[2:])
