"""The learner: gRPC front, experience, algorithms, publishing, training."""
