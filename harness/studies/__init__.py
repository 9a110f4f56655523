"""A study file, its plan, its trials and what became of them."""
