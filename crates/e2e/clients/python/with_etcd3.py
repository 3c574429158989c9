"""Puts, reads, compares, watches, leases and locks through etcd3, and prints what comes back."""

import sys

import etcd3


def keys(client):
    client.put("python3/ä", "eins")
    client.put("python3/ä", "zwei")
    client.put("python3/b", "drei")
    for value, meta in client.get_prefix("python3/", sort_order="descend", sort_target="key"):
        print(meta.key.decode(), "=", value.decode(), "version", meta.version)
    print("create only:", client.put_if_not_exists("python3/b", "fünf"))
    print("replace:", client.replace("python3/b", "drei", "vier"))
    print("deleted", client.delete("python3/b"), client.delete("python3/b"))


def transaction(client):
    for _ in range(2):
        succeeded, answers = client.transaction(
            compare=[client.transactions.version("python3/t") == 0],
            success=[client.transactions.put("python3/t", "x")],
            failure=[client.transactions.get("python3/t")],
        )
        print("succeeded", succeeded, "answers", len(answers))


def watch(client):
    events, cancel = client.watch_prefix("python3/w")
    client.put("python3/w1", "x")
    client.delete("python3/w1")
    for _ in range(2):
        event = next(events)
        print(type(event).__name__, event.key.decode(), event.value)
    cancel()


def lease(client):
    granted = client.lease(60)
    client.put("python3/leased", "x", lease=granted)
    print("granted", granted.granted_ttl, "keys", [key.decode() for key in granted.keys])
    print("ttl", next(iter(granted.refresh())).TTL)
    granted.revoke()
    print("left", client.get("python3/leased"))


def lock(client):
    with client.lock("python3", ttl=30) as held:
        print("held", held.is_acquired())
    print("held", held.is_acquired())


def main(port):
    client = etcd3.client(host="127.0.0.1", port=port, timeout=60)
    for part in (keys, transaction, watch, lease, lock):
        part(client)
    print("members", len(list(client.members)), "version", client.status().version)
    client.compact(client.get("python3/t")[1].mod_revision)
    try:
        client.compact(1)
    except Exception as error:  # The library has no class of its own for this answer.
        print(error.code().name, error.details())


main(int(sys.argv[1]))
