"""The check of what runs whenever Python starts."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_pth.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_pth", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_environment_is_known() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("litellm_init.pth", "import os, subprocess; subprocess.Popen(['curl', 'rogue.example'])"),
        ("_virtualenv.pth", "import _virtualenv; import rogue"),
        ("_virtualenv.pth", "import _virtualenv\nimport rogue"),
        ("other.pth", "import _virtualenv"),
        ("bom.pth", "\ufeffimport rogue"),
        ("tab.pth", "import\trogue"),
        ("path.pth", "/tmp/rogue"),
        ("up.pth", "../../../../../../tmp/rogue"),
        ("sitecustomize.py", ""),
        ("usercustomize.so", ""),
        ("sitecustomize/__init__.py", ""),
    ],
)
def test_what_is_not_known_is_a_fault(check: ModuleType, tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (fault,) = list(check.faults(tmp_path, project=tmp_path / "project"))
    assert name in fault


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_virtualenv.pth", "import _virtualenv"),
        ("_project.pth", "{project}/tasks/src\n{project}/worker/src\n"),
        ("comment.pth", "# import rogue\n\n"),
        ("inside.pth", "a_folder_of_a_package\n"),
        ("not_a_pth.txt", "import rogue"),
    ],
)
def test_what_is_known_is_none(check: ModuleType, tmp_path: Path, name: str, text: str) -> None:
    project = tmp_path / "project"
    site = tmp_path / "site"
    site.mkdir()
    (site / name).write_text(text.format(project=project))
    assert list(check.faults(site, project=project)) == []
