"""What a server takes before its first call: the room that its networks need at their busiest."""

import subprocess
import sys

import pytest

from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

PLACES = 2
MUCH_MB = 30.0
"""More than is left over by chance; without a warm-up it is 95 MB."""
PROGRAM = f"""
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import numpy as np
from affectline.server.engine import Engine
from affectline.server.main import share_memory
from benchmarks.serving import usage

share_memory()
engine = Engine()
encoder, recogniser = engine.models.encoder, engine.models.recogniser
noise = np.random.default_rng(1).normal(0, 0.01, encoder.window_samples).astype(np.float32)
together = Barrier({PLACES})

def hear(seconds):
    together.wait()
    recogniser.transcribe(encoder.encode(noise[: round(seconds * 16_000)]), language="en")

engine.warm_up({PLACES})
before_mb = usage(os.getpid()).rss_mb
with ThreadPoolExecutor({PLACES}) as threads:
    list(threads.map(hear, (15, 15, 3, 8, 14, 15)))
print(usage(os.getpid()).rss_mb - before_mb)
"""


def test_calls_find_the_room_that_networks_need(engine: Engine) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert float(done.stdout) < MUCH_MB
