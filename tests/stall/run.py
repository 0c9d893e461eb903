#!/usr/bin/env python3
"""Measures how heavy work and slow clients affect other clients.

Eight clients repeatedly request one of

    listing   the listing of a folder with 8,000 files
    zip       a folder of 1 GiB of random bytes as a zip
    cold      files on disk that are not in memory

Meanwhile a ninth client sends 2,000 requests for a small file in memory, one after the other. The script prints its
latencies as p50, p99 and max, each the median of five runs, in which the servers alternate. `idle` is the same without
the eight clients. If nginx is installed, it is measured next to ours, except for zips.

In three more scenes slow clients hold all permits of one kind, and another client retries until it gets one:

    slow-programs  eight programs; half of the clients announce 60 MB and send one byte, half send 1.1 MB at once
    slow-uploads   eight uploads of 60 MB each
    slow-threads   eight connections (on the threads model: eight threads) with bodies of 60 MB each

All of them continue with 240 bytes per second. The script prints the seconds from the time at which all permits are in
use until the client succeeds, and how often it was refused; "never" if that takes longer than --slow-seconds-max.

In the last two scenes one address floods the server, and a client from another address sends several kinds of requests:

    guess-flood    sixty connections send different wrong passwords for an htpasswd file (bcrypt, cost 10), each 0.25 s
                   after its last response; the other client is a remembered user
    listing-flood  250 connections request the listing of a folder of 100,000 files and do not read it

The script prints the median and the maximum time of each kind of request, the number of those that were refused or took
longer than 10 s, and the additional memory of the server at its peak.

As root it writes to /proc/sys/vm/drop_caches: the kernel drops all cached files, including those of other programs.

Build first: cargo build --release. The script checks no times, except for our p99 with --limit-ms.
"""

import argparse
import base64
import http.client
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SLOW_SCENES = ("slow-programs", "slow-uploads", "slow-threads")
FLOOD_SCENES = ("guess-flood", "listing-flood")
SCENES = ("idle", "listing", "zip", "cold", *SLOW_SCENES, *FLOOD_SCENES)
# Permits of each kind in the slow scenes.
SLOW_PLACES = 8
HOT = b"round and round and round\n"
MIB = 1 << 20
# An htpasswd file: two users with one password.
PASSWORD = "open sesame"
USERS = "".join(f"{name}:$2b$10$abcdefghijklmnopqrstuu4SuEsu2LsUrAYUpWQHLMMc4GV5pZTxK\n" for name in ("anna", "otto"))
# Maximum time of a request of the other client during a flood.
PROBE_SECONDS_MAX = 10

# A longer run is cut off and marked.
RUN_SECONDS_MAX = 60
# Maximum time for the start of a server, and for the first byte of a response.
START_SECONDS_MAX = 20


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", default=os.path.join(TOP, "target/release/whirligig"), help="our server (%(default)s)")
    parser.add_argument("--nginx", default=shutil.which("nginx") or "", help="nginx to compare with, by default the one in PATH; '' for none")
    parser.add_argument("--models", default="reactor", help="our models to measure: reactor, threads or reactor,threads (%(default)s)")
    parser.add_argument("--scenes", default=",".join(SCENES), help="scenes to run (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs per scene and server (%(default)s)")
    parser.add_argument("--requests", type=int, default=2000, help="requests of the ninth client in a run (%(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="clients that produce the load (%(default)s)")
    parser.add_argument("--files", type=int, default=8000, help="files in the listed folder (%(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="MiB in the folder that is packed (%(default)s)")
    parser.add_argument("--pause-ms", type=float, default=1.0, help="pause between two requests of the ninth client, which spreads them over the load (%(default)s)")
    parser.add_argument("--load-nice", type=int, default=10, help="niceness of the eight clients, because real clients run on other machines (%(default)s)")
    parser.add_argument("--scratch", default=os.path.join(TOP, "target/stall"), help="folder for the data, which is created once (%(default)s)")
    parser.add_argument("--slow-runs", type=int, default=3, help="runs per slow scene and server (%(default)s)")
    parser.add_argument("--slow-seconds-max", type=float, default=60, help="how long the other client retries among slow ones (%(default)s)")
    parser.add_argument("--flood-runs", type=int, default=3, help="runs per flood and server (%(default)s)")
    parser.add_argument("--flood-seconds", type=float, default=5, help="length of a flood run in seconds (%(default)s)")
    parser.add_argument("--flood-files", type=int, default=100000, help="files in the folder of the listing flood (%(default)s)")
    parser.add_argument("--limit-ms", type=float, help="exit with status 1 if a p99 of ours exceeds this")
    parser.add_argument("--seconds-max", type=int, default=1800, help="give up after this long (%(default)s)")
    parser.add_argument("--flags", default="", help="further flags for our server, in one argument")
    given = parser.parse_args()
    given.scenes = given.scenes.split(",")
    given.models = given.models.split(",")
    for word in given.scenes:
        if word not in SCENES:
            parser.error(f"there is no scene '{word}'")
    if not os.access(given.binary, os.X_OK):
        parser.error(f"{given.binary} is no executable file: run cargo build --release, or use --binary")
    return given


# The data.


def make_data(scratch, files, mib):
    """Creates the served folder. Keeps existing files of the right size."""
    root = os.path.join(scratch, "root")
    many = os.path.join(root, f"many-{files}")
    big = os.path.join(root, f"big-{mib}")
    for folder in (many, big):
        os.makedirs(folder, exist_ok=True)
    with open(os.path.join(root, "hot.txt"), "wb") as file:
        file.write(HOT)
    if len(os.listdir(many)) != files:
        for number in range(files):
            with open(os.path.join(many, f"a file with number {number:06}.txt"), "wb") as file:
                file.write(b"x" * (number % 100))
    parts = max(16, mib // 16)
    size = mib * MIB // parts
    for number in range(parts):
        path = os.path.join(big, f"{number:03}.bin")
        if os.path.exists(path) and os.path.getsize(path) == size:
            continue
        free = shutil.disk_usage(scratch).free
        if free < 2 * size + 256 * MIB:
            raise SystemExit(f"run.py: {free // MIB} MiB are free at {scratch}, {mib} MiB are needed; use --scratch or --mib")
        with open(path, "wb") as file:
            for _ in range(size // MIB):
                file.write(os.urandom(MIB))
            file.write(os.urandom(size % MIB))
    os.sync()
    return root, [f"/big-{mib}/{number:03}.bin" for number in range(parts)]


def drop_caches(keep):
    """Drops the kernel's caches, and reads the files `keep` again. Returns False without the permission to do so."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")
    except OSError:
        return False
    for path in keep:
        with open(path, "rb") as file:
            while file.read(MIB):
                pass
    return True


def chill(path):
    """Evicts one file from memory. Returns whether it was evicted, or None if the file system does not report this."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return None
    finally:
        os.close(fd)


# The servers.


class Server:
    """A server started by this script, which also stops it."""

    def __init__(self, name, command, port, log):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise SystemExit(f"run.py: {name} does not start; see {log.name}")
                time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else ""
        finally:
            connection.close()

    def long_turns(self):
        """Returns the number of turns that took longer than 5 ms, and the number of all turns."""
        if "threads" in self.name or "nginx" in self.name:
            return None
        counts = {}
        for line in self.get("/_whirligig/metrics").splitlines():
            if line.startswith('whirligig_turn_seconds_bucket{le="'):
                bound, count = line.removeprefix('whirligig_turn_seconds_bucket{le="').split('"} ')
                counts[float(bound)] = int(count)
        if not counts:
            return None
        total = counts[float("inf")]
        return total - max((count for bound, count in counts.items() if bound <= 0.005), default=total), total


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


NGINX = """
daemon off; master_process off; pid {scratch}/nginx.pid; error_log stderr error; {user}
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; {aio}
  client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2; fastcgi_temp_path {scratch}/t3;
  uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; }}
}}
"""


def start_nginx(nginx, name, root, scratch, log):
    port = free_port()
    path = os.path.join(scratch, name.replace(" ", "-") + ".conf")
    aio = "aio threads;" if "aio" in name else ""
    user = "user root;" if os.geteuid() == 0 else ""
    with open(path, "w") as file:
        file.write(NGINX.format(scratch=scratch, root=root, port=port, aio=aio, user=user))
    return Server(name, [nginx, "-c", path, "-p", scratch], port, log)


def start_all(given, root, scratch, log):
    servers = []
    try:
        for model in given.models:
            port = free_port()
            flags = ["--model", model, "--port", str(port), "--archives", "--access-log", "off", *given.flags.split()]
            servers.append(Server(model, [given.binary, *flags, root], port, log))
        if given.nginx:
            servers.append(start_nginx(given.nginx, "nginx", root, scratch, log))
            about = subprocess.run([given.nginx, "-V"], capture_output=True, text=True, timeout=10).stderr
            if "--with-threads" in about and "cold" in given.scenes:
                servers.append(start_nginx(given.nginx, "nginx aio", root, scratch, log))
    except BaseException:
        stop_all(servers)
        raise
    return servers


def start_for_slow(given, scene, model, root, scratch, log):
    """Starts our server with eight permits of the kind that the scene is about."""
    programs = os.path.join(scratch, "programs")
    os.makedirs(programs, exist_ok=True)
    os.makedirs(os.path.join(root, "inbox"), exist_ok=True)
    with open(os.path.join(programs, "cat"), "w") as file:
        file.write("#!/bin/sh\ncat > /dev/null\nprintf 'Content-Type: text/plain\\n\\nok'\n")
    os.chmod(os.path.join(programs, "cat"), 0o755)
    few = {
        "slow-programs": ["--cgi-max", str(SLOW_PLACES)],
        "slow-uploads": ["--max-uploads", str(SLOW_PLACES)],
        "slow-threads": ["--max-connections", str(SLOW_PLACES)],
    }[scene]
    port = free_port()
    flags = ["--model", model, "--port", str(port), "--access-log", "off", "--cgi", f"/cgi={programs}", "--upload", "/inbox"]
    return Server(f"{model} {scene}", [given.binary, *flags, *few, *given.flags.split(), root], port, log)


def start_for_flood(given, scene, model, root, scratch, log):
    """Starts our server with a password, uploads, a short folder and a long one."""
    for name in ("private/page.txt", "short/one.txt", "short/two.txt", "inbox/x"):
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "wb") as file:
            file.write(HOT)
    long = os.path.join(root, "long")
    os.makedirs(long, exist_ok=True)
    if scene == "listing-flood":
        for number in range(len(os.listdir(long)), given.flood_files):
            open(os.path.join(long, f"a file with number {number:06}.txt"), "wb").close()
    users = os.path.join(scratch, "users")
    with open(users, "w") as file:
        file.write(USERS)
    port = free_port()
    flags = ["--model", model, "--port", str(port), "--access-log", "off", "--htpasswd", f"{users}@/private", "--upload", "/inbox"]
    return Server(f"{model} {scene}", [given.binary, *flags, *given.flags.split(), root], port, log)


def stop_all(servers):
    for server in servers:
        server.stop()


# The clients, in separate processes, so that none waits for the interpreter of another.


def load(port, paths, folder, is_cold, number, clients, begun, stop, out):
    """One of the eight clients: requests one path after the other until `stop` is set."""
    received = answers = chilled = known = 0
    buffer = bytearray(256 * 1024)
    own = paths[number % len(paths) :: clients] or paths[:1]
    at = 0
    try:
        while not stop.is_set():
            path = own[at % len(own)]
            at += 1
            if is_cold:
                was_chilled = chill(folder + path)
                known += was_chilled is not None
                chilled += was_chilled is True
            with socket.create_connection(("127.0.0.1", port), 10) as stream:
                stream.settimeout(START_SECONDS_MAX)
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
                count = stream.recv_into(buffer)
                if not buffer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"unexpected response to {path}: {bytes(buffer[:count])!r}")
                begun[number] = 1
                while count and not stop.is_set():
                    received += count
                    count = stream.recv_into(buffer)
                answers += not stop.is_set()
    except Exception as trouble:
        out.put({"trouble": f"{type(trouble).__name__}: {trouble}"})
        return
    out.put({"received": received, "answers": answers, "chilled": chilled, "known": known})


def loads(niceness, port, paths, folder, is_cold, clients, begun, stop, out):
    """All eight clients in one process, because they mostly wait in system calls."""
    os.nice(niceness)
    threads = [
        threading.Thread(target=load, args=(port, paths, folder, is_cold, number, clients, begun, stop, out))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ninth(port, requests, pause, out):
    """Returns the latency of each request in milliseconds."""
    request = b"GET /hot.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
    took = []
    until = time.monotonic() + RUN_SECONDS_MAX
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.settimeout(START_SECONDS_MAX)
            for _ in range(requests):
                start = time.perf_counter_ns()
                stream.sendall(request)
                answer = b""
                while not answer.endswith(b"\r\n\r\n" + HOT):
                    piece = stream.recv(4096)
                    if not piece:
                        raise RuntimeError("the connection was closed")
                    answer += piece
                took.append((time.perf_counter_ns() - start) / 1e6)
                if time.monotonic() > until:
                    break
                time.sleep(pause / 1000)
    except Exception as trouble:
        out.put({"trouble": f"{type(trouble).__name__}: {trouble}"})
        return
    out.put({"took": took})


def measure(server, scene, given, root, big):
    """Makes one run."""
    paths = {
        "idle": [],
        "listing": [f"/many-{given.files}/"],
        "zip": [f"/big-{given.mib}/?archive=zip"],
        "cold": big,
    }[scene]
    dropped = None
    if scene == "cold":
        dropped = drop_caches([given.binary, os.path.join(root, "hot.txt"), given.nginx or given.binary])
    make = multiprocessing.get_context("fork")
    stop, begun = make.Event(), make.Array("b", given.clients)
    loaded, asked = make.SimpleQueue(), make.SimpleQueue()
    loader = make.Process(
        target=loads,
        args=(given.load_nice, server.port, paths, root, scene == "cold", given.clients, begun, stop, loaded),
        daemon=True,
    )
    prober = make.Process(target=ninth, args=(server.port, given.requests, given.pause_ms, asked), daemon=True)
    before, cpu = server.long_turns(), cpu_seconds(server)
    began = time.monotonic()
    try:
        if paths:
            loader.start()
            while not all(begun) and loaded.empty() and time.monotonic() < began + START_SECONDS_MAX:
                time.sleep(0.005)
        prober.start()
        result = take(asked, RUN_SECONDS_MAX + START_SECONDS_MAX + 5)
        stop.set()
        seconds = time.monotonic() - began
        loads_done = [take(loaded, START_SECONDS_MAX + 5) for _ in range(given.clients)] if paths else []
    finally:
        stop.set()
        for process in (loader, prober):
            if process.pid:
                process.join(5)
                if process.is_alive():
                    process.kill()
    for one in [result, *loads_done]:
        if "trouble" in one:
            raise SystemExit(f"run.py: {server.name}, {scene}: {one['trouble']}")
    after = server.long_turns()
    took = sorted(result["took"])
    return {
        "p50": quantile(took, 0.50),
        "p99": quantile(took, 0.99),
        "max": took[-1],
        "count": len(took),
        "seconds": seconds,
        "answers": sum(one["answers"] for one in loads_done) / seconds,
        "mib": sum(one["received"] for one in loads_done) / seconds / MIB,
        "cpu": (cpu_seconds(server) - cpu) / seconds,
        "cold": share(loads_done),
        "dropped": dropped,
        "long_turns": (after[0] - before[0], after[1] - before[1]) if before and after else None,
    }


# Slow clients.


def measure_slow(server, scene, given):
    """Returns the seconds until a client succeeds among slow ones, or None, and how often it was refused."""
    method, path = {
        "slow-programs": ("POST", "/cgi/cat"),
        "slow-uploads": ("PUT", "/inbox/slow-{}"),
        "slow-threads": ("POST", "/api/echo"),
    }[scene]
    stop, slow = threading.Event(), []
    # The connection that detected the start of the server may still hold its thread.
    time.sleep(0.3)
    try:
        for number in range(SLOW_PLACES * (2 if scene == "slow-programs" else 1)):
            # Half of them send more than the server stores before it starts a program.
            begun = 1_100_000 if scene == "slow-programs" and number % 2 else 1
            stream = socket.create_connection(("127.0.0.1", server.port), 10)
            head = f"{method} {path.format(number)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n"
            stream.sendall(head.encode() + b"x" * begun)
            stream.setblocking(False)
            slow.append(stream)
        drip = threading.Thread(target=trickle, args=(slow, stop), daemon=True)
        drip.start()
        time.sleep(0.5)
        asked = ("PUT", "/inbox/new", b"new") if scene == "slow-uploads" else ("GET", "/hot.txt", b"")
        if scene == "slow-programs":
            asked = ("POST", path, b"x")
        return until_served(server, *asked, given.slow_seconds_max)
    finally:
        stop.set()
        for stream in slow:
            stream.close()


def trickle(streams, stop):
    """Sends 60 bytes on each stream four times per second."""
    while not stop.wait(0.25):
        for stream in streams:
            try:
                stream.send(b"y" * 60)
            except OSError:
                pass


def until_served(server, method, path, content, seconds_max):
    began, refused = time.monotonic(), 0
    while (left := began + seconds_max - time.monotonic()) > 0:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=left)
        try:
            connection.request(method, path, content or None)
            if connection.getresponse().status in (200, 201, 204):
                return time.monotonic() - began, refused
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        refused += 1
        time.sleep(0.1)
    return None, refused


def report_slow(scene, model, runs):
    took = [seconds for seconds, _ in runs]
    never = sum(seconds is None for seconds in took)
    served = sorted(seconds for seconds in took if seconds is not None)
    middle = f"{statistics.median(served):.2f} s ({served[0]:.2f}..{served[-1]:.2f})" if served else ""
    words = [middle] * bool(served) + [f"never in {never} of {len(runs)} runs"] * bool(never)
    refused = statistics.median(refused for _, refused in runs)
    print(f"{scene:<14} {model:<10} {'; '.join(words)}, refused {refused:.0f} times", flush=True)


# Floods.


def basic(user, password):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() + "\r\n"


def guess(port, niceness, stop, begun):
    """Sixty clients with wrong passwords, from 127.0.0.1."""
    os.nice(niceness)

    def one(number):
        tries = 0
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), PROBE_SECONDS_MAX) as stream:
                    while not stop.wait(0.25):
                        tries += 1
                        head = "GET /private/page.txt HTTP/1.1\r\nHost: localhost\r\n" + basic("otto", f"{number} {tries}")
                        stream.sendall(head.encode() + b"\r\n")
                        begun.value = 1
                        answer = stream.recv(4096)
                        if not answer or b"onnection: close" in answer:
                            break
            except OSError:
                pass

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(60)]
    for thread in threads:
        thread.start()
    stop.wait()


def hold(port, niceness, stop, begun):
    """250 clients of a long listing that do not read it, from 127.0.0.1."""
    os.nice(niceness)
    streams = []
    for _ in range(250):
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.connect(("127.0.0.1", port))
        stream.sendall(b"GET /long/?json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        streams.append(stream)
    begun.value = 1
    stop.wait()


def measure_flood(server, scene, given):
    """Returns the times of each kind of request of the other client, None for failed ones, and the memory in bytes."""
    number, probes = 0, {
        "small file": lambda: ask(server, "GET", "/hot.txt"),
        "listing": lambda: ask(server, "GET", "/short/"),
        "upload": lambda: ask(server, "PUT", f"/inbox/probe-{number % 10}", content=b"content"),
        "remembered": lambda: ask(server, "GET", "/private/page.txt", "anna"),
    }
    for probe in probes.values():
        probe()
    before = memory_peak(server)
    make = multiprocessing.get_context("fork")
    stop, begun = make.Event(), make.Value("b", 0)
    target = guess if scene == "guess-flood" else hold
    flood = make.Process(target=target, args=(server.port, given.load_nice, stop, begun), daemon=True)
    took = {name: [] for name in [*probes, "login"]}
    try:
        flood.start()
        until = time.monotonic() + START_SECONDS_MAX
        while not begun.value and time.monotonic() < until:
            time.sleep(0.01)
        if scene == "guess-flood":
            # Wait until the flood has its full size.
            time.sleep(0.5)
            took["login"].append(ask(server, "GET", "/private/page.txt", "otto"))
        until = time.monotonic() + given.flood_seconds
        while not took["small file"] or time.monotonic() < until:
            number += 1
            for name, probe in probes.items():
                took[name].append(probe())
    finally:
        stop.set()
        flood.join(5)
        if flood.is_alive():
            flood.kill()
    return took, memory_peak(server) - before


def ask(server, method, path, user=None, content=b""):
    """Returns the seconds that a request from 127.0.0.2 took, or None if it was refused or took too long."""
    began = time.perf_counter()
    field = basic(user, PASSWORD) if user else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(content)}\r\n{field}\r\n"
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", server.port), PROBE_SECONDS_MAX, ("127.0.0.2", 0)) as stream:
            stream.sendall(head.encode() + content)
            while piece := stream.recv(65536):
                answer += piece
    except OSError:
        return None
    return time.perf_counter() - began if answer.startswith(b"HTTP/1.1 2") else None


def memory_peak(server):
    """Returns the peak of a server's resident memory in bytes."""
    with open(f"/proc/{server.process.pid}/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def report_flood(scene, model, runs):
    said = []
    for name in runs[0][0]:
        all_of_them = [seconds for took, _ in runs for seconds in took[name]]
        served = [seconds * 1000 for seconds in all_of_them if seconds is not None]
        if not all_of_them:
            continue
        words = f"{statistics.median(served):.1f} ms (max {max(served):.1f})" if served else "never"
        lost = len(all_of_them) - len(served)
        said.append(f"{name} {words}" + (f", {lost} of {len(all_of_them)} failed" if lost else ""))
    memory = max(memory for _, memory in runs)
    print(f"{scene:<14} {model:<10} {'; '.join(said)}; {memory / MIB:.0f} MiB more", flush=True)


def take(queue, seconds):
    """Returns the next item of a queue, or an error."""
    until = time.monotonic() + seconds
    while queue.empty():
        if time.monotonic() > until:
            return {"trouble": f"no result within {seconds} seconds"}
        time.sleep(0.005)
    return queue.get()


def share(loads_done):
    """Returns the share of requested files that were cold, or None if that is unknown."""
    known = sum(one["known"] for one in loads_done)
    return sum(one["chilled"] for one in loads_done) / known if known else None


def quantile(took, part):
    return took[min(len(took) - 1, int(len(took) * part))]


def cpu_seconds(server):
    """Returns the processor time of a server in seconds."""
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Output.


def report(scene, name, runs, given):
    """Prints a line of the table and returns the p99."""
    middle = {key: statistics.median(run[key] for run in runs) for key in ("p50", "p99", "max", "answers", "mib", "cpu")}
    spread = f"{min(run['p99'] for run in runs):.2f}..{max(run['p99'] for run in runs):.2f}"
    said = []
    if runs[0]["cold"] is not None:
        said.append(f"{100 * statistics.median(run['cold'] for run in runs):.0f} % of the files were cold")
    if runs[0]["long_turns"]:
        long, total = (sum(run["long_turns"][at] for run in runs) for at in (0, 1))
        said.append(f"{long} of {total} turns over 5 ms")
    short = [run for run in runs if run["count"] < given.requests]
    if short:
        said.append(f"{len(short)} runs cut off after {RUN_SECONDS_MAX} s")
    print(
        f"{scene:<8} {name:<10} {middle['p50']:>8.2f} {middle['p99']:>8.2f} {middle['max']:>8.2f}  {spread:<14}"
        f" {middle['answers']:>8.1f} {middle['mib']:>8.0f} {middle['cpu']:>5.2f}  {'; '.join(said)}",
        flush=True,
    )
    return middle["p99"]


def give_up(*_):
    raise SystemExit("run.py: --seconds-max exceeded")


def main():
    given = arguments()
    signal.signal(signal.SIGALRM, give_up)
    signal.signal(signal.SIGTERM, give_up)
    signal.alarm(given.seconds_max)
    given.scratch, given.binary = os.path.abspath(given.scratch), os.path.abspath(given.binary)
    os.makedirs(given.scratch, exist_ok=True)
    print(f"creating the data in {given.scratch}", file=sys.stderr)
    root, big = make_data(given.scratch, given.files, given.mib)
    cores = len(os.sched_getaffinity(0))
    print(
        f"{given.clients} clients produce the load, another one sends {given.requests} requests for {len(HOT)} bytes; median of"
        f" {given.runs} runs; {cores} processors, load average {os.getloadavg()[0]:.1f}"
    )
    print("scene    server      p50 ms   p99 ms   max ms  p99 of runs     loads/s    MiB/s   cpu")
    ours_above = False
    with tempfile.TemporaryDirectory(prefix="whirligig-stall-") as scratch, open(
        os.path.join(scratch, "servers.log"), "w"
    ) as log:
        servers = start_all(given, root, scratch, log)
        try:
            for scene in given.scenes:
                if scene in SLOW_SCENES + FLOOD_SCENES:
                    continue
                taking_part = [server for server in servers if takes_part(server.name, scene)]
                runs = {server.name: [] for server in taking_part}
                for _ in range(given.runs):
                    for server in taking_part:
                        runs[server.name].append(measure(server, scene, given, root, big))
                for name, of_one in runs.items():
                    p99 = report(scene, name, of_one, given)
                    is_ours = not name.startswith("nginx")
                    ours_above |= is_ours and given.limit_ms is not None and p99 > given.limit_ms
                dropped = [run["dropped"] for of_one in runs.values() for run in of_one]
                if scene == "cold":
                    print(
                        "         the kernel's caches were dropped before each run, and the programs and the hot file were"
                        " read again"
                        if all(dropped)
                        else "         dropping all caches is not permitted here: each file was evicted separately (posix_fadvise)"
                    )
        finally:
            stop_all(servers)
        slow_scenes = [scene for scene in given.scenes if scene in SLOW_SCENES]
        if slow_scenes:
            print(f"scene          server     until another client succeeds; median of {given.slow_runs} runs")
        for scene in slow_scenes:
            for model in given.models:
                runs = []
                for _ in range(given.slow_runs):
                    server = start_for_slow(given, scene, model, root, scratch, log)
                    try:
                        runs.append(measure_slow(server, scene, given))
                    finally:
                        server.stop()
                report_slow(scene, model, runs)
        for scene in [scene for scene in given.scenes if scene in FLOOD_SCENES]:
            for model in given.models:
                runs = []
                for _ in range(given.flood_runs):
                    server = start_for_flood(given, scene, model, root, scratch, log)
                    try:
                        runs.append(measure_flood(server, scene, given))
                    finally:
                        server.stop()
                report_flood(scene, model, runs)
    return 1 if ours_above else 0


def takes_part(name, scene):
    if name == "nginx":
        return scene != "zip"
    return name != "nginx aio" or scene == "cold"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
