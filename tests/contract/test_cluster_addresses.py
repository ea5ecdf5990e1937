"""What REDIS_URL may name: a server behind TLS, an ACL user with no more rights than needed, sentinels."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_mail_cluster.redis.connection import connect
from agent_mail_core.errors import Unavailable
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.limits import Budget
from tests import servers
from tests.contract.clusters import RedisWorker, redis_worker, redis_workers, until
from tests.contract.valkey_server import ValkeyServer, valkey_server

pytestmark = pytest.mark.valkey

ACL = "~am:* &am:* -@all +@connection +@read +@write +@scripting +@pubsub +time -@dangerous"
"""What docs/settings.md may tell an administrator to grant."""


async def use_everything(one: RedisWorker, two: RedisWorker) -> None:
    """Each port once."""
    session = await one.sessions.create(TeamId(1), Principal("ann"), "v", {})
    assert await two.sessions.get(session.id) == session
    await one.subscriptions.add(session.id, "u")
    await one.subscriptions.remove(session.id, "u")
    assert await one.subscriptions.uris(session.id) == frozenset()
    async with two.stream_log.listen(session.id) as news:
        event_id = await one.stream_log.append(session.id, b"x")
        assert await news.wait(5)
    assert not (await two.stream_log.read_after(session.id, event_id)).has_gap
    assert (await one.limits.take(Budget("reads", 10_000), "ann")).is_granted
    assert not one.limits.is_local
    with one.replies.expect("s") as expected:
        assert await two.replies.deliver("s", expected.request_id, {"ok": 1})
        assert await expected.wait(5) == {"ok": 1}
    await one.sessions.delete(session.id)


async def test_a_user_with_only_the_rights_that_are_documented(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", "mail@user", "on", ">p@ss/word", *ACL.split())
        address = client.connection_pool.connection_kwargs
        url = f"redis://mail%40user:p%40ss%2Fword@{address['host']}:{address['port']}/0"
        try:
            async with redis_workers(url, 2) as (one, two):
                await use_everything(one, two)
        finally:
            client.execute_command("ACL", "DELUSER", "mail@user")
            client.flushdb()


async def test_a_server_behind_tls(valkey_url: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    with redis.Redis.from_url(valkey_url) as client:
        address = client.connection_pool.connection_kwargs
        async with tls_proxy(address["host"], address["port"], certificate, key) as port:
            url = f"rediss://:{address['password']}@127.0.0.1:{port}/0"
            async with redis_workers(f"{url}?ssl_ca_certs={certificate}", 2) as (one, two):
                await use_everything(one, two)
            async with redis_worker(url) as stranger:  # who does not know the issuer
                assert not stranger.connection.is_up
        client.flushdb()


async def test_sentinels_lead_to_the_new_primary_after_a_failover() -> None:
    with valkey_server() as old, valkey_server() as new, sentinel(old, new) as port:
        url = f"redis+sentinel://:{old.password}@127.0.0.1:1,127.0.0.1:{port}/mail?db=0"
        async with redis_workers(url, 2) as (one, two):
            await use_everything(one, two)
            old.stop()

            async def is_back() -> bool:
                try:
                    await use_everything(one, two)
                except (Unavailable, AssertionError):
                    return False
                return True

            await until(is_back, patience=30)
            with redis.Redis.from_url(new.url) as client:
                assert len(client.pubsub_channels("am:worker:*")) == 2


async def test_sentinels_that_are_away_are_unavailable() -> None:
    connection = connect("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mail")
    await connection.open()
    with pytest.raises(Unavailable):
        await connection.check()
    await connection.close()


@contextmanager
def sentinel(primary: ValkeyServer, replica: ValkeyServer) -> Iterator[int]:
    """One sentinel that watches the primary, called `mail`; the replica follows it."""
    with redis.Redis.from_url(replica.url) as client:
        client.config_set("requirepass", primary.password)
    replica.password, replica.url = primary.password, replica.url.replace(replica.password, primary.password)
    with redis.Redis.from_url(replica.url) as client:
        client.config_set("masterauth", primary.password)
        client.replicaof("127.0.0.1", primary.port)
        # The sentinel asks a replica how it is only every ten seconds: let its first look be a good one.
        deadline = time.monotonic() + 10
        while client.info("replication")["master_link_status"] != "up":
            assert time.monotonic() < deadline
            time.sleep(0.02)
    port = servers.free_port()
    config = primary.home / "sentinel.conf"
    config.write_text(
        f"bind 127.0.0.1\nport {port}\nsentinel monitor mail 127.0.0.1 {primary.port} 1\n"
        f"sentinel auth-pass mail {primary.password}\nsentinel down-after-milliseconds mail 500\n"
        "sentinel failover-timeout mail 2000\n"
    )
    with (primary.home / "sentinel.log").open("wb") as log:
        command = [str(servers.valkey_binary()), str(config), "--sentinel"]
        process = subprocess.Popen(command, cwd=primary.home, stdout=log, stderr=log)
    try:
        with redis.Redis(port=port) as client:
            servers.wait_until(lambda: knows_replica(client), process, primary.home / "sentinel.log")
        yield port
    finally:
        process.kill()
        process.wait()


def knows_replica(client: redis.Redis) -> bool:
    try:
        return any(found["master-link-status"] == "ok" for found in client.sentinel_slaves("mail"))  # type: ignore[no-untyped-call]
    except redis.RedisError:
        return False


@asynccontextmanager
async def tls_proxy(host: str, port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """Takes TLS connections and hands them on without; the test's Valkey has no TLS of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    proxy = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
    yield proxy.sockets[0].getsockname()[1]
    proxy.close()
    await asyncio.sleep(0.05)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
