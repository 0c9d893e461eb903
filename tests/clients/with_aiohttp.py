"""Tests the server with Python's aiohttp, many requests at once: `with_aiohttp.py http://127.0.0.1:PORT`."""

import asyncio
import sys

import aiohttp

base = sys.argv[1]


async def main():
    limit = aiohttp.ClientTimeout(total=40)
    async with aiohttp.ClientSession(timeout=limit) as session:

        async def fetch(path, **more):
            async with session.get(base + path, **more) as got:
                return got.status, await got.read()

        answers = await asyncio.gather(*(fetch("/hello.txt") for _ in range(500)))
        assert all(answer == (200, b"hello, world\n") for answer in answers)

        _, whole = await fetch("/big.bin")
        step = 1_000_000
        ranges = [{"Range": f"bytes={at}-{at + step - 1}"} for at in range(0, len(whole), step)]
        parts = await asyncio.gather(*(fetch("/big.bin", headers=fields) for fields in ranges))
        assert all(status == 206 for status, _ in parts)
        assert b"".join(part for _, part in parts) == whole

        async def pieces():
            for at in range(0, 3_000_000, 50_000):
                yield whole[at : at + 50_000]

        for more in ({}, {"expect100": True}):
            async with session.post(base + "/api/echo", data=pieces(), **more) as got:
                assert await got.read() == whole[:3_000_000], more

        # A client that leaves in the middle must not affect the next.
        async with session.get(base + "/big.bin") as got:
            await got.content.readexactly(1000)
            got.close()
        assert (await fetch("/nothing"))[0] == 404


asyncio.run(main())
