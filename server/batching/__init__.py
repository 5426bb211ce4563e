"""Waiting: a bounded queue, and sessions that form their own batches from it."""
