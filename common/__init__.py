"""What the learner and the sampler both need, and nothing else."""
