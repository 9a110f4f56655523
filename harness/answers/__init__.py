"""Questions to recorded results: leaderboard, comparison, selection, published numbers."""
