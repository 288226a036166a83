"""Histogram equalisation and CLAHE beside scikit-image's, 512 × 512, one thread.

    python benchmarks/contrast.py          prints a table, writes benchmarks/results/contrast.json

scikit-image's CLAHE is run with the same tiles (8 × 8) and with as many grey levels as ours counts at 8 bits (its default, 256).
Its results are floats from 0 to 1; what a step back to grey levels would cost it is not counted. At 16 bits ours keeps all
65,536 levels, scikit-image 256.
"""

from __future__ import annotations

import numpy as np
from skimage.exposure import equalize_adapthist, equalize_hist

from interleaved import one_thread, race, write
from tacit.phantom import tissue
from tacit.prepare.contrast import clahe, equalised, equalised_then_clahe


def main() -> None:
    one_thread()
    grey = np.ascontiguousarray(tissue.draw(np.random.default_rng(0), (512, 512), 0.8).picture[..., 1])
    deep = grey.astype(np.uint16) * 16 + np.random.default_rng(1).integers(0, 16, grey.shape, dtype=np.uint16)
    mask = np.hypot(*(np.mgrid[:512, :512] - 256)) < 200
    tile = (64, 64)
    rows = {
        "HE 8 bit": race(lambda: equalised(grey), lambda: equalize_hist(grey), calls=40),
        "HE 16 bit": race(lambda: equalised(deep), lambda: equalize_hist(deep), calls=40),
        "HE 8 bit, mask": race(lambda: equalised(grey, mask), lambda: equalize_hist(grey, mask=mask), calls=20),
        "CLAHE 8 bit": race(lambda: clahe(grey), lambda: equalize_adapthist(grey, kernel_size=tile), calls=10),
        "CLAHE 16 bit": race(lambda: clahe(deep), lambda: equalize_adapthist(deep, kernel_size=tile), calls=10),
        "HE then CLAHE 8 bit": race(lambda: equalised_then_clahe(grey), lambda: equalize_adapthist(equalize_hist(grey), kernel_size=tile), calls=10),
    }
    ours = race(lambda: clahe(grey, mask=mask), lambda: clahe(grey), calls=10)
    rows["CLAHE 8 bit, mask (beside ours without)"] = {k: v for k, v in ours.items() if k != "ratio_cpu"}  # scikit-image has none
    write("contrast", rows, ["scikit-image"])


if __name__ == "__main__":
    main()
