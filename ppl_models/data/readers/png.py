"""A folder of PNG images: a row for each file, sorted by name, a column of intensities for each pixel.

All images have one size, and are all grey (0 to 255, or 0 to 65535 of sixteen bits) or all colour (red,
green and blue side by side, 0 to 255 each). Two-coloured images are 0 and 255; palettes are resolved;
opacity is left out, with a note.
"""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import numpy as np

GREY = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16", "I;16B": "I;16", "I": "I;16"}
COLOUR = {"P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""Pillow's modes -> what they are read as."""


def _read(file: File, request: Request) -> Table:
    """The images of a folder; files with other names are passed over, with a note.

    Raises:
        DataError: There are none, or one of them cannot be read or differs from the first in size or colour.
    """
    import numpy as np

    from ppl_models.data.arrays import from_array
    from ppl_models.data.types import natural

    path, folder = file.path, file.name
    try:
        names = sorted((entry.name for entry in path.iterdir() if entry.is_file()), key=natural)
    except OSError as error:
        raise DataError(f"{folder}: cannot be opened ({clean(error.strerror or error)})") from None
    chosen = [name for name in names if name.lower().endswith(".png")]
    if not chosen:
        has = f"it has {listed(names, 4)}" if names else "it is empty"
        raise DataError(f"{folder}: is a directory without .png images ({has}); name a file in it")
    first, _ = _pixels(path / chosen[0])
    check_memory(folder, 9.0 * first.size * len(chosen))
    images = np.empty((len(chosen), *first.shape), first.dtype)
    transparent = []
    for i, name in enumerate(chosen):
        image, opacity = _pixels(path / name)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise DataError(
                f"{clean(path / name)}: {_said(image)}, where {clean(chosen[0])} is {_said(first)}; "
                "all images of a folder must be alike"
            )
        images[i] = image
        if opacity:
            transparent.append(name)
    table = from_array(images, folder)
    table.place = lambda row: chosen[row] if row < len(chosen) else f"row {row + 1}"
    others = [name for name in names if not name.lower().endswith(".png") and not name.startswith(".")]
    if others:
        table.notes.append(f"files that are no .png images were passed over: {listed(others, 4)}")
    if transparent:
        table.notes.append(f"opacity was left out of {listed(transparent, 4)}")
    return table


def _pixels(path: Path) -> "tuple[np.ndarray, bool]":
    """(h, w) or (h, w, 3) numbers, and whether there was opacity that they lack."""
    from PIL import Image, UnidentifiedImageError

    from ppl_models.data.arrays import check_width

    name = clean(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                check_width(math.prod(image.size) * len(image.getbands()), name)
                mode = GREY.get(image.mode) or COLOUR.get(image.mode)
                if mode is None:
                    raise DataError(
                        f"{name}: has colours of the kind {clean(image.mode)}; save it as grey or RGB"
                    )
                opacity = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
                return _array(image, mode), opacity
    except UnidentifiedImageError:
        raise DataError(f"{name}: is not a PNG image; save it as one, or take it out of the folder") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: has too many pixels; make it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: cannot be read as an image, or is damaged ({clean(error)})") from None


def _array(image: Any, mode: str) -> "np.ndarray":
    import numpy as np

    if mode == "I;16":
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _said(image: "np.ndarray") -> str:
    colour = "colour" if image.ndim == 3 else "grey of sixteen bits" if image.dtype == "uint16" else "grey"
    return f"{colour} of {image.shape[0]} × {image.shape[1]} pixels"


READER = Reader(
    name="PNG folder",
    description="a folder of PNG images of one size, in the order of their names",
    suffixes=(".png",),
    read=_read,
    folder=True,
)
