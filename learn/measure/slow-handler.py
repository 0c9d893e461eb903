#!/usr/bin/env python3
"""Measures how long a quick request waits while slow ones run: on the loop, as jobs, and with a
thread for each connection. Then measures the memory of idle connections on both models.

Usage: learn/measure/slow-handler.py [PROGRAM]
PROGRAM is a release build of whirligig. The example slow_handler in examples/ beside it runs; if
there is none, cargo builds it.

A slow request of 50 ms falls due every 75 ms, and a quick one every 10 ms. Latency counts from the
time at which a request is due. Five rounds run each case in turn. The result is one JSON object:
medians of the rounds, and the lowest and highest of them for the 99th percentile.
"""

import json
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5
ROUND_SECONDS = 2.0
QUICK_EVERY = 0.010
SLOW_EVERY = 0.075
IDLE_CONNECTIONS = 1000
CASES = {"inline": ("reactor", "/inline"), "job": ("reactor", "/job"), "threads": ("threads", "/inline")}


def program():
    example = Path(sys.argv[1]).parent / "examples/slow_handler" if len(sys.argv) > 1 else None
    if example and example.exists():
        return str(example)
    root = Path(__file__).resolve().parents[2]
    subprocess.run(["cargo", "build", "-q", "--release", "--example", "slow_handler"], cwd=root, check=True)
    return str(root / "target/release/examples/slow_handler")


class Server:
    """A running server. Its first line of output is its address."""

    def __init__(self, model):
        command = [PROGRAM, "--model", model]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().strip().rstrip("/").rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def resident_kib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("the server has ended")


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class Lane:
    """Idle connections for requests to one path, each due at its own time."""

    def __init__(self, server, path, every, selector):
        self.request, self.every, self.selector = get(path), every, selector
        self.idle, self.sent, self.latencies = [server.connect() for _ in range(32)], {}, []
        self.due = time.monotonic() + every
        for client in self.idle:
            selector.register(client, selectors.EVENT_READ, self)

    def send_due(self, now):
        while self.due <= now:
            client = self.idle.pop(0)
            self.sent[client] = self.due
            client.sendall(self.request)
            self.due += self.every

    def receive(self, client):
        # Responses are short, so each arrives in one piece.
        if not client.recv(4096).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("a response is missing")
        self.latencies.append(time.monotonic() - self.sent.pop(client))
        self.idle.append(client)


def quick_latencies(model, slow_path):
    """Returns the latencies of the quick requests of one round, in milliseconds."""
    with Server(model) as server, selectors.SelectSelector() as selector:
        quick = Lane(server, "/quick", QUICK_EVERY, selector)
        slow = Lane(server, slow_path, SLOW_EVERY, selector)
        end = time.monotonic() + ROUND_SECONDS
        while (now := time.monotonic()) < end:
            quick.send_due(now)
            slow.send_due(now)
            for key, _ in selector.select(max(0, min(quick.due, slow.due) - time.monotonic())):
                key.data.receive(key.fileobj)
        return [1000 * latency for latency in quick.latencies]


def idle_kib(model):
    """Returns the memory that idle connections add to the server."""
    with Server(model) as server:
        first = server.connect()
        first.sendall(get("/quick"))
        first.recv(4096)
        before = server.resident_kib()
        clients = [server.connect() for _ in range(IDLE_CONNECTIONS)]
        for client in clients:
            client.sendall(get("/quick"))
        for client in clients:
            client.recv(4096)
        return server.resident_kib() - before


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def tenths(milliseconds):
    return round(milliseconds, 1)


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    medians, highest = {case: [] for case in CASES}, {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case, (model, slow_path) in CASES.items():
            latencies = quick_latencies(model, slow_path)
            medians[case].append(statistics.median(latencies))
            highest[case].append(percentile(latencies, 0.99))
    result = {
        case: {
            "median_ms": tenths(statistics.median(medians[case])),
            "p99_ms": tenths(statistics.median(highest[case])),
            "p99_low_ms": tenths(min(highest[case])),
            "p99_high_ms": tenths(max(highest[case])),
        }
        for case in CASES
    }
    result["idle_kib"] = {model: idle_kib(model) for model in ["reactor", "threads"]}
    print(json.dumps(result))


PROGRAM = program()
main()
