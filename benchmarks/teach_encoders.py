"""Teaches the encoders that come with Tacit, by drawings alone, and writes them where the package looks for them.

    python benchmarks/teach_encoders.py             # seed 0 of phantom and texture into src/tacit/weights/
    python benchmarks/teach_encoders.py --seed 1    # another seed, into the cache, for the table of encoders

About a quarter of an hour on one core for each seed.
"""

from __future__ import annotations

import argparse
import time

import cv2
import torch

from tacit.learn.phantom_encoder import PhantomEncoder
from tacit.learn.texture import Texture
from tacit.use.taught import SHIPPED, cache_folder, keep, teach, weights_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for name, network in (("texture", Texture()), ("phantom", PhantomEncoder())):
        started = time.process_time()
        place = (SHIPPED if seed == 0 else cache_folder()) / weights_file(name, network.config, seed)
        for old in place.parent.glob(f"{name}-*.safetensors") if seed == 0 else ():
            old.unlink()
        teach(network, seed)
        keep(network, place)
        print(f"{place.name}: {time.process_time() - started:.0f} s of CPU, {place.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
