"""asdbench: studies, trials, tracking and leaderboards for anomalous sound detection."""
