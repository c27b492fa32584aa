"""The images that the tests take: pulled, or stood in for; and the project's own."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from . import root
from .packages import Packages
from .steps import StepFailed, Steps, run, succeeds

PROJECT_IMAGE = "rusticai-llm-queue:test"
_LABEL = "llm-queue.stand-in"
_PULL_S = 600
_STAND_IN = "llm-queue-stand-in"


class Images:
    """Images on an engine.

    Args:
        repository: the checkout; its Dockerfile and its compose file name the images.
        env: the environment in which `docker` is the engine's.
    """

    def __init__(self, repository: Path, env: Mapping[str, str], steps: Steps) -> None:
        self._docker, self._env, self._steps = repository / "docker", dict(env), steps
        dockerfile = (self._docker / "Dockerfile").read_text()
        compose = (self._docker / "compose.yaml").read_text()
        self.python = _only(r"^ARG PYTHON_IMAGE=(\S+)", dockerfile)
        self.valkey = _only(r"\$\{VALKEY_IMAGE:-([^}]+)\}", compose)
        self.prometheus = _only(r"\$\{PROMETHEUS_IMAGE:-([^}]+)\}", compose)

    def pull(self) -> list[str]:
        """Pull what is missing; the names that cannot be had."""
        missing = [name for name in (self.python, self.valkey, self.prometheus) if not self._has(name)]
        pull = ["docker", "pull", "--quiet"]
        return [name for name in missing if not succeeds([*pull, name], env=self._env, timeout_s=_PULL_S)]

    def stand_in(self, names: list[str], home: Path, packages: Packages) -> None:
        """Make images under these names out of Debian packages, this Python and the tests' Valkey."""
        base = f"{_STAND_IN}:python"
        if not self._has(base):
            self._import_python(base, home / "root", packages)
        if self.python in names:
            self._run("docker", "tag", base, self.python)
        if {self.valkey, self.prometheus} & set(names):
            self._build_services(names, base, home / "services", packages)
        self._steps.done(f"stand-ins for {', '.join(names)}")

    def forget_old_stand_ins(self) -> None:
        """Remove stand-ins that an earlier recipe or another Python made."""
        listing = ["docker", "images", "--quiet", "--filter", f"label={_LABEL}"]
        for image in set(self._run(*listing).split()):
            label = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
            if self._run("docker", "image", "inspect", "--format", label, image).strip() != _recipe():
                self._run("docker", "rmi", "--force", image)

    def _import_python(self, name: str, folder: Path, packages: Packages) -> None:
        packages.require_apt()
        shutil.rmtree(folder, ignore_errors=True)
        root.python_root(packages, folder)
        changes = [
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8",
            f"ENV SSL_CERT_FILE={root.CERTIFICATES} PIP_CERT={root.CERTIFICATES}",
            'CMD ["python3"]',
            f"LABEL {_LABEL}={_recipe()}",
        ]
        flags = " ".join(f"--change {shlex.quote(change)}" for change in changes)
        script = f'tar -C "$1" -c . | docker import {flags} - "$2"'
        self._run("bash", "-o", "pipefail", "-c", script, "-", str(folder), name)
        shutil.rmtree(folder)

    def _build_services(self, names: list[str], base: str, folder: Path, packages: Packages) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        root.services_root(packages, folder)
        files = {
            self.valkey: (
                'RUN mkdir /data && chown 999:999 /data\nVOLUME /data\nWORKDIR /data\nCMD ["valkey-server"]\n'
            ),
            self.prometheus: (
                "RUN mkdir -p /prometheus /etc/prometheus && chown nobody:nogroup /prometheus\n"
                "USER nobody\nVOLUME /prometheus\nWORKDIR /prometheus\n"
                'ENTRYPOINT ["/usr/bin/prometheus"]\n'
                'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]\n'
            ),
        }
        for name, instructions in files.items():
            if name in names:
                dockerfile = folder.with_suffix(".dockerfile")
                dockerfile.write_text(f"FROM {base}\nCOPY . /\nRUN ldconfig\n{instructions}")
                label = ["--label", f"{_LABEL}={_recipe()}"]
                self._run("docker", "build", "-q", *label, "-t", name, "-f", str(dockerfile), str(folder))
        shutil.rmtree(folder)

    def build_project(self) -> None:
        """Build the project's image by its own Dockerfile, as `PROJECT_IMAGE`.

        `DOCKER_BUILD_ARGS` of the environment are more arguments for `docker build`.
        """
        arguments = shlex.split(self._env.get("DOCKER_BUILD_ARGS", ""))
        command = ["docker", "build", *arguments, "-f", str(self._docker / "Dockerfile")]
        self._run(*command, "-t", PROJECT_IMAGE, str(self._docker.parent))
        size = int(self._run("docker", "image", "inspect", "--format", "{{.Size}}", PROJECT_IMAGE))
        self._steps.done(f"{PROJECT_IMAGE} built, {size / 1e6:.0f} MB")

    def _has(self, name: str) -> bool:
        return succeeds(["docker", "image", "inspect", name], env=self._env)

    def _run(self, *command: str) -> str:
        return run(command, env={**self._env, "DOCKER_BUILDKIT": "1"}, timeout_s=900)


def _only(pattern: str, text: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise StepFailed(f"expected one line like {pattern!r} in docker/, found {len(found)}")
    return str(found[0])


def _recipe() -> str:
    """Names what stand-ins are made by: these files and this Python."""
    sources = b"".join((Path(__file__).with_name(name)).read_bytes() for name in ("root.py", "images.py"))
    return hashlib.sha256(sources + sys.version.encode()).hexdigest()[:16]
