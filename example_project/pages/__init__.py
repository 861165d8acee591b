"""The pages of the example."""
