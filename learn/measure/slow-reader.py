#!/usr/bin/env python3
"""Measures what clients that request a large file and read nothing cost a server: memory of the
process, memory of the kernel's sockets, and the latency of another client.

Usage: learn/measure/slow-reader.py [PROGRAM]
PROGRAM is a release build of whirligig. Without it, cargo builds one.

For comparison, a server of a few lines of asyncio sends as many bytes, once with `await drain()`
after each write and once without. The result is one JSON object.
"""

import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLIENTS = 20
FILE_BYTES = 16 << 20
QUICK_REQUESTS = 200

# Waits after each write until the unsent bytes are few, or not at all.
ASYNCIO_SERVER = """
import asyncio, sys

async def serve(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        size = FILE_BYTES if head.startswith(b"GET /large") else 6
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
        while size > 0:
            piece = bytes(min(size, 65536))
            writer.write(piece)
            size -= len(piece)
            if DRAINS:
                await writer.drain()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print("http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def program():
    if len(sys.argv) > 1:
        return sys.argv[1]
    root = Path(__file__).resolve().parents[2]
    subprocess.run(["cargo", "build", "-q", "--release"], cwd=root, check=True)
    return str(root / "target/release/whirligig")


def asyncio_server(drains):
    text = ASYNCIO_SERVER.replace("FILE_BYTES", str(FILE_BYTES)).replace("DRAINS", str(drains))
    return [sys.executable, "-c", text]


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def resident_kib(process):
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("the server has ended")


def kernel_kib():
    """Returns the memory of the kernel for all TCP sockets of the machine."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * resource.getpagesize() // 1024
    raise RuntimeError("/proc/net/sockstat has no line for TCP")


def settled(read):
    """Reads a figure until two readings in a row are equal."""
    before = None
    while (now := read()) != before:
        before = now
        time.sleep(0.3)
    return now


def quick_ms(client):
    """Returns the median latency of short requests, one after the other."""
    taken = []
    for _ in range(QUICK_REQUESTS):
        began = time.monotonic()
        client.sendall(get("/short"))
        # The content is six bytes in all servers.
        answer = client.recv(4096)
        while len(answer) < 6 or b"\r\n\r\n" not in answer[:-6]:
            answer += client.recv(4096)
        taken.append(1000 * (time.monotonic() - began))
    return statistics.median(taken)


def measure(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline()
        while "http://" not in line:
            line = process.stdout.readline()
        port = int(line.split("http://", 1)[1].split("/")[0].rsplit(":", 1)[1])
        address = ("127.0.0.1", port)
        quick = socket.create_connection(address)
        quick_alone = quick_ms(quick)
        before = resident_kib(process), kernel_kib()
        slow = []
        for _ in range(CLIENTS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.connect(address)
            client.sendall(get("/large"))
            slow.append(client)
        after = settled(lambda: resident_kib(process)), kernel_kib()
        return {
            "grown_kib": after[0] - before[0],
            "kernel_kib": after[1] - before[1],
            "quick_alone_ms": round(quick_alone, 2),
            "quick_ms": round(quick_ms(quick), 2),
        }
    finally:
        process.kill()
        process.wait()


def main():
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "large").write_bytes(bytes(FILE_BYTES))
        (Path(root) / "short").write_bytes(b"short\n")
        servers = {
            "reactor": [PROGRAM, "--port", "0", root],
            "threads": [PROGRAM, "--port", "0", "--model", "threads", root],
            "asyncio_drain": asyncio_server(True),
            "asyncio_no_drain": asyncio_server(False),
        }
        print(json.dumps({name: measure(command) for name, command in servers.items()}))


PROGRAM = program()
main()
