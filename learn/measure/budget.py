#!/usr/bin/env python3
"""Counts the responses of a pipelining client that leave the server before the one response of another client.

    learn/measure/budget.py [PROGRAM]        PROGRAM is target/release/whirligig by default

While the server is stopped, Alice sends 1,000 requests in one piece, and after her Bob sends one request. Then the server
continues, and strace shows its writes. The script does this with a budget of 1 request for each connection and turn, with
the default of 32, and with the largest budget. It needs Linux and strace, prints one JSON object with the numbers of
responses for Alice before the one for Bob, and uses loopback only.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REQUEST = b"GET /n.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
REQUESTS = 1_000
BUDGETS = {
    "one": ["--max-turn-requests", "1"],
    "default": [],
    "largest": ["--max-turn-requests", "1000000", "--max-turn-bytes", "1GiB"],
}


def client(port):
    """Returns a connection that has received one response, and the size of that response."""
    conn = socket.socket()
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    conn.connect(("127.0.0.1", port))
    conn.sendall(REQUEST)
    got = b""
    while not got.endswith(b"\r\n\r\nn\n"):
        got += conn.recv(4096)
    return conn, len(got)


def receive(conn, size):
    """Receives this number of bytes."""
    while size:
        size -= len(conn.recv(size))


def stop(process):
    """Stops a process, and returns when it has stopped."""
    process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 10
    while True:
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
            if stat.read().rsplit(") ", 1)[1][0] in "Tt":
                return
        if time.monotonic() > end:
            sys.exit("budget: the server does not stop")


def writes(program, site, options, trace):
    """Runs one server, and returns the size of a response and the writes: pairs of descriptor and bytes."""
    server = subprocess.Popen([program, "--port", "0", *options, site], stdout=subprocess.PIPE, text=True)
    try:
        port = next(int(found[1]) for line in server.stdout if (found := re.search(r"http://[^/]*:(\d+)/", line)))
        alice, size = client(port)
        bob, _ = client(port)
        strace = subprocess.Popen(
            ["strace", "-f", "-e", "trace=sendto", "-s", "0", "-o", trace, "-p", str(server.pid)],
            stderr=subprocess.PIPE,
            text=True,
        )
        if "attached" not in strace.stderr.readline():
            sys.exit("budget: strace cannot attach to the server")
        stop(server)
        alice.sendall(REQUEST * REQUESTS)
        bob.sendall(REQUEST)
        server.send_signal(signal.SIGCONT)
        receive(alice, size * REQUESTS)
        receive(bob, size)
        strace.send_signal(signal.SIGINT)
        strace.wait(10)
    finally:
        server.kill()
        server.wait()
    with open(trace, encoding="ascii") as lines:
        found = [re.search(r"sendto\((\d+), .* = (\d+)$", line) for line in lines]
    return size, [(int(one[1]), int(one[2])) for one in found if one]


def before_bob(program, site, options, trace):
    """Returns the number of responses for Alice that leave before the one for Bob."""
    size, pairs = writes(program, site, options, trace)
    # Only the socket of Bob has a single write.
    descriptors = [descriptor for descriptor, _ in pairs]
    bob = next(descriptor for descriptor in descriptors if descriptors.count(descriptor) == 1)
    return sum(count for _, count in pairs[: descriptors.index(bob)]) // size


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else f"{TOP}/target/release/whirligig"
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/site")
        with open(f"{folder}/site/n.txt", "w", encoding="ascii") as file:
            file.write("n\n")
        trace = f"{folder}/writes"
        found = {name: before_bob(program, f"{folder}/site", options, trace) for name, options in BUDGETS.items()}
    print(json.dumps({"requests": REQUESTS, "before_bob": found}))


main()
