"""Where trajectories live between admission and training."""
