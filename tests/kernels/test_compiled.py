"""Machine code on disk: loaded without Numba, and only as it was written."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.kernels.batch_norm_cases import bits_of, by_kernel
from tests.layers.oracle import random

from normlab.kernels.cpu import compiled
from normlab.kernels.cpu.elements import ZERO

FLOAT, DOUBLE = ZERO[torch.float32], ZERO[torch.float64]
PLAIN = ("batch_norm", "forward", FLOAT, FLOAT, 0, False, False)
STEP = """
import sys, torch
from normlab.kernels.activation import NOTHING
from normlab.kernels.cpu.batch_norm import batch_norm_fwd
y, _ = batch_norm_fwd(torch.arange(30.0).view(2, 3, 5), None, None, 1, 1e-5, NOTHING)
print(y.double().square().sum().item(), "numba" in sys.modules)
"""


def started(cache: Path) -> "subprocess.Popen[str]":
    """Another process that normalizes with these files."""
    environment = os.environ | {"NORMLAB_CACHE": str(cache)}
    return subprocess.Popen([sys.executable, "-c", STEP], env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip


def said(process: "subprocess.Popen[str]") -> list[str]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err[-2000:]
    return out.split()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder without files, and a process that has loaded none."""
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "cache"))
    compiled.address.cache_clear()
    yield tmp_path / "cache"
    compiled.address.cache_clear()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What was compiled; each only once in a session, as that takes a second."""
    seen = []
    really = compiled._compile

    def compile_or_remember(module: str, kernel: str, constants: tuple[object, ...]) -> bytes:
        seen.append((module, kernel, *constants))
        name = repr(seen[-1])
        REMEMBERED[name] = REMEMBERED.get(name) or really(module, kernel, constants)
        return REMEMBERED[name]

    monkeypatch.setattr(compiled, "_compile", compile_or_remember)
    return seen


REMEMBERED: dict[str, bytes] = {}


def normalized() -> dict[str, bytes]:
    x = random(4, 3, 50, dtype=torch.float32)
    return bits_of({"y": compiled_forward(x)})


def compiled_forward(x: torch.Tensor) -> torch.Tensor:
    from normlab.kernels.activation import NOTHING
    from normlab.kernels.cpu.batch_norm import batch_norm_fwd

    return batch_norm_fwd(x, None, None, 1, 1e-5, NOTHING)[0]


def test_between_processes(tmp_path: Path) -> None:
    """Two that begin at once compile it both, and a third finds a whole file; it does not even import Numba."""
    both = [said(each) for each in [started(tmp_path), started(tmp_path)]]
    third = said(started(tmp_path))
    assert [each[0] for each in both] == [third[0]] * 2
    assert both[0][1] == both[1][1] == "True"
    assert third[1] == "False"
    assert [each.suffix for each in tmp_path.iterdir()] == [".o"]
    assert float(third[0]) == pytest.approx(30)


def test_a_file_is_compiled_once(fresh: Path, compilations: list[tuple[object, ...]]) -> None:
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
def test_a_damaged_file_is_written_anew(how: str, fresh: Path, compilations: list[tuple[object, ...]]) -> None:
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
    how: str, fresh: Path, compilations: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
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


def test_a_kernel_that_calls_more_than_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it calls in this process would not be there in another."""
    monkeypatch.setattr(compiled, "FROM_C", ())
    monkeypatch.setattr(compiled, "_is_known", lambda name: False)
    with pytest.raises(RuntimeError, match=r"^a kernel must call nothing but itself: llvm\."):
        compiled._compile("batch_norm", "forward", (FLOAT, FLOAT, 0, False, True))


def test_backward_is_loaded_as_well(fresh: Path, compilations: list[tuple[object, ...]]) -> None:
    x = random(4, 3, 50, dtype=torch.float32)
    first = bits_of(by_kernel(x, None, None, x.flip(0)))
    compiled.address.cache_clear()
    assert bits_of(by_kernel(x, None, None, x.flip(0))) == first
    assert len(compilations) == 2
