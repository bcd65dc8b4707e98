"""What is asked for: the job, and what goes into it."""
