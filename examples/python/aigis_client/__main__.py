"""The check of this client against the vectors of the protocol."""

import base64
import json
import struct
import sys

import msgpack

from .wire import (
    HEADER,
    HELLO,
    IMPORT,
    KINDS,
    OFFER,
    PROTOCOL,
    Some,
    as_map,
    decode,
    encode,
    frame,
    read_body,
    read_header,
)


def from_json(item):
    """Returns the value of an object in the notation of the vectors."""
    if len(item) != 1:
        return item
    ((form, content),) = item.items()
    if form == "$bytes":
        return base64.b64decode(content)
    if form == "$some":
        return Some(content)
    if form == "$ext":
        return msgpack.ExtType(content[0], base64.b64decode(content[1]))
    if form == "$map":
        return as_map(content)
    if form == "$float":
        bits = int(content[4:], 16) if content.startswith("nan:") else None
        return float(content) if bits is None else struct.unpack(">d", struct.pack(">Q", bits))[0]
    return item


def read_frame(data):
    """Returns kind, number, time and body of a frame that fills `data`."""
    if len(data) < HEADER.size:
        raise EOFError("a header that ends in the middle")
    length, kind, number, timeout_ms = read_header(data[: HEADER.size])
    if len(data) - HEADER.size != length:
        raise EOFError(f"a body of {len(data) - HEADER.size} bytes instead of {length}")
    return kind, number, timeout_ms, read_body(kind, data[HEADER.size :]) if length else None


def check(vectors):
    """Holds this client against the vectors, and returns how many checks that were; the first that fails is raised."""
    count = 0

    def same(found, expected, what):
        nonlocal count
        count += 1
        assert found == expected, f"{what}\n  expected {expected!r}\n  found    {found!r}"

    def reason(read, data):
        try:
            return f"nothing, it was read as {read(bytes.fromhex(data))!r}"
        except EOFError:
            return "truncated"
        except ValueError as error:
            return "kind" if "a kind from" in str(error) else "length" if "are allowed" in str(error) else "body"

    same(tuple(vectors["protocol"]), PROTOCOL, "the version of the protocol")
    for vector in vectors["frames"]:
        name, kind, written = vector["name"], KINDS.index(vector["kind"]) + 1, vector["hex"]
        if "attached" in vector:
            # Only for who names the feature; to this client the kind is one that there is not.
            same(reason(read_frame, written), "kind", name)
            continue
        body = encode(vector["body"]) if "body" in vector else b""
        same(frame(kind, vector["number"], body, vector.get("timeout_ms", 0)).hex(), written, name)
        expected = read_body(kind, body) if body else None
        for data in (written, *vector.get("also", ())):
            head, found = read_frame(bytes.fromhex(data))[:3], read_frame(bytes.fromhex(data))[3]
            same(head, (kind, vector["number"], vector.get("timeout_ms", 0)), name)
            if kind in (HELLO, IMPORT, OFFER):
                # A client reads none of these: what both have must be the same.
                expected, found = ({key: one[key] for key in expected if key in found} for one in (expected, found))
            same(found, expected, name)
    for vector in vectors["malformed_frames"]:
        kind = int(vector["hex"][8:10] or "0", 16)
        if vector["reason"] != "body" or kind not in (HELLO, IMPORT, OFFER):
            # A call without a body is one that cannot be decoded.
            read = read_frame if vector["reason"] != "body" else lambda data: read_body(data[4], data[HEADER.size :])
            same(reason(read, vector["hex"]), vector["reason"], vector["name"])
    for vector in vectors["values"]:
        same(encode(vector["value"]).hex(), vector["hex"], vector["hex"])
        for data in (vector["hex"], *vector.get("also", ())):
            same(encode(decode(bytes.fromhex(data))).hex(), vector["hex"], data)
    for vector in (*vectors["number_arrays"], *vectors["written_number_arrays"]):
        same(decode(bytes.fromhex(vector["hex"])), vector["items"], vector["hex"])
    for vector in vectors["malformed_values"]:
        same(reason(decode, vector["hex"]), "body", vector["name"])
    return count


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--check":
        sys.exit("usage: python3 -m aigis_client --check docs/protocol-vectors.json")
    with open(sys.argv[2], encoding="utf-8") as source:
        print(f"{check(json.load(source, object_hook=from_json))} checks passed")
