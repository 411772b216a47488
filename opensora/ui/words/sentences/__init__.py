"""The sentences that are made below the page, :mod:`opensora.sentences`, in other languages: ``SENTENCES`` by code."""
