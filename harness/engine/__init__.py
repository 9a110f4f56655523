"""Ray runs a study's trials."""

import os

# Ray reads these where it is imported, which is only in this room.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A Ray that we start listens on 127.0.0.1 alone; Ray's own default on Linux is the address of the machine, where
# everybody on its network can knock. Joining a cluster by its address is not touched by it.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
