"""Graphs of models for programs without Python: export, comparison with the model, records, sessions."""
