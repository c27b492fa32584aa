"""The environment of the contenders that this project does not depend on: LiteLLM's proxy and gevent."""

from __future__ import annotations

import subprocess
import sys

from bench import ROOT

OTHER_VENV = ROOT / ".bench-venv"
_INSTALLED = ["litellm[proxy]==1.106.2", "celery[redis]>=5.7,<5.8", "gevent"]


def make_other_venv() -> str | None:
    """Make it. Returns why it cannot be made."""
    if (OTHER_VENV / ".installed").exists():
        return None
    pip = [str(OTHER_VENV / "bin" / "python"), "-m", "pip", "install", "-q", *_INSTALLED]
    for command in ([sys.executable, "-m", "venv", str(OTHER_VENV)], pip):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return str(said).strip().splitlines()[-1][:200]
    (OTHER_VENV / ".installed").touch()
    return None
