"""HTML pages and subtitles."""
