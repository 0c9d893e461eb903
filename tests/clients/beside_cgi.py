#!/usr/bin/env python3
"""How long a small file takes while two hundred slow programs run: `tests/clients/beside_cgi.py [BINARY]`.

Prints percentiles for both models, without the programs and beside them. The programs sleep; they are all started at
once, while the file is asked for once a millisecond on one connection. Run it on a machine that does nothing else.
"""

import http.client
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

SLOW = 200
ASKED = 3000


def percentiles(times):
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000
    return f"p50 {at(0.5):7.3f} ms   p99 {at(0.99):7.3f} ms   max {times[-1] * 1000:7.3f} ms"


def ask(port, count):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", "/small.txt")
        connection.getresponse().read()
        times.append(time.perf_counter() - began)
        time.sleep(0.001)
    return times


def slow(port, failed):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/cgi/slow")
        answer = connection.getresponse()
        if answer.status != 200 or answer.read() != b"done\n":
            failed.append(answer.status)
    except OSError as error:
        failed.append(error)


def measure(binary, model, folder):
    command = [binary, "--model", model, "--port", "0", "--access-log", "off"]
    command += ["--cgi", f"/cgi={folder}/cgi", f"{folder}/www"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in server.stdout if line.startswith("http"))
        port = int(line.rstrip("/\n").rsplit(":", 1)[1])
        print(f"{model:8} alone:   {percentiles(ask(port, ASKED))}")
        failed = []
        clients = [threading.Thread(target=slow, args=(port, failed)) for _ in range(SLOW)]
        for client in clients:
            client.start()
        print(f"{model:8} beside:  {percentiles(ask(port, ASKED))}")
        for client in clients:
            client.join()
        print(f"{model:8} of {SLOW} programs {SLOW - len(failed)} answered {failed[:3] or ''}")
    finally:
        server.terminate()
        server.wait()


def main():
    home = pathlib.Path(__file__).resolve().parents[2]
    binary = sys.argv[1] if len(sys.argv) > 1 else str(home / "target/release/whirligig")
    with tempfile.TemporaryDirectory(prefix="whirligig-beside-") as folder:
        os.makedirs(f"{folder}/cgi")
        os.makedirs(f"{folder}/www")
        pathlib.Path(f"{folder}/www/small.txt").write_text("x" * 1024)
        program = pathlib.Path(f"{folder}/cgi/slow")
        program.write_text("#!/bin/sh\nsleep 5\nprintf 'Content-Type: text/plain\\n\\ndone\\n'\n")
        program.chmod(0o755)
        for model in ["reactor", "threads"]:
            measure(binary, model, folder)


if __name__ == "__main__":
    main()
