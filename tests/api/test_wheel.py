"""The wheel: everything it needs is in it, and it puts nothing but the package into site-packages."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from gql_server.db.statements import resource_folder
from tests.support.command import environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; its dependencies are those of the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    # As a plain path it comes after the environment's own packages, and its .pth files, which may lead to a
    # checkout, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed / "bin" / "gql-server"), *arguments],
        env=environment(), cwd=cwd, text=True, capture_output=True, check=False, timeout=180,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_wheel_carries_sql_and_plugins(wheel: Path) -> None:
    """Every statement, every migration and every built-in plug-in of the checkout is in the package."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, packaged in (("sql", "_sql"), ("plugins", "_plugins")):
        source = resource_folder(folder)
        files = [
            path.relative_to(source) for path in source.rglob("*") if path.suffix in (".sql", ".py", ".md")
        ]
        missing = {f"gql_server/{packaged}/{file.as_posix()}" for file in files} - names
        assert files
        assert not missing
    assert "gql_server/_sql/migrations/0001_initial.sql" in names
    assert "gql_server/py.typed" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_takes_no_common_names(installed: Path) -> None:
    """site-packages gets the package and its metadata, and no `plugins`, `sql` or `tests`."""
    [site] = installed.glob("lib/python*/site-packages")
    ours = {path.name for path in site.iterdir() if "pip" not in path.name and "setuptools" not in path.name}
    packages = {name for name in ours if not name.endswith((".dist-info", ".pth"))}
    assert packages == {"gql_server"}


def test_the_installed_command_lists_its_plugins(installed: Path, tmp_path: Path) -> None:
    """From another folder the command finds the packaged plug-ins, the same as the checkout has."""
    result = run(installed, tmp_path, "plugins")
    assert result.returncode == 0, result.stderr
    names = {line.split()[0] for line in result.stdout.splitlines() if not line.startswith((" ", "Name"))}
    assert names == {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}


def test_the_installed_demo_runs(installed: Path, tmp_path: Path) -> None:
    """From another folder the whole product runs out of the wheel."""
    result = run(installed, tmp_path, "demo", "--once", "--students", "50")
    assert result.returncode == 0, result.stderr
    assert "Preferences updated:" in result.stdout
