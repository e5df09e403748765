"""A fixed amount of work on one core; prints the seconds that it took. One process a core makes a calibration."""

import hashlib
import time

_BLOCK = bytes(1 << 20)
_BLOCKS = 200
"""Some 0.2 s of work on a processor of today: longer than the turns in which a system shares its cores out."""

began = time.monotonic()
for _ in range(_BLOCKS):
    hashlib.sha256(_BLOCK).digest()
print(time.monotonic() - began)
