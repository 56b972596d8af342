"""Pages and subtitles for people who would rather look."""
