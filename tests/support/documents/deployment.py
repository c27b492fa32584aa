"""What the files in `docker/` say, read for the tests."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[3] / "docker"
Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    """All documents of a YAML file under `docker/`."""
    return [document for document in yaml.safe_load_all((DOCKER / name).read_text()) if document]


def compose() -> Document:
    """`compose.yaml`, its anchors and merges resolved, its variables as written."""
    (document,) = documents("compose.yaml")
    return document


def default_image(variable: str) -> str:
    """The image that `compose.yaml` takes unless this variable names another."""
    (found,) = re.findall(rf"\$\{{{variable}:-([^}}]+)\}}", (DOCKER / "compose.yaml").read_text())
    return str(found)


def manifests() -> list[Document]:
    """Every Kubernetes object."""
    paths = sorted((DOCKER / "kubernetes").glob("*.yaml"))
    return [document for path in paths for document in documents(f"kubernetes/{path.name}")]


def manifest(kind: str, name: str) -> Document:
    """The one object of this kind and name."""
    (found,) = [one for one in manifests() if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def dashboard() -> Document:
    """Grafana's dashboard."""
    document: Document = json.loads((DOCKER / "grafana" / "dashboard.json").read_text())
    return document


def make_secrets(place: Path, *options: str) -> Path:
    """Run `make-secrets` on a copy of `docker/` in `place`, and return its folder of secrets."""
    copy = place / "docker"
    if not copy.exists():
        shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns("secrets", ".env"))
    subprocess.run(["sh", copy / "make-secrets", *options], check=True, capture_output=True, timeout=30)
    return copy / "secrets"
