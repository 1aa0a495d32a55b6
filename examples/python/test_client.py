"""Run with `python3 -m unittest`, with the package `msgpack`. With a core it is tested by the tests of AIGIS."""

import json
import pathlib
import unittest

import aigis_client
import words
from aigis_client.__main__ import check, from_json
from aigis_client.wire import Some, decode, encode, failure_of

VECTORS = pathlib.Path(__file__).parents[2] / "docs" / "protocol-vectors.json"


class ClientTest(unittest.TestCase):
    def vectors(self):
        with VECTORS.open(encoding="utf-8") as file:
            return json.load(file, object_hook=from_json)

    def test_it_speaks_the_protocol(self):
        self.assertGreater(check(self.vectors()), 300)

    def test_the_check_notices_another_protocol(self):
        for part, wrong in (
            ("frames", {"number": 77}),
            ("malformed_frames", {"reason": "length"}),
            ("values", {"value": 7}),
            ("number_arrays", {"items": [1]}),
            ("written_number_arrays", {"items": [1]}),
            ("malformed_values", {"hex": "c0"}),
        ):
            vectors = self.vectors()
            vectors[part][0].update(wrong)
            with self.assertRaises(AssertionError, msg=part):
                check(vectors)

    def test_values_come_back_as_they_were(self):
        for value in (None, True, 7, -(1 << 127), (1 << 128) - 1, 0.5, "zoé", b"\0\xff", [1, [None]], {"a": {1: b""}}):
            self.assertEqual(decode(encode(value)), value)
        self.assertEqual(decode(encode([Some(None), Some(Some(None)), Some(7)])), [Some(None), Some(Some(None)), 7])
        # Keys that Python cannot hash become such that it can.
        self.assertEqual(decode(bytes.fromhex("81920102a178")), {(1, 2): "x"})

    def test_what_is_too_large_or_too_deep_is_refused(self):
        for value in (1 << 128, -(1 << 127) - 1):
            with self.assertRaises((TypeError, OverflowError)):
                encode(value)
        for data in (b"\x91" * 129 + b"\xc0", b"\x91" * 100_000 + b"\xc0", b"\xdd\xff\xff\xff\xff\0"):
            with self.assertRaises(ValueError):
                decode(data)

    def test_failures_have_classes(self):
        failure = failure_of({"kind": "not_found", "message": "no `a.b`", "details": ["a.c"]})
        self.assertIsInstance(failure, aigis_client.NotFound)
        self.assertEqual((str(failure), failure.details), ("no `a.b`", ["a.c"]))
        later = failure_of({"kind": "came_later", "message": "new"})
        self.assertIsInstance(later, aigis_client.Internal)
        sent = failure_of({**aigis_client.SkillError("no", payload={"a": 1}, chain=["b"]).body()})
        self.assertEqual((type(sent), sent.payload, sent.chain), (aigis_client.SkillError, {"a": 1}, ["b"]))

    def test_without_a_core_there_is_no_session(self):
        with self.assertRaisesRegex(
            aigis_client.NotConnected, "no core can be reached at `/nonexistent/run/core.sock`"
        ):
            aigis_client.connect("/nonexistent")


class WordsTest(unittest.TestCase):
    def test_the_longest_word(self):
        self.assertEqual(words.longest("a bcd efg"), "bcd")
        with self.assertRaises(words.NoWords) as raised:
            words.longest(" ")
        self.assertEqual(raised.exception.payload, {"text": " "})


if __name__ == "__main__":
    unittest.main()
