"""The ACL file that operators get, with passwords in the place of its placeholders."""

import hashlib
from pathlib import Path

USERS_ACL = Path(__file__).parents[2] / "docker" / "redis" / "users.acl"
PASSWORDS = {"agent": "canary-agent-pw", "worker": "canary-worker-pw", "flower": "canary-flower-pw"}


def users_acl() -> list[str]:
    """The file's lines, as a server reads them."""
    text = USERS_ACL.read_text()
    for role, password in PASSWORDS.items():
        placeholder = f"{role.upper()}_PASSWORD_SHA256"
        assert placeholder in text
        text = text.replace(placeholder, hashlib.sha256(password.encode()).hexdigest())
    return text.splitlines()
