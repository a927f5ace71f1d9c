"""The command line: python -m gmmjax compare p.npz q.npz."""
