"""Encrypted connections: whom they trust, and every way in which none comes about."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from raw_server import Peer, answer, serving
from transport_rig import OK, post, saying, trouble

from reanimate.gateway.llm.transport.errors import TransportTrouble
from reanimate.gateway.llm.transport.pool import Pool


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context for localhost and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=signed.public_bytes(serialization.Encoding.PEM).decode())


async def test_encrypted(tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path)

    async def script(peer: Peer) -> None:
        while True:
            await saying(OK)(peer)

    async with serving(script, server_side) as server:
        pool = Pool(server.url, tls=client_side)
        for _ in range(3):
            assert await (await post(pool)).read(100) == b'{"ok": true}'
        assert len(server.peers) == 1
        # Nobody vouches for it by default, and it is not 127.0.0.1.
        assert await trouble(Pool(server.url)) == (TransportTrouble.TLS, b"")
        by_number = Pool(server.url.replace("localhost", "127.0.0.1"), tls=client_side)
        assert await trouble(by_number) == (TransportTrouble.TLS, b"")
        await pool.close()


async def test_https_where_plain_http_is_spoken() -> None:
    async def script(peer: Peer) -> None:
        await peer._reader.read(10)
        await peer.say(answer(b"use http", status=b"400 Bad Request"))

    async with serving(script) as server:
        pool = Pool(server.url.replace("http:", "https:"))
        assert await trouble(pool) == (TransportTrouble.TLS, b"")


async def test_closed_instead_of_a_handshake() -> None:
    async def script(peer: Peer) -> None:
        await peer._reader.read(10)

    async with serving(script) as server:
        assert await trouble(Pool(server.url.replace("http:", "https:"))) == (TransportTrouble.TLS, b"")
