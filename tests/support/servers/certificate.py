"""A throwaway certificate authority and server certificate for loopback."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """PEM files of a server certificate for 127.0.0.1 and localhost, valid for a day."""

    ca_path: Path
    cert_path: Path
    key_path: Path


def make_certificate(directory: Path) -> Certificate:
    """Write ``ca.pem``, ``server.pem`` and ``server.key`` into ``directory``."""
    authority = trustme.CA(organization_name="test authority")
    server = authority.issue_cert("127.0.0.1", "localhost", not_after=datetime.now(UTC) + timedelta(days=1))
    made = Certificate(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    authority.cert_pem.write_to_path(made.ca_path)
    made.cert_path.write_bytes(b"".join(one.bytes() for one in server.cert_chain_pems))
    server.private_key_pem.write_to_path(made.key_path)
    return made
