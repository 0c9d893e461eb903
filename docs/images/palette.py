#!/usr/bin/env python3
"""Makes PNG files smaller: palette.py FILE.png...

A screenshot of text has some thousand colours, and a palette of the 256 most frequent ones looks the same. Needs nothing
but Python's standard library. Must not know what the pictures show.
"""

import struct
import sys
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLORS_MAX = 256


def chunks(data):
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def nearest(left, up, corner):
    """The Paeth predictor (PNG specification, section 9.4)."""
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def pixels(path):
    """Width and rows of RGB triples of a PNG with eight bits a sample."""
    with open(path, "rb") as file:
        data = file.read()
    parts = list(chunks(data))
    width, height, depth, color = struct.unpack(">IIBB", parts[0][1][:10])
    samples = {2: 3, 6: 4}.get(color)
    if data[: len(SIGNATURE)] != SIGNATURE or depth != 8 or samples is None:
        sys.exit(f"palette.py: {path} is no PNG with eight bits a sample")
    raw = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    size, before, rows = width * samples, bytearray(width * samples), []
    for y in range(height):
        start = y * (size + 1)
        method, row = raw[start], bytearray(raw[start + 1 : start + 1 + size])
        for x in range(size):
            left, corner = (row[x - samples], before[x - samples]) if x >= samples else (0, 0)
            up = before[x]
            row[x] = (row[x] + (0, left, up, (left + up) // 2, nearest(left, up, corner))[method]) & 255
        rows.append([bytes(row[x : x + 3]) for x in range(0, size, samples)])
        before = row
    return width, rows


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def shrink(path):
    width, rows = pixels(path)
    counts = Counter(color for row in rows for color in row)
    palette = [color for color, _ in counts.most_common(COLORS_MAX)]
    distance = lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b))
    index = {color: min(range(len(palette)), key=lambda at: distance(color, palette[at])) for color in counts}
    raw = b"".join(b"\0" + bytes(index[color] for color in row) for row in rows)
    with open(path, "wb") as file:
        file.write(SIGNATURE)
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)))
        file.write(chunk(b"PLTE", b"".join(palette)))
        file.write(chunk(b"IDAT", zlib.compress(raw, 9)))
        file.write(chunk(b"IEND", b""))


for path in sys.argv[1:]:
    shrink(path)
