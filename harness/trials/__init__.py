"""One trial: label, fine-tune, embed, score, measure."""
