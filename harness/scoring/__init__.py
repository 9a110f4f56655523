"""What scorers share: their contract, nearest neighbours, reference sets, thresholds."""
