"""Stages of sound: encode, decode, previews, pictures and the report."""
