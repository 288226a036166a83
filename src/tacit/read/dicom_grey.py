"""Stored grey values of a DICOM picture → 8 bit as its header says that they are shown (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

stored → modality LUT or slope and intercept → VOI LUT, else the first window, else the bits in use → MONOCHROME1 turned, padding black.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.read.eight_bit import to_8_bit

IDENTITY = (1.0, 0.0)  # slope and intercept that change nothing


def shown_grey(stored: NDArray, header: Any) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """stored (h, w) integers, header a pydicom data set → (h, w) as it is shown, bone bright in a radiograph, and each step in words.

    Raises what damaged tables raise: ValueError, TypeError, LookupError, AttributeError.
    """
    empty = _padding(stored, header)
    values, steps = _modality_values(stored, header)
    if lut := _first(header, "VOILUTSequence"):
        grey, step = _by_table(values, lut, "VOI LUT")
    elif (window := _window(header)) is not None:
        grey, step = _windowed(values, *window)
    elif values.dtype.kind in "ui" and int(values.min()) >= 0:
        grey, step = to_8_bit(values)
    else:
        grey, step = _own_range(values, empty)
    steps.append(step)
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        grey = 255 - grey
        steps.append("MONOCHROME1 turned")
    if empty is not None:
        grey[empty] = 0
        steps.append(f"{empty.mean():.1%} padding made black")
    return grey, tuple(steps)


def looked_up(values: NDArray, lut: Any) -> tuple[NDArray[np.uint16], int]:
    """values through a LUT item of a data set, ends repeated, and the largest value that it can give (PS3.3 C.11.1.1)."""
    entries, first, depth = (int(v) for v in lut.LUTDescriptor)
    table = _entries(lut, entries % 65536 or 65536)
    place = np.clip(np.rint(values.astype(np.float64)).astype(np.int64) - first, 0, len(table) - 1)
    return table[place], max((1 << depth) - 1, int(table.max()))  # some writers state fewer bits than they use


def _entries(lut: Any, count: int) -> NDArray[np.uint16]:
    """The LUT's data, words or bytes. Raises ValueError where they are not as many as stated."""
    packed = lut.LUTData
    if isinstance(packed, bytes):
        found = np.frombuffer(packed, "u1" if len(packed) in (count, count + 1) and count > 1 else "<u2")
    else:
        found = np.atleast_1d(np.asarray(packed))
    if len(found) < count:
        raise ValueError(f"a LUT of {len(found)} entries that states {count}")
    return found[:count].astype(np.uint16)


def _modality_values(stored: NDArray, header: Any) -> tuple[NDArray, list[str]]:
    if lut := _first(header, "ModalityLUTSequence"):
        return looked_up(stored, lut)[0], ["modality LUT"]
    slope, intercept = (IDENTITY[i] if header.get(n) is None else float(header.get(n)) for i, n in enumerate(("RescaleSlope", "RescaleIntercept")))
    if (slope, intercept) == IDENTITY:
        return stored, []
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise ValueError(f"RescaleSlope {slope}, RescaleIntercept {intercept}")
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), [f"× {slope:g} + {intercept:g}"]


def _by_table(values: NDArray, lut: Any, name: str) -> tuple[NDArray[np.uint8], str]:
    found, top = looked_up(values, lut)
    return np.round(found * (255 / top)).astype(np.uint8), name


def _window(header: Any) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None where none is stated, or one that shows nothing."""
    centre, width = (_first(header, name) for name in ("WindowCenter", "WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if centre is None or width is None or not np.isfinite([float(centre), float(width)]).all() or float(width) < (1 if function == "LINEAR" else 1e-9):
        return None
    return float(centre), float(width), function


def _windowed(values: NDArray, centre: float, width: float, function: str) -> tuple[NDArray[np.uint8], str]:
    x = values.astype(np.float32)
    if function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -80, 80)))  # PS3.3 C.11.2.1.3.1
    elif function == "LINEAR_EXACT":
        share = (x - centre) / width + 0.5  # PS3.3 C.11.2.1.3.2
    elif function == "LINEAR":
        share = (x - (centre - 0.5)) / max(width - 1, 1e-3) + 0.5  # PS3.3 C.11.2.1.2.1
    else:
        raise ValueError(f"VOILUTFunction {function[:20]}")
    return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8), f"window {centre:g} ± {width / 2:g}" + (f" ({function})" if function != "LINEAR" else "")


def _own_range(values: NDArray, empty: NDArray[np.bool_] | None) -> tuple[NDArray[np.uint8], str]:
    real = values if empty is None or empty.all() else values[~empty]
    low, high = float(real.min()), float(real.max())
    scaled = np.clip((values.astype(np.float32) - low) * (255 / max(high - low, 1e-12)), 0, 255)
    return np.round(scaled).astype(np.uint8), f"no window stated: {low:g}…{high:g} scaled to 8 bit"


def _padding(stored: NDArray, header: Any) -> NDArray[np.bool_] | None:
    """Where nothing was seen (PS3.3 C.7.5.1.1.2); None where everything was."""
    if header.get("PixelPaddingValue") is None:
        return None
    one = int(header.PixelPaddingValue)
    other = one if header.get("PixelPaddingRangeLimit") is None else int(header.PixelPaddingRangeLimit)
    found: NDArray[np.bool_] = (stored >= min(one, other)) & (stored <= max(one, other))
    return found if found.any() else None


def _first(header: Any, name: str) -> Any:
    """The first of a tag's values or items; None where there is none."""
    value = header.get(name)
    if value is None or isinstance(value, str | float | int):
        return None if value == "" else value
    return value[0] if len(value) else None
