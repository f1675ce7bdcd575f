"""TensorZero's gateway, as its wheel brings it: `python tensorzero_gateway.py CONFIG` prints its URL and serves.

Run by the interpreter of the peer's own environment.
"""

import sys
import time

import tensorzero  # type: ignore[import-not-found]

gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
print(gateway.base_url, flush=True)
while True:
    time.sleep(3600)
