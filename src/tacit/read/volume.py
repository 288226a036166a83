"""A DICOM series as one volume, streamed slice by slice into one preallocated array; gaps are handled as the user chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError
from tacit.image import Image
from tacit.read.dicom import Slice
from tacit.read.packed import decoded
from tacit.read.series import Series

Gaps = Literal["refuse", "tolerate", "interpolate"]
TOLERATED = "tolerated:"  # begins the history's line of a series that was stacked with its holes
LOW, HIGH = -32768, 32767


def read_series(series: Series, *, gaps: Gaps = "refuse", told: Callable[[int, int], None] = lambda done, total: None) -> Image:
    """The series as int16 (d, h, w): Hounsfield units for CT (slope and intercept applied, rounded), in order of position.

    gaps: what to do about missing slices and uneven spacing. "refuse" raises InputError naming them; "tolerate" stacks the
    slices that are there, as if they were evenly spaced; "interpolate" lays them on an even grid, linearly between neighbours.
    Raises ReadError naming the slice that cannot be decoded.
    """
    d, slices = series.defects, series.slices
    if not slices:
        raise InputError(f"series {series.uid}: no slice can be used")
    if gaps == "refuse" and (d.missing or d.spacing_uneven):
        raise InputError(
            f"series in {slices[0].path.parent}: {d.words} among {len(slices)} slices; choose --gaps interpolate (even grid) or --gaps tolerate (as it is)"
        )
    volume = np.empty((len(slices), *slices[0].shape), np.int16)
    for index, one in enumerate(slices):
        read_slice(one, volume[index])
        told(index + 1, len(slices))
    history = [f"read {len(slices)} DICOM slices ordered by position" + (f"; {d.words}" if d.words else "")]
    if gaps == "tolerate" and (d.missing or d.spacing_uneven):
        history.append(f"{TOLERATED} {d.words}: distances along the slices and volumes are wrong")
    step = series.spacing_mm
    if gaps == "interpolate" and step and (d.missing or d.spacing_uneven):
        volume, step = _even(volume, series.offsets, step)
        history.append(f"interpolated to {len(volume)} slices {step:.3g} mm apart")
    spacing = slices[0].spacing
    full = (step, *spacing) if step and spacing else None
    modality = slices[0].header.get("Modality", "unknown").lower()
    return Image(volume, "dhw", full, "metadata" if full else "unknown", modality, slices[0].path, tuple(history), _affine(series, step))


def read_slice(one: Slice, into: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
    """The slice's values (h, w) int16 with slope and intercept applied, written into `into` where it is given. Raises ReadError."""
    if one.samples != 1:
        raise ReadError(one.path, "colour pixels where grey values were expected", "read it as a picture: export it as PNG")
    target = np.empty(one.shape, np.int16) if into is None else into
    raw = _raw(one, target) if one.offset >= 0 and one.bits == 16 else decoded(one)
    raw, low, high = stored(raw, one)
    if one.inverted:  # by the bits, not by this slice's own range, so that slices agree
        ends = -1 if one.signed else (1 << one.bits_stored) - 1
        raw, low, high = ends - raw.astype(np.int32), ends - high, ends - low
    slope, intercept = one.slope, one.intercept
    if slope == 1 and intercept == int(intercept) and low + intercept >= LOW and high + intercept <= HIGH and abs(intercept) <= HIGH:
        whole = raw.view(np.int16) if raw.dtype.itemsize == 2 else raw.astype(np.int16)  # modular arithmetic is exact here
        return np.add(whole, np.int16(intercept), out=target)
    target[:] = np.clip(np.rint(raw.astype(np.float64) * slope + intercept), LOW, HIGH)
    return target


def stored(raw: NDArray, one: Slice) -> tuple[NDArray, float, float]:
    """The values without what else lies in their words (overlays, unextended signs: PS3.5 8.1.1), their smallest and their largest."""
    low, high = raw.min(), raw.max()
    least, most = (-(1 << one.bits_stored - 1), (1 << one.bits_stored - 1) - 1) if one.signed else (0, (1 << one.bits_stored) - 1)
    above = one.bits - 1 - one.high_bit
    apart = one.high_bit != one.bits_stored - 1
    if raw.dtype.kind in "iu" and raw.dtype.itemsize * 8 == one.bits and (apart or low < least or high > most):
        raw = (raw << above) >> (one.bits - one.bits_stored)
        low, high = raw.min(), raw.max()
    return raw, float(low), float(high)


def _raw(one: Slice, target: NDArray[np.int16]) -> NDArray:
    """Uncompressed 16-bit pixels read straight into `target`."""
    frame = target.view(np.int16 if one.signed else np.uint16)
    try:
        with one.path.open("rb", buffering=0) as file:
            file.seek(one.offset + one.frame * frame.nbytes)
            got = file.readinto(frame.reshape(-1).view(np.uint8).data)
    except OSError as error:
        raise ReadError(one.path, f"the pixels cannot be read ({error.strerror or error})") from error
    if got != frame.nbytes:
        raise ReadError(one.path, f"the pixels are cut short: {got} of {frame.nbytes} bytes in frame {one.frame + 1}")
    return frame


def _even(volume: NDArray[np.int16], places: NDArray[np.float64], step: float) -> tuple[NDArray[np.int16], float]:
    """The slices at `places` (rising, mm) brought to an even grid of about `step` mm from the first to the last, and its exact step."""
    count = round((places[-1] - places[0]) / step) + 1
    step = float(places[-1] - places[0]) / (count - 1)
    wanted = places[0] + np.arange(count) * step
    above = np.clip(np.searchsorted(places, wanted - 1e-6), 1, len(places) - 1)
    share = np.clip((wanted - places[above - 1]) / (places[above] - places[above - 1]), 0, 1)
    grid = np.empty((count, *volume.shape[1:]), np.int16)
    for k in range(count):
        low, high, t = volume[above[k] - 1], volume[above[k]], float(share[k])
        grid[k] = high if t > 1 - 1e-3 else low if t < 1e-3 else np.rint((1 - t) * low + t * high)
    return grid, step


def _affine(series: Series, step: float | None) -> NDArray[np.float64] | None:
    """Voxel (w, h, d) → mm right, anterior, superior; None where the place is unknown."""
    first, last = series.slices[0], series.slices[-1]
    if not series.located or first.spacing is None:
        return None
    o = np.asarray(first.orientation)
    start, end = np.asarray(first.position), np.asarray(last.position)
    line = end - start  # leans away from the normal where the gantry was tilted
    along = line * (step / float(line @ first.normal)) if step else first.normal
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2], lps[:3, 3] = o[:3] * first.spacing[1], o[3:] * first.spacing[0], along, start
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
