"""Members: what a fold fits beside the fine-tuned model, each with the same four methods."""
