"""Tests the server with Python's requests: `with_requests.py http://127.0.0.1:PORT`."""

import sys

import requests

base = sys.argv[1]
session = requests.Session()
session.trust_env = False
limit = 20

for _ in range(50):
    got = session.get(f"{base}/hello.txt", timeout=limit)
    assert got.status_code == 200 and got.text == "hello, world\n", got

whole = session.get(f"{base}/big.bin", timeout=limit).content
assert len(whole) == 20 * 1024 * 1024
streamed = b"".join(session.get(f"{base}/big.bin", stream=True, timeout=limit).iter_content(100_000))
assert streamed == whole

part = session.get(f"{base}/big.bin", headers={"Range": "bytes=1000000-1999999"}, timeout=limit)
assert part.status_code == 206 and part.content == whole[1_000_000:2_000_000]
assert session.get(f"{base}/big.bin", headers={"Range": "bytes=99999999-"}, timeout=limit).status_code == 416

first = session.get(f"{base}/hello.txt", timeout=limit)
for name, field in (("If-None-Match", "ETag"), ("If-Modified-Since", "Last-Modified")):
    again = session.get(f"{base}/hello.txt", headers={name: first.headers[field]}, timeout=limit)
    assert again.status_code == 304 and again.content == b"", again

moved = session.get(f"{base}/tree", timeout=limit)
assert moved.status_code == 200 and moved.history[0].status_code == 301 and moved.url.endswith("/tree/")
names = session.get(f"{base}/tree/", headers={"Accept": "application/json"}, timeout=limit).json()
assert "一个文件.txt" in str(names), names

content = bytes(range(256)) * 4000
echo = session.post(f"{base}/api/echo", data=content, timeout=limit)
assert echo.content == content
echo = session.put(f"{base}/api/echo", data=(content[at : at + 7777] for at in range(0, len(content), 7777)), timeout=limit)
assert echo.content == content, "chunked"
assert session.post(f"{base}/hello.txt", data=b"x", timeout=limit).status_code == 405
assert session.head(f"{base}/big.bin", timeout=limit).headers["Content-Length"] == str(len(whole))
assert session.get(f"{base}/nothing", timeout=limit).status_code == 404
