"""Recordings to transcripts: the recogniser and long recordings."""
