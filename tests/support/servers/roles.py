"""The ACL file that operators get, with passwords in the place of its placeholders."""

import hashlib
import os
import re
import subprocess
from functools import cache
from pathlib import Path

from support.servers.valkey import server_binary

USERS_ACL = Path(__file__).parents[3] / "docker" / "redis" / "users.acl"
#: Of the roles that programs have.
PASSWORDS = {"agent": "canary-agent-pw", "worker": "canary-worker-pw", "flower": "canary-flower-pw"}
ADMIN_PASSWORD = "canary-admin-pw"


def users_acl_with_tag(tag: str) -> list[str]:
    """The file's lines for a Redis in cluster mode, as `make-acl` writes them."""
    passwords = {
        f"{role.upper()}_PASSWORD": one for role, one in {**PASSWORDS, "admin": ADMIN_PASSWORD}.items()
    }
    environment = {**os.environ, **passwords, "KEY_TAG": tag}
    made = subprocess.run(
        ["sh", str(USERS_ACL.parent / "make-acl")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()


@cache
def _version() -> tuple[int, ...]:
    shown = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.(\d+)", shown)
    assert match is not None, shown
    return tuple(map(int, match.groups()))


def users_acl() -> list[str]:
    """The file's lines, as a server reads them."""
    text = USERS_ACL.read_text()
    if _version() < (7, 2):
        text = text.replace(" +client|setinfo", "")
    for role, password in {**PASSWORDS, "admin": ADMIN_PASSWORD}.items():
        placeholder = f"{role.upper()}_PASSWORD_SHA256"
        assert placeholder in text
        text = text.replace(placeholder, hashlib.sha256(password.encode()).hexdigest())
    return text.splitlines()
