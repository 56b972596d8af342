"""Estimating a word n-gram model from text: counts, modified Kneser-Ney smoothing, ARPA output."""
