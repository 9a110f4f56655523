"""asdbench: studies, trials, tracking and leaderboards for anomalous sound detection."""

from harness.rooms import hold_rooms

hold_rooms()
