"""Knows about words: serves skills from Python, and calls one of the plugin `markdown` for them.

It ends with its core, or when SIGTERM asks it to.
"""

import pathlib
import signal
import sys
import threading

# Where the requirements are, if this machine's Python has none of its own.
sys.path.append(str(pathlib.Path(__file__).with_name("packages")))

import aigis_client
from aigis_client import signature


class NoWords(Exception):
    """There is no word in a text."""

    def __init__(self, text):
        super().__init__("there is no word in the text")
        self.payload = {"text": text}


def longest(text: str):
    """Returns the longest word of a text, the first one of several."""
    words = text.split()
    if not words:
        raise NoWords(text)
    return max(words, key=len)


def report(core):
    """Makes the skill that says how many words there are in a text in Markdown, and which is the longest."""

    def skill(text: str):
        return f"{core.call('markdown.count_words', text)} words, the longest is {longest(text)}"

    return skill


def main():
    """Serves until the end; returns the exit code."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    try:
        core = aigis_client.connect()
    except aigis_client.Failure as failure:
        print(f"ERROR: {failure}", file=sys.stderr)
        return 2
    with core:
        of_text = signature("Text", error="NoWords", text="Text")
        core.serve("words.longest", longest, of_text, idempotent=True)
        core.serve("words.report", report(core), of_text, "Says how many words a text has, and which is the longest.")
        print("serving words.longest and words.report", flush=True)
        # Python runs handlers of signals between two steps of the main thread, so that it may not wait for ever.
        while not asked.wait(0.5):
            if core.ended.is_set():
                print("the core is gone", file=sys.stderr)
                return 1
    print("no more words", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
