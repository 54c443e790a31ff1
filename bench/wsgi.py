"""`bench.wsgi:application` for servers that import the app: the one BENCH_APP names."""

import os

from bench.apps import load

application = load(os.environ["BENCH_APP"])
