"""Functions of the user's: found, imported as `python FILE.py` would, and their errors said in their words."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.lab.own_code import write as write

from normlab.errors import UsageError
from normlab.lab.own import called, own_function, seeded
from normlab.lab.own_files import file_hash

Write = Callable[..., Path]


def refusal(name: str, *arguments: object) -> str:
    with pytest.raises(UsageError) as caught:
        called(name, *arguments)
    return str(caught.value)


def test_a_function_of_a_file_and_of_a_module(write: Write) -> None:
    path = write("def double(x):\n    return 2 * x\n")
    assert called(f"{path}:double", 4) == 8
    assert own_function(f"{path}:double") is own_function(f"{path}:double")  # imported once
    assert called("math:sqrt", 4) == 2


def test_a_module_is_found_where_the_command_is_given(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script `normlab` does not have the folder on its path, as `python -m normlab` has."""
    path = write("def make():\n    return 'nets'\n", "project/nets/small.py")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(Path.cwd()))])
    monkeypatch.chdir(path.parent.parent)
    assert called("nets.small:make") == "nets"
    assert len(file_hash("nets.small:make")) == 64


def test_a_relative_path_is_meant_from_here(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("def make():\n    return __file__\n", "a/my.py")
    monkeypatch.chdir(path.parent.parent)
    assert called("a/my.py:make") == called(f"{path}:make") == str(path)


@pytest.mark.parametrize(
    ("code", "function", "text"),
    [
        ("x = 1", "make", "{path}:make: {path} has no function `make`.\n  fix: define it there."),
        (
            "from math import sqrt\ndef make_model(): ...\ndef load(): ...\n",
            "make_net",
            "{path}:make_net: {path} has no function `make_net`.\n  fix: did you mean `make_model`?",
        ),
        (
            "def one(): ...\nother = 3\n",
            "other",
            "{path}:other: {path} has no function `other`.\n  fix: choose one of: one.",
        ),
        (
            "def make():\n    return (1\n",
            "make",
            "{path}:make: it raised SyntaxError: '(' was never closed (my.py, line 2).\n  got: {path}, line 2",
        ),
        (
            "import torch\n\ndef make():\n    return torch.zeros(2).view(3)\n",
            "make",
            "{path}:make: it raised RuntimeError: shape '[3]' is invalid for input of size 2.\n  got: {path}, line 4",
        ),
        (
            "from torch.nn import *\n\nclass N(Module):\n    def __init__(self):\n        Conv2d(3, 8, 1, groups=2)\n",
            "N",  # raised deep in PyTorch: the line is theirs
            "{path}:N: it raised ValueError: in_channels must be divisible by groups.\n  got: {path}, line 5",
        ),
        (
            "def make(classes):\n    return classes\n",
            "make",
            "{path}:make: it raised TypeError: make() missing 1 required positional argument: 'classes'.\n"
            "  fix: give them a default: it is called without.",
        ),
        ("import nosuch\n", "make", "{path}:make: it raised ModuleNotFoundError: No module named 'nosuch'.\n"
         "  got: {path}, line 1"),
        ("import sys\nsys.exit(3)\n", "make", "{path}:make: it raised SystemExit: 3.\n  got: {path}, line 2"),
    ],
    ids=["nothing there", "near", "not a function", "syntax", "raises", "raises inside", "arguments", "import", "exit"],
)  # fmt: skip
def test_what_goes_wrong_is_said_with_their_line(write: Write, code: str, function: str, text: str) -> None:
    path = write(code)
    assert refusal(f"{path}:{function}") == text.format(path=path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my.py", "compare: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: my.py"),
        ("my.py:", "compare: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: my.py:"),
        ("my.py:a.b", "compare: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: my.py:a.b"),
        ("no/my.py:make", "compare: there is no file no/my.py.\n  fix: write FILE.py:FUNCTION."),
        ("no.such:make", "no.such:make: it raised ModuleNotFoundError: No module named 'no'."),
    ],
)
def test_a_name_that_leads_nowhere(name: str, text: str) -> None:
    assert refusal(name) == text


def test_a_file_that_failed_is_read_again_when_it_is_mended(write: Write) -> None:
    path = write("1 / 0\n")
    assert "division by zero" in refusal(f"{path}:make")
    path.write_text("def make():\n    return 'whole again'\n")
    assert called(f"{path}:make") == "whole again"


def test_a_file_is_read_again_when_it_or_a_neighbour_has_changed(write: Write) -> None:
    """As in a notebook, where the next comparison must train what stands in the file now."""
    helper = write("SIZE = 1\n", "helper.py")
    path = write("import helper\n\ndef make():\n    return helper.SIZE\n")
    assert called(f"{path}:make") == 1
    helper.write_text("SIZE = 20\n")
    assert called(f"{path}:make") == 20
    path.write_text("def make():\n    return 3\n")
    assert called(f"{path}:make") == 3
    write("def make():\n    return 1\n", "pack/one.py")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(path.parent)
        assert called("pack.one:make") == 1
        write("def make():\n    return 22\n", "pack/one.py")
        assert called("pack.one:make") == 22


def test_neighbours_are_found_and_hide_nothing(write: Write) -> None:
    """A file called like one of Python's or ours must not be imported in its place later."""
    write("SIZE = 5\n", "helper.py")
    write("raise RuntimeError('this one')\n", "colorsys.py")
    path = write("""
        from helper import SIZE

        def make():
            from later import more
            return SIZE + more
    """)
    write("more = 2\n", "later.py")
    assert called(f"{path}:make") == 7
    import colorsys  # never imported before

    assert colorsys.rgb_to_hsv(1, 1, 1) == (0.0, 0.0, 1)


def test_two_files_of_one_name_and_their_neighbours_of_one_name(write: Write) -> None:
    code = """
        import helper
        from helper import NAME

        def first():
            return NAME

        def later():
            import helper
            return helper.NAME
    """
    paths = []
    for folder in ("a", "b"):
        write(f"NAME = {folder!r}\n", f"{folder}/helper.py")
        paths.append(write(code, f"{folder}/my.py"))
    for _ in range(2):
        for path, name in zip(paths, "ab", strict=True):
            assert (called(f"{path}:first"), called(f"{path}:later")) == (name, name)


def test_a_file_in_a_package(write: Write) -> None:
    write("", "project/nets/__init__.py")
    write("", "project/nets/small/__init__.py")
    write("WIDTH = 3\n", "project/nets/sizes.py")
    write("DEPTH = 4\n", "project/nets/small/depths.py")
    path = write(
        "from ..sizes import WIDTH\nfrom nets.small.depths import DEPTH\nimport depths\n\n"
        "def make():\n    return WIDTH, DEPTH, depths.DEPTH\n",
        "project/nets/small/one.py",
    )
    assert called(f"{path}:make") == (3, 4, 4)
    # another package of that name: its file stands alone
    write("", "other/nets/__init__.py")
    lonely = write("def make():\n    return 'other'\n", "other/nets/one.py")
    assert called(f"{lonely}:make") == "other"
    assert called(f"{path}:make") == (3, 4, 4)


def test_what_they_print_is_not_our_output(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("print('importing')\n\ndef make():\n    print('making')\n")
    called(f"{path}:make")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "importing\nmaking\n")


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_their_draws_repeat_and_ours_are_not_moved(write: Write) -> None:
    path = write("""
        import random
        import numpy as np
        import torch

        def draw():
            return float(torch.rand(())), float(np.random.rand()), random.random()

        def meddle():
            torch.manual_seed(0), np.random.seed(0), random.seed(0)
    """)
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = draws()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    found = []
    for seed in (1, 1, 2**62):
        with seeded(seed):
            found.append(called(f"{path}:draw"))
    with seeded(1):
        called(f"{path}:meddle")
    assert draws() == expected
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found[0], found[2], strict=True))


def test_the_hash_is_of_the_file_and_of_what_it_imports_from_beside_it(write: Write) -> None:
    code = "import json\nimport helper\nfrom pack import one\n\ndef make():\n    from deep.more import x\n"
    path = write(code)
    plain = write("def make(): ...\n", "plain.py")
    files = {
        "helper.py": "import os.path\n", "pack/__init__.py": "", "pack/one.py": "from . import two\n",
        "pack/two.py": "import my\n", "deep/more.py": "x = 1\n", "stranger.py": "x = 1\n",
    }  # fmt: skip
    for name, text in files.items():
        write(text, name)
    whole = file_hash(f"{path}:make")
    assert file_hash(f"{plain}:make") == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert whole == file_hash(f"{path}:make") != hashlib.sha256(path.read_bytes()).hexdigest()
    for name, text in files.items():
        write(f"{text}\n# changed\n", name)
        assert (file_hash(f"{path}:make") == whole) == (name == "stranger.py"), name
        write(text, name)
    assert file_hash("math:sqrt") == file_hash(f"{path.with_name('gone.py')}:make") == ""


def test_names_are_whole_paths_in_a_config(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from normlab.lab.config import Init, Model, RunConfig

    path = write("def make(): ...\n")
    monkeypatch.chdir(path.parent)
    model = Model(kind="own", factory="my.py:make")
    config = RunConfig(
        model=model, init=Init(scheme="own"), data="./my.py:load", loss="my.py:loss", metric="a.b:metric"
    )
    monkeypatch.chdir("/")
    assert config.model.factory == f"{path}:make"
    assert (config.data, config.loss, config.metric) == (f"{path}:load", f"{path}:loss", "a.b:metric")


def test_a_package_is_read_by_another_process_too(write: Write) -> None:
    """As a child that does a run: another working folder, nothing imported yet."""
    write("SIZE = 5\n", "helper.py")
    path = write("from helper import SIZE\n\ndef make():\n    return SIZE\n")
    code = f"import json\nfrom normlab.lab.own import called\nprint(json.dumps(called({f'{path}:make'!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout) == 5
