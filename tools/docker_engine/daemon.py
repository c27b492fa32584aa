"""A Docker daemon with its data, its socket and its programs in one folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .packages import Packages
from .steps import StepFailed, Steps, run, succeeds

_START_S = 60
_STOP_S = 60
#: The engine, and what it runs or loads that a small machine may lack. iptables sends containers' questions
#: for names to the engine's own resolver, within each container's network.
_PACKAGES = (
    *("docker.io", "containerd", "runc", "tini", "libdevmapper1.02.1", "libseccomp2"),
    *("iptables", "libip4tc2", "libip6tc2", "libxtables12", "libmnl0", "libnftnl11"),
    *("libnetfilter-conntrack3", "libnfnetlink0"),
)
_CGROUPS = Path("/sys/fs/cgroup")


class OwnDaemon:
    """Sets the engine up in `home` and runs it until the `with` block ends.

    What an interrupted run has left there, a daemon, containers, a half-made folder, is cleared away first.
    One run at a time has the folder; another one fails at once. Raises `StepFailed`.
    """

    def __init__(self, home: Path, packages: Packages, steps: Steps) -> None:
        self._home, self._packages, self._steps = home, packages, steps
        self._programs = home / "engine"
        self._log = home / "dockerd.log"
        self._lock: IO[str] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """The environment in which `docker` is this engine's."""
        programs = [str(self._programs / folder) for folder in ("usr/sbin", "usr/bin", "sbin")]
        return {
            **os.environ,
            "PATH": os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]),
            "DOCKER_HOST": f"unix://{self._home / 'docker.sock'}",
            "DOCKER_CONFIG": str(self._home / "config"),
            "DOCKER_BUILDKIT": "1",
        }

    def __enter__(self) -> Self:
        self._take_folder()
        try:
            self._install()
            self._stop_left_over()
            _mount_cgroups()
            self._start()
            self._clear_left_over()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _take_folder(self) -> None:
        self._lock = (self._home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise StepFailed(
                f"another run has the engine in {self._home}; wait for it, or set LLM_QUEUE_ENGINE_HOME"
            ) from taken

    def _install(self) -> None:
        compose = self._home / "config" / "cli-plugins" / "docker-compose"
        unpacked = self._programs / "packages"
        wanted = " ".join(_PACKAGES)
        if compose.exists() and unpacked.exists() and unpacked.read_text() == wanted:
            return
        self._packages.require_apt()
        fresh = self._home / "engine.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self._programs, ignore_errors=True)
        self._packages.unpack(_PACKAGES, fresh, with_dependencies=False)
        _choose_iptables(fresh)
        plugin = self._home / "compose.new"
        shutil.rmtree(plugin, ignore_errors=True)
        self._packages.unpack_compose(plugin)
        (found,) = plugin.glob("usr/libexec/docker/cli-plugins/docker-compose")
        compose.parent.mkdir(parents=True, exist_ok=True)
        found.replace(compose)
        shutil.rmtree(plugin)
        (fresh / "packages").write_text(wanted)
        fresh.rename(self._programs)
        self._steps.done("engine and Compose downloaded")

    def _pids(self) -> list[int]:
        """Daemons of this folder, found by their arguments: a number in a file may be reused by now."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            name = Path(os.fsdecode(words[0])).name
            ours = any(str(self._home).encode() + b"/" in word for word in words[1:])
            if ours and name in ("dockerd", "containerd") and int(place.name) != os.getpid():
                found.append(int(place.name))
        return found

    def _stop_left_over(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._pids():
                os.kill(pid, number)
            if _wait(lambda: not self._pids(), 20):
                break
        for name in ("docker.pid", "docker.sock"):
            (self._home / name).unlink(missing_ok=True)
        # Containers' names for processes that are gone; what is mounted there stays where it is.
        (self._home / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def _start(self) -> None:
        command = [
            *["dockerd", "--data-root", self._home / "data", "--exec-root", self._home / "exec"],
            *["--pidfile", self._home / "docker.pid", "--host", self.env["DOCKER_HOST"]],
            # The machine's own packet filter is left alone: ports are published by a proxy process.
            "--iptables=false",
        ]
        program = shutil.which("dockerd", path=self.env["PATH"])
        if program is None:
            raise StepFailed(f"there is no dockerd in {self._programs}; remove {self._home} and try again")
        with self._log.open("wb") as log:
            # Ctrl-C is for the tests; the daemon is stopped after them.
            self._daemon = subprocess.Popen(
                [program, *map(str, command[1:])],
                env={**self.env, **_libraries(self._programs)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not _wait(self._answers, _START_S):
            raise StepFailed(f"dockerd does not answer:\n{self._log_tail()}")
        version = run(["docker", "version", "--format", "{{.Server.Version}}"], env=self.env).strip()
        compose = run(["docker", "compose", "version", "--short"], env=self.env).strip()
        self._steps.done(f"engine {version} answers, Compose {compose}")

    def _answers(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise StepFailed(f"dockerd ended with {self._daemon.returncode}:\n{self._log_tail()}")
        return succeeds(["docker", "version"], env=self.env)

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def _clear_left_over(self) -> None:
        containers = run(["docker", "ps", "--all", "--quiet"], env=self.env).split()
        if containers:
            run(["docker", "rm", "--force", "--volumes", *containers], env=self.env)
        for kind in ("network", "volume", "image"):
            run(["docker", kind, "prune", "--force"], env=self.env)
        keep = ["--keep-storage", "4gb"]
        run(["docker", "builder", "prune", "--force", *keep], env=self.env)

    def _stop(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            try:
                self._daemon.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _libraries(programs: Path) -> dict[str, str]:
    """The variables by which programs that were unpacked there find their libraries."""
    folders = [str(folder) for folder in programs.glob("**/*-linux-gnu") if folder.is_dir()]
    extensions = [str(folder) for folder in programs.glob("usr/lib/*/xtables")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders), "XTABLES_LIBDIR": os.pathsep.join(extensions)}


def _choose_iptables(programs: Path) -> None:
    """Link the `iptables` that this machine's kernel understands; Debian does it when it installs."""
    folder = programs / "usr" / "sbin"
    env = {**os.environ, **_libraries(programs)}
    for program in ("xtables-nft-multi", "xtables-legacy-multi"):
        if succeeds([folder / program, "iptables", "-t", "nat", "-L", "-n"], env=env):
            for name in ("iptables", "ip6tables"):
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(program)
            return
    raise StepFailed("no iptables runs on this kernel, and without one containers cannot find each other")


def _mount_cgroups() -> None:
    """Mount the kernel's control groups where nobody has, as Debian's cgroupfs-mount does."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    if any(place.startswith(str(_CGROUPS)) for place in mounts):
        return
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", _CGROUPS])
    for line in Path("/proc/cgroups").read_text().splitlines():
        name, _, _, enabled = line.split()
        if line.startswith("#") or enabled != "1":
            continue
        (_CGROUPS / name).mkdir(exist_ok=True)
        if not succeeds(["mount", "-t", "cgroup", "-o", name, "cgroup", _CGROUPS / name]):
            (_CGROUPS / name).rmdir()


def _wait(predicate: object, timeout_s: float) -> bool:
    assert callable(predicate)
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if predicate():
            return True
        time.sleep(0.2)
    return bool(predicate())


def answers(env: Mapping[str, str]) -> bool:
    """Whether an engine with Compose 2 answers in this environment."""
    return all(
        succeeds(command, env=env)
        for command in (["docker", "version"], ["docker", "info"], ["docker", "compose", "version"])
    )
