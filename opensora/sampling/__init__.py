"""Rectified-flow sampling: schedules, guidance, conditions, the loop and the training loss."""
