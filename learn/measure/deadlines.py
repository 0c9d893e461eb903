"""A client sends a request head too slowly, and another one moves its idle deadline 100 times.

slow_head: a client sends half a head, then one byte each 150 ms, with --header-timeout 1.
busy: a client sends 100 requests, one each 20 ms, with --idle-timeout 0.5.

The server runs with -vvv, which prints each step of its loop.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time

PROGRAM = sys.argv[1]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Server:
    """A server on a free port of the loopback. `steps` contains its log after the end."""

    def __init__(self, *options):
        self.folder = tempfile.TemporaryDirectory()
        with open(f"{self.folder.name}/index.html", "w", encoding="utf-8") as file:
            file.write("hello\n")
        command = [PROGRAM, "-vvv", "--bind", "127.0.0.1", "--port", "0", *options, self.folder.name]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        sys.exit(f"{PROGRAM} did not start")

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.log.seek(0)
        self.steps = [line.split("TRACE [step]", 1)[1] for line in self.log if "TRACE [step]" in line]
        self.log.close()
        self.folder.cleanup()


def slow_head():
    server = Server("--header-timeout", "1")
    client = server.connect()
    began = time.monotonic()
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    late_bytes = 0
    while True:
        client.settimeout(max(began + 0.15 * (late_bytes + 1) - time.monotonic(), 0.001))
        try:
            head = client.recv(4096)
            break
        except TimeoutError:
            client.sendall(b"a")
            late_bytes += 1
    seconds = time.monotonic() - began
    client.close()
    server.stop()
    status = int(head.split()[1])
    first = next(at for at, step in enumerate(server.steps) if "accept 0.1" in step)
    last = next(at for at, step in enumerate(server.steps) if "deadline 0.1: due" in step)
    # The poll that reported the client came before the accept.
    polls = 1 + sum(1 for step in server.steps[first:last] if re.search(r"turn \d+: ", step))
    return {"late_bytes": late_bytes, "status": status, "ms": round(seconds * 1000), "polls": polls}


def busy():
    server = Server("--idle-timeout", "0.5")
    client = server.connect()
    requests = 100
    began = time.monotonic()
    for number in range(requests):
        time.sleep(max(began + 0.02 * number - time.monotonic(), 0))
        client.sendall(REQUEST)
        client.recv(65536)
    answered = time.monotonic()
    client.recv(1)
    idle = time.monotonic() - answered
    server.stop()
    early = sum(1 for step in server.steps if "deadline 0.1: early" in step)
    return {"requests": requests, "early": early, "idle_ms": round(idle * 1000)}


print(json.dumps({"slow_head": slow_head(), "busy": busy()}))
