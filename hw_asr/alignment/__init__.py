"""Alignment of recordings with known texts: word times, words that are not spoken, speech that is not in the text."""
