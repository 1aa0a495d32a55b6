"""Keeps notes: every line of a text file that appears in the inbox is dated and added to notes.txt.

What it does is printed on the standard output, which the core writes into the log. SIGTERM ends it in good order.
"""

import argparse
import datetime
import json
import os
import pathlib
import select
import signal
import sys
import time

LOOK_EVERY = 0.5
"""Seconds from one look into the inbox to the next."""


class Notes:
    """The notes in one folder."""

    def __init__(self, folder):
        self.path = folder / "notes.txt"
        self.inbox = folder / "inbox"
        self.inbox.mkdir(parents=True, exist_ok=True)

    def count(self):
        """Returns the number of notes."""
        try:
            with self.path.open("rb") as file:
                return sum(1 for _ in file)
        except FileNotFoundError:
            return 0

    def take(self):
        """Takes what is in the inbox and yields a line about each file.

        Only finished files end in .txt: write under another name, then rename. A file goes only after its notes are
        on disk, so a crash in between can double notes but lose none.
        """
        for path in sorted(self.inbox.glob("*.txt")):
            try:
                lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                path.replace(path.with_suffix(".rejected"))
                yield f"rejected {path.name}: {error}"
                continue
            lines = [line for line in lines if line]
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{now} {line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            yield f"noted {len(lines)} from {path.name}"


def settings():
    """Returns the settings of the plugin's entry in the config: a table in the JSON file that the core names, if any."""
    path = os.environ.get("AIGIS_SETTINGS")
    if path is None:
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def options():
    """Returns the folder of the notes and the seconds between two reports.

    A core says both in the environment; by hand they are given as arguments.
    """
    parser = argparse.ArgumentParser(description="Keeps notes.")
    parser.add_argument("--folder", type=pathlib.Path, default=os.environ.get("AIGIS_DATA", "data"))
    # As text, so that it is checked like an argument.
    parser.add_argument("--every", type=float, default=str(settings().get("every", 60)))
    given = parser.parse_args()
    if not given.every > 0:
        parser.error(f"--every is {given.every}, expected more than 0 seconds")
    return given.folder.absolute(), given.every


def on_signals():
    """Makes SIGTERM and SIGINT something to read; returns the descriptor to read from."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The number arrives in the pipe; without a handler Python would not send it there.
        signal.signal(number, lambda *_: None)
    return reader


def main():
    """Runs until a signal asks it to end."""
    signals = on_signals()
    folder, every = options()
    notes = Notes(folder)
    print(f"keeping notes in {folder}; drop files into inbox/", flush=True)
    report_at = time.monotonic()
    while True:
        for line in notes.take():
            print(line, flush=True)
        if time.monotonic() >= report_at:
            print(f"{notes.count()} notes", flush=True)
            report_at = time.monotonic() + every
        if select.select([signals], [], [], LOOK_EVERY)[0]:
            name = signal.Signals(os.read(signals, 1)[0]).name
            print(f"{name}: {notes.count()} notes are kept", flush=True)
            return 0


if __name__ == "__main__":
    sys.exit(main())
