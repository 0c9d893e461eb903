"""Clients leave while a worker is busy for them, and the next clients get their slots.

Uses the example `late_result`, whose responses take 0.2 s on one of four workers. In each round four
clients send a request and reset their connections, and four others send requests at once. Prints the
number of clients that left, of stale results that the server counted, and of responses that were
made for another client than the one that received them.
"""

import json
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5
CLIENTS = 4
PATIENCE_S = 30


def send(port, path):
    stream = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    return stream


def receive(stream):
    with stream:
        parts = []
        while part := stream.recv(65536):
            parts.append(part)
        return b"".join(parts).decode()


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def stale(port):
    page = receive(send(port, "/_whirligig/metrics"))
    return sum(int(value) for value in re.findall(r"^whirligig_stale_total(?:{.*})? (\d+)\s*$", page, re.MULTILINE))


def measure(port):
    left = wrong = 0
    for number in range(ROUNDS):
        gone = [send(port, f"/for/alice{number}-{one}") for one in range(CLIENTS)]
        # The workers have begun, and are far from the end.
        time.sleep(0.05)
        for stream in gone:
            reset(stream)
            left += 1
        names = [f"bob{number}-{one}" for one in range(CLIENTS)]
        for name, stream in [(name, send(port, f"/for/{name}")) for name in names]:
            response = receive(stream)
            wrong += not (response.startswith("HTTP/1.1 200") and response.endswith(f"\r\nfor {name}\n"))
    return {"left": left, "stale": stale(port), "wrong": wrong}


def main(program):
    example = Path(program).parent / "examples" / "late_result"
    server = subprocess.Popen([example], stdout=subprocess.PIPE, text=True)
    try:
        port = next(int(line.strip().rstrip("/").rsplit(":", 1)[1]) for line in server.stdout if line.startswith("http://"))
        print(json.dumps(measure(port)))
    finally:
        server.terminate()
        server.wait()


main(sys.argv[1])
