"""The chart, and what writes the parts of it that follow from something else."""
