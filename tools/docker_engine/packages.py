"""Debian packages, downloaded and unpacked into a folder: nothing is installed on this machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .steps import StepFailed, run

#: The release whose Compose is taken where this machine's own has none of version 2.
_COMPOSE_RELEASE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Packages:
    """What apt downloads, below a folder of our own.

    Args:
        home: lists and archives are kept there.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def require_apt(self) -> None:
        """Raise `StepFailed` unless this machine has Debian's tools; fetch apt's lists where it has none."""
        for program in ("apt-get", "dpkg-deb", "tar"):
            if shutil.which(program) is None:
                raise StepFailed(
                    f"there is no {program} here: an engine of its own is set up on Debian alone. "
                    "Start a Docker engine with Compose 2.24 or later, and run this again."
                )
        # Lists that are too old name files that are gone.
        run(["apt-get", "update", "-qq"])

    def unpack(self, names: Sequence[str], into: Path, *, with_dependencies: bool) -> None:
        """Unpack packages into a folder; links to folders in it, such as `lib`, are kept."""
        archives = self._home / "archives" / into.name
        shutil.rmtree(archives, ignore_errors=True)
        (archives / "partial").mkdir(parents=True)
        if with_dependencies:
            self._download_closure(names, archives)
        else:
            run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names], cwd=archives)
        for archive in sorted(archives.glob("*.deb")):
            _extract(archive, into)
        shutil.rmtree(archives)

    def _download_closure(self, names: Sequence[str], archives: Path) -> None:
        nothing_installed = self._home / "empty-status"
        nothing_installed.write_text("")
        options = {
            "Dir::State::status": nothing_installed,
            "Dir::Cache::archives": archives,
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        kind = ["install", "-y", "-qq", "--no-install-recommends", "--download-only"]
        run(["apt-get", *flags, *kind, *names])

    def unpack_compose(self, into: Path) -> None:
        """Unpack Compose 2 from this machine's release, or from a later one where it has only version 1."""
        candidate = run(["apt-cache", "policy", "docker-compose"])
        found = re.search(r"Candidate: (\d+)\.", candidate)
        if found and int(found[1]) >= 2:
            self.unpack(["docker-compose"], into, with_dependencies=False)
            return
        flags = self._other_release(_COMPOSE_RELEASE)
        run(["apt-get", *flags, "update", "-qq"])
        archives = self._home / "archives" / "compose"
        shutil.rmtree(archives, ignore_errors=True)
        archives.mkdir(parents=True)
        run(["apt-get", *flags, "download", "-qq", "docker-compose"], cwd=archives)
        (archive,) = archives.glob("docker-compose_*.deb")
        _extract(archive, into)
        shutil.rmtree(archives)

    def _other_release(self, release: str) -> list[str]:
        wanted = ["Origin: Debian", "Component: main", "Created-By: Packages"]
        uris = run(["apt-get", "indextargets", "--format", "$(SITE) $(REPO_URI)", *wanted]).split("\n")
        places = sorted({line.split()[-1] for line in uris if line and "security" not in line}, key=len)
        if not places:
            raise StepFailed("apt has no Debian archive in its sources, from which Compose could be had")
        folder = self._home / release
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        sources = folder / "sources.list"
        signed = f"[signed-by={_KEYRING}] " if Path(_KEYRING).exists() else ""
        sources.write_text(f"deb {signed}{places[0]} {release} main\n")
        options = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder,
            "APT::Sandbox::User": "root",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _extract(archive: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    script = 'dpkg-deb --fsys-tarfile "$1" | tar -C "$2" --keep-directory-symlink -x'
    run(["bash", "-o", "pipefail", "-c", script, "-", archive, into])
