"""Fine-tuning and pre-training."""
