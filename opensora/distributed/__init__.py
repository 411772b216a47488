"""Processes that compute together; everything here is the identity in a run of one process."""
