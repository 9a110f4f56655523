"""Pictures of one trial."""
