"""Machine code of the kernels, kept on disk between processes.

Numba compiles a kernel once for a machine. Later processes load the machine code with llvmlite, without importing
Numba: the first call takes 0.05 s in the place of 0.6 s.
"""

import ctypes
import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from llvmlite import binding

ENTRY = "normlab_kernel"
# What LLVM may call in the place of a loop, or where a processor has no such instruction.
FROM_C = ("memset", "memcpy", "memmove", "fma", "fmaf", "nearbyint", "nearbyintf", "sqrt", "sqrtf")
DIGEST = hashlib.sha256().digest_size  # bytes at the head of a file, over the rest of it
_loaded: list[Any] = []  # engines own the code that the addresses lead to


@lru_cache(None, typed=True)  # a zero of one type is none of another
def address(module: str, kernel: str, *constants: Any) -> int:
    """Where the machine code of a kernel begins, a C function of one array of 64-bit integers.

    Args:
        module: a file of the folder `jitted`, without its ending.
        kernel: the function in it: it takes that array and the constants.
        constants: what the code is specialized for: zeros of the types of the elements (`ZERO`), numbers, truth values.
    """
    _start()
    file = folder() / f"{module}-{kernel}-{_key(module, kernel, constants)}.o"
    code = _kept(file)
    if code is None:
        code = _compile(module, kernel, constants)
        _keep(file, code)
    return _load(code)


def folder() -> Path:
    """Where machine code is kept: `NORMLAB_CACHE`, or the place for caches of this user."""
    if chosen := os.environ.get("NORMLAB_CACHE"):
        return Path(chosen)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "normlab"
    try:
        return Path.home() / ".cache" / "normlab"
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "normlab"


@cache
def _start() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    library = ctypes.CDLL(None if os.name == "posix" else "msvcrt")
    for name in FROM_C:
        if hasattr(library, name):
            binding.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)


@cache
def _machine() -> Any:
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, reloc="static"
    )


@cache
def _surroundings() -> bytes:
    """All that the machine code depends on: the processor, the compilers, and the sources of the kernels."""
    known = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_default_triple()]
    known += [metadata.version(name) for name in ("numba", "llvmlite")]
    sources = [path.read_bytes() for path in sorted((Path(__file__).parent / "jitted").glob("*.py"))]
    return hashlib.sha256(b"\0".join([*(each.encode() for each in known), *sources])).digest()


def _key(module: str, kernel: str, constants: tuple[Any, ...]) -> str:
    named = repr((module, kernel, [(type(each).__name__, each) for each in constants]))
    return hashlib.sha256(_surroundings() + named.encode()).hexdigest()[:24]


def _compile(module: str, kernel: str, constants: tuple[Any, ...]) -> bytes:
    import numba

    function: Callable[..., None] = getattr(importlib.import_module(f"normlab.kernels.cpu.jitted.{module}"), kernel)

    def entry(given: Any) -> None:
        function(given, *constants)

    made = numba.cfunc("void(CPointer(int64))", error_model="numpy")(entry)
    text = made.inspect_llvm().replace(made.native_name, ENTRY)
    with binding.parse_assembly(text) as parsed:
        _strip(parsed)
        code: bytes = _machine().emit_object(parsed)
    return code


def _strip(parsed: Any) -> None:
    """Leaves nothing but the kernel: what Numba adds for Python refers to functions that are not there without it."""
    for function in parsed.functions:
        if not function.is_declaration and function.name != ENTRY:
            function.linkage = "internal"
    builder = binding.create_pass_builder(_machine(), binding.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    strange = [each.name for each in parsed.functions if each.is_declaration and not _is_known(each.name)]
    if strange:
        raise RuntimeError(f"a kernel must call nothing but itself: {', '.join(strange)}")


def _is_known(name: str) -> bool:
    return name in FROM_C or name.startswith("llvm.")


def _kept(file: Path) -> bytes | None:
    """Machine code of an earlier process. Of a damaged file LLVM would make whatever it says, and fall over it."""
    try:
        found = file.read_bytes()
    except OSError:
        return None
    digest, code = found[:DIGEST], found[DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(file: Path, code: bytes) -> None:
    """For the next process; where nothing can be written, it compiles again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            part.write(hashlib.sha256(code).digest() + code)
        Path(part.name).replace(file)
    except OSError:
        return


def _load(code: bytes) -> int:
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine_of_engine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    found: int = engine.get_function_address(ENTRY)
    return found


def _machine_of_engine() -> Any:
    """An engine takes its machine over, so that each has its own."""
    return binding.Target.from_default_triple().create_target_machine()
