"""Closed forms and quadrature: no noise, no key."""
