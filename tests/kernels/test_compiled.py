"""Machine code on disk: loaded without Numba, and only as it was written."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.layers.oracle import random

from normlab.kernels.activation import NOTHING
from normlab.kernels.cpu import batch_norm, compiled
from normlab.kernels.cpu.batch_norm import batch_norm_fwd
from normlab.kernels.cpu.elements import ZERO

FLOAT, DOUBLE = ZERO[torch.float32], ZERO[torch.float64]
PLAIN = ("batch_norm", "forward", FLOAT, FLOAT, 0, False, False)
USUAL = compiled.folder()
STEP = """
import sys, torch
from normlab.kernels.activation import NOTHING
from normlab.kernels.cpu.batch_norm import batch_norm_fwd
y, _ = batch_norm_fwd(torch.arange(60.0).view(1, 1, 60), None, None, 1, 1e-5, NOTHING)
print(y.double().square().sum().item())
print(*sorted(name for name in sys.modules if name == "numba" or name.startswith("normlab.kernels.cpu.jitted")))
"""


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without files, and a process that has loaded none."""
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    compiled.address.cache_clear()
    yield tmp_path / "cache"
    compiled.address.cache_clear()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be compiled, which takes a second: it is taken from where it usually is."""
    seen = []
    really = compiled._compile

    def compile_or_find(module: str, kernel: str, constants: tuple[Any, ...]) -> bytes:
        seen.append((module, kernel, *constants))
        file = USUAL / f"{module}-{kernel}-{compiled._key(module, kernel, constants)}.o"
        code = compiled._kept(file) or really(module, kernel, constants)
        compiled._keep(file, code)
        return code

    monkeypatch.setattr(compiled, "_compile", compile_or_find)
    return seen


def normalized() -> bytes:
    batch_norm._plan.cache_clear()
    y, _ = batch_norm_fwd(random(4, 3, 50, dtype=torch.float32), None, None, 1, 1e-5, NOTHING)
    return y.numpy().tobytes()


def test_another_process_does_not_even_import_numba(fresh: Path, compilations: list[tuple[Any, ...]]) -> None:
    normalized()
    (file,) = fresh.iterdir()
    ran = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    squares, modules = ran.stdout.splitlines()
    assert float(squares) == pytest.approx(60)
    assert modules == ""
    assert list(fresh.iterdir()) == [file]


def test_written_by_several_at_once(tmp_path: Path) -> None:
    """Who reads finds all of it or nothing, and nothing else is left."""
    file, code = tmp_path / "deep" / "kernel.o", bytes(range(256)) * 1000
    found = []

    def write_and_read(number: int) -> None:
        for _ in range(10):
            found.append(compiled._kept(file))
            compiled._keep(file, code)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_read, range(4)))
    assert {None, code} >= set(found)
    assert compiled._kept(file) == code
    assert list(file.parent.iterdir()) == [file]


def test_a_file_is_compiled_once(fresh: Path, compilations: list[tuple[Any, ...]]) -> None:
    expected = normalized()
    compiled.address.cache_clear()
    assert normalized() == expected
    assert compilations == [PLAIN]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "without its last byte": lambda whole: whole[:-1],
    "with one byte more": lambda whole: whole + b"\0",
    "one bit turned": lambda whole: whole[:999] + bytes([whole[999] ^ 4]) + whole[1000:],
    "machine code alone": lambda whole: whole[compiled.DIGEST :],
    "something else": lambda whole: b"\x7fELF" + bytes(5000),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_written_anew(how: str, fresh: Path, compilations: list[tuple[Any, ...]]) -> None:
    """LLVM would load it, and the process would end."""
    expected = normalized()
    (file,) = fresh.iterdir()
    whole = file.read_bytes()
    file.write_bytes(DAMAGE[how](whole))
    compiled.address.cache_clear()
    assert normalized() == expected
    assert len(compilations) == 2
    assert file.read_bytes() == whole


@pytest.mark.parametrize("how", ["a file in its place", "a folder in the place of the file"])
def test_where_nothing_can_be_written(
    how: str, fresh: Path, compilations: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compiled again in each process, and computes all the same."""
    expected = normalized()
    (file,) = fresh.iterdir()
    file.unlink()
    if how == "a file in its place":
        fresh.rmdir()
        fresh.write_text("no folder", encoding="utf-8")
    else:
        file.mkdir()
        (file / "full").touch()
    compiled.address.cache_clear()
    assert normalized() == expected
    assert len(compilations) == 2


@pytest.mark.parametrize(
    ("set_to", "expected"),
    [
        ({"NORMLAB_CACHE": "/one", "XDG_CACHE_HOME": "/two", "HOME": "/three"}, "/one"),
        ({"XDG_CACHE_HOME": "/two", "HOME": "/three"}, "/two/normlab"),
        ({"HOME": "/three"}, "/three/.cache/normlab"),
    ],
)
def test_the_folder(set_to: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NORMLAB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    assert compiled.folder() == Path(expected)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with any number for a user: a folder that cannot be."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("NORMLAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert compiled._kept(compiled.folder() / "kernel.o") is None
    compiled._keep(compiled.folder() / "kernel.o", b"")


def test_zeros_are_told_apart_by_their_type() -> None:
    """Python takes 0.0 of float32, 0.0 of float64, 0 and False for the same key of a cache."""
    assert FLOAT == DOUBLE == 0
    one = compiled.address(*PLAIN)
    other = compiled.address("batch_norm", "forward", DOUBLE, DOUBLE, 0, False, False)
    assert one != other
    assert compiled.address(*PLAIN) == one
    keys = [compiled._key("m", "k", constants) for constants in ((FLOAT,), (DOUBLE,), (0,), (False,), (0.0,))]
    assert len(set(keys)) == 5


def test_the_name_of_a_file_tells_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled._key("m", "k", ())
    for changed in ("get_host_cpu_name", "get_default_triple"):
        with monkeypatch.context() as patch:
            patch.setattr(compiled.binding, changed, lambda: "another")
            compiled._surroundings.cache_clear()
            assert compiled._key("m", "k", ()) != before
    compiled._surroundings.cache_clear()
    assert compiled._key("m", "k", ()) == before


def test_a_kernel_that_calls_more_than_itself_is_refused() -> None:
    """What it calls in this process would not be there in another."""
    text = f"""
        declare double @sqrt(double)
        declare double @of_python(double)
        define void @{compiled.ENTRY}(double* %at) {{
            %x = load double, double* %at
            %y = call double @sqrt(double %x)
            %z = call double @of_python(double %y)
            store double %z, double* %at
            ret void
        }}
    """
    compiled._start()
    with pytest.raises(RuntimeError) as raised:
        compiled._strip(compiled.binding.parse_assembly(text))
    assert str(raised.value) == "a kernel must call nothing but itself: of_python"
