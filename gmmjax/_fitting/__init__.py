"""Fitting a mixture to anything that a loss can say."""
