"""IDX files, the format of MNIST: a header of big-endian sizes, then the values.

Source:
    LeCun, Cortes & Burges, The MNIST database of handwritten digits, section "File formats".
"""

import math
from pathlib import Path

import numpy as np

from normlab.lab.data.files import faulty, unpacked

UNSIGNED_BYTE = 0x08


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, compressed with gzip or not.

    Args:
        file: its suffix does not matter, its first bytes tell.
        dimensions: 3 of images, 1 of labels.

    Returns:
        A uint8 array that cannot be written to.

    Raises:
        DataError: it is not such a file, or its size is not what its header says.
    """
    content = unpacked(file)
    start = 4 + 4 * dimensions
    if content[:2] != b"\0\0":
        raise faulty(file, "an IDX file begins with two bytes of 0.", content[:4].hex(" ") or "an empty file")
    if content[2:3] != bytes([UNSIGNED_BYTE]):
        raise faulty(file, "the values must be unsigned bytes, type 08.", f"type {content[2:3].hex() or 'missing'}")
    if content[3:4] != bytes([dimensions]):
        had = content[3] if len(content) > 3 else "no"
        raise faulty(file, f"the number of dimensions must be {dimensions}.", f"{had} in its header")
    if len(content) < start:
        raise faulty(file, f"the header must be {start} bytes long.", f"{len(content)} bytes in all")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    values, expected = len(content) - start, math.prod(shape)
    if values != expected:
        sizes = " × ".join(map(str, shape))
        wrong = "too short" if values < expected else "too long"
        raise faulty(file, f"its header says {sizes} values of one byte.", f"{values} bytes after it: {wrong}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
