"""Run with `python3 -m unittest`."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import notes

PROGRAM = pathlib.Path(__file__).with_name("notes.py")


class NotesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_lines_become_dated_notes(self):
        kept = notes.Notes(self.folder)
        (kept.inbox / "a.txt").write_text("buy milk\n\n  call zoé  \n", encoding="utf-8")
        (kept.inbox / "unfinished").write_text("not yet")
        self.assertEqual(list(kept.take()), ["noted 2 from a.txt"])
        lines = kept.path.read_text(encoding="utf-8").splitlines()
        self.assertEqual([line.split(" ", 1)[1] for line in lines], ["buy milk", "call zoé"])
        self.assertEqual(kept.count(), 2)
        self.assertEqual([path.name for path in kept.inbox.iterdir()], ["unfinished"])

    def test_what_is_not_text_is_put_aside(self):
        kept = notes.Notes(self.folder)
        (kept.inbox / "a.txt").write_bytes(b"\xff\xfe")
        self.assertRegex(next(kept.take()), "^rejected a.txt: ")
        self.assertEqual(list(kept.take()), [])
        self.assertEqual(kept.count(), 0)

    def test_the_program_takes_notes_and_ends_politely(self):
        # As a core does it: folder and settings are named in the environment.
        settings = self.folder / "settings.json"
        settings.write_text('{"every": 3600}', encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env={**os.environ, "AIGIS_DATA": str(self.folder), "AIGIS_SETTINGS": str(settings)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            self.addCleanup(process.kill)
            self.assertIn(str(self.folder), process.stdout.readline())
            self.assertEqual(process.stdout.readline(), "0 notes\n")
            new = self.folder / "inbox" / "a.new"
            new.write_text("one\ntwo\n")
            new.rename(new.with_suffix(".txt"))
            self.assertEqual(process.stdout.readline(), "noted 2 from a.txt\n")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.stdout.readline(), "SIGTERM: 2 notes are kept\n")
            self.assertEqual(process.wait(timeout=30), 0)

    def test_a_setting_that_makes_no_sense_is_refused(self):
        settings = self.folder / "settings.json"
        settings.write_text('{"every": 0}', encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, str(PROGRAM)],
            env={**os.environ, "AIGIS_DATA": str(self.folder), "AIGIS_SETTINGS": str(settings)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        self.assertEqual(ended.returncode, 2)
        self.assertIn("--every is 0.0, expected more than 0 seconds", ended.stderr)


if __name__ == "__main__":
    unittest.main()
