"""Predictions to many subscribers: delay, deliveries, memory."""
