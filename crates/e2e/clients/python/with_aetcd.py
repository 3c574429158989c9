"""Puts, reads, compares, watches and leases through aetcd, and prints what comes back."""

import asyncio
import sys

import aetcd


async def keys(client):
    await client.put("python/ä".encode(), b"eins")
    await client.put("python/ä".encode(), b"zwei")
    await client.put(b"python/b", b"drei")
    result = await client.get("python/ä".encode())
    print(result.value.decode(), "version", result.version)
    for pair in await client.get_prefix(b"python/"):
        print(pair.key.decode(), "=", pair.value.decode())
    print("missing", await client.get(b"python/none"))


async def transaction(client):
    for _ in range(2):
        succeeded, responses = await client.transaction(
            compare=[client.transactions.value(b"python/b") == b"drei"],
            success=[client.transactions.put(b"python/b", b"vier")],
            failure=[client.transactions.get(b"python/b")],
        )
        print("succeeded", succeeded, "answers", len(responses))


async def watch(client):
    events = await client.watch_prefix(b"python/w")
    await client.put(b"python/w1", b"x")
    await client.delete(b"python/w1")
    seen = 0
    async for event in events:
        print(event.kind, event.kv.key.decode(), event.kv.value)
        seen += 1
        if seen == 2:
            break
    await events.cancel()


async def lease(client):
    granted = await client.lease(60)
    await client.put(b"python/leased", b"x", lease=granted)
    print("ttl", (await granted.refresh()).TTL)
    await granted.revoke()
    print("left", await client.get(b"python/leased"))


async def main(port):
    async with aetcd.Client(host="127.0.0.1", port=port, timeout=60) as client:
        for part in (keys, transaction, watch, lease):
            await part(client)


asyncio.run(asyncio.wait_for(main(int(sys.argv[1])), 30))
