"""What samplers and people see of the learner: sessions, admission and the gRPC service."""
