#!/usr/bin/env python3
"""Counts the events that the kernel reports, and the system calls of the server for each request.

    learn/measure/edge-once.py [PROGRAM]        PROGRAM is target/release/whirligig by default

First, 60,000 bytes arrive at a socket in an epoll, one read takes 32,767 of them, and the script counts the events of the
next epoll_wait, edge-triggered and level-triggered. Then bytes arrive together with FIN, and three clients connect at once.
Last, one client sends 1,000 requests to PROGRAM on one connection, and strace counts the calls. The script needs Linux and
strace, prints one JSON object, and uses loopback only.
"""

import array
import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOM = 32_767
SENT = 60_000
REQUESTS = 1_000
# Milliseconds in which an event must come, or is taken as not coming.
COMES_MS, STAYS_AWAY_MS = 5_000, 100
TCP_CLOSE_WAIT = 8


def until(holds):
    """Repeats `holds` until it is true."""
    end = time.monotonic() + 10
    while not holds():
        if time.monotonic() > end:
            sys.exit("edge-once: nothing happened for 10 seconds")


def unread(conn):
    """Returns the number of bytes that wait in a socket."""
    count = array.array("i", [0])
    fcntl.ioctl(conn, termios.FIONREAD, count)
    return count[0]


def listener():
    server = socket.create_server(("127.0.0.1", 0), backlog=16)
    server.setblocking(False)
    return server


def pair():
    """Returns both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        conn, _ = server.accept()
    conn.setblocking(False)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return client, conn


def watched(conn, mask):
    """Returns a function that waits in an epoll, and returns the events of `conn`."""
    epoll = select.epoll()
    epoll.register(conn, mask)
    return lambda wait_ms: [events for _, events in epoll.poll(wait_ms / 1000)]


def after_one_read(mask):
    """Counts events before and after one read that does not take all bytes."""
    client, conn = pair()
    events = watched(conn, mask)
    client.sendall(bytes(SENT))
    until(lambda: unread(conn) == SENT)
    before = len(events(COMES_MS))
    conn.recv(ROOM)
    left = unread(conn)
    after = len(events(STAYS_AWAY_MS))
    client.sendall(b"!")
    more = len(events(COMES_MS))
    return {"events": before, "left_bytes": left, "events_after_one_read": after, "events_after_new_byte": more}


def with_fin():
    """Counts events before and after a short read of bytes that arrived together with FIN."""
    client, conn = pair()
    events = watched(conn, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
    client.sendall(b"GET / HTTP/1.1\r\nHo")
    client.shutdown(socket.SHUT_WR)
    until(lambda: conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE_WAIT)
    first = events(COMES_MS)
    conn.recv(ROOM)
    return {
        "events": len(first),
        "reports_end": bool(first[0] & select.EPOLLRDHUP),
        "events_after_short_read": len(events(STAYS_AWAY_MS)),
        "second_read": len(conn.recv(ROOM)),
    }


def accepts():
    """Counts the events of a listener with three clients, and the clients without an event."""
    server = listener()
    events = watched(server, select.EPOLLIN | select.EPOLLET)
    clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
    first = len(events(COMES_MS))
    kept = [server.accept()]
    after = len(events(STAYS_AWAY_MS))
    while True:
        try:
            kept.append(server.accept())
        except BlockingIOError:
            break
    return {"clients": len(clients), "events": first, "events_after_one_accept": after, "accepted": len(kept)}


def calls(program):
    """Counts the calls of the server while one client sends requests on one connection."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/site")
        with open(f"{folder}/site/hello.txt", "w", encoding="ascii") as file:
            file.write("hello\n")
        table = f"{folder}/calls"
        server = subprocess.Popen([program, "--port", "0", f"{folder}/site"], stdout=subprocess.PIPE, text=True)
        try:
            port = next(int(found[1]) for line in server.stdout if (found := re.search(r"http://[^/]*:(\d+)/", line)))
            strace = subprocess.Popen(
                ["strace", "-f", "-c", "-U", "calls,name", "-o", table, "-p", str(server.pid)],
                stderr=subprocess.PIPE,
                text=True,
            )
            if "attached" not in strace.stderr.readline():
                sys.exit("edge-once: strace cannot attach to the server")
            client = socket.create_connection(("127.0.0.1", port))
            answers = client.makefile("rb")
            for _ in range(REQUESTS):
                client.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while answers.readline() != b"\r\n":
                    pass
                answers.readline()
            strace.send_signal(signal.SIGINT)
            strace.wait(10)
        finally:
            server.kill()
            server.wait()
        with open(table, encoding="ascii") as file:
            rows = [line.split() for line in file]
    counts = {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdigit()}
    return {
        "requests": REQUESTS,
        "reads": counts.get("recvfrom", 0),
        "writes": counts.get("sendto", 0),
        "registrations": counts.get("epoll_ctl", 0),
    }


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else f"{TOP}/target/release/whirligig"
    print(
        json.dumps(
            {
                "edge": after_one_read(select.EPOLLIN | select.EPOLLET),
                "level": after_one_read(select.EPOLLIN),
                "fin": with_fin(),
                "listener": accepts(),
                "calls": calls(program),
            }
        )
    )


main()
