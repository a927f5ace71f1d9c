"""Monte-Carlo estimates: a key comes first, a standard error comes back."""
