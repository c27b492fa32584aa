"""A Dockerfile's instructions, and the building stage of one carried out in a folder without an engine."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser
from dockerfile_parse.constants import COMMENT_INSTRUCTION


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word in capitals, and what follows, on one line."""

    word: str
    rest: str

    @property
    def arguments(self) -> list[str]:
        """The words of what follows, flags left out."""
        return [one for one in self.rest.split() if not one.startswith("--")]


def instructions(text: str) -> list[Instruction]:
    """All instructions of a Dockerfile, comments left out and continued lines joined."""
    parser = DockerfileParser(fileobj=BytesIO(text.encode()))
    found = [Instruction(one["instruction"], one["value"]) for one in parser.structure]
    return [one for one in found if one.word != COMMENT_INSTRUCTION]


def stages(text: str) -> list[list[Instruction]]:
    """The instructions of each stage, its `FROM` first."""
    found: list[list[Instruction]] = []
    for one in instructions(text):
        if one.word == "FROM":
            found.append([])
        if found:
            found[-1].append(one)
    return found


class CleanBuild:
    """The steps of a Dockerfile's first stage, run in an empty folder that stands for the image's root.

    Args:
        context: the folder that is sent to the engine.
        root: an empty folder.

    What is left out of the context by `<Dockerfile>.dockerignore` is left out here. Options that cost
    time and change nothing of what is installed are not carried out: no caches, compiled bytecode.
    """

    def __init__(self, dockerfile: Path, *, context: Path, root: Path) -> None:
        self._steps = stages(dockerfile.read_text())[0]
        self._ignore = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().splitlines()
        self._context, self.root = context, root
        self._workdir = root
        self._env: dict[str, str] = {}

    def run(self) -> None:
        """Run all steps. Raises `AssertionError` with the output of one that fails."""
        subprocess.run([_base_python(), "-m", "venv", self.root / "python"], check=True)
        for step in self._steps:
            match step.word:
                case "WORKDIR":
                    self._workdir = self._inside(step.rest)
                    self._workdir.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(step.arguments)
                case "RUN":
                    self._shell(step.rest)
                case "ENV":
                    self._env |= dict(one.split("=", 1) for one in step.rest.split())
                case "FROM" | "ARG":
                    pass
                case other:
                    raise AssertionError(f"the stage has a step that is not known here: {other}")

    def _inside(self, path: str) -> Path:
        return self.root / path.lstrip("/") if path.startswith("/") else self._workdir / path

    def _copy(self, arguments: list[str]) -> None:
        *sources, target = arguments
        for source in sources:
            files = list(self._files(source))
            assert files, f"nothing of {source} is in the context"
            for file in files:
                place = self._target(source, target, file)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context / file, place)

    def _target(self, source: str, target: str, file: str) -> Path:
        if (self._context / source).is_dir():
            return self._inside(target) / os.path.relpath(file, source)
        return self._inside(target) / Path(file).name if target.endswith("/") else self._inside(target)

    def _files(self, source: str) -> Iterator[str]:
        path = self._context / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = file.relative_to(self._context).as_posix()
            if file.is_file() and self.sends(name):
                yield name

    def sends(self, name: str) -> bool:
        """Whether this file is part of the context: the last rule that fits decides."""
        sent = True
        for rule in self._ignore:
            pattern = rule.lstrip("!").removeprefix("**/")
            if not rule or rule.startswith("#"):
                continue
            parents = [name, *map(str, Path(name).parents)]
            anywhere = rule.lstrip("!").startswith("**/") and any(
                fnmatch.fnmatch(part, pattern) for part in Path(name).parts
            )
            if anywhere or any(fnmatch.fnmatch(one, pattern) for one in parents):
                sent = rule.startswith("!")
        return sent

    def _shell(self, command: str) -> None:
        command = re.sub(r"(?<![\w./])/(?=(?:app|opt)\b)", f"{self.root}/", command)
        command = re.sub(r" --(no-cache(-dir)?|compile-bytecode)(?= )", "", command)
        path = os.pathsep.join([str(self.root / "python" / "bin"), "/usr/bin", "/bin"])
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LLM_QUEUE_", "PYTHON"))
        }
        env = {**kept, **self._env, "PATH": path, "VIRTUAL_ENV": ""}
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=self._workdir,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def exec_form(text: str) -> list[str]:
    """The words of a command in JSON."""
    words: list[str] = json.loads(text[text.index("[") :])
    return words


def _base_python() -> str:
    # A virtual environment's own interpreter would be found by its pyvenv.cfg, and make a copy of it.
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
