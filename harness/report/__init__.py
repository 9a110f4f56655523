"""The answer as one page, and as a notebook's figures."""
